//! Cases of the operations of a training step that have no backward.

use super::bench::{Bench, LENGTHS};
use super::{Case, Input, Outputs, Run, Tolerance};
use crate::error::Result;
use crate::ops::{AdamwStep, adamw as step, clip_global_norm as clip};
use crate::tensor::Tensor;

fn adamw_case(name: &str, count: usize, options: AdamwStep, grad: Input) -> Case {
    let inputs = vec![
        Input::uniform("weight", &[count], 1.),
        grad,
        Input::uniform("first", &[count], 0.1),
        Input::uniform("second", &[count], 0.1).map(|_, v| v.abs()),
    ];
    let run = move |_: &Run, inputs: &[Tensor]| {
        let [mut weight, grad, mut first, mut second] = [0, 1, 2, 3].map(|i| inputs[i].clone());
        step(&options, &mut weight, &grad, &mut first, &mut second)?;
        Ok([("weight", weight), ("first", first), ("second", second)].map(|(n, t)| (n.to_string(), t)).into())
    };
    // A dozen roundings, around two divisions and a root; the moments mix terms that may cancel.
    let forward = Tolerance::ulps(16.).and(Tolerance::cancelling(4., 1.));
    Case::of(name, inputs, run, forward).f32_only()
}

pub(super) fn adamw() -> Vec<Case> {
    let options = AdamwStep { weight_decay: 0.1, step: 7, ..AdamwStep::default() };
    let grad = |count| Input::uniform("grad", &[count], 1.);
    let mut cases: Vec<_> = [0, 1, 255, 257, 1000]
        .map(|count| adamw_case(&format!("{count} weights"), count, options, grad(count)))
        .into();
    cases.push(adamw_case("the first step", 65, AdamwStep { step: 1, ..options }, grad(65)));
    cases.push(adamw_case("step 100000", 65, AdamwStep { step: 100_000, ..options }, grad(65)));
    cases.push(adamw_case("a large eps", 65, AdamwStep { eps: 0.5, ..options }, grad(65)));
    cases.push(adamw_case("no gradient", 65, options, Input::of(&[65], &[0.; 65])));
    cases.push(adamw_case(
        "no decay",
        65,
        AdamwStep { weight_decay: 0., learning_rate: 0.1, ..options },
        grad(65),
    ));
    cases
}

/// The clipped tensors, then the norm.
fn clipped(inputs: &[Tensor], max_norm: f64) -> Result<Outputs> {
    let (clipped, norm) = clip(&inputs.iter().collect::<Vec<_>>(), max_norm)?;
    let clipped = clipped.into_iter().enumerate().map(|(i, t)| (format!("tensor {i}"), t));
    Ok(clipped.chain([("norm".to_string(), norm)]).collect())
}

fn clip_case(name: &str, inputs: Vec<Input>, max_norm: f64) -> Case {
    let count: usize = inputs.iter().map(|input| input.values.len()).sum();
    let run = move |_: &Run, inputs: &[Tensor]| clipped(inputs, max_norm);
    let forward = Tolerance::ulps(16. + count.isqrt() as f64 / 8.);
    Case::of(name, inputs, run, forward)
}

pub(super) fn clip_global_norm() -> Vec<Case> {
    let x = |count: usize, range: f64| Input::uniform("grad", &[count], range);
    // Times 1, without the norm, which is a root.
    let unchanged = |_: &Run, inputs: &[Tensor]| {
        let mut outputs = clipped(inputs, 1e4)?;
        outputs.truncate(inputs.len());
        Ok(outputs)
    };
    let whole = vec![Input::integers("grad", &[257]), Input::integers("grad", &[3, 5])];
    vec![
        Case::of("below the norm, integers", whole, unchanged, Tolerance::exact()),
        clip_case("one of three elements", vec![Input::of(&[3], &[3., 0., 4.])], 1.),
        clip_case("below the norm", vec![x(65, 1e-2), x(7, 1e-2)], 10.),
        clip_case("two", vec![x(257, 4.), x(33, 4.)], 0.5),
        clip_case("three, one empty", vec![x(64, 1.), x(0, 1.), x(1, 1.)], 0.25),
        clip_case("all zero", vec![Input::of(&[5], &[0.; 5])], 1.),
        clip_case("entries of 1e20", vec![x(65, 1e20)], 1.).f32_only(),
        // The largest entry, and the largest partial norm, on an odd lane: no other would do as the scale.
        clip_case("1e25 behind 1e-3", vec![Input::of(&[1], &[1e-3]), Input::of(&[2], &[1e-3, 1e25])], 1.)
            .f32_only(),
        clip_case("several partial norms", vec![x(40_000, 1.), x(17_000, 1.)], 2.),
        clip_case("66 partial norms", vec![x(66 * 16_384, 1.)], 2.),
    ]
}

pub(super) fn adamw_bench() -> Vec<Bench> {
    let of = |count: usize| {
        let make = move || {
            let grad = Input::uniform("grad", &[count], 1.);
            adamw_case("one tensor", count, AdamwStep::default(), grad)
        };
        Bench::new(format!("{count} weights"), 14. * count as f64, 7 * count, make)
    };
    LENGTHS.map(of).into()
}

pub(super) fn clip_global_norm_bench() -> Vec<Bench> {
    let of = |count: usize| {
        let make = move || clip_case("one tensor", vec![Input::uniform("grad", &[count], 1.)], 1.);
        Bench::new(format!("{count} elements"), 4. * count as f64, 2 * count, make)
    };
    LENGTHS.map(of).into()
}
