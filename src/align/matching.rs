//! Where the correct items rank, for both directions, in one pass over the similarities.

use super::correct::{Correct, Labels};
use super::retrieval::{Retrieval, Scores};
use super::similarity::{COLS, ROWS, UnitRows, check_widths, pieces};
use crate::error::Result;
use crate::io::Features;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Bins of a histogram of similarities, of equal width from -1 to 1.
pub const BINS: usize = 200;

/// Ranks and similarities of both directions.
///
/// ```
/// use crossmodal::{align::{Correct, matching}, io::Features};
/// let left = Features { rows: 2, cols: 2, values: vec![1., 0., 0., 1.] };
/// let right = Features { rows: 3, cols: 2, values: vec![0.8, 0.6, 1., 0., -1., 0.] };
/// let matching = matching(&left, &right, &Correct::Ids { left: &[1, 2], right: &[1, 1, 3] }, &|_| ())?;
/// assert_eq!(matching.left_to_right, [Some(1), None]); // nothing on the right has id 2
/// assert_eq!(matching.right_to_left, [Some(1), Some(1), None]);
/// assert_eq!((matching.positives[180], matching.positives[199]), (1, 1)); // cosines 0.8 and 1
/// assert_eq!(matching.retrieval().left_to_right.recall_at_1, 100.); // of the one query with a correct item
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matching {
    /// The rank, from 1, of each left row's best correct item; none where it has no correct item.
    pub left_to_right: Vec<Option<u32>>,
    /// That of each right row's.
    pub right_to_left: Vec<Option<u32>>,
    /// How many similarities of correct items are in each of [`BINS`] bins from -1 to 1.
    pub positives: Vec<u64>,
    /// Those of all other items.
    pub negatives: Vec<u64>,
}

impl Matching {
    /// The scores over the queries that have a correct item. Example: [`Matching`].
    pub fn retrieval(&self) -> Retrieval {
        let scores = |ranks: &[Option<u32>]| Scores::of(ranks.iter().copied().flatten().collect());
        Retrieval { left_to_right: scores(&self.left_to_right), right_to_left: scores(&self.right_to_left) }
    }
}

/// The rank of the best correct item of every row of either side among the rows of the other, by cosine similarity: one more
/// than the items that are more similar, or as similar with a lower index. A zero row has similarity 0 with everything.
///
/// One pass serves both directions. Neither the similarities nor an order of them are stored: memory is that of the sides and
/// O(rows) more. `progress` is told how many left rows are done each time some are, from several threads.
///
/// Errors: a side has no rows, or a value that is not finite; widths differ; pairs of sides of different lengths; not an id a row;
/// no id that both sides have. Example: [`Matching`].
pub fn matching(
    left: &Features,
    right: &Features,
    correct: &Correct<'_>,
    progress: &(dyn Fn(usize) + Sync),
) -> Result<Matching> {
    let [x, y] = sides("retrieval", left, right)?;
    let labels = Labels::new("retrieval", correct, [x.rows(), y.rows()])?;
    let targets = [
        Targets::new(&x, &y, &labels.left, &labels.rows_of(&labels.right)),
        Targets::new(&y, &x, &labels.right, &labels.rows_of(&labels.left)),
    ];
    let pass = Pass::new([&x, &y], &labels, &targets);
    let chunks: Vec<_> = pieces(x.rows(), ROWS).collect();
    let of_chunk = |rows: &Range<usize>| {
        let counts = pass.rows(rows);
        progress(rows.len());
        counts
    };
    let left: Vec<u32> = chunks.par_iter().flat_map_iter(of_chunk).collect();
    let right: Vec<_> = pass.right.into_iter().map(AtomicU32::into_inner).collect();
    let [positives, negatives] =
        pass.histograms.map(|bins| bins.into_iter().map(AtomicU64::into_inner).collect());
    Ok(Matching {
        left_to_right: targets[0].ranks(&left),
        right_to_left: targets[1].ranks(&right),
        positives,
        negatives,
    })
}

/// Every cosine similarity `[left rows, right rows]`, for few rows: here they are stored. A zero row has similarity 0.
///
/// Errors: a side has no rows, or a value that is not finite; widths differ.
///
/// ```
/// use crossmodal::{align::cosines, io::Features};
/// let left = Features { rows: 1, cols: 2, values: vec![3., 4.] };
/// let right = Features { rows: 2, cols: 2, values: vec![2., 0., 0., 0.] };
/// let sims = cosines(&left, &right)?;
/// assert_eq!((sims.rows, sims.cols), (1, 2));
/// assert!((sims.values[0] - 0.6).abs() < 1e-6 && sims.values[1] == 0.);
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn cosines(left: &Features, right: &Features) -> Result<Features> {
    let [x, y] = sides("cosines", left, right)?;
    let mut values = vec![0.; x.rows() * y.rows()];
    values
        .par_chunks_mut(ROWS * y.rows())
        .zip(pieces(x.rows(), ROWS).collect::<Vec<_>>())
        .for_each(|(out, rows)| x.block(&rows, &y, &(0..y.rows()), out));
    Ok(Features { rows: x.rows(), cols: y.rows(), values })
}

/// Both sides as rows of length one.
pub(crate) fn sides(op: &'static str, left: &Features, right: &Features) -> Result<[UnitRows; 2]> {
    let x = UnitRows::new(op, "left", left)?;
    check_widths(op, "right", left, right)?;
    Ok([x, UnitRows::new(op, "right", right)?])
}

/// The best correct item of every query. Of a query without one the similarity is infinite: nothing comes before it.
struct Targets {
    sims: Vec<f32>,
    items: Vec<u32>,
}

impl Targets {
    fn new(queries: &UnitRows, gallery: &UnitRows, ids: &[u32], items: &[Vec<usize>]) -> Targets {
        let best = |(query, id): (usize, &u32)| {
            let targets = items[*id as usize]
                .iter()
                .map(|&item| (queries.similarity(query, gallery, item), item as u32));
            // In ascending order: of equals the first stays.
            targets
                .reduce(|best, next| if next.0 > best.0 { next } else { best })
                .unwrap_or((f32::INFINITY, 0))
        };
        let (sims, items) = ids.par_iter().enumerate().map(best).unzip();
        Targets { sims, items }
    }

    /// Ranks, from how many items come before each target.
    fn ranks(&self, before: &[u32]) -> Vec<Option<u32>> {
        before.iter().zip(&self.sims).map(|(count, sim)| sim.is_finite().then_some(count + 1)).collect()
    }
}

/// Whether an item comes before the target of this similarity and number: 1 or 0.
#[inline(always)]
fn is_before(sim: f32, item: u32, (target, target_item): (f32, u32)) -> u32 {
    u32::from(sim > target) | (u32::from(sim == target) & u32::from(item < target_item))
}

/// One pass over the similarities. Counts are whole numbers: in whatever order threads add to them, they end the same.
struct Pass<'a> {
    sides: [&'a UnitRows; 2],
    labels: &'a Labels,
    targets: &'a [Targets; 2],
    /// Items before the target of each right row.
    right: Vec<AtomicU32>,
    /// Positives and negatives.
    histograms: [Vec<AtomicU64>; 2],
}

impl<'a> Pass<'a> {
    fn new(sides: [&'a UnitRows; 2], labels: &'a Labels, targets: &'a [Targets; 2]) -> Pass<'a> {
        let right = (0..sides[1].rows()).map(|_| AtomicU32::new(0)).collect();
        let histograms = [(); 2].map(|()| (0..BINS).map(|_| AtomicU64::new(0)).collect());
        Pass { sides, labels, targets, right, histograms }
    }

    /// Items before the targets of some left rows; what these add to the right rows' counts and to the histograms is added.
    fn rows(&self, rows: &Range<usize>) -> Vec<u32> {
        let [x, y] = self.sides;
        let mut left = vec![0; rows.len()];
        let mut histograms = [[0; BINS]; 2];
        let mut sims = vec![0f32; ROWS * COLS];
        for cols in pieces(y.rows(), COLS) {
            x.block(rows, y, &cols, &mut sims);
            let mut right = [0; COLS];
            for ((i, count), sims) in rows.clone().zip(&mut left).zip(sims.chunks_exact(cols.len())) {
                let [own, others] = self.targets;
                let places = (i as u32, cols.start as u32);
                let others = (&others.sims[cols.clone()], &others.items[cols.clone()]);
                *count += count_row(sims, (own.sims[i], own.items[i]), others, places, &mut right);
                for (&sim, &id) in sims.iter().zip(&self.labels.right[cols.clone()]) {
                    histograms[usize::from(id != self.labels.left[i])][bin(sim)] += 1;
                }
            }
            for (sum, count) in self.right[cols].iter().zip(right) {
                sum.fetch_add(count, Relaxed);
            }
        }
        for (sums, counts) in self.histograms.iter().zip(histograms) {
            for (sum, count) in sums.iter().zip(counts) {
                sum.fetch_add(count, Relaxed);
            }
        }
        left
    }
}

/// How many of one left row's similarities come before its own target; those that come before the right rows' are added to
/// `right`. `places` are the numbers of the left row and of the first right row.
fn count_row(
    sims: &[f32],
    own: (f32, u32),
    (targets, items): (&[f32], &[u32]),
    places: (u32, u32),
    right: &mut [u32; COLS],
) -> u32 {
    pulp::Arch::new().dispatch(CountRow { sims, own, targets, items, places, right })
}

struct CountRow<'a> {
    sims: &'a [f32],
    own: (f32, u32),
    targets: &'a [f32],
    items: &'a [u32],
    places: (u32, u32),
    right: &'a mut [u32; COLS],
}

impl pulp::WithSimd for CountRow<'_> {
    type Output = u32;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> u32 {
        let (row, first) = self.places;
        let mut count = 0;
        for (&sim, item) in self.sims.iter().zip(first..) {
            count += is_before(sim, item, self.own);
        }
        let targets = self.targets.iter().zip(self.items);
        for ((right, &sim), (&target, &item)) in self.right.iter_mut().zip(self.sims).zip(targets) {
            *right += is_before(sim, row, (target, item));
        }
        count
    }
}

/// Rounding may carry a cosine past 1.
fn bin(sim: f32) -> usize {
    (((sim + 1.) * (0.5 * BINS as f32)) as usize).min(BINS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};

    /// Rows of 16 signs: of length one exact in f32, and so are their products, with many ties.
    fn signs(rows: usize, seed: u64) -> Features {
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let values = [(); 16].repeat(rows).iter().map(|()| if random.random() { 1. } else { -1. }).collect();
        Features { rows, cols: 16, values }
    }

    /// The definition: the best rank that a sort gives a correct item.
    fn sorted(queries: &Features, gallery: &Features, ids: [&[i64]; 2]) -> Vec<Option<u32>> {
        let rank = |(query, id): (&[f32], &i64)| {
            let sim = |row: &[f32]| row.iter().zip(query).map(|(a, b)| f64::from(a * b)).sum::<f64>();
            let mut items: Vec<_> = gallery.values.chunks(16).map(sim).zip(0usize..).collect();
            items.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            items.iter().position(|&(_, item)| ids[1][item] == *id).map(|at| at as u32 + 1)
        };
        queries.values.chunks(16).zip(ids[0]).map(rank).collect()
    }

    #[test]
    fn ranks_are_those_of_a_sort_with_many_ties() {
        for (rows, seed) in [([1, 1], 1), ([64, 128], 2), ([65, 129], 3), ([150, 300], 4), ([300, 70], 5)] {
            let (left, right) = (signs(rows[0], seed), signs(rows[1], seed + 100));
            let ids = rows.map(|rows| (0..rows as i64).map(|row| row * 7 % 40).collect::<Vec<_>>());
            let correct = Correct::Ids { left: &ids[0], right: &ids[1] };
            let matching = matching(&left, &right, &correct, &|_| ()).unwrap();
            assert_eq!(matching.left_to_right, sorted(&left, &right, [&ids[0], &ids[1]]), "{rows:?}");
            assert_eq!(matching.right_to_left, sorted(&right, &left, [&ids[1], &ids[0]]), "{rows:?}");
            let all = matching.positives.iter().chain(&matching.negatives).sum::<u64>();
            assert_eq!(all, (rows[0] * rows[1]) as u64);
        }
    }

    #[test]
    fn duplicates_of_inexact_rows_tie() {
        let mut row = signs(1, 1).values;
        row.iter_mut().enumerate().for_each(|(i, v)| *v *= 1. + i as f32 * 0.37);
        let all = Features { rows: 200, cols: 16, values: row.repeat(200) };
        let matching = matching(&all, &all, &Correct::Pairs, &|_| ()).unwrap();
        let want: Vec<_> = (1..=200).map(Some).collect();
        assert_eq!((&matching.left_to_right, &matching.right_to_left), (&want, &want));
    }

    #[test]
    fn every_row_is_told_once() {
        let done = AtomicU32::new(0);
        let rows = signs(130, 1);
        let progress = |count| {
            done.fetch_add(count as u32, Relaxed);
        };
        matching(&rows, &rows, &Correct::Pairs, &progress).unwrap();
        assert_eq!(done.into_inner(), 130);
    }

    #[test]
    fn ids_that_do_not_fit_are_refused() {
        let rows = signs(2, 1);
        let refused = |left: &[i64], right: &[i64]| {
            matching(&rows, &rows, &Correct::Ids { left, right }, &|_| ()).unwrap_err().to_string()
        };
        assert!(refused(&[1], &[1, 2]).contains("left ids: expected 2, one for each row, got 1"));
        assert!(
            refused(&[1, 2], &[3, 4]).contains("right ids: expected an id that a left row has, got none")
        );
        let short = matching(&rows, &signs(3, 1), &Correct::Pairs, &|_| ()).unwrap_err().to_string();
        assert!(short.contains("right: expected 2 rows as left has, got 3"), "{short}");
    }

    #[test]
    fn a_zero_row_ranks_by_index() {
        let zero = Features { rows: 3, cols: 1, values: vec![0.; 3] };
        let matching = matching(&zero, &zero, &Correct::Pairs, &|_| ()).unwrap();
        assert_eq!(matching.left_to_right, [Some(1), Some(2), Some(3)]);
        assert_eq!(matching.negatives[BINS / 2], 6);
    }
}
