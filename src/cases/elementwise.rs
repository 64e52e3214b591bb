//! Cases of the operations that treat every element alone.

use super::bench::{Bench, LENGTHS, SQUARES};
use super::{Case, Input, Tolerance, of_rule, of_rule_with};
use crate::dtype::DType;
use crate::ops::binary::BINARY;
use crate::ops::cast::CAST;
use crate::ops::dropout::DROPOUT;
use crate::ops::unary::UNARY;
use crate::ops::{Binary, Dropout, Unary};

/// 65536 workgroups and a tail: a grid that does not fit in one dimension.
const BEYOND_ONE_DIMENSION: usize = 65536 * 256 + 3;

pub(super) fn unary() -> Vec<Case> {
    let exact = (Tolerance::exact(), Tolerance::exact());
    // |1 − tanh²| ≤ 1 and the odd series ends after v⁹: a handful of roundings around one exponential of at most 2 · 9.
    let saturating = (Tolerance::exponential(18.), Tolerance::exponential(18.));
    // The argument of the tail's exponential is v²/2 ≤ 18; erfc's fit adds 5.6e-8. The derivative has a zero of its own, where
    // two terms of size 0.2 cancel.
    let gelu = (Tolerance::exponential(18.), Tolerance::exponential(18.).and(Tolerance::cancelling(8., 0.5)));
    let x = |range: f64| Input::uniform("unary", &[3, 127], range);
    let positive = || x(8.).map(|_, v| v.abs() + 1e-3);
    // WGSL bounds the logarithm by 2⁻²¹ where it is small: four units in the last place of 1.
    let log = (Tolerance::ulps(4.).and(Tolerance::cancelling(4., 1.)), Tolerance::ulps(4.));
    let mut cases = vec![
        of_rule(
            "scale",
            &UNARY,
            Unary::Scale(-0.75),
            vec![x(8.)],
            (Tolerance::ulps(1.), Tolerance::ulps(1.)),
        ),
        of_rule("scale, integers", &UNARY, Unary::Scale(-3.), vec![Input::integers("scale", &[257])], exact),
        of_rule(
            "exp",
            &UNARY,
            Unary::Exp,
            vec![x(8.)],
            (Tolerance::exponential(8.), Tolerance::exponential(8.)),
        ),
        of_rule("log", &UNARY, Unary::Log, vec![positive()], log),
        of_rule("tanh", &UNARY, Unary::Tanh, vec![x(9.)], saturating),
        of_rule("tanh, near 0", &UNARY, Unary::Tanh, vec![x(0.4)], saturating),
        of_rule("sigmoid", &UNARY, Unary::Sigmoid, vec![x(16.)], saturating),
        of_rule("relu", &UNARY, Unary::Relu, vec![x(2.)], exact),
        of_rule("relu, at 0", &UNARY, Unary::Relu, vec![Input::integers("relu", &[65])], exact),
        of_rule("gelu", &UNARY, Unary::Gelu, vec![x(6.)], gelu),
        of_rule("gelu_tanh", &UNARY, Unary::GeluTanh, vec![x(5.)], gelu),
        of_rule("clamp", &UNARY, Unary::Clamp(-1., 2.), vec![Input::integers("clamp", &[129])], exact),
    ];
    cases.push(of_rule(
        "shift, integers",
        &UNARY,
        Unary::Shift(3.),
        vec![Input::integers("shift", &[257])],
        exact,
    ));
    cases.push(of_rule("softplus", &UNARY, Unary::Softplus, vec![x(30.)], saturating));
    // The logarithm of v^p is at most 2.5 ln 8.
    let power = (Tolerance::exponential(5.2), Tolerance::exponential(5.2));
    let zeros = Input::of(&[3], &[0., 1., 4.]);
    cases.push(of_rule("power 0, at 0", &UNARY, Unary::Power(0.), vec![zeros], power));
    for p in [0.5, 1., 2., -1., 2.5] {
        cases.push(of_rule(format!("power {p}"), &UNARY, Unary::Power(p), vec![positive()], power));
    }
    let at_zero = Input::of(&[4], &[0., 1., 4., 0.]);
    cases.push(of_rule("power, at 0", &UNARY, Unary::Power(0.5), vec![at_zero], power));
    for kind in [Unary::Tanh, Unary::Sigmoid, Unary::Relu, Unary::Gelu, Unary::GeluTanh, Unary::Softplus] {
        let huge = Input::of(&[8], &[1e30, -1e30, 1e4, -1e4, 100., -100., 0., -0.]);
        cases
            .push(of_rule(format!("huge values, {kind:?}"), &UNARY, kind, vec![huge], saturating).f32_only());
    }
    for count in [0, 1, 255, 256, 257, 1000] {
        let input = Input::integers("count", &[count]);
        cases.push(of_rule(format!("relu, {count} elements"), &UNARY, Unary::Relu, vec![input], exact));
    }
    let many = Input::of(&[BEYOND_ONE_DIMENSION], &[]).fill(|i| (i % 7) as f64 - 3.);
    cases.push(of_rule("relu, 65537 workgroups", &UNARY, Unary::Relu, vec![many], exact).f32_only());
    cases
}

pub(super) fn dropout() -> Vec<Case> {
    // One product, rounded once.
    let tolerance = (Tolerance::ulps(1.), Tolerance::ulps(1.));
    let case = |name: String, count: usize, p: f64, seed: u64| {
        let input = Input::uniform("dropout", &[count], 4.);
        of_rule(name, &DROPOUT, Dropout { p, seed, first: 0 }, vec![input], tolerance)
    };
    let mut cases: Vec<_> =
        [0, 1, 255, 256, 257, 600].map(|count| case(format!("{count} elements"), count, 0.3, 1)).into();
    for p in [0., 0.5, 0.999] {
        cases.push(case(format!("p = {p}"), 300, p, 2));
    }
    for seed in [0, u64::from(u32::MAX), 1 << 32, u64::MAX] {
        cases.push(case(format!("seed {seed:#x}"), 300, 0.5, seed));
    }
    let exact = (Tolerance::exact(), Tolerance::exact());
    let first = Dropout { p: 0.5, seed: 3, first: u32::MAX - 100 };
    cases.push(of_rule("numbers that wrap", &DROPOUT, first, vec![Input::integers("wrap", &[300])], exact));
    let whole = vec![Input::integers("dropout", &[3, 129])];
    cases.push(of_rule("integers, p = 0.5", &DROPOUT, Dropout { p: 0.5, seed: 3, first: 0 }, whole, exact));
    cases
}

pub(super) fn dropout_bench() -> Vec<Bench> {
    let of = |n: usize| {
        let options = Dropout { p: 0.5, seed: 1, first: 0 };
        elementwise_bench(format!("p = 0.5 of {n}, both"), 2., n, &DROPOUT, options)
    };
    LENGTHS.map(of).into()
}

/// The forward and the backward, of so many operations an element.
fn elementwise_bench<O: Clone + Send + Sync + 'static>(
    name: String,
    each: f64,
    n: usize,
    rule: &'static crate::ops::Rule<O>,
    options: O,
) -> Bench {
    let tolerance = (Tolerance::ulps(1.), Tolerance::ulps(1.));
    let make = move || {
        of_rule("elements", rule, options.clone(), vec![Input::uniform("bench", &[n], 4.)], tolerance)
    };
    Bench::new(name, each * n as f64, 4 * n, make)
}

pub(super) fn binary() -> Vec<Case> {
    let exact = (Tolerance::exact(), Tolerance::exact());
    let mut cases = vec![];
    for (name, kind) in [("add", Binary::Add), ("sub", Binary::Sub), ("mul", Binary::Mul)] {
        for (a, b) in [
            (&[3, 65][..], &[3, 65][..]),
            (&[5, 31], &[31]),
            (&[7, 1], &[1, 9]),
            (&[], &[2, 3]),
            (&[2, 1, 3], &[4, 1]),
            (&[0, 4], &[4]),
            (&[300, 2], &[1, 2]),
            (&[40, 65], &[65]),
        ] {
            let inputs = vec![Input::integers("a", a), Input::integers("b", b)];
            cases.push(of_rule(format!("{name} {a:?} {b:?}, integers"), &BINARY, kind, inputs, exact));
        }
        let inputs = vec![Input::uniform("a", &[9, 64], 2.), Input::uniform("b", &[64], 2.)];
        // The gradient of b sums nine rows.
        let tolerance =
            (Tolerance::ulps(1.), Tolerance::ulps(1.).and(Tolerance::accumulate(9, 2.)).storing(2.));
        cases.push(of_rule(format!("{name} [9, 64] [64]"), &BINARY, kind, inputs, tolerance));
    }
    cases
}

pub(super) fn cast() -> Vec<Case> {
    let exact = (Tolerance::exact(), Tolerance::exact());
    let small = |count| Input::integers("cast", &[count]);
    let mut cases: Vec<_> = [0, 1, 257, 1000]
        .map(|count| {
            of_rule(format!("to f32, {count} elements"), &CAST, DType::F32, vec![small(count)], exact)
        })
        .into();
    // To f16 only where the device has it: the case names the type itself.
    cases.push(of_rule_with(
        "between f32 and f16",
        &CAST,
        |run| Ok(run.other_float()),
        vec![small(257)],
        exact,
    ));
    cases
}

pub(super) fn unary_bench() -> Vec<Bench> {
    let mut benches = vec![];
    for n in LENGTHS {
        for (name, kind) in [("relu", Unary::Relu), ("gelu", Unary::Gelu), ("tanh", Unary::Tanh)] {
            benches.push(elementwise_bench(format!("{name} of {n}, both"), 3., n, &UNARY, kind));
        }
    }
    benches
}

pub(super) fn binary_bench() -> Vec<Bench> {
    let of = |n: usize| {
        let inputs = move || vec![Input::uniform("a", &[n, n], 1.), Input::uniform("b", &[n], 1.)];
        let exact = (Tolerance::exact(), Tolerance::exact());
        let make = move || of_rule("mul", &BINARY, Binary::Mul, inputs(), exact);
        Bench::new(format!("[{n}, {n}] by a row, both"), 4. * (n * n) as f64, 4 * n * n, make)
    };
    SQUARES.map(of).into()
}

pub(super) fn cast_bench() -> Vec<Bench> {
    let of = |n: usize| {
        let exact = (Tolerance::exact(), Tolerance::exact());
        let input = move || vec![Input::uniform("cast", &[n], 1.)];
        let make = move || of_rule_with("cast", &CAST, |run| Ok(run.other_float()), input(), exact);
        Bench::new(format!("{n}, f32 to f16, both"), 0., 3 * n, make)
    };
    LENGTHS.map(of).into()
}
