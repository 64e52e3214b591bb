//! How well one modality finds the other.

use super::correct::Correct;
use super::matching::matching;
use crate::error::Result;
use crate::io::Features;

/// Scores of one direction. Example: [`Retrieval`].
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Scores {
    /// Queries whose own item is ranked first, in percent.
    pub recall_at_1: f64,
    /// Queries whose own item is among the first 5, in percent.
    pub recall_at_5: f64,
    /// Queries whose own item is among the first 10, in percent.
    pub recall_at_10: f64,
    /// The median rank of a query's own item, from 1.
    pub median_rank: f64,
    /// The mean rank.
    pub mean_rank: f64,
}

/// Scores of both directions.
///
/// ```
/// use crossmodal::{align::{Retrieval, Scores, retrieval}, io::Features};
/// let rows = Features { rows: 2, cols: 2, values: vec![1., 0., 0., 1.] };
/// let perfect = Scores {
///     recall_at_1: 100., recall_at_5: 100., recall_at_10: 100., median_rank: 1., mean_rank: 1.,
/// };
/// assert_eq!(retrieval(&rows, &rows)?, Retrieval { left_to_right: perfect, right_to_left: perfect });
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Retrieval {
    /// Left rows as queries, right rows as the gallery.
    pub left_to_right: Scores,
    /// Right rows as queries, left rows as the gallery.
    pub right_to_left: Scores,
}

impl Retrieval {
    /// Recall at 10, the mean of both directions: what the best epoch is chosen by.
    ///
    /// ```
    /// use crossmodal::align::{Retrieval, Scores};
    /// let half = Scores { recall_at_10: 50., ..Default::default() };
    /// let retrieval = Retrieval { left_to_right: half, right_to_left: Scores::default() };
    /// assert_eq!(retrieval.mean_recall_at_10(), 25.);
    /// ```
    pub fn mean_recall_at_10(&self) -> f64 {
        0.5 * (self.left_to_right.recall_at_10 + self.right_to_left.recall_at_10)
    }

    /// The mean of each score over several pairs of modalities; 0 each of none.
    ///
    /// ```
    /// use crossmodal::align::{Retrieval, Scores};
    /// let half = Retrieval { left_to_right: Scores { recall_at_1: 50., ..Default::default() }, ..Default::default() };
    /// assert_eq!(Retrieval::mean(&[half, Retrieval::default()]).left_to_right.recall_at_1, 25.);
    /// ```
    pub fn mean(of: &[Retrieval]) -> Retrieval {
        let mean = |one: fn(&Retrieval) -> &Scores| {
            let score = |score: fn(&Scores) -> f64| {
                of.iter().map(|each| score(one(each))).sum::<f64>() / of.len().max(1) as f64
            };
            Scores {
                recall_at_1: score(|s| s.recall_at_1),
                recall_at_5: score(|s| s.recall_at_5),
                recall_at_10: score(|s| s.recall_at_10),
                median_rank: score(|s| s.median_rank),
                mean_rank: score(|s| s.mean_rank),
            }
        };
        Retrieval {
            left_to_right: mean(|each| &each.left_to_right),
            right_to_left: mean(|each| &each.right_to_left),
        }
    }
}

impl Scores {
    /// Of the ranks of all queries; 0 each where there is no query.
    pub(super) fn of(mut ranks: Vec<u32>) -> Scores {
        if ranks.is_empty() {
            return Scores::default();
        }
        let count = ranks.len() as f64;
        ranks.sort_unstable();
        let recall = |k| 100. * ranks.partition_point(|&rank| rank <= k) as f64 / count;
        let middle = |i: usize| f64::from(ranks[i]);
        Scores {
            recall_at_1: recall(1),
            recall_at_5: recall(5),
            recall_at_10: recall(10),
            median_rank: 0.5 * (middle((ranks.len() - 1) / 2) + middle(ranks.len() / 2)),
            mean_rank: ranks.iter().map(|&rank| f64::from(rank)).sum::<f64>() / count,
        }
    }
}

/// Both directions' scores of embeddings of which row i of `left` belongs to row i of `right`, by cosine similarity.
///
/// Errors: no rows; row counts or widths differ.
///
/// ```
/// use crossmodal::{align::retrieval, io::Features};
/// let left = Features { rows: 2, cols: 2, values: vec![1., 0., 0., 1.] };
/// let right = Features { rows: 2, cols: 2, values: vec![0.9, 0.1, 0.2, 0.8] };
/// assert_eq!(retrieval(&left, &right)?.left_to_right.recall_at_1, 100.);
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn retrieval(left: &Features, right: &Features) -> Result<Retrieval> {
    Ok(matching(left, right, &Correct::Pairs, &|_| ())?.retrieval())
}

/// The rank, from 1, of item i of the gallery for query i, by cosine similarity: one more than the items that are more
/// similar, or as similar with a lower index. Several correct items a query, and both directions at once: [`matching`].
///
/// Errors: as [`retrieval`].
///
/// ```
/// use crossmodal::{align::ranks, io::Features};
/// let queries = Features { rows: 2, cols: 2, values: vec![1., 0., 0., 1.] };
/// let gallery = Features { rows: 2, cols: 2, values: vec![0.6, 0.8, 1., 0.] };
/// assert_eq!(ranks(&queries, &gallery)?, [2, 2]); // each finds the other's item first
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn ranks(queries: &Features, gallery: &Features) -> Result<Vec<u32>> {
    // Every query of pairs has a correct item.
    Ok(matching(queries, gallery, &Correct::Pairs, &|_| ())?.left_to_right.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features(cols: usize, values: &[f32]) -> Features {
        Features { rows: values.len() / cols, cols, values: values.to_vec() }
    }

    #[test]
    fn ties_go_to_the_lower_index() {
        let same = features(2, &[1., 0., 1., 0., 1., 0.]);
        assert_eq!(ranks(&same, &same).unwrap(), [1, 2, 3]);
    }

    #[test]
    fn ranks_count_what_is_more_similar() {
        let queries = features(2, &[1., 0., 0., 1., 1., 1.]);
        let gallery = features(2, &[0.6, 0.8, 0., 2., 5., 0.1]);
        // Query 0: similarities .6, 0, 1; query 1: .8, 1, .02; query 2: .99, .71, .72.
        assert_eq!(ranks(&queries, &gallery).unwrap(), [2, 1, 2]);
    }

    #[test]
    fn scores_take_the_middle_of_even_counts() {
        let scores = Scores::of(vec![1, 2, 7, 20]);
        assert_eq!((scores.median_rank, scores.mean_rank), (4.5, 7.5));
        assert_eq!((scores.recall_at_1, scores.recall_at_5, scores.recall_at_10), (25., 50., 75.));
    }

    #[test]
    fn rows_that_are_not_numbers_are_refused() {
        let (good, bad) = (features(2, &[1., 0., 0., 1.]), features(2, &[1., 0., 0., f32::NAN]));
        let error = retrieval(&good, &bad).unwrap_err().to_string();
        assert!(error.contains("NaN in row 1"), "{error}");
        let short = Features { rows: 2, cols: 2, values: vec![1.] };
        assert!(retrieval(&good, &short).unwrap_err().to_string().contains("2 x 2 values"));
    }

    #[test]
    fn sides_that_do_not_match_are_refused() {
        let error = retrieval(&features(2, &[1., 0.]), &features(1, &[1.])).unwrap_err().to_string();
        assert!(error.contains("2 columns") && error.contains("1 x 1"), "{error}");
        assert!(retrieval(&features(2, &[]), &features(2, &[])).is_err());
    }
}
