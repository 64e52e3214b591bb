//! Exact similarities of queries and corpus rows, and the best of them.
//!
//! A dot product is summed in f64 in the order of the columns. The product of two f32 fits f64, so that each addition is the only
//! rounding of its step: a pair's bits depend on nothing but the pair, not on its neighbours, chunks, threads or vector width.

use crate::reference::by_rank;
use rayon::prelude::*;

/// Corpus rows and queries of one tile of sums.
const ROWS: usize = 8;
const QUERIES: usize = 4;

/// The `k` best entries (score, row) of those offered. Which they are does not depend on the order of the offers.
#[derive(Clone)]
pub(crate) struct Best {
    k: usize,
    /// The best and some that were offered since they were last sorted out.
    entries: Vec<(f32, u32)>,
    /// An entry that `k` others are known to come before or be: what does not come before it is not wanted.
    floor: Option<(f32, u32)>,
}

impl Best {
    pub(crate) fn new(k: usize) -> Best {
        Best { k, entries: vec![], floor: None }
    }

    /// An empty list that takes what this one would.
    pub(crate) fn branch(&self) -> Best {
        Best { entries: vec![], ..self.clone() }
    }

    pub(crate) fn floor(&self) -> Option<(f32, u32)> {
        self.floor
    }

    pub(crate) fn offer(&mut self, score: f32, row: u32) {
        if self.floor.is_some_and(|(least, last)| score < least || (score == least && row >= last)) {
            return;
        }
        self.entries.push((score, row));
        if self.entries.len() >= 2 * self.k {
            self.settle();
        }
    }

    /// Drops all but the best, and knows the floor.
    pub(crate) fn settle(&mut self) {
        if self.entries.len() >= self.k {
            let (_, last, _) = self.entries.select_nth_unstable_by(self.k - 1, by_rank);
            self.floor = Some(*last);
            self.entries.truncate(self.k);
        }
    }

    /// The entries, in no order; the best are among them.
    pub(crate) fn entries(self) -> Vec<(f32, u32)> {
        self.entries
    }

    /// The best, the first one first.
    pub(crate) fn sorted(mut self) -> Vec<(f32, u32)> {
        self.settle();
        self.entries.sort_unstable_by(by_rank);
        self.entries
    }
}

/// Queries as the tiles take them.
pub(crate) struct Queries {
    cols: usize,
    /// Groups of [`QUERIES`], the last filled up with zeros, each a matrix `[cols, QUERIES]`.
    groups: Vec<f64>,
    /// What a dot product is divided by.
    norms: Vec<f64>,
}

impl Queries {
    pub(crate) fn new(rows: &[f32], norms: &[f64], cols: usize) -> Queries {
        let mut groups = vec![0.; norms.len().next_multiple_of(QUERIES) * cols];
        for (q, row) in rows.chunks_exact(cols).enumerate() {
            let group = &mut groups[q / QUERIES * QUERIES * cols..];
            for (p, &value) in row.iter().enumerate() {
                group[p * QUERIES + q % QUERIES] = f64::from(value);
            }
        }
        Queries { cols, groups, norms: norms.to_vec() }
    }
}

/// Corpus rows, numbered from `first`.
#[derive(Clone, Copy)]
pub(crate) struct Corpus<'a> {
    pub rows: &'a [f32],
    /// What a dot product is divided by.
    pub norms: &'a [f64],
    pub first: u32,
}

impl Corpus<'_> {
    pub(crate) fn part(&self, from: usize, to: usize, cols: usize) -> Corpus<'_> {
        Corpus {
            rows: &self.rows[from * cols..to * cols],
            norms: &self.norms[from..to],
            first: self.first + from as u32,
        }
    }
}

/// Offers every row to every query, on all threads.
pub(crate) fn search(queries: &Queries, corpus: Corpus<'_>, best: &mut [Best]) {
    let (cols, rows) = (queries.cols, corpus.norms.len());
    let each = rows.div_ceil(rayon::current_num_threads()).next_multiple_of(ROWS);
    // Each thread has lists of its own: a megabyte or so of them.
    let k = best.first().map_or(1, |best| best.k);
    let at_once = ((1 << 16) / k).clamp(QUERIES, 256) / QUERIES * QUERIES;
    for (block, best) in best.chunks_mut(at_once).enumerate() {
        let share = |first: usize| {
            let mut own: Vec<_> = best.iter().map(Best::branch).collect();
            scan(queries, block * at_once, corpus.part(first, rows.min(first + each), cols), &mut own);
            own
        };
        let shares: Vec<_> = (0..rows.div_ceil(each)).into_par_iter().map(|i| share(i * each)).collect();
        for own in shares {
            for (best, own) in best.iter_mut().zip(own) {
                own.entries().into_iter().for_each(|(score, row)| best.offer(score, row));
            }
        }
        best.iter_mut().for_each(Best::settle);
    }
}

/// Offers every row to the queries from `first` on, a multiple of [`QUERIES`], as many as there are lists.
pub(crate) fn scan(queries: &Queries, first: usize, corpus: Corpus<'_>, best: &mut [Best]) {
    let cols = queries.cols;
    let mut tile = vec![[0f64; ROWS]; cols];
    for (t, (rows, norms)) in corpus.rows.chunks(ROWS * cols).zip(corpus.norms.chunks(ROWS)).enumerate() {
        // What is left of an earlier tile behind the last row is not looked at.
        for (r, row) in rows.chunks_exact(cols).enumerate() {
            tile.iter_mut().zip(row).for_each(|(at, &value)| at[r] = f64::from(value));
        }
        for (g, best) in best.chunks_mut(QUERIES).enumerate() {
            let query = first + g * QUERIES;
            let group = &queries.groups[query * cols..][..QUERIES * cols];
            let dots = pulp::Arch::new().dispatch(
                #[inline(always)]
                || dots(group, &tile),
            );
            for ((best, dots), query_norm) in best.iter_mut().zip(&dots).zip(&queries.norms[query..]) {
                for (r, (dot, norm)) in dots.iter().zip(norms).enumerate() {
                    let row = corpus.first + (t * ROWS + r) as u32;
                    best.offer(similarity(*dot, query_norm * norm), row);
                }
            }
        }
    }
}

#[inline(always)]
fn dots(group: &[f64], tile: &[[f64; ROWS]]) -> [[f64; ROWS]; QUERIES] {
    let mut sums = [[0f64; ROWS]; QUERIES];
    for (values, rows) in group.as_chunks::<QUERIES>().0.iter().zip(tile) {
        for (sums, value) in sums.iter_mut().zip(values) {
            for (sum, row) in sums.iter_mut().zip(rows) {
                *sum += value * row;
            }
        }
    }
    sums
}

/// A dot product over the product of the norms, 0 where that is 0; never −0, which would look like another number than 0.
fn similarity(dot: f64, norms: f64) -> f32 {
    (if norms > 0. { dot / norms } else { 0. }) as f32 + 0.
}

/// The similarity of one pair, to the bit what [`search`] takes it for.
pub(crate) fn similarity_of(query: &[f32], row: &[f32], norms: f64) -> f32 {
    let dot = query.iter().zip(row).fold(0., |sum, (&q, &r)| sum + f64::from(q) * f64::from(r));
    similarity(dot, norms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_do_not_depend_on_the_order_of_offers() {
        let offers: Vec<_> = (0..100u32).map(|row| ((row * 37 % 10) as f32, row)).collect();
        let mut want = offers.clone();
        want.sort_by(by_rank);
        for k in [1, 3, 99, 100, 101] {
            for turn in [0, 1, 50, 99] {
                let mut best = Best::new(k);
                let turned = offers[turn..].iter().chain(&offers[..turn]);
                turned.for_each(|&(score, row)| best.offer(score, row));
                assert_eq!(best.sorted(), want[..k.min(100)], "{k} of 100, from {turn}");
            }
        }
    }

    #[test]
    fn a_pair_has_the_same_bits_alone_and_in_a_tile() {
        let cols = 37;
        let value = |i: usize| (i as f32 * 0.731).sin() * 10f32.powi((i * 7 % 9) as i32 - 4);
        let (q, n) = (6, 21);
        let rows =
            |count: usize, from: usize| -> Vec<f32> { (from..from + count * cols).map(value).collect() };
        let (queries, corpus) = (rows(q, 5), rows(n, 1000));
        let norms = |count: usize| (1..=count).map(|i| i as f64 * 0.7).collect::<Vec<_>>();
        let (query_norms, row_norms) = (norms(q), norms(n));
        let mut best = vec![Best::new(n); q];
        let all = Corpus { rows: &corpus, norms: &row_norms, first: 0 };
        search(&Queries::new(&queries, &query_norms, cols), all, &mut best);
        for (i, best) in best.into_iter().enumerate() {
            let sorted = best.sorted();
            assert_eq!(sorted.len(), n);
            for (score, row) in sorted {
                let of = |side: &[f32], i: usize| side[i * cols..][..cols].to_vec();
                let norms = query_norms[i] * row_norms[row as usize];
                let alone = similarity_of(&of(&queries, i), &of(&corpus, row as usize), norms);
                assert_eq!(score.to_bits(), alone.to_bits(), "query {i}, row {row}");
            }
        }
    }
}
