//! Cases of the operations that reduce rows or axes.

use super::bench::{Bench, SQUARES};
use super::{Case, Input, Tolerance, of_forward, of_rule};
use crate::ops::l2_normalize::L2_NORMALIZE;
use crate::ops::log_softmax::LOG_SOFTMAX;
use crate::ops::log_sum_exp::LOG_SUM_EXP;
use crate::ops::reduce::REDUCE;
use crate::ops::softmax::SOFTMAX;
use crate::ops::{Reduce, ReduceOptions, Rule};

const EXACT: (Tolerance, Tolerance) = (Tolerance::exact(), Tolerance::exact());
/// Around the width of a workgroup, and its tails.
const COLUMNS: [usize; 13] = [1, 2, 3, 7, 8, 9, 31, 63, 64, 65, 127, 129, 257];
/// Exponentials below e⁻⁸⁸ are 0 in f32.
const DEEPEST: f64 = 88.;

/// Sizes, then rows whose logits try the numbers.
fn of_logits(rule: &'static Rule<()>, tolerance: fn(usize, f64) -> (Tolerance, Tolerance)) -> Vec<Case> {
    let case = |name: String, input: Input, range: f64| {
        let cols = input.shape[input.shape.len() - 1];
        of_rule(name, rule, (), vec![input], tolerance(cols, range))
    };
    let mut cases: Vec<_> = COLUMNS
        .iter()
        .map(|&cols| case(format!("[3, {cols}]"), Input::uniform("logits", &[3, cols], 4.), 4.))
        .collect();
    let row = |name: &str, values: &[f64]| {
        let range = values.iter().fold(0., |m: f64, v| m.max(v.abs()));
        case(name.into(), Input::of(&[1, values.len()], values), range)
    };
    cases.extend([
        case("[5]".into(), Input::uniform("logits", &[5], 4.), 4.),
        // Rows of two subgroups and of nine; rows of 33 pairs.
        case("[3, 700]".into(), Input::uniform("logits", &[3, 700], 4.), 4.),
        case("[2, 4200]".into(), Input::uniform("logits", &[2, 4200], 4.), 4.),
        case("[80, 66]".into(), Input::uniform("logits", &[80, 66], 4.), 4.),
        case("[2, 3, 5]".into(), Input::uniform("logits", &[2, 3, 5], 4.), 4.),
        case("[0, 5]".into(), Input::uniform("logits", &[0, 5], 4.), 4.),
        case("[70000, 3]".into(), Input::uniform("logits", &[70_000, 3], 4.), 4.).f32_only(),
        case("all the same".into(), Input::of(&[2, 65], &[1.; 130]), 1.),
        row("65 logits at -104", &[-104.; 65]),
        row("logits of ±1e4", &[1e4, -1e4, 1e4, 0., 9999.]),
        // A maximum on an odd lane, and a greater one at the head of the next row: neither another would do.
        case("rows far apart".into(), Input::of(&[2, 2], &[0., 200., 400., 0.]), 400.),
        row("a long tail", &(0..65).map(|i| f64::from(i) * -2.5).collect::<Vec<_>>()),
        case("±60".into(), Input::uniform("logits", &[4, 129], 60.), 60.),
    ]);
    cases
}

pub(super) fn softmax() -> Vec<Case> {
    of_logits(&SOFTMAX, |cols, range| {
        let forward =
            Tolerance::exponential(DEEPEST.min(2. * range)).and(Tolerance::ulps(cols.isqrt() as f64));
        // y (g − ⟨y, g⟩) with |g| ≤ 1: the difference cancels.
        (forward.storing(0.), forward.and(Tolerance::carried(2. * forward.rel)).storing(1.))
    })
}

pub(super) fn log_softmax() -> Vec<Case> {
    of_logits(&LOG_SOFTMAX, |cols, range| {
        // x − max is at most 2 range; the logarithm of the sum is off by its relative error.
        let sum = Tolerance::exponential(8.).and(Tolerance::ulps(cols.isqrt() as f64));
        let forward = Tolerance::carried(sum.rel).and(Tolerance::cancelling(2., 2. * range));
        // g − exp(y) Σg: the sum of cols gradients times a probability that carries y's own error.
        let of_sum = forward.abs * (cols as f64).sqrt() * 3.;
        let backward =
            Tolerance::carried(of_sum).and(Tolerance::ulps(2.)).and(Tolerance::accumulate(cols, 1.));
        (forward, backward.storing((cols as f64).sqrt() * 2. * (1. + range)))
    })
}

pub(super) fn log_sum_exp() -> Vec<Case> {
    of_logits(&LOG_SUM_EXP, |cols, range| {
        let sum = Tolerance::exponential(8.).and(Tolerance::ulps(cols.isqrt() as f64));
        let forward = Tolerance::carried(sum.rel).and(Tolerance::cancelling(1., range + 8.));
        (forward, Tolerance::exponential(DEEPEST.min(2. * range)).and(Tolerance::ulps(cols.isqrt() as f64)))
    })
}

pub(super) fn l2_normalize() -> Vec<Case> {
    let tolerance = |cols: usize| {
        let forward = Tolerance::ulps(8. + cols.isqrt() as f64);
        // (g − y ⟨y, g⟩) / ‖x‖ cancels; rows of length at least 0.1 in these cases.
        (forward, Tolerance::accumulate(cols + 16, 1.).and(forward).storing(1.))
    };
    let case = |name: String, input: Input| {
        let cols = input.shape[input.shape.len() - 1];
        of_rule(name, &L2_NORMALIZE, (), vec![input], tolerance(cols))
    };
    let mut cases: Vec<_> = COLUMNS
        .iter()
        .map(|&cols| {
            case(format!("[3, {cols}]"), Input::uniform("rows", &[3, cols], 4.).map(|_, v| v + v.signum()))
        })
        .collect();
    cases.extend([
        case("[0, 5]".into(), Input::uniform("rows", &[0, 5], 4.)),
        case("[3, 0]".into(), Input::uniform("rows", &[3, 0], 4.)),
        case("[70000, 2]".into(), Input::uniform("rows", &[70_000, 2], 4.).map(|_, v| v + v.signum()))
            .f32_only(),
        of_rule(
            "a zero row",
            &L2_NORMALIZE,
            (),
            vec![Input::of(&[2, 3], &[0., 0., 0., 3., 0., 4.])],
            tolerance(3),
        ),
        of_rule("zero rows, exactly", &L2_NORMALIZE, (), vec![Input::of(&[3, 65], &[0.; 195])], EXACT),
        // Gradients of such rows are as large as the rows are small.
        of_rule(
            "entries of 1e-20",
            &L2_NORMALIZE,
            (),
            vec![Input::of(&[1, 4], &[1e-20, -1e-20, 1e-20, 1e-20])],
            (Tolerance::ulps(8.), Tolerance::cancelling(16., 1e20)),
        )
        .f32_only(),
        of_rule(
            "entries of 1e20",
            &L2_NORMALIZE,
            (),
            vec![Input::of(&[1, 4], &[1e20, -1e20, 1e20, 1e20])],
            (Tolerance::ulps(8.), Tolerance::cancelling(16., 1e-20)),
        )
        .f32_only(),
        // The largest entry on an odd lane: no other would do as the scale.
        of_rule(
            "1e20 behind 1e-20",
            &L2_NORMALIZE,
            (),
            vec![Input::of(&[1, 2], &[1e-20, 1e20])],
            (Tolerance::ulps(8.), Tolerance::cancelling(16., 1e-20)),
        )
        .f32_only(),
    ]);
    cases
}

pub(super) fn reduce() -> Vec<Case> {
    let mut cases = vec![];
    for (name, kind) in [("sum", Reduce::Sum), ("mean", Reduce::Mean), ("max", Reduce::Max)] {
        for (shape, axis) in [
            (vec![1], 0),
            (vec![3, 65], 1),
            (vec![65, 3], 0),
            (vec![2, 7, 31], 1),
            (vec![257, 5], 0),
            (vec![2, 9000], 1),
            (vec![600, 3], 0),
            (vec![2, 1100], 0),
            (vec![5, 7], 1),
            (vec![0, 3], 1),
            (vec![3, 2, 0], 1),
        ] {
            let options = ReduceOptions { kind, axis, keep_axis: axis == 1 };
            let input = Input::integers("reduce", &shape);
            // Sums of whole numbers are exact; their mean is one division, its gradient another.
            let tolerance =
                if kind == Reduce::Mean { (Tolerance::ulps(2.), Tolerance::ulps(2.)) } else { EXACT };
            cases.push(of_rule(
                format!("{name} of {shape:?} over {axis}"),
                &REDUCE,
                options,
                vec![input],
                tolerance,
            ));
        }
        let options = ReduceOptions { kind, axis: 1, keep_axis: false };
        let input = Input::uniform("reduce", &[4, 1000], 1.);
        let sums = (Tolerance::accumulate(1000, 1.), Tolerance::ulps(2.));
        let tolerance = if kind == Reduce::Max { EXACT } else { sums };
        cases.push(of_rule(format!("{name} of 1000"), &REDUCE, options, vec![input], tolerance));
        let rows = Input::integers("rows", &[70_000, 2]);
        let tolerance = if kind == Reduce::Mean { (Tolerance::ulps(2.), Tolerance::ulps(2.)) } else { EXACT };
        cases.push(
            of_rule(format!("{name} of 70000 rows"), &REDUCE, options, vec![rows], tolerance).f32_only(),
        );
    }
    let empty = ReduceOptions { kind: Reduce::Sum, axis: 1, keep_axis: false };
    cases.push(of_rule("sum of nothing", &REDUCE, empty, vec![Input::integers("none", &[3, 0])], EXACT));
    cases
}

/// Short, medium and long rows: the forward alone, and with the backward.
/// The forward of an operation on logits, or both ways. An exponential, a subtraction, a sum and a maximum an element forward, about
/// as much backward; `out` elements come out.
fn logits_of(rule: &'static Rule<()>, (rows, cols): (usize, usize), out: usize, both: bool) -> Bench {
    let all = rows * cols;
    let make = move || {
        let inputs = vec![Input::uniform("logits", &[rows, cols], 4.)];
        if both { of_rule("both", rule, (), inputs, EXACT) } else { of_forward(rule, (), inputs) }
    };
    let (name, times) = if both { (", both", 2) } else { ("", 1) };
    Bench::new(format!("[{rows}, {cols}]{name}"), (4 * times * all) as f64, times * (all + out), make)
}

fn logits_bench(rule: &'static Rule<()>, result: fn(usize, usize) -> usize) -> Vec<Bench> {
    let sizes = [(512, 512), (64, 4096), (2048, 10), (262_144, 128), (8192, 4096), (512, 65_536)];
    let of = |(rows, cols)| [false, true].map(|both| logits_of(rule, (rows, cols), result(rows, cols), both));
    sizes.into_iter().flat_map(of).collect()
}

pub(super) fn softmax_of((rows, cols): (usize, usize)) -> Bench {
    logits_of(&SOFTMAX, (rows, cols), rows * cols, false)
}

pub(super) fn log_sum_exp_of((rows, cols): (usize, usize)) -> Bench {
    logits_of(&LOG_SUM_EXP, (rows, cols), rows, false)
}

pub(super) fn softmax_bench() -> Vec<Bench> {
    logits_bench(&SOFTMAX, |rows, cols| rows * cols)
}

pub(super) fn log_softmax_bench() -> Vec<Bench> {
    logits_bench(&LOG_SOFTMAX, |rows, cols| rows * cols)
}

pub(super) fn log_sum_exp_bench() -> Vec<Bench> {
    logits_bench(&LOG_SUM_EXP, |rows, _| rows)
}

pub(super) fn l2_normalize_bench() -> Vec<Bench> {
    logits_bench(&L2_NORMALIZE, |rows, cols| rows * cols)
}

pub(super) fn reduce_bench() -> Vec<Bench> {
    let mut benches = vec![];
    for n in SQUARES {
        for (name, axis) in [("rows", 1), ("columns", 0)] {
            let options = ReduceOptions { kind: Reduce::Sum, axis, keep_axis: false };
            let make = move || of_forward(&REDUCE, options, vec![Input::uniform("reduce", &[n, n], 1.)]);
            benches.push(Bench::new(format!("{name} of [{n}, {n}]"), (n * n) as f64, n * n, make));
        }
    }
    benches
}
