//! Features with classes, and the scores of a classifier.

use crate::align::check_features;
use crate::error::{Error, Result};
use crate::io::Features;

/// Features with the class of each row. A class is any number.
///
/// ```
/// use crossmodal::{evaluate::{Knn, Labelled, knn}, io::Features};
/// let features = Features { rows: 2, cols: 1, values: vec![1., -1.] };
/// let short = Labelled { features: &features, labels: &[0] };
/// let error = knn(&short, &short, &Knn::default()).unwrap_err();
/// assert_eq!(error.to_string(), "knn: train labels: expected 2, one for each row, got 1");
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Labelled<'a> {
    /// One row an item.
    pub features: &'a Features,
    /// One class a row.
    pub labels: &'a [i64],
}

impl Labelled<'_> {
    /// Refuses features that are empty or not finite, and labels that are not one a row.
    pub(super) fn check(&self, op: &'static str, arguments: [&'static str; 2]) -> Result<()> {
        check_features(op, arguments[0], self.features)?;
        let (rows, labels) = (self.features.rows, self.labels.len());
        if labels != rows {
            return Err(Error::argument(op, arguments[1], format!("{rows}, one for each row"), labels));
        }
        Ok(())
    }

    /// The classes, in ascending order.
    pub(super) fn classes(&self) -> Vec<i64> {
        let mut classes = self.labels.to_vec();
        classes.sort_unstable();
        classes.dedup();
        classes
    }
}

/// How well items were classified, in percent.
///
/// ```
/// use crossmodal::{evaluate::{Knn, Labelled, knn}, io::Features};
/// let features = Features { rows: 3, cols: 2, values: vec![1., 0., 0., 1., -1., 0.] };
/// let items = Labelled { features: &features, labels: &[4, 5, 6] };
/// let scores = knn(&items, &items, &Knn { neighbours: 1, ..Knn::default() })?;
/// assert_eq!((scores.top_1, scores.top_5, scores.mean_per_class, scores.classes), (100., 100., 100., 3));
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Classification {
    /// Items whose class came first.
    pub top_1: f64,
    /// Items whose class was among the first 5: all that could be predicted, where there are no more classes.
    pub top_5: f64,
    /// `top_1` of each class that has an item, averaged over these classes.
    pub mean_per_class: f64,
    /// Classes that could have been predicted.
    pub classes: usize,
}

impl Classification {
    /// Of the rank, from 1, of each item's own class; none where it could not have been predicted.
    pub(super) fn new(ranks: &[Option<u32>], labels: &[i64], classes: usize) -> Classification {
        let within = |k| ranks.iter().filter(|rank| rank.is_some_and(|rank| rank <= k)).count();
        let percent = |count: usize, of: usize| 100. * count as f64 / of as f64;
        let mut items: Vec<_> = labels.iter().zip(ranks).map(|(&label, &rank)| (label, rank)).collect();
        items.sort_unstable_by_key(|&(label, _)| label);
        let of_class = |items: &[(i64, Option<u32>)]| {
            percent(items.iter().filter(|(_, rank)| *rank == Some(1)).count(), items.len())
        };
        let recalls: Vec<_> = items.chunk_by(|a, b| a.0 == b.0).map(of_class).collect();
        Classification {
            top_1: percent(within(1), ranks.len()),
            top_5: percent(within(5), ranks.len()),
            mean_per_class: recalls.iter().sum::<f64>() / recalls.len() as f64,
            classes,
        }
    }
}

/// The rank, from 1, of class number `own`: one more than the classes with a higher score, or as high with a lower number.
pub(super) fn rank<T: PartialOrd>(scores: &[T], own: usize) -> u32 {
    let before =
        |&(class, score): &(usize, &T)| *score > scores[own] || (*score == scores[own] && class < own);
    1 + scores.iter().enumerate().filter(before).count() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_counts_the_same_in_the_mean() {
        // Class 1: 1 of 3 first; class 7: 1 of 1; the last item of class 1 could not be predicted.
        let scores = Classification::new(&[Some(1), Some(5), Some(1), None], &[1, 1, 7, 1], 9);
        assert_eq!((scores.top_1, scores.top_5, scores.classes), (50., 75., 9));
        assert!((scores.mean_per_class - (100. / 3. + 100.) / 2.).abs() < 1e-12);
    }

    #[test]
    fn ties_go_to_the_lower_class() {
        assert_eq!([0, 1, 2].map(|own| rank(&[0.5, 0.5, 0.7], own)), [2, 3, 1]);
    }
}
