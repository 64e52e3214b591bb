//! Classification by the nearest neighbours.

use super::classification::{Classification, Labelled, rank};
use crate::align::{COLS, ROWS, UnitRows, check_widths, pieces};
use crate::error::{Error, Result};
use rayon::prelude::*;
use std::cmp::Ordering;
use std::ops::Range;

/// How neighbours vote.
///
/// ```
/// let options = crossmodal::evaluate::Knn { neighbours: 5, ..Default::default() };
/// assert_eq!(options.temperature, 0.07);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Knn {
    /// How many of the most similar rows vote: 20. All, if there are fewer.
    pub neighbours: usize,
    /// A neighbour of similarity s has the weight `e^(s / temperature)`: 0.07.
    pub temperature: f64,
}

impl Default for Knn {
    fn default() -> Knn {
        Knn { neighbours: 20, temperature: 0.07 }
    }
}

/// Classifies every test row by its nearest training rows by cosine, weighted (Wu et al., 2018).
///
/// Of equally similar rows those with the lower index are nearer; of classes with equal votes the lower number comes first. A
/// class without a vote is not predicted.
///
/// Errors: no rows, a value that is not finite, labels that are not one a row, widths that differ; no neighbours; a temperature
/// that is not positive and finite.
///
/// ```
/// use crossmodal::{evaluate::{Knn, Labelled, knn}, io::Features};
/// let features = |values: &[f32]| Features { rows: values.len() / 2, cols: 2, values: values.to_vec() };
/// let (train, test) = (features(&[1., 0., 0.9, 0.1, 0., 1.]), features(&[1., 0.2, 0.1, 1.]));
/// let train = Labelled { features: &train, labels: &[0, 0, 1] };
/// let scores = knn(&train, &Labelled { features: &test, labels: &[0, 1] }, &Knn::default())?;
/// assert_eq!(scores.top_1, 100.);
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn knn(train: &Labelled<'_>, test: &Labelled<'_>, options: &Knn) -> Result<Classification> {
    train.check("knn", ["train", "train labels"])?;
    test.check("knn", ["test", "test labels"])?;
    check_widths("knn", "test", train.features, test.features)?;
    if options.neighbours == 0 {
        return Err(Error::argument("knn", "neighbours", "at least 1", 0));
    }
    if !(options.temperature > 0. && options.temperature.is_finite()) {
        let expected = "a positive, finite number";
        return Err(Error::argument("knn", "temperature", expected, options.temperature));
    }
    let classes = train.classes();
    let x = UnitRows::new("knn", "test", test.features)?;
    let y = UnitRows::new("knn", "train", train.features)?;
    let of_chunk = |rows: &Range<usize>| {
        let mut nearest = vec![Nearest::new(options.neighbours); rows.len()];
        let mut sims = vec![0f32; ROWS * COLS];
        for cols in pieces(y.rows(), COLS) {
            x.block(rows, &y, &cols, &mut sims);
            for (nearest, sims) in nearest.iter_mut().zip(sims.chunks_exact(cols.len())) {
                cols.clone().zip(sims).for_each(|(row, &sim)| nearest.push(sim, row));
            }
        }
        let own = |nearest: Nearest, label: &i64| {
            let votes = votes(&nearest.finish(), train.labels, &classes, options.temperature);
            let own = classes.binary_search(label).ok()?;
            (votes[own] > 0.).then(|| rank(&votes, own))
        };
        let ranks = nearest.into_iter().zip(&test.labels[rows.clone()]);
        ranks.map(|(nearest, label)| own(nearest, label)).collect::<Vec<_>>()
    };
    let chunks: Vec<_> = pieces(x.rows(), ROWS).collect();
    let ranks: Vec<_> = chunks.par_iter().flat_map_iter(of_chunk).collect();
    Ok(Classification::new(&ranks, test.labels, classes.len()))
}

/// The votes of each class. The nearest neighbour's weight is 1, which changes no order and overflows at no temperature.
fn votes(neighbours: &[(f32, usize)], labels: &[i64], classes: &[i64], temperature: f64) -> Vec<f64> {
    let mut votes = vec![0.; classes.len()];
    let top = neighbours.first().map_or(0., |&(sim, _)| f64::from(sim));
    for &(sim, row) in neighbours {
        votes[classes.partition_point(|&class| class < labels[row])] +=
            ((f64::from(sim) - top) / temperature).exp();
    }
    votes
}

/// The rows with the highest similarities so far, and some that wait to be sorted out.
#[derive(Clone)]
struct Nearest {
    keep: usize,
    rows: Vec<(f32, usize)>,
    /// The last of those that are kept, once there are as many.
    last: Option<(f32, usize)>,
}

/// Nearer first, then by index.
fn order(a: &(f32, usize), b: &(f32, usize)) -> Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

impl Nearest {
    fn new(keep: usize) -> Nearest {
        Nearest { keep, rows: vec![], last: None }
    }

    fn push(&mut self, sim: f32, row: usize) {
        // Adding 0 makes one zero of both, which are equally similar.
        let new = (sim + 0., row);
        if self.last.is_some_and(|last| order(&new, &last) == Ordering::Greater) {
            return;
        }
        self.rows.push(new);
        if self.rows.len() >= self.keep.saturating_mul(2).saturating_add(64) {
            self.cut();
        }
    }

    fn cut(&mut self) {
        if self.rows.len() > self.keep {
            let (_, last, _) = self.rows.select_nth_unstable_by(self.keep - 1, order);
            self.last = Some(*last);
            self.rows.truncate(self.keep);
        }
    }

    fn finish(mut self) -> Vec<(f32, usize)> {
        self.cut();
        self.rows.sort_unstable_by(order);
        self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::Features;
    use rand::{RngExt, SeedableRng};

    fn features(values: &[f32]) -> Features {
        Features { rows: values.len() / 2, cols: 2, values: values.to_vec() }
    }

    #[test]
    fn the_nearest_are_those_of_a_sort() {
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        for keep in [1, 3, 20, 5000] {
            // Few different values: many ties.
            let sims: Vec<f32> = (0..1000).map(|_| f32::from(random.random_range(-5i8..5))).collect();
            let mut nearest = Nearest::new(keep);
            sims.iter().enumerate().for_each(|(row, &sim)| nearest.push(sim, row));
            let mut want: Vec<_> = sims.iter().copied().zip(0..).collect();
            want.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            want.truncate(keep);
            assert_eq!(nearest.finish(), want, "{keep}");
        }
    }

    #[test]
    fn near_neighbours_outvote_many_far_ones() {
        let train = features(&[1., 0., 0., 1., 0., 1., 0., 1.]);
        let train = Labelled { features: &train, labels: &[7, 2, 2, 2] };
        let test = features(&[1., 0.]);
        let test = Labelled { features: &test, labels: &[7] };
        let top = |temperature| knn(&train, &test, &Knn { neighbours: 9, temperature }).unwrap().top_1;
        // e^(1 / 0.07) against 3; at temperature 10 e^0.1 = 1.1 against 3.
        assert_eq!((top(0.07), top(10.), top(1e-4)), (100., 0., 100.));
    }

    #[test]
    fn a_class_without_a_vote_is_not_predicted() {
        let train = features(&[1., 0., 0., 1.]);
        let train = Labelled { features: &train, labels: &[0, 1] };
        let test = features(&[1., 0., 1., 0.]);
        let test = Labelled { features: &test, labels: &[1, 5] };
        let scores = knn(&train, &test, &Knn { neighbours: 1, ..Knn::default() }).unwrap();
        assert_eq!((scores.top_1, scores.top_5, scores.classes), (0., 0., 2));
        let scores = knn(&train, &test, &Knn { neighbours: 2, ..Knn::default() }).unwrap();
        assert_eq!((scores.top_1, scores.top_5), (0., 50.));
    }

    #[test]
    fn options_out_of_range_are_refused() {
        let one = features(&[1., 0.]);
        let items = Labelled { features: &one, labels: &[1] };
        assert!(knn(&items, &items, &Knn { neighbours: 0, ..Knn::default() }).is_err());
        for temperature in [0., -1., f64::NAN, f64::INFINITY] {
            assert!(knn(&items, &items, &Knn { temperature, ..Knn::default() }).is_err());
        }
    }
}
