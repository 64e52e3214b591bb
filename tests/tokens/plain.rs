//! Layers over tokens as loops over one sample, read off the formulas.

use crossmodal::nn::{NormPlace, Parameters};
use std::collections::BTreeMap;

/// One sample's tokens.
pub(crate) type Tokens = Vec<Vec<f64>>;

/// Parameters by name.
pub(crate) struct Plain(BTreeMap<String, Vec<f64>>);

fn sum(a: &Tokens, b: &Tokens) -> Tokens {
    let row = |(a, b): (&Vec<f64>, &Vec<f64>)| a.iter().zip(b).map(|(a, b)| a + b).collect();
    a.iter().zip(b).map(row).collect()
}

impl Plain {
    pub(crate) fn new(parameters: &Parameters) -> Plain {
        Plain(parameters.iter().map(|p| (p.name.clone(), p.value.to_f64_vec().unwrap())).collect())
    }

    pub(crate) fn get(&self, name: &str) -> &[f64] {
        &self.0[name]
    }

    fn linear(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let weight = &self.0[&format!("{name}.weight")];
        let outputs = weight.len() / x.len();
        let bias = self.0.get(&format!("{name}.bias")).cloned().unwrap_or(vec![0.; outputs]);
        let column = |j: usize| (0..x.len()).map(|i| x[i] * weight[i * outputs + j]).sum::<f64>();
        (0..outputs).map(|j| bias[j] + column(j)).collect()
    }

    pub(crate) fn all(&self, name: &str, x: &Tokens) -> Tokens {
        x.iter().map(|row| self.linear(name, row)).collect()
    }

    /// A sample's tokens, those that are not there as 0.
    pub(crate) fn kept(mut x: Tokens, kept: &[bool]) -> Tokens {
        x.iter_mut().zip(kept).filter(|(_, kept)| !**kept).for_each(|(token, _)| token.fill(0.));
        x
    }

    pub(crate) fn norm(&self, name: &str, x: &Tokens) -> Tokens {
        let (weight, bias) = (self.get(&format!("{name}.weight")), self.get(&format!("{name}.bias")));
        let row = |x: &Vec<f64>| {
            let mean = x.iter().sum::<f64>() / x.len() as f64;
            let variance = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / x.len() as f64;
            let normed = |i: usize| (x[i] - mean) / (variance + 1e-5).sqrt() * weight[i] + bias[i];
            (0..x.len()).map(normed).collect()
        };
        x.iter().map(row).collect()
    }

    /// Two layers and GELU between them.
    pub(crate) fn mlp(&self, name: &str, x: &Tokens) -> Tokens {
        let mut hidden = self.all(&format!("{name}.0"), x);
        hidden.iter_mut().flatten().for_each(|v| *v = crossmodal::reference::Unary::Gelu.apply(*v));
        self.all(&format!("{name}.1"), &hidden)
    }

    /// `x + f(norm x)`, or `norm(x + f x)`.
    pub(crate) fn residual(
        &self,
        norm: &str,
        place: NormPlace,
        x: &Tokens,
        f: &dyn Fn(&Tokens) -> Tokens,
    ) -> Tokens {
        match place {
            NormPlace::Before => sum(x, &f(&self.norm(norm, x))),
            NormPlace::After => self.norm(norm, &sum(x, &f(x))),
        }
    }

    /// An encoder's layer of two heads that share keys and values.
    pub(crate) fn encoder_layer(&self, name: &str, place: NormPlace, x: &Tokens, kept: &[bool]) -> Tokens {
        let [attention, mlp] = ["attention", "mlp"].map(|own| format!("{name}.{own}"));
        let attend = |x: &Tokens| self.attention(&attention, (2, 1), [x; 3], &|_, key| kept[key]).0;
        let h = self.residual(&format!("{attention}_norm"), place, x, &attend);
        self.residual(&format!("{mlp}_norm"), place, &h, &|h| self.mlp(&mlp, h))
    }

    /// The result and the probabilities, by head, query and key, of keys that a query sees.
    pub(crate) fn attention(
        &self,
        name: &str,
        (heads, kv_heads): (usize, usize),
        [query, key, value]: [&Tokens; 3],
        sees: &dyn Fn(usize, usize) -> bool,
    ) -> (Tokens, Vec<Tokens>) {
        let [q, k, v] = [("query", query), ("key", key), ("value", value)]
            .map(|(part, x)| self.all(&format!("{name}.{part}"), x));
        let width = query[0].len() / heads;
        let (mut joined, mut weights) = (vec![vec![]; query.len()], vec![]);
        for h in 0..heads {
            let of_kv = h / (heads / kv_heads) * width;
            let score = |i: usize, j: usize| {
                let product = (0..width).map(|c| q[i][h * width + c] * k[j][of_kv + c]).sum::<f64>();
                product / (width as f64).sqrt()
            };
            let probabilities: Tokens = (0..query.len())
                .map(|i| {
                    let exp = |j: usize| if sees(i, j) { score(i, j).exp() } else { 0. };
                    let all: f64 = (0..key.len()).map(exp).sum();
                    (0..key.len()).map(|j| if all > 0. { exp(j) / all } else { 0. }).collect()
                })
                .collect();
            for (own, p) in joined.iter_mut().zip(&probabilities) {
                for c in 0..width {
                    // What is not seen may be NaN.
                    let seen = (0..key.len()).filter(|&j| p[j] > 0.);
                    own.push(seen.map(|j| p[j] * v[j][of_kv + c]).sum::<f64>());
                }
            }
            weights.push(probabilities);
        }
        (self.all(&format!("{name}.output"), &joined), weights)
    }
}
