//! The cache model against its formula written out.

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
        let mean: Vec<f64> = (0..f.len()).map(|at| of_class(prompts).iter().map(|p| p[at]).sum()).collect();
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
        let ranks: Vec<_> = by_hand(&test, &train, &prompts, (alpha, beta)).into_iter().map(Some).collect();
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
    let [train, validation, test, prompts] = items.map(|(features, labels)| Labelled { features, labels });
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
    refused(&other, &item, &plain, "train labels: expected classes that have a prompt, got class 4 of row 0");
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
