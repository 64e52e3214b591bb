//! The gradients of attention: those of queries by tiles of queries, those of keys and values by tiles of keys, each summed in a
//! fixed order.

use super::attention::{Heads, QUERIES, Scores, matrix, scatter, tiles};
use super::matmul::{View, product};
use crate::reference::{Attention, AttentionWeights};
use rayon::prelude::*;
use std::ops::Range;

/// Keys that one task takes.
const KEYS: usize = 128;

/// What the gradients of a problem are made of.
struct Backward<'a> {
    heads: Heads<'a>,
    of_out: &'a [f32],
    of_weights: &'a [f32],
    lse: &'a [f32],
    /// Where the returned weights of each query are, if they are returned.
    places: Vec<Option<usize>>,
    /// `rowsum(P ∘ ∂P) − ∂LSE` of each query.
    delta: Vec<f32>,
}

/// A tile of the probabilities and of the gradients around them.
struct Tile {
    /// The probabilities, or what dropout makes of them.
    dropped: Vec<f32>,
    /// Of the scores.
    of_scores: Vec<f32>,
    /// Of the products, which are the scores where these are not capped.
    of_products: Vec<f32>,
}

impl Backward<'_> {
    fn line(&self, (b, h, i): (usize, usize, usize)) -> usize {
        (b * self.heads.problem.heads + h) * self.heads.problem.queries + i
    }

    /// The upstream gradient of the weights of a query with some keys, and its factor.
    fn of_weights(&self, (b, h, i): (usize, usize, usize), keys: &Range<usize>) -> Option<(&[f32], f32)> {
        let (problem, place) = (self.heads.problem, self.places[i]?);
        let rows = problem.options.rows.as_ref().map_or(problem.queries, |rows| rows.len());
        let (line, part) = match problem.options.weights {
            AttentionWeights::None => return None,
            AttentionWeights::PerHead => ((b * problem.heads + h) * rows + place, 1.),
            AttentionWeights::Averaged => (b * rows + place, 1. / problem.heads as f32),
        };
        Some((&self.of_weights[line * problem.keys..][keys.clone()], part))
    }

    /// A tile; `visit` is told each query's probabilities and ∂P before their gradient is taken, and gives its δ.
    fn tile(
        &self,
        head: (usize, usize),
        rows: &Range<usize>,
        keys: &Range<usize>,
        mut delta: impl FnMut(usize, &[f32], &[f32]) -> f32,
    ) -> Tile {
        let (heads, problem, n) = (&self.heads, self.heads.problem, keys.len());
        let [q_at, _, v_at, out_at] = problem.places();
        let own = matrix(heads.q, q_at, head, rows.start, false);
        let Scores { values: mut p, slopes } =
            heads.scores(head, own, &rows.clone().collect::<Vec<_>>(), keys);
        let mut of_p = vec![0f32; p.len()];
        if p.is_empty() {
            return Tile { dropped: vec![], of_scores: vec![], of_products: vec![] };
        }
        let up = matrix(self.of_out, out_at, head, rows.start, false);
        let values = matrix(heads.v, v_at, heads.kv(head), keys.start, true);
        product(&mut of_p, (rows.len(), n, problem.dv), up, values, 1., false);
        let mut dropped = vec![0f32; p.len()];
        let lines = p.chunks_exact_mut(n).zip(of_p.chunks_exact_mut(n)).zip(dropped.chunks_exact_mut(n));
        for (((p, of_p), dropped), i) in lines.zip(rows.clone()) {
            let at = (head.0, head.1, i);
            let lse = self.lse[self.line(at)];
            // Until here NaN where the other side of the pair is not seen.
            for (p, of_p) in p.iter_mut().zip(&mut *of_p) {
                (*p, *of_p) = if *p == f32::NEG_INFINITY { (0., 0.) } else { ((*p - lse).exp(), *of_p) };
            }
            dropped.copy_from_slice(p);
            heads.drop_out(dropped, at, keys.start);
            heads.drop_out(of_p, at, keys.start);
            if let Some((up, part)) = self.of_weights(at, keys) {
                let pairs = of_p.iter_mut().zip(&*p).zip(up);
                pairs.for_each(|((of_p, p), up)| *of_p += if *p == 0. { 0. } else { part * up });
            }
            let delta = delta(i, p, of_p);
            for (of_p, p) in of_p.iter_mut().zip(&*p) {
                *of_p = if *p == 0. { 0. } else { *p * (*of_p - delta) };
            }
        }
        let capped = |(of, slope): (&f32, &f32)| if *of == 0. { 0. } else { of * slope };
        let of_products = match slopes.is_empty() {
            true => of_p.clone(),
            false => of_p.iter().zip(&slopes).map(capped).collect(),
        };
        Tile { dropped, of_scores: of_p, of_products }
    }

    /// ∂Q and δ.
    fn queries(&self, of_lse: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let (heads, problem, dh) = (&self.heads, self.heads.problem, self.heads.problem.dh);
        let [q_at, k_at, ..] = problem.places();
        let tile = |(b, h, rows): &(usize, usize, Range<usize>)| {
            let (head, keys) = ((*b, *h), heads.keys_of(rows));
            let (mut dq, mut deltas) = (vec![0f32; rows.len() * dh], vec![0f32; rows.len()]);
            let tile = self.tile(head, rows, &keys, |i, p, of_p| {
                let terms = p.iter().zip(of_p).filter(|(p, _)| **p != 0.);
                let sum: f64 = terms.map(|(p, of_p)| f64::from(*p) * f64::from(*of_p)).sum();
                let delta = (sum - f64::from(of_lse[self.line((*b, *h, i))])) as f32;
                deltas[i - rows.start] = delta;
                delta
            });
            if !keys.is_empty() {
                let weights = View { data: &tile.of_products, strides: (keys.len(), 1) };
                let others = matrix(heads.k, k_at, heads.kv(head), keys.start, false);
                let size = (rows.len(), dh, keys.len());
                heads.weigh(&mut dq, size, weights, others, problem.scale() as f32);
            }
            (dq, deltas)
        };
        let tiles = heads.tiles();
        let made: Vec<_> = tiles.par_iter().map(tile).collect();
        let (mut dq, mut delta) = (vec![0f32; heads.q.len()], vec![]);
        for ((b, h, rows), (tile, deltas)) in tiles.iter().zip(made) {
            scatter(&mut dq, q_at, (*b, *h, rows.start), &tile, dh);
            delta.extend(deltas);
        }
        (dq, delta)
    }

    /// ∂K and ∂V.
    fn keys(&self) -> (Vec<f32>, Vec<f32>) {
        let (heads, problem) = (&self.heads, self.heads.problem);
        let Attention { batch, kv_heads, dh, dv, .. } = *problem;
        let [q_at, k_at, v_at, out_at] = problem.places();
        let of_head = |b: usize, h: usize| tiles(problem.keys, KEYS).map(move |keys| (b, h, keys));
        let units: Vec<_> = (0..batch).flat_map(|b| (0..kv_heads).flat_map(move |h| of_head(b, h))).collect();
        let tile = |(b, kv, keys): &(usize, usize, Range<usize>)| {
            let (mut dk, mut dv_tile) = (vec![0f32; keys.len() * dh], vec![0f32; keys.len() * dv]);
            for h in kv * problem.group()..(kv + 1) * problem.group() {
                for rows in tiles(problem.queries, QUERIES) {
                    let (head, seen) = ((*b, h), heads.keys_of(&rows));
                    if seen.start >= keys.end || seen.end <= keys.start {
                        continue;
                    }
                    let tile = self.tile(head, &rows, keys, |i, _, _| self.delta[self.line((*b, h, i))]);
                    let transposed = |data| View { data, strides: (1, keys.len()) };
                    let own = matrix(heads.q, q_at, head, rows.start, false);
                    let size = (keys.len(), dh, rows.len());
                    heads.weigh(&mut dk, size, transposed(&tile.of_products), own, problem.scale() as f32);
                    let up = matrix(self.of_out, out_at, head, rows.start, false);
                    let size = (keys.len(), dv, rows.len());
                    heads.weigh(&mut dv_tile, size, transposed(&tile.dropped), up, 1.);
                }
            }
            (dk, dv_tile)
        };
        let made: Vec<_> = units.par_iter().map(tile).collect();
        let (mut dk, mut all_dv) = (vec![0f32; heads.k.len()], vec![0f32; heads.v.len()]);
        for ((b, h, keys), (tile, dv_tile)) in units.iter().zip(made) {
            scatter(&mut dk, k_at, (*b, *h, keys.start), &tile, dh);
            scatter(&mut all_dv, v_at, (*b, *h, keys.start), &dv_tile, dv);
        }
        (dk, all_dv)
    }

    /// The bias's gradient: each of its lines sums the queries that share it.
    fn bias(&self) -> Vec<f32> {
        let (heads, problem) = (&self.heads, self.heads.problem);
        let ([batch, of_heads, queries, keys], strides) =
            (problem.bias.unwrap_or([0; 4]), problem.bias_strides());
        let all = |size: usize, whole: usize, own: usize| if size == whole { own..own + 1 } else { 0..whole };
        let line = |n: usize| {
            let (i, h, b) = (n % queries, n / queries % of_heads, n / queries / of_heads);
            let mut sum = vec![0f64; keys];
            for b in all(batch, problem.batch, b) {
                for h in all(of_heads, problem.heads, h) {
                    let rows = if queries == problem.queries { i..i + 1 } else { 0..problem.queries };
                    for rows in
                        tiles(rows.len(), QUERIES).map(|own| rows.start + own.start..rows.start + own.end)
                    {
                        let seen = heads.keys_of(&rows);
                        let tile =
                            self.tile((b, h), &rows, &seen, |i, _, _| self.delta[self.line((b, h, i))]);
                        for line in tile.of_scores.chunks_exact(seen.len().max(1)) {
                            let places = seen.clone().zip(line);
                            places.for_each(|(j, of)| sum[j * strides[3]] += f64::from(*of));
                        }
                    }
                }
            }
            sum.into_iter().map(|sum| sum as f32).collect::<Vec<_>>()
        };
        let lines: Vec<_> = (0..batch * of_heads * queries).into_par_iter().map(line).collect();
        lines.concat()
    }
}

/// Gradients of q, k, v and the bias, for those of the result, of the log-sum-exps and of the weights; the last is empty where
/// there are none, and so is the bias's where it is not wanted.
pub(crate) fn attention_backward(
    inputs: [&[f32]; 4],
    lse: &[f32],
    [of_out, of_lse, of_weights]: [&[f32]; 3],
    wants_bias: bool,
    problem: &Attention,
) -> [Vec<f32>; 4] {
    let mut heads = Heads::new(inputs, problem);
    heads.finite &= of_out.par_iter().all(|v| v.is_finite());
    let mut places = vec![None; problem.queries];
    if !of_weights.is_empty() {
        problem.rows().into_iter().enumerate().for_each(|(place, i)| places[i] = Some(place));
    }
    let mut backward = Backward { heads, of_out, of_weights, lse, places, delta: vec![] };
    let (dq, delta) = backward.queries(of_lse);
    backward.delta = delta;
    let (dk, dv) = backward.keys();
    let bias = if wants_bias { backward.bias() } else { vec![] };
    [dq, dk, dv, bias]
}
