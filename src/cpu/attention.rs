//! Attention in tiles of queries, each against the run of keys that it sees; tiles are shared out to threads.

use super::exp::exp;
use super::matmul::{View, product};
use crate::reference::{Attention, AttentionWeights, Span, Strides, spans, threefry_words};
use rayon::prelude::*;
use std::ops::Range;

/// Queries that one task takes.
pub(super) const QUERIES: usize = 64;
const LANES: usize = 16;

/// The tensors of a problem, and what every tile needs of it.
pub(super) struct Heads<'a> {
    pub problem: &'a Attention,
    pub spans: Vec<Span>,
    pub q: &'a [f32],
    pub k: &'a [f32],
    pub v: &'a [f32],
    /// Empty where there is none.
    pub bias: &'a [f32],
    /// Nothing is NaN or infinite, so that what has no weight adds nothing to a product.
    pub finite: bool,
}

/// Scores of some queries with a run of keys, −∞ where they do not see each other, and their derivatives by the products where
/// these are capped.
pub(super) struct Scores {
    pub values: Vec<f32>,
    pub slopes: Vec<f32>,
}

/// A head's matrix from a row on.
pub(super) fn matrix<'a>(
    x: &'a [f32],
    strides: Strides,
    (b, h): (usize, usize),
    first: usize,
    transposed: bool,
) -> View<'a> {
    let data = &x[b * strides[0] + h * strides[1] + first * strides[2]..];
    View { data, strides: if transposed { (1, strides[2]) } else { (strides[2], 1) } }
}

impl<'a> Heads<'a> {
    pub(super) fn new([q, k, v, bias]: [&'a [f32]; 4], problem: &'a Attention) -> Self {
        let finite = [q, k, v].iter().all(|x| x.par_iter().all(|v| v.is_finite()));
        Heads { problem, spans: spans(problem), q, k, v, bias, finite }
    }

    /// The head of keys and values that a query head reads.
    pub(super) fn kv(&self, (b, h): (usize, usize)) -> (usize, usize) {
        (b, h / self.problem.group())
    }

    /// The keys that any of these queries may see. Spans do not descend.
    pub(super) fn keys_of(&self, rows: &Range<usize>) -> Range<usize> {
        let (first, last) = (&self.spans[rows.start].keys, &self.spans[rows.end - 1].keys);
        first.start..last.end.max(first.start)
    }

    /// `out += scale A B`, where A is of weights: what has none leaves no trace.
    pub(super) fn weigh(
        &self,
        out: &mut [f32],
        (m, n, k): (usize, usize, usize),
        a: View<'_>,
        b: View<'_>,
        scale: f32,
    ) {
        if self.finite {
            return product(out, (m, n, k), a, b, scale, true);
        }
        for (i, out) in out.chunks_exact_mut(n).enumerate() {
            for p in 0..k {
                let weight = a.data[i * a.strides.0 + p * a.strides.1];
                if weight != 0. {
                    let row = b.data[p * b.strides.0..].iter().step_by(b.strides.1);
                    out.iter_mut().zip(row).for_each(|(out, v)| *out += scale * weight * v);
                }
            }
        }
    }

    /// The scores of the queries `rows`, whose matrix is `own`.
    pub(super) fn scores(
        &self,
        head: (usize, usize),
        own: View<'_>,
        rows: &[usize],
        keys: &Range<usize>,
    ) -> Scores {
        let (problem, n) = (self.problem, keys.len());
        let mut values = vec![0f32; rows.len() * n];
        if values.is_empty() {
            return Scores { values, slopes: vec![] };
        }
        let others = matrix(self.k, problem.places()[1], self.kv(head), keys.start, true);
        product(&mut values, (rows.len(), n, problem.dh), own, others, problem.scale() as f32, false);
        let slopes = problem.options.softcap.map(|cap| {
            let cap = cap as f32;
            let slope = |v: &mut f32| {
                let tanh = (*v / cap).tanh();
                *v = cap * tanh;
                1. - tanh * tanh
            };
            values.iter_mut().map(slope).collect()
        });
        for (line, &i) in values.chunks_exact_mut(n).zip(rows) {
            self.add_biases(line, (head.0, head.1, i), keys);
            self.mask(line, (head.0, head.1, i), keys);
        }
        Scores { values, slopes: slopes.unwrap_or_default() }
    }

    fn add_biases(&self, line: &mut [f32], (b, h, i): (usize, usize, usize), keys: &Range<usize>) {
        let places = (keys.start..).zip(line.iter_mut());
        if let Some(alibi) = &self.problem.options.alibi {
            let (slope, own) = (alibi.slopes[h] as f32, self.spans[i].position);
            places.for_each(|(j, v)| *v -= slope * (own - j as i64).abs() as f32);
        }
        if self.problem.bias.is_some() {
            let strides = self.problem.bias_strides();
            let first = b * strides[0] + h * strides[1] + i * strides[2];
            for (j, v) in (keys.start..).zip(line) {
                let bias = self.bias[first + j * strides[3]];
                *v = if bias == f32::NEG_INFINITY { bias } else { *v + bias };
            }
        }
    }

    fn mask(&self, line: &mut [f32], (b, h, i): (usize, usize, usize), keys: &Range<usize>) {
        let (problem, seen) = (self.problem, &self.spans[i].keys);
        let mut drop = |at: usize| line[at] = f32::NEG_INFINITY;
        keys.clone().filter(|j| !seen.contains(j)).for_each(|j| drop(j - keys.start));
        if let Some(mask) = &problem.options.key_mask {
            let own = |j: &usize| !mask.keeps(b * problem.keys + j);
            keys.clone().filter(own).for_each(|j| drop(j - keys.start));
        }
        if let Some(mask) = &problem.options.pair_mask {
            let (batch, head) = (b.min(mask.shape[0] - 1), h.min(mask.shape[1] - 1));
            let first = ((batch * mask.shape[1] + head) * problem.queries + i) * problem.keys;
            let own = |j: &usize| !mask.keeps(first + j);
            keys.clone().filter(own).for_each(|j| drop(j - keys.start));
        }
    }

    /// Multiplies probabilities by what dropout makes of them.
    pub(super) fn drop_out(&self, line: &mut [f32], (b, h, i): (usize, usize, usize), first_key: usize) {
        let Some(dropout) = self.problem.options.dropout else { return };
        let (threshold, scale) = (dropout.threshold(), dropout.scale() as f32);
        let stream = (b * self.problem.heads + h) as u32;
        let element = (i as u32).wrapping_mul(self.problem.keys as u32).wrapping_add(first_key as u32);
        let mut first = dropout.first.wrapping_add(element);
        for line in line.chunks_mut(LANES) {
            let words = threefry_words::<LANES>(dropout.seed, stream, first);
            line.iter_mut().zip(words).for_each(|(p, word)| *p *= if word >= threshold { scale } else { 0. });
            first = first.wrapping_add(LANES as u32);
        }
    }

    /// Every tile of queries of every head of every batch.
    pub(super) fn tiles(&self) -> Vec<(usize, usize, Range<usize>)> {
        let Attention { batch, heads, queries, .. } = *self.problem;
        let of_head = move |b: usize, h: usize| tiles(queries, QUERIES).map(move |rows| (b, h, rows));
        (0..batch).flat_map(|b| (0..heads).flat_map(move |h| of_head(b, h))).collect()
    }
}

/// `0..n` in runs of `each`.
pub(super) fn tiles(n: usize, each: usize) -> impl Iterator<Item = Range<usize>> {
    (0..n).step_by(each).map(move |first| first..n.min(first + each))
}

/// Scores to exponentials relative to their maximum: that and their sum. Nothing is seen where the sum is 0.
fn exponentials(line: &mut [f32]) -> (f32, f32) {
    let nothing = line.iter().all(|&v| v == f32::NEG_INFINITY);
    let max = line.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
    if nothing {
        line.fill(0.);
        return (max, 0.);
    }
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || {
            let mut sums = [0f32; LANES];
            for part in line.chunks_mut(LANES) {
                for (v, sum) in part.iter_mut().zip(&mut sums) {
                    *v = if *v == f32::NEG_INFINITY { 0. } else { exp(*v - max) };
                    *sum += *v;
                }
            }
            (max, sums.iter().sum())
        },
    )
}

/// Copies the rows of a tile to their places.
pub(super) fn scatter(
    out: &mut [f32],
    strides: Strides,
    (b, h, first): (usize, usize, usize),
    tile: &[f32],
    width: usize,
) {
    for (i, row) in (first..).zip(tile.chunks_exact(width)) {
        out[b * strides[0] + h * strides[1] + i * strides[2]..][..width].copy_from_slice(row);
    }
}

/// The result and the log-sum-exps.
pub(crate) fn attention(inputs: [&[f32]; 4], problem: &Attention) -> (Vec<f32>, Vec<f32>) {
    let (heads, dv) = (Heads::new(inputs, problem), problem.dv);
    let [q_at, _, v_at, out_at] = problem.places();
    let tile = |(b, h, rows): &(usize, usize, Range<usize>)| {
        let (head, keys) = ((*b, *h), heads.keys_of(rows));
        let own = matrix(heads.q, q_at, head, rows.start, false);
        let Scores { mut values, .. } = heads.scores(head, own, &rows.clone().collect::<Vec<_>>(), &keys);
        let (mut out, mut stats) = (vec![0f32; rows.len() * dv], vec![(f32::NEG_INFINITY, 0.); rows.len()]);
        if !keys.is_empty() {
            for ((line, i), stats) in values.chunks_exact_mut(keys.len()).zip(rows.clone()).zip(&mut stats) {
                *stats = exponentials(line);
                heads.drop_out(line, (*b, *h, i), keys.start);
            }
            let weights = View { data: &values, strides: (keys.len(), 1) };
            let others = matrix(heads.v, v_at, heads.kv(head), keys.start, false);
            heads.weigh(&mut out, (rows.len(), dv, keys.len()), weights, others, 1.);
        }
        for (row, (_, sum)) in out.chunks_exact_mut(dv).zip(&stats) {
            row.iter_mut().for_each(|v| *v = if *sum == 0. { 0. } else { *v / sum });
        }
        let lse: Vec<f32> =
            stats.iter().map(|&(max, sum)| if sum == 0. { max } else { max + sum.ln() }).collect();
        (out, lse)
    };
    let tiles = heads.tiles();
    let made: Vec<_> = tiles.par_iter().map(tile).collect();
    let mut out = vec![0f32; problem.batch * problem.heads * problem.queries * dv];
    let mut all_lse = Vec::with_capacity(problem.batch * problem.heads * problem.queries);
    for ((b, h, rows), (tile, lse)) in tiles.iter().zip(made) {
        scatter(&mut out, out_at, (*b, *h, rows.start), &tile, dv);
        all_lse.extend(lse);
    }
    (out, all_lse)
}

/// The probabilities of the chosen queries.
pub(crate) fn attention_weights(inputs: [&[f32]; 4], lse: &[f32], problem: &Attention) -> Vec<f32> {
    let (heads, rows, keys) = (Heads::new(inputs, problem), problem.rows(), problem.keys);
    let averaged = problem.options.weights == AttentionWeights::Averaged;
    let (of_batch, part) = if averaged { (1, 1. / problem.heads as f32) } else { (problem.heads, 1.) };
    let strides = problem.places()[0];
    let mut weights = vec![0f32; problem.batch * of_batch * rows.len() * keys];
    if weights.is_empty() {
        return weights;
    }
    // A line of the result is one query of a head, or of all of them.
    weights.par_chunks_exact_mut(keys).enumerate().for_each(|(n, line)| {
        let (unit, i) = (n / rows.len(), rows[n % rows.len()]);
        let b = unit / of_batch;
        for h in if averaged { 0..problem.heads } else { unit % of_batch..unit % of_batch + 1 } {
            let (span, own) = (heads.spans[i].keys.clone(), matrix(heads.q, strides, (b, h), i, false));
            let scores = heads.scores((b, h), own, &[i], &span);
            let lse = lse[(b * problem.heads + h) * problem.queries + i];
            for (weight, &score) in line[span].iter_mut().zip(&scores.values) {
                *weight += if score == f32::NEG_INFINITY { 0. } else { part * (score - lse).exp() };
            }
        }
    });
    weights
}
