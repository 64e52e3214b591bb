//! Attention with the scores written out.

use super::{AttentionLayout, AttentionOptions, AttentionWeights, Corner};
use std::ops::Range;

/// Attention of `queries` over `keys`, with the sizes that the options leave open.
///
/// ```
/// use crossmodal::reference::{Attention, AttentionOptions, attention};
/// let sizes = Attention { batch: 1, heads: 1, kv_heads: 1, queries: 1, keys: 2, dh: 1, dv: 1, bias: None, options: AttentionOptions::default() };
/// let attended = attention(&[1.], &[0., 0.], &[2., 4.], &[], &sizes);
/// assert_eq!((attended.out, attended.lse), (vec![3.], vec![2f64.ln()]));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Attention {
    /// Batches.
    pub batch: usize,
    /// Heads of the queries.
    pub heads: usize,
    /// Heads of keys and values: query head h reads head `h · kv_heads / heads`.
    pub kv_heads: usize,
    /// Queries.
    pub queries: usize,
    /// Keys.
    pub keys: usize,
    /// Width of queries and keys.
    pub dh: usize,
    /// Width of values.
    pub dv: usize,
    /// The shape of the additive bias, if there is one.
    pub bias: Option<[usize; 4]>,
    /// The rest.
    pub options: AttentionOptions,
}

/// A window's side as a difference of positions; beyond this nothing is.
pub(crate) fn reach(keys: usize) -> i64 {
    i64::try_from(keys).unwrap_or(i64::MAX).min(i64::MAX / 4)
}

/// The places of a layout: the first element of a row is at `batch b + head h + row i`, for these strides.
pub(crate) type Strides = [usize; 3];

impl Attention {
    /// The strides of a tensor with so many heads, rows and columns.
    pub(crate) fn strides(&self, heads: usize, rows: usize, width: usize) -> Strides {
        match self.options.layout {
            AttentionLayout::Heads => [heads * rows * width, rows * width, width],
            AttentionLayout::Packed { .. } => [heads * rows * width, width, heads * width],
        }
    }

    /// The strides of q, k, v and of the result.
    pub(crate) fn places(&self) -> [Strides; 4] {
        let Attention { heads, kv_heads, queries, keys, dh, dv, .. } = *self;
        [
            self.strides(heads, queries, dh),
            self.strides(kv_heads, keys, dh),
            self.strides(kv_heads, keys, dv),
            self.strides(heads, queries, dv),
        ]
    }

    /// The bias's strides along its four axes, 0 where it repeats.
    pub(crate) fn bias_strides(&self) -> [usize; 4] {
        let shape = self.bias.unwrap_or([1; 4]);
        let own = crate::shape::strides(&shape);
        std::array::from_fn(|axis| if shape[axis] == 1 { 0 } else { own[axis] })
    }

    /// Query heads to a head of keys and values.
    pub(crate) fn group(&self) -> usize {
        self.heads / self.kv_heads.max(1)
    }

    /// The factor of the products.
    pub(crate) fn scale(&self) -> f64 {
        self.options.scale.unwrap_or_else(|| 1. / (self.dh as f64).sqrt())
    }

    /// The queries whose weights are returned.
    pub(crate) fn rows(&self) -> Vec<usize> {
        self.options.rows.as_ref().map_or_else(|| (0..self.queries).collect(), |rows| rows.to_vec())
    }

    /// The shape of the returned weights, if they are asked for.
    pub(crate) fn weights_shape(&self) -> Option<Vec<usize>> {
        let rows = self.options.rows.as_ref().map_or(self.queries, |rows| rows.len());
        match self.options.weights {
            AttentionWeights::None => None,
            AttentionWeights::PerHead => Some(vec![self.batch, self.heads, rows, self.keys]),
            AttentionWeights::Averaged => Some(vec![self.batch, rows, self.keys]),
        }
    }

    /// The queries and keys of query i's sequence.
    pub(crate) fn sequence(&self, i: usize) -> (Range<usize>, Range<usize>) {
        let Some(sequences) = &self.options.sequences else { return (0..self.queries, 0..self.keys) };
        let next = sequences.queries.partition_point(|&begin| begin <= i);
        let of = |begins: &[usize]| begins[next - 1]..begins[next];
        (of(&sequences.queries), of(&sequences.keys))
    }

    /// Where query i stands among the keys; before the first one it is negative.
    pub(crate) fn position(&self, i: usize, corner: Corner) -> i64 {
        let (queries, keys) = self.sequence(i);
        let beyond = match corner {
            Corner::TopLeft => 0,
            Corner::BottomRight => keys.len() as i64 - queries.len() as i64,
        };
        (keys.start + i - queries.start) as i64 + beyond
    }

    /// Whether the options let query i of a head see key j.
    fn sees(&self, (b, h, i): (usize, usize, usize), j: usize) -> bool {
        let options = &self.options;
        let place = j as i64;
        let in_order = options.causal.is_none_or(|corner| place <= self.position(i, corner));
        let near = options.window.is_none_or(|window| {
            let own = self.position(i, window.corner);
            window.before.is_none_or(|before| place >= own - reach(before))
                && window.after.is_none_or(|after| place <= own + reach(after))
        });
        let key = options.key_mask.as_ref().is_none_or(|mask| mask.keeps(b * self.keys + j));
        let pair = options.pair_mask.as_ref().is_none_or(|mask| {
            let (batch, head) = (b.min(mask.shape[0] - 1), h.min(mask.shape[1] - 1));
            mask.keeps(((batch * mask.shape[1] + head) * self.queries + i) * self.keys + j)
        });
        self.sequence(i).1.contains(&j) && in_order && near && key && pair
    }

    /// What dropout multiplies a probability by.
    fn kept(&self, (b, h, i): (usize, usize, usize), j: usize) -> f64 {
        let Some(dropout) = self.options.dropout else { return 1. };
        let element = (i as u32).wrapping_mul(self.keys as u32).wrapping_add(j as u32);
        if dropout.keeps_of((b * self.heads + h) as u32, element) { dropout.scale() } else { 0. }
    }
}

/// What attention gives.
///
/// Example: [`Attention`].
#[derive(Debug, Clone, PartialEq)]
pub struct AttentionResult {
    /// The values, weighted.
    pub out: Vec<f64>,
    /// The log-sum-exp of each query's scores, `[batch, heads, queries]`; −∞ where it sees no key.
    pub lse: Vec<f64>,
    /// The probabilities, if they are asked for.
    pub weights: Vec<f64>,
}

/// The line of one query.
struct Line {
    /// Of each key: whether it is seen, its probability, the derivative of its score by the product.
    keys: Vec<(bool, f64, f64)>,
    lse: f64,
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn row(x: &[f64], [batch, head, row]: Strides, (b, h, i): (usize, usize, usize), width: usize) -> &[f64] {
    &x[b * batch + h * head + i * row..][..width]
}

/// `softmax(cap tanh(scale q·k / cap) + bias)` over the keys that query i sees.
fn line(q: &[f64], k: &[f64], bias: &[f64], at: (usize, usize, usize), problem: &Attention) -> Line {
    let ((b, h, i), options, dh) = (at, &problem.options, problem.dh);
    let ([q_at, k_at, ..], strides) = (problem.places(), problem.bias_strides());
    let own = row(q, q_at, at, dh);
    let score = |j: usize| {
        let added = match problem.bias {
            Some(_) => bias[b * strides[0] + h * strides[1] + i * strides[2] + j * strides[3]],
            None => 0.,
        };
        // A bias of −∞ is a mask.
        if !problem.sees(at, j) || added == f64::NEG_INFINITY {
            return (false, 0., 0.);
        }
        let product = problem.scale() * dot(own, row(k, k_at, (b, h / problem.group(), j), dh));
        let (capped, slope) = match options.softcap {
            Some(cap) => (cap * (product / cap).tanh(), 1. - (product / cap).tanh().powi(2)),
            None => (product, 1.),
        };
        let distance = |corner| (problem.position(i, corner) - j as i64).abs() as f64;
        let linear = options.alibi.as_ref().map_or(0., |alibi| -alibi.slopes[h] * distance(alibi.corner));
        (true, capped + linear + added, slope)
    };
    let mut keys: Vec<_> = (0..problem.keys).map(score).collect();
    let scores = || keys.iter().filter(|key| key.0).map(|key| key.1);
    let largest = scores().fold(f64::NEG_INFINITY, |a, b| if b.is_nan() { b } else { a.max(b) });
    let sum: f64 = scores().map(|score| (score - largest).exp()).sum();
    let lse = if scores().next().is_none() { f64::NEG_INFINITY } else { largest + sum.ln() };
    keys.iter_mut().filter(|key| key.0).for_each(|key| key.1 = (key.1 - lse).exp());
    Line { keys, lse }
}

/// Every query of every head of every batch.
fn each(problem: &Attention) -> impl Iterator<Item = (usize, usize, usize)> {
    let (heads, queries) = (problem.heads, problem.queries);
    (0..problem.batch).flat_map(move |b| (0..heads).flat_map(move |h| (0..queries).map(move |i| (b, h, i))))
}

/// Where the weights of query i are, and what a head adds to them: its part of the mean.
fn weights_at(problem: &Attention, rows: &[usize], (b, h, i): (usize, usize, usize)) -> Option<(usize, f64)> {
    let place = rows.iter().position(|&row| row == i)?;
    match problem.options.weights {
        AttentionWeights::None => None,
        AttentionWeights::PerHead => {
            Some((((b * problem.heads + h) * rows.len() + place) * problem.keys, 1.))
        }
        AttentionWeights::Averaged => {
            Some(((b * rows.len() + place) * problem.keys, 1. / problem.heads as f64))
        }
    }
}

/// Attention. `bias` is empty where there is none. Example: [`Attention`].
pub fn attention(q: &[f64], k: &[f64], v: &[f64], bias: &[f64], problem: &Attention) -> AttentionResult {
    let ([.., v_at, out_at], dv, rows) = (problem.places(), problem.dv, problem.rows());
    let mut out = vec![0.; problem.batch * problem.heads * problem.queries * dv];
    let mut weights = vec![0.; problem.weights_shape().map_or(0, |shape| crate::shape::count(&shape))];
    let mut lse = vec![];
    for at in each(problem) {
        let line = line(q, k, bias, at, problem);
        let first = at.0 * out_at[0] + at.1 * out_at[1] + at.2 * out_at[2];
        let own = weights_at(problem, &rows, at);
        lse.push(line.lse);
        for (j, &(_, p, _)) in line.keys.iter().enumerate().filter(|(_, key)| key.0) {
            if let Some((first, part)) = own {
                weights[first + j] += part * p;
            }
            let kept = problem.kept(at, j);
            if kept > 0. {
                let value = row(v, v_at, (at.0, at.1 / problem.group(), j), dv);
                out[first..first + dv].iter_mut().zip(value).for_each(|(out, v)| *out += p * kept * v);
            }
        }
    }
    AttentionResult { out, lse, weights }
}

/// Gradients of q, k, v and the bias, for upstream gradients of the result, of the log-sum-exps and of the weights; the last is
/// empty where there are none.
///
/// ```
/// use crossmodal::reference::{Attention, AttentionOptions, attention_backward};
/// let sizes = Attention { batch: 1, heads: 1, kv_heads: 1, queries: 1, keys: 2, dh: 1, dv: 1, bias: None, options: AttentionOptions::default() };
/// let [_, _, dv, _] = attention_backward(&[1.], &[0., 0.], &[2., 4.], &[], [&[1.], &[0.], &[]], &sizes);
/// assert_eq!(dv, [0.5, 0.5]);
/// ```
pub fn attention_backward(
    q: &[f64],
    k: &[f64],
    v: &[f64],
    bias: &[f64],
    [of_out, of_lse, of_weights]: [&[f64]; 3],
    problem: &Attention,
) -> [Vec<f64>; 4] {
    let ([q_at, k_at, v_at, out_at], strides) = (problem.places(), problem.bias_strides());
    let (dh, dv, rows, scale) = (problem.dh, problem.dv, problem.rows(), problem.scale());
    let zeros = |like: &[f64]| vec![0.; like.len()];
    let (mut dq, mut dk, mut d_value, mut d_bias) = (zeros(q), zeros(k), zeros(v), zeros(bias));
    for (n, at) in each(problem).enumerate() {
        let ((b, h, i), of_group) = (at, (at.0, at.1 / problem.group()));
        let line = line(q, k, bias, at, problem);
        let up = row(of_out, out_at, at, dv);
        let own = weights_at(problem, &rows, at).filter(|_| !of_weights.is_empty());
        let place = |strides: Strides, (b, h): (usize, usize), i: usize| {
            b * strides[0] + h * strides[1] + i * strides[2]
        };
        let seen = || line.keys.iter().enumerate().filter(|(_, key)| key.0);
        // ∂P
        let of_p = |j: usize| {
            let kept = problem.kept(at, j);
            let value = || dot(up, row(v, v_at, (b, of_group.1, j), dv));
            (if kept > 0. { kept * value() } else { 0. })
                + own.map_or(0., |(first, part)| part * of_weights[first + j])
        };
        let delta = seen().map(|(j, key)| key.1 * of_p(j)).sum::<f64>() - of_lse[n];
        for (j, &(_, p, slope)) in seen() {
            let of_score = p * (of_p(j) - delta);
            if !bias.is_empty() {
                d_bias[b * strides[0] + h * strides[1] + i * strides[2] + j * strides[3]] += of_score;
            }
            let (from, to) = (place(q_at, (b, h), i), place(k_at, of_group, j));
            for f in 0..dh {
                dq[from + f] += scale * slope * of_score * k[to + f];
                dk[to + f] += scale * slope * of_score * q[from + f];
            }
            let (to, kept) = (place(v_at, of_group, j), problem.kept(at, j));
            if kept > 0. {
                d_value[to..to + dv].iter_mut().zip(up).for_each(|(d, up)| *d += p * kept * up);
            }
        }
    }
    [dq, dk, d_value, d_bias]
}
