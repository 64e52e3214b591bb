//! Classification by prompts and by the training rows, without training: Tip-Adapter.

use super::class_vectors::ClassVectors;
use super::classification::{Classification, Labelled, rank};
use crate::align::{COLS, ROWS, UnitRows, check_widths, pieces};
use crate::error::{Error, Result};
use rayon::prelude::*;
use std::ops::Range;

/// What a cache model may choose from.
///
/// ```
/// let options = crossmodal::evaluate::CacheModel { betas: vec![5.5], ..Default::default() };
/// assert_eq!((options.scale, options.alphas[0]), (100., 0.));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct CacheModel {
    /// What the prompts' cosines are multiplied by: 100, as in CLIP.
    pub scale: f64,
    /// Weights of the cache that are tried: 0, which leaves the prompts alone, then 0.01, 0.03, 0.1, 0.3, 1 and so on to 1000.
    pub alphas: Vec<f64>,
    /// Sharpnesses that are tried with each of them: 1, 2, 4, 8, 16, 32, 64.
    pub betas: Vec<f64>,
}

impl Default for CacheModel {
    fn default() -> CacheModel {
        CacheModel {
            scale: 100.,
            alphas: vec![0., 0.01, 0.03, 0.1, 0.3, 1., 3., 10., 30., 100., 300., 1000.],
            betas: vec![1., 2., 4., 8., 16., 32., 64.],
        }
    }
}

/// What a cache model found.
///
/// ```
/// use crossmodal::{evaluate::{CacheModel, Labelled, cache_model, zero_shot}, io::Features};
/// let features = |values: &[f32]| Features { rows: values.len() / 2, cols: 2, values: values.to_vec() };
/// // The prompt of class 1 points to (1, 1), but its images lie near (0, 1), and so does class 0's prompt.
/// let (prompts, images) = (features(&[0.2, 1., 1., 1.]), features(&[-1., 0.2, 0.1, 1.]));
/// let (prompts, images) = (Labelled { features: &prompts, labels: &[0, 1] }, Labelled { features: &images, labels: &[0, 1] });
/// let scores = cache_model(&images, &images, &images, &prompts, &CacheModel::default())?;
/// assert_eq!((zero_shot(&images, &prompts)?.top_1, scores.test.top_1), (50., 100.));
/// assert!(scores.alpha > 0. && scores.validation.top_1 == 100.);
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CacheScores {
    /// On the test rows.
    pub test: Classification,
    /// On the validation rows.
    pub validation: Classification,
    /// The weight of the cache that did best on them; 0 is zero-shot.
    pub alpha: f64,
    /// The sharpness that did.
    pub beta: f64,
}

/// Classifies by prompts and by a cache of training rows, which nothing is trained on (Tip-Adapter, Zhang et al., 2022).
///
/// The logits of the classes are `s f Wᵀ + α exp(−β(1 − f Fᵀ)) L`: f an image `[d]`, F the training rows `[n, d]`, all of length
/// one, L `[n, c]` their classes as ones and zeros, W `[c, d]` the [zero-shot](super::zero_shot()) vectors of the classes that have
/// a prompt, s the scale. Each α is tried with each β, in the order given, and the first pair with the best top-1 on the
/// validation rows scores the test rows, once. Of equal classes the lower number comes first. Sums are f64.
///
/// Takes a block of similarities at a time. Errors: no rows, a value that is not finite, labels that are not one a row, widths
/// that differ; a row of a class without a prompt; a scale that is not positive and finite; no α or β, or one that is negative
/// or not finite. Example: [`CacheScores`].
pub fn cache_model(
    train: &Labelled<'_>,
    validation: &Labelled<'_>,
    test: &Labelled<'_>,
    prompts: &Labelled<'_>,
    options: &CacheModel,
) -> Result<CacheScores> {
    train.check(OP, ["train", "train labels"])?;
    validation.check(OP, ["validation", "validation labels"])?;
    test.check(OP, ["test", "test labels"])?;
    prompts.check(OP, ["prompts", "prompt labels"])?;
    check_widths(OP, "validation", train.features, validation.features)?;
    check_widths(OP, "test", train.features, test.features)?;
    check_widths(OP, "prompts", train.features, prompts.features)?;
    options.check()?;
    let classes = ClassVectors::new(OP, prompts)?;
    let own = classes.numbers("train labels", train.labels)?;
    let cache =
        Cache { classes, train: UnitRows::new(OP, "train", train.features)?, own, scale: options.scale };
    let for_choice = Scored::new(&cache, ["validation", "validation labels"], validation)?;
    let for_score = Scored::new(&cache, ["test", "test labels"], test)?;
    let (alpha, beta) = cache.best(&for_choice, options);
    let scores = |scored: &Scored<'_>| {
        let of_row = |row: usize, logits: &[f64], votes: &[f64]| {
            Some(rank(&mixed(logits, votes, alpha), scored.own[row]))
        };
        let ranks = cache.of_rows(&scored.x, &[beta], of_row);
        Classification::new(&ranks, scored.labels, cache.classes.len())
    };
    Ok(CacheScores { test: scores(&for_score), validation: scores(&for_choice), alpha, beta })
}

const OP: &str = "cache_model";

impl CacheModel {
    fn check(&self) -> Result<()> {
        if !(self.scale > 0. && self.scale.is_finite()) {
            return Err(Error::argument(OP, "scale", "a positive, finite number", self.scale));
        }
        for (argument, values) in [("alphas", &self.alphas), ("betas", &self.betas)] {
            if values.is_empty() || values.iter().any(|v| !(*v >= 0. && v.is_finite())) {
                let expected = "at least one, all finite and not negative";
                return Err(Error::argument(OP, argument, expected, format!("{values:?}")));
            }
        }
        Ok(())
    }
}

/// Rows to score, with the number of each one's class.
struct Scored<'a> {
    x: UnitRows,
    own: Vec<usize>,
    labels: &'a [i64],
}

impl<'a> Scored<'a> {
    fn new(cache: &Cache, arguments: [&'static str; 2], items: &Labelled<'a>) -> Result<Scored<'a>> {
        let own = cache.classes.numbers(arguments[1], items.labels)?;
        Ok(Scored { x: UnitRows::new(OP, arguments[0], items.features)?, own, labels: items.labels })
    }
}

/// The classes' vectors, and the training rows with the number of each one's class.
struct Cache {
    classes: ClassVectors,
    train: UnitRows,
    own: Vec<usize>,
    scale: f64,
}

impl Cache {
    /// What `of_row` says of each row: of its number, its logits by the prompts, and the votes of the training rows for each
    /// class, of one beta behind those of the other.
    fn of_rows<T: Send>(
        &self,
        x: &UnitRows,
        betas: &[f64],
        of_row: impl Fn(usize, &[f64], &[f64]) -> T + Sync,
    ) -> Vec<T> {
        let of_chunk = |rows: &Range<usize>| {
            let votes = self.votes(x, rows, betas);
            let all = rows.clone().zip(self.classes.similarities(x, rows)).zip(votes);
            let of_row = |((row, sims), votes): ((usize, Vec<f32>), Vec<f64>)| {
                let logits: Vec<_> = sims.into_iter().map(|sim| self.scale * f64::from(sim)).collect();
                of_row(row, &logits, &votes)
            };
            all.map(of_row).collect::<Vec<_>>()
        };
        let chunks: Vec<_> = pieces(x.rows(), ROWS).collect();
        chunks.par_iter().flat_map_iter(of_chunk).collect()
    }

    /// `exp(−β(1 − f Fᵀ)) L` of some rows for every beta.
    fn votes(&self, x: &UnitRows, rows: &Range<usize>, betas: &[f64]) -> Vec<Vec<f64>> {
        let classes = self.classes.len();
        let mut votes = vec![vec![0f64; betas.len() * classes]; rows.len()];
        let mut sims = vec![0f32; rows.len() * COLS];
        for cols in pieces(self.train.rows(), COLS) {
            x.block(rows, &self.train, &cols, &mut sims);
            for (votes, sims) in votes.iter_mut().zip(sims.chunks_exact(cols.len())) {
                for (votes, beta) in votes.chunks_exact_mut(classes).zip(betas) {
                    for (&own, &sim) in self.own[cols.clone()].iter().zip(sims) {
                        votes[own] += (-beta * (1. - f64::from(sim))).exp();
                    }
                }
            }
        }
        votes
    }

    /// The first alpha and beta with the most rows whose own class comes first.
    fn best(&self, scored: &Scored<'_>, options: &CacheModel) -> (f64, f64) {
        let classes = self.classes.len();
        let pairs: Vec<_> =
            (0..options.alphas.len()).flat_map(|a| (0..options.betas.len()).map(move |b| (a, b))).collect();
        let of_row = |row: usize, logits: &[f64], votes: &[f64]| {
            let hit = |&(a, b): &(usize, usize)| {
                let mixed = mixed(logits, &votes[b * classes..][..classes], options.alphas[a]);
                rank(&mixed, scored.own[row]) == 1
            };
            pairs.iter().map(hit).collect::<Vec<_>>()
        };
        let mut hits = vec![0; pairs.len()];
        for row in self.of_rows(&scored.x, &options.betas, of_row) {
            hits.iter_mut().zip(row).for_each(|(hits, hit)| *hits += usize::from(hit));
        }
        let most = hits.iter().max();
        let first = hits.iter().position(|hits| Some(hits) == most).expect("there are pairs");
        let (a, b) = pairs[first];
        (options.alphas[a], options.betas[b])
    }
}

/// The logits of prompts and cache together.
fn mixed(logits: &[f64], votes: &[f64], alpha: f64) -> Vec<f64> {
    logits.iter().zip(votes).map(|(logit, votes)| logit + alpha * votes).collect()
}

#[cfg(test)]
mod tests;
