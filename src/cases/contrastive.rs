//! Cases of the contrastive losses.

use super::bench::Bench;
use super::{Case, Input, Tolerance, combinations, of_rule};
use crate::ops::info_nce::INFO_NCE;
use crate::ops::siglip::SIGLIP;
use crate::ops::{InfoNceOptions, Precision, Reduction, SiglipOptions, Targets};
use std::sync::Arc;

use super::products::TAILS;

/// The error of a loss of logits of size `scale`: their products' rounding, times the scale, times a few.
/// For the loss, for the gradients of x and y, and for that of the scale.
pub(super) fn info_nce_tolerance(n: usize, m: usize, d: usize, scale: f64) -> [Tolerance; 3] {
    let rounding = Tolerance::ulps(0.5).rel;
    let logit = ((d as f64).sqrt() + 4.) * rounding * scale;
    let probability = 2. * logit + Tolerance::exponential(20.).rel + rounding * (m as f64).sqrt();
    let carried = |error: f64| Tolerance::carried(error).and(Tolerance::ulps(3.));
    let forward = carried(2. * logit + probability);
    // The probabilities in a row of G sum to about 2/n; ∂t sums over all rows, each logit at most the scale.
    [forward, carried(scale * probability * 2. / n as f64), carried(scale * probability)]
}

fn of_info_nce(
    name: impl Into<String>,
    options: InfoNceOptions,
    inputs: Vec<Input>,
    [forward, backward, last]: [Tolerance; 3],
) -> Case {
    Case { last: Some(last), ..of_rule(name, &INFO_NCE, options, inputs, (forward, backward)) }
}

fn info_nce_case(name: String, (n, m, d): (usize, usize, usize), t: f64, options: &InfoNceOptions) -> Case {
    let inputs = vec![Input::unit_rows("x", n, d), Input::unit_rows("y", m, d), Input::of(&[], &[t])];
    of_info_nce(name, options.clone(), inputs, info_nce_tolerance(n, m, d, t.exp())).f32_only()
}

pub(super) fn info_nce() -> Vec<Case> {
    let (symmetric, one_way) =
        (InfoNceOptions::default(), InfoNceOptions { symmetric: false, ..InfoNceOptions::default() });
    let t = (1f64 / 0.07).ln();
    let mut cases = vec![];
    for (i, &n) in TAILS.iter().enumerate() {
        let d = TAILS[(i + 5) % 13];
        cases.push(info_nce_case(format!("symmetric {n} {d}"), (n, n, d), t, &symmetric));
        cases.push(info_nce_case(format!("one-way {n} {} {d}", n + i), (n, n + i, d), t, &one_way));
    }
    // Scratch for blocks of 1, of 7 × 7 and of 32 × 32 elements: the answer must not depend on it.
    for scratch_bytes in [1, 200, 4096] {
        let blocks = format!("in blocks of {scratch_bytes} bytes");
        let options = InfoNceOptions { scratch_bytes, ..symmetric.clone() };
        cases.push(info_nce_case(format!("65 {blocks}"), (65, 65, 9), t, &options));
        let options = InfoNceOptions { scratch_bytes, ..one_way.clone() };
        cases.push(info_nce_case(format!("one-way 31 65 {blocks}"), (31, 65, 9), t, &options));
    }
    cases.push(info_nce_case("a scale of 100".into(), (33, 33, 16), 100f64.ln(), &symmetric));
    cases.push(info_nce_case("a temperature of 1e-4".into(), (33, 33, 16), 1e4f64.ln(), &symmetric));
    // The last block is one similarity of 0 in a scratch that still holds a 1 behind it.
    let inputs = vec![
        Input::of(&[3, 2], &[1., 0., 0., 1., 0.6, 0.8]),
        Input::of(&[3, 2], &[1., 0., 0.6, 0.8, 0.8, -0.6]),
        Input::of(&[], &[1e4f64.ln()]),
    ];
    let options = InfoNceOptions { scratch_bytes: 16, ..symmetric.clone() };
    let tolerance = info_nce_tolerance(3, 3, 2, 1e4);
    cases.push(of_info_nce("a temperature of 1e-4, blocks of 2 x 2", options, inputs, tolerance).f32_only());
    let same = || Input::of(&[65, 3], &[1., 0., 0.].repeat(65));
    let inputs = vec![same(), same(), Input::of(&[], &[0.])];
    let tolerance = info_nce_tolerance(65, 65, 3, 1.);
    cases.push(of_info_nce("all rows the same", symmetric.clone(), inputs, tolerance).f32_only());
    let inputs = vec![Input::unit_rows("x", 33, 16), Input::unit_rows("y", 33, 16), Input::of(&[], &[2.])];
    let [forward, backward, last] = info_nce_tolerance(33, 33, 16, 2f64.exp());
    let stored = [forward, backward.storing(1e-4), last.storing(1e-4)];
    // In f16 the loss and its gradients are rounded once, from f32.
    cases.push(of_info_nce("f16 features", symmetric, inputs, stored));
    cases.push(more_rows());
    cases.extend(tiles());
    cases.push(nan_is_not_hidden());
    cases.extend(combinations::combinations());
    cases
}

/// What kernels of tiles serve: rows of a multiple of four, more than a tile of them and less, blocks that end inside a tile, rows
/// and columns without a partner.
fn tiles() -> Vec<Case> {
    let symmetric = InfoNceOptions::default();
    let one_way = InfoNceOptions { symmetric: false, ..symmetric.clone() };
    let blocks = InfoNceOptions { scratch_bytes: 1 << 16, smoothing: 0.1, ..symmetric.clone() };
    let per_row = InfoNceOptions { reduction: Reduction::None, ..symmetric.clone() };
    let of = |(what, (n, m, d), options): (&str, _, &InfoNceOptions)| {
        info_nce_case(format!("tiles: {n} by {m}, d {d}, {what}"), (n, m, d), 2.66, options)
    };
    [
        ("symmetric", (260, 260, 20), &symmetric),
        ("one-way", (132, 264, 36), &one_way),
        ("in blocks, smoothed", (268, 268, 12), &blocks),
        ("a loss per row", (8, 8, 4), &per_row),
        ("no multiples of four", (131, 261, 8), &one_way),
        ("more columns than rows", (136, 140, 16), &symmetric),
    ]
    .map(of)
    .into()
}

/// A NaN that nothing masks is one of the loss and of every gradient, by whichever kernels.
fn nan_is_not_hidden() -> Case {
    let mut case = info_nce_case("a NaN in a column".into(), (12, 12, 8), 2.66, &InfoNceOptions::default());
    case.inputs[1].values[3 * 8 + 5] = f64::NAN;
    case
}

fn more_rows() -> Case {
    let (n, d) = (127, 64);
    let keep: Arc<[bool]> = (0..n).map(|i| i % 5 != 3).collect();
    let options =
        InfoNceOptions { keep_rows: Some(keep.clone()), keep_cols: Some(keep), ..Default::default() };
    info_nce_case("masked rows of many".into(), (n, n, d), 2., &options)
}

/// Both directions of n pairs of d numbers, with blocks of so many bytes.
pub(super) fn info_nce_of(
    (n, d): (usize, usize),
    scratch_bytes: usize,
    both: bool,
    precision: Precision,
) -> Bench {
    let options = InfoNceOptions { scratch_bytes, precision, ..InfoNceOptions::default() };
    let make = move || {
        let case = info_nce_case("both".into(), (n, n, d), 2.66, &options);
        if both { case } else { super::of_forward(&INFO_NCE, options.clone(), case.inputs) }
    };
    // The logits forward; backward the logits again, and two products of their gradient.
    let (name, products, moved) = if both { (", both", 4., 4) } else { ("", 1., 2) };
    let name = match precision {
        Precision::Strict => format!("{n} pairs, d {d}{name}"),
        // A line of the table has no room for more.
        Precision::Fast => format!("{n} by {d}{name}, fast"),
    };
    Bench::new(name, products * 2. * (n * n) as f64 * d as f64, moved * n * d, make)
}

pub(super) fn info_nce_bench() -> Vec<Bench> {
    let scratch = InfoNceOptions::default().scratch_bytes;
    let sizes = [
        (256, 128),
        (512, 128),
        (1024, 128),
        (4096, 128),
        (16_384, 128),
        (65_536, 128),
        (65_536, 512),
        (262_144, 128),
        (1_048_576, 128),
        (4096, 512),
        (4096, 1024),
        (16_384, 1024),
    ];
    let both = |(n, d)| [false, true].map(|both| info_nce_of((n, d), scratch, both, Precision::Strict));
    let fast = [(16_384, 512), (65_536, 512)].map(|size| info_nce_of(size, scratch, true, Precision::Fast));
    sizes.into_iter().flat_map(both).chain(fast).collect()
}

/// Logits of size `scale + bias`: each of n m terms is off by its logit's rounding, and by a few of its own.
fn siglip_case(
    name: String,
    (n, m, d): (usize, usize, usize),
    (t, bias): (f64, f64),
    options: SiglipOptions,
) -> Case {
    let logit = ((d as f64).sqrt() + 4.) * Tolerance::ulps(0.5).rel * (t.exp() + bias.abs());
    let rows = if options.reduction == Reduction::Mean { 1. } else { n as f64 };
    let terms = rows * m as f64;
    let (nan_rows, nan_cols) = (options.keep_rows.clone(), options.keep_cols.clone());
    let masked = |input: Input, keep: Option<Arc<[bool]>>| {
        let cols = input.shape[1].max(1);
        input.map(|at, v| if keep.as_ref().is_some_and(|keep| !keep[at / cols]) { f64::NAN } else { v })
    };
    let inputs = vec![
        masked(Input::unit_rows("x", n, d), nan_rows),
        masked(Input::unit_rows("y", m, d), nan_cols),
        Input::of(&[], &[t]),
        Input::of(&[], &[bias]),
    ];
    let own = Tolerance::exponential(20.).rel;
    let forward = Tolerance::carried(terms * (logit + own)).and(Tolerance::ulps(4.));
    // ∂t weighs each term by the scale once more.
    let backward = Tolerance::carried(terms * t.exp().max(1.) * (logit + own)).and(Tolerance::ulps(4.));
    of_rule(name, &SIGLIP, options, inputs, (forward, backward)).f32_only()
}

pub(super) fn siglip() -> Vec<Case> {
    let (start, plain) = ((10f64.ln(), -10.), SiglipOptions::default());
    let mut cases = vec![];
    for (i, &n) in TAILS.iter().enumerate() {
        let (m, d) = (TAILS[(i + 3) % 13], TAILS[(i + 5) % 13]);
        cases.push(siglip_case(format!("{n} {m} {d}"), (n, m, d), start, plain.clone()));
    }
    for side in [1, 7, 31] {
        let options = SiglipOptions { scratch_bytes: 4 * side * side, ..plain.clone() };
        cases.push(siglip_case(format!("31 40 9 in blocks of {side}"), (31, 40, 9), start, options));
    }
    cases.push(siglip_case("logits of 1e4".into(), (19, 19, 7), (1e4f64.ln(), 0.), plain.clone()));
    cases.push(siglip_case("logits around 0".into(), (19, 19, 7), (0., 0.), plain.clone()));
    let (n, m) = (19, 26);
    let classes = |count: usize| (0..count as i64).map(|i| i % 5 - 1).collect::<Arc<[i64]>>();
    let keep = |count: usize| Some((0..count).map(|i| i % 6 != 2).collect::<Arc<[bool]>>());
    for (reduction, way) in [(Reduction::Mean, "mean"), (Reduction::Sum, "sum"), (Reduction::None, "per row")]
    {
        let targets = Targets::Classes { rows: classes(n), cols: classes(m) };
        let plain = || SiglipOptions { reduction, scratch_bytes: 200, ..plain.clone() };
        let (keep_rows, keep_cols) = (keep(n), keep(m));
        let masked = SiglipOptions { keep_rows, keep_cols, ..plain() };
        let both = SiglipOptions { targets: targets.clone(), ..masked.clone() };
        for (name, options) in [
            ("diagonal", plain()),
            ("classes", SiglipOptions { targets, ..plain() }),
            ("masked NaN", masked),
            ("classes + masked NaN", both),
        ] {
            cases.push(siglip_case(format!("{name}, {way}"), (n, m, 7), start, options));
        }
    }
    let inputs = vec![
        Input::unit_rows("x", 33, 16),
        Input::unit_rows("y", 33, 16),
        Input::of(&[], &[2.]),
        Input::of(&[], &[-4.]),
    ];
    let Case { forward, backward, .. } = siglip_case(String::new(), (33, 33, 16), (2., -4.), plain.clone());
    // In f16 the loss and its gradients are rounded once, from f32.
    let tolerance = (forward, backward.storing(1e-4));
    cases.push(of_rule("f16 features", &SIGLIP, plain, inputs, tolerance));
    cases
}

pub(super) fn siglip_bench() -> Vec<Bench> {
    let of = |(n, d): (usize, usize)| {
        let make = move || siglip_case("both".into(), (n, n, d), (2.3, -10.), SiglipOptions::default());
        Bench::new(format!("{n} pairs, d {d}, both"), 8. * (n * n * d) as f64, 4 * n * d, make)
    };
    [(512, 128), (4096, 128), (16_384, 512)].map(of).into()
}
