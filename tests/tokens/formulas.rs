//! Fusions of tokens as loops over one sample, read off the formulas.

use crate::plain::{Plain, Tokens};
use crate::setup::{Kind, LENGTHS, Setup, WIDTHS};
use crossmodal::nn::NormPlace;

impl Setup {
    /// The results of one sample by the formulas.
    pub(crate) fn formula(self, plain: &Plain, x: &[Tokens], there: &[Vec<bool>]) -> Vec<Tokens> {
        let all = x;
        let cross = |name: &str, own: usize, other: usize| {
            plain.residual(&format!("{name}.attention_norm"), self.norm, &x[own], &|x| {
                if !there[other].contains(&true) {
                    return vec![vec![0.; x[0].len()]; x.len()];
                }
                let context = plain.norm(&format!("{name}.context_norm"), &all[other]);
                plain
                    .attention(&format!("{name}.attention"), (2, 1), [x, &context, &context], &|_, j| {
                        there[other][j]
                    })
                    .0
            })
        };
        let y = match self.kind {
            Kind::Cross => {
                let h = cross("f", 0, 1);
                vec![plain.residual("f.mlp_norm", self.norm, &h, &|h| plain.mlp("f.mlp", h))]
            }
            Kind::Gated => vec![self.gated(plain, x, there)],
            Kind::Co => {
                let one = |m: usize| {
                    let h = cross(&format!("f.{m}"), m, 1 - m);
                    plain.encoder_layer(&format!("f.{m}.layer"), self.norm, &h, &there[m])
                };
                vec![one(0), one(1)]
            }
            Kind::Merged => self.merged(plain, x, &there.concat()),
            Kind::Resampler => return vec![self.resampled(plain, x, &there.concat())],
            Kind::Bottleneck => return self.bottleneck(plain, x, there),
        };
        y.into_iter().zip(there).map(|(y, there)| Plain::kept(y, there)).collect()
    }

    fn gated(self, plain: &Plain, x: &[Tokens], there: &[Vec<bool>]) -> Tokens {
        let let_in = |gate: &str, mut added: Tokens| {
            added.iter_mut().flatten().for_each(|v| *v *= plain.get(gate)[0].tanh());
            added
        };
        let attended = |own: &Tokens| {
            if !there[1].contains(&true) {
                return vec![vec![0.; own[0].len()]; own.len()];
            }
            let sees = |_, key: usize| there[1][key];
            let_in("f.attention_gate", plain.attention("f.attention", (2, 1), [own, &x[1], &x[1]], &sees).0)
        };
        let h = plain.residual("f.attention_norm", self.norm, &x[0], &attended);
        plain.residual("f.mlp_norm", self.norm, &h, &|h| let_in("f.mlp_gate", plain.mlp("f.mlp", h)))
    }

    /// A modality's tokens in the width of the others.
    fn wide(plain: &Plain, m: usize, x: &Tokens) -> Tokens {
        if WIDTHS[m] == 6 { x.clone() } else { plain.all(&format!("f.{m}"), x) }
    }

    /// The tokens, then the bottleneck.
    fn bottleneck(self, plain: &Plain, x: &[Tokens], there: &[Vec<bool>]) -> Vec<Tokens> {
        let mut x: Vec<_> = x.iter().enumerate().map(|(m, x)| Self::wide(plain, m, x)).collect();
        let mut z: Tokens = plain.get("f.bottleneck.weight").chunks(6).map(<[f64]>::to_vec).collect();
        let count = there.iter().filter(|own| own.contains(&true)).count() as f64;
        for layer in 0..2 {
            let mut mean = vec![vec![0.; 6]; z.len()];
            for (m, own) in x.iter_mut().enumerate() {
                let joined = [own.clone(), z.clone()].concat();
                let kept = [there[m].clone(), vec![true; z.len()]].concat();
                let mut y = plain.encoder_layer(&format!("f.layers.{layer}.{m}"), self.norm, &joined, &kept);
                let found = y.split_off(own.len());
                *own = y;
                if there[m].contains(&true) {
                    let sums = mean.iter_mut().flatten().zip(found.iter().flatten());
                    sums.for_each(|(sum, v)| *sum += v / count);
                }
            }
            z = mean;
        }
        let kept = x.into_iter().zip(there).map(|(x, there)| Plain::kept(x, there));
        kept.chain([z]).collect()
    }

    /// All tokens, each with its modality's embedding.
    fn embedded(plain: &Plain, x: &[Tokens]) -> Tokens {
        let embedded = x.iter().enumerate().flat_map(|(m, x)| {
            let own = &plain.get("f.modalities.weight")[m * 6..][..6];
            let row = |x: Vec<f64>| x.iter().zip(own).map(|(x, e)| x + e).collect::<Vec<_>>();
            Self::wide(plain, m, x).into_iter().map(row).collect::<Tokens>()
        });
        embedded.collect()
    }

    fn resampled(self, plain: &Plain, x: &[Tokens], there: &[bool]) -> Tokens {
        let x = Self::embedded(plain, x);
        let mut z: Tokens = plain.get("f.latents.weight").chunks(6).map(<[f64]>::to_vec).collect();
        for layer in 0..2 {
            let [attention, mlp, context] =
                ["attention", "mlp", "context_norm"].map(|own| format!("f.layers.{layer}.{own}"));
            let attended = |z: &Tokens| {
                let keys = [plain.norm(&context, &x), z.clone()].concat();
                let sees = |_, key: usize| there.get(key).is_none_or(|there| *there);
                plain.attention(&attention, (2, 1), [z, &keys, &keys], &sees).0
            };
            let h = plain.residual(&format!("{attention}_norm"), self.norm, &z, &attended);
            z = plain.residual(&format!("{mlp}_norm"), self.norm, &h, &|h| plain.mlp(&mlp, h));
        }
        if self.norm == NormPlace::Before { plain.norm("f.norm", &z) } else { z }
    }

    fn merged(self, plain: &Plain, x: &[Tokens], there: &[bool]) -> Vec<Tokens> {
        let mut y = Self::embedded(plain, x);
        for i in 0..2 {
            y = plain.encoder_layer(&format!("f.encoder.{i}"), self.norm, &y, there);
        }
        if self.norm == NormPlace::Before {
            y = plain.norm("f.encoder.norm", &y);
        }
        LENGTHS.map(|length| y.drain(..length).collect()).into()
    }
}
