//! Cases of layer norm and RMS norm.

use super::bench::Bench;
use super::{Case, Input, Tolerance, of_rule};
use crate::ops::Rule;
use crate::ops::layer_norm::{LAYER_NORM, RMS_NORM};

use super::products::TAILS;

/// What is asked of which of the two.
#[derive(Clone, Copy)]
struct Ask {
    rule: &'static Rule<f64>,
    biased: bool,
    eps: f64,
}

const LAYER: Ask = Ask { rule: &LAYER_NORM, biased: true, eps: 1e-5 };
const RMS: Ask = Ask { rule: &RMS_NORM, biased: false, eps: 1e-5 };

/// How many deviations an element is away, at most, from the mean or from the first element of its row, from which it is
/// measured first; and the least deviation of a row.
fn reach(ask: Ask, x: &Input) -> (f64, f64) {
    let (cols, mut reach, mut least) = (x.shape[x.shape.len() - 1], 1f64, f64::INFINITY);
    for row in x.values.chunks(cols.max(1)) {
        let origin = if ask.rule.name == "layer_norm" { row[0] } else { 0. };
        let mean = |f: &dyn Fn(f64) -> f64| row.iter().map(|v| f(*v)).sum::<f64>() / cols as f64;
        let offset = if ask.rule.name == "layer_norm" { mean(&|v| v - origin) } else { 0. };
        let deviation = (mean(&|v| (v - origin - offset).powi(2)) + ask.eps).sqrt();
        let away = row.iter().map(|v| (v - origin).abs().max((v - origin - offset).abs()));
        reach = reach.max(away.fold(0., f64::max) / deviation);
        least = least.min(deviation);
    }
    (reach, least)
}

/// Weights, biases and upstream gradients are of size 1 at most.
fn of_norm(name: impl Into<String>, ask: Ask, x: Input) -> Case {
    let cols = x.shape[x.shape.len() - 1];
    let rows = x.values.len() / cols.max(1);
    let (reach, least) = reach(ask, &x);
    // Deviations are rounded once or twice; the factor is a sum's root, a handful of roundings more.
    let ulps = 8. + (cols as f64).sqrt();
    let hat = Tolerance::cancelling(ulps, reach);
    let forward = hat.and(Tolerance::ulps(1.));
    // h − ⟨h⟩ − x̂ ⟨x̂ h⟩ cancels, where |h| ≤ 1 and so ⟨x̂ h⟩ ≤ 1: the error of x̂ comes in by both, once times x̂.
    let bracket = hat.abs * (1. + reach) + Tolerance::accumulate(cols, 1.).abs;
    let of_x = Tolerance::carried(bracket / least).and(Tolerance::ulps(ulps));
    // Roundings of one row's x̂ have nothing to do with another's: they add up as roots.
    let of_weight =
        Tolerance::accumulate(rows, reach).and(Tolerance::carried(hat.abs * (rows as f64).sqrt()));
    let (backward, last) = match ask.biased {
        true => (of_x.and(of_weight), Tolerance::accumulate(rows, 1.)),
        false => (of_x, of_weight),
    };
    let mut inputs = vec![x, Input::uniform("weight", &[cols], 1.)];
    inputs.extend(ask.biased.then(|| Input::uniform("bias", &[cols], 1.)));
    let name = format!("{}, {}", ask.rule.name, name.into());
    Case { last: Some(last), ..of_rule(name, ask.rule, ask.eps, inputs, (forward, backward)) }
}

pub(super) fn layer_norm() -> Vec<Case> {
    let x = |shape: &[usize]| Input::uniform("rows", shape, 4.);
    let mut cases = vec![];
    for ask in [LAYER, RMS] {
        cases.extend(TAILS.iter().map(|&cols| of_norm(format!("[3, {cols}]"), ask, x(&[3, cols]))));
        let far = |size: f64| x(&[4, 129]).map(move |i, v| v / 4. + size * (i / 129) as f64);
        cases.extend([
            of_norm("[5]", ask, x(&[5])),
            of_norm("[2, 3, 5]", ask, x(&[2, 3, 5])),
            of_norm("[0, 5]", ask, x(&[0, 5])),
            of_norm("[3, 0]", ask, x(&[3, 0])),
            of_norm("[36, 129]", ask, x(&[36, 129])),
            of_norm("[4, 9, 33]", ask, x(&[4, 9, 33])),
            of_norm("sums in two levels", ask, x(&[33, 769])),
            of_norm("70000 rows", ask, x(&[70_000, 3])).f32_only(),
            of_norm("an eps that shows", Ask { eps: 0.5, ..ask }, x(&[4, 33])),
            of_norm("deviations of 1e-3", ask, x(&[4, 33]).map(|_, v| v / 4e3)),
            of_norm("rows at 0, 1e4, 2e4 and 3e4", ask, far(1e4)).f32_only(),
            of_norm("constant rows", ask, Input::of(&[3, 65], &[]).fill(|i| [7., 0., -1e4][i / 65])),
            of_norm("entries of 1e-20", ask, x(&[2, 5]).map(|_, v| v * 1e-20)).f32_only(),
            of_norm("entries of 1e18", ask, x(&[2, 5]).map(|_, v| v * 1e18)).f32_only(),
        ]);
    }
    let unbiased = Ask { biased: false, ..LAYER };
    cases.push(of_norm("without a bias", unbiased, x(&[3, 129])));
    // The largest entry on an odd lane, and at the head of the next row: no other would do as the scale.
    cases.push(of_norm("1e20 behind 1", RMS, Input::of(&[1, 2], &[1., 1e20])).f32_only());
    cases.push(of_norm("1e30 in the next row", RMS, Input::of(&[2, 2], &[1., 2., 1e30, 1e30])).f32_only());
    cases
}

pub(super) fn layer_norm_bench() -> Vec<Bench> {
    let mut benches = vec![];
    for (rows, cols) in [(512, 512), (32_768, 1024)] {
        for (name, ask) in [("layer", LAYER), ("rms", RMS)] {
            let make = move || of_norm("both", ask, Input::uniform("rows", &[rows, cols], 4.));
            // Two sums, a division and the result an element forward; two sums, the result and a weight's term backward.
            let flops = 24. * (rows * cols) as f64;
            benches.push(Bench::new(format!("{name} [{rows}, {cols}], both"), flops, 4 * rows * cols, make));
        }
    }
    benches
}
