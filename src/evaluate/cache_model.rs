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
    /// Weights of the cache that are tried: 0, which leaves the prompts alone, then 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100.
    pub alphas: Vec<f64>,
    /// Sharpnesses that are tried with each of them: 1, 2, 4, 8, 16, 32, 64.
    pub betas: Vec<f64>,
}

impl Default for CacheModel {
    fn default() -> CacheModel {
        CacheModel {
            scale: 100.,
            alphas: vec![0., 0.01, 0.03, 0.1, 0.3, 1., 3., 10., 30., 100.],
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
mod tests {
    use super::*;
    use crate::evaluate::zero_shot;
    use crate::io::Features;
    use rand::{RngExt, SeedableRng};

    fn noise(rows: usize, cols: usize, seed: u64) -> Features {
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        Features { rows, cols, values: (0..rows * cols).map(|_| random.random_range(-1f32..1.)).collect() }
    }

    fn classes(rows: usize, of: i64) -> Vec<i64> {
        (0..rows as i64).map(|row| row * row % of * 10 - 20).collect()
    }

    /// The rank of each row's class with every logit written out in f64.
    fn by_hand(
        x: &Labelled<'_>,
        train: &Labelled<'_>,
        prompts: &Labelled<'_>,
        (alpha, beta): (f64, f64),
    ) -> Vec<u32> {
        let unit = |row: &[f32]| {
            let length = row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
            row.iter().map(|&v| f64::from(v) / length).collect::<Vec<_>>()
        };
        let rows = |items: &Labelled<'_>| {
            items.features.values.chunks(items.features.cols).map(unit).collect::<Vec<_>>()
        };
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let numbers = prompts.classes();
        let logit = |f: &[f64], class: i64| {
            let of_class = |items: &Labelled<'_>| {
                let own = rows(items).into_iter().zip(items.labels).filter(|(_, label)| **label == class);
                own.map(|(row, _)| row).collect::<Vec<_>>()
            };
            let mean: Vec<f64> =
                (0..f.len()).map(|at| of_class(prompts).iter().map(|p| p[at]).sum()).collect();
            let votes: f64 = of_class(train).iter().map(|row| (-beta * (1. - dot(f, row))).exp()).sum();
            100. * dot(f, &mean) / dot(&mean, &mean).sqrt() + alpha * votes
        };
        let of_row = |(f, label): (Vec<f64>, &i64)| {
            let logits: Vec<_> = numbers.iter().map(|&class| logit(&f, class)).collect();
            rank(&logits, numbers.binary_search(label).unwrap())
        };
        rows(x).into_iter().zip(x.labels).map(of_row).collect()
    }

    #[test]
    fn scores_are_those_of_the_formula_at_every_size_of_block() {
        // More rows and training rows than a block, in no multiple of it.
        let (train, test, prompts) = (noise(COLS + 37, 5, 1), noise(ROWS + 9, 5, 2), noise(14, 5, 3));
        let (of_train, of_test, of_prompts) = (classes(train.rows, 7), classes(test.rows, 7), classes(14, 7));
        let train = Labelled { features: &train, labels: &of_train };
        let test = Labelled { features: &test, labels: &of_test };
        let prompts = Labelled { features: &prompts, labels: &of_prompts };
        for (alpha, beta) in [(0., 1.), (3., 2.), (10., 0.), (30., 16.)] {
            let options = CacheModel { alphas: vec![alpha], betas: vec![beta], ..CacheModel::default() };
            let scores = cache_model(&train, &test, &test, &prompts, &options).unwrap();
            let ranks: Vec<_> =
                by_hand(&test, &train, &prompts, (alpha, beta)).into_iter().map(Some).collect();
            assert_eq!(scores.test, Classification::new(&ranks, &of_test, prompts.classes().len()));
            assert_eq!((scores.validation, scores.alpha, scores.beta), (scores.test, alpha, beta));
        }
        // Without the cache it is zero-shot.
        let options = CacheModel { alphas: vec![0.], ..CacheModel::default() };
        let scores = cache_model(&train, &test, &test, &prompts, &options).unwrap();
        assert_eq!((scores.test, scores.beta), (zero_shot(&test, &prompts).unwrap(), 1.));
    }

    #[test]
    fn the_pair_is_the_first_of_the_best_on_the_validation_rows() {
        let (train, validation, test, prompts) =
            (noise(60, 4, 4), noise(40, 4, 5), noise(30, 4, 6), noise(5, 4, 7));
        let labels = [60, 40, 30, 5].map(|rows| classes(rows, 5));
        let items =
            [(&train, &labels[0]), (&validation, &labels[1]), (&test, &labels[2]), (&prompts, &labels[3])];
        let [train, validation, test, prompts] =
            items.map(|(features, labels)| Labelled { features, labels });
        let options = CacheModel::default();
        let scores = cache_model(&train, &validation, &test, &prompts, &options).unwrap();
        let alone = |alpha: f64, beta: f64| {
            let options = CacheModel { alphas: vec![alpha], betas: vec![beta], ..CacheModel::default() };
            cache_model(&train, &validation, &test, &prompts, &options).unwrap()
        };
        let pairs = options.alphas.iter().flat_map(|&a| options.betas.iter().map(move |&b| (a, b)));
        let mut best: Option<CacheScores> = None;
        for tried in pairs.map(|(a, b)| alone(a, b)) {
            if best.as_ref().is_none_or(|best| tried.validation.top_1 > best.validation.top_1) {
                best = Some(tried);
            }
        }
        assert_eq!(Some(scores), best);
    }

    #[test]
    fn what_has_no_answer_is_refused() {
        let one = noise(1, 2, 8);
        let item = Labelled { features: &one, labels: &[3] };
        let refused = |train: &Labelled<'_>, validation: &Labelled<'_>, options: &CacheModel, words: &str| {
            let error = cache_model(train, validation, &item, &item, options).unwrap_err().to_string();
            assert!(error.contains(words), "{error}: no {words}");
        };
        let plain = CacheModel::default();
        let other = Labelled { labels: &[4], ..item };
        refused(
            &other,
            &item,
            &plain,
            "train labels: expected classes that have a prompt, got class 4 of row 0",
        );
        refused(&item, &other, &plain, "validation labels");
        let wide = noise(1, 3, 9);
        refused(&item, &Labelled { features: &wide, ..item }, &plain, "validation");
        for scale in [0., f64::NAN, f64::INFINITY] {
            refused(&item, &item, &CacheModel { scale, ..plain.clone() }, "scale");
        }
        for values in [vec![], vec![-1.], vec![1., f64::NAN]] {
            refused(&item, &item, &CacheModel { alphas: values.clone(), ..plain.clone() }, "alphas");
            refused(&item, &item, &CacheModel { betas: values, ..plain.clone() }, "betas");
        }
        assert!(cache_model(&item, &item, &item, &item, &plain).is_ok());
    }
}
