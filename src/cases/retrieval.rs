//! Cases of the operations that search.

use super::bench::Bench;
use super::{Case, Input, Tolerance};
use crate::ops::top_k as largest;

fn of(name: impl Into<String>, input: Input, k: usize) -> Case {
    let run = move |_: &super::Run, inputs: &[crate::Tensor]| {
        let (values, indices) = largest(&inputs[0], k)?;
        Ok(vec![("out".into(), values), ("out 1".into(), indices)])
    };
    Case::of(name, vec![input], run, Tolerance::exact())
}

pub(super) fn top_k() -> Vec<Case> {
    let random = |shape: &[usize]| Input::uniform("scores", shape, 1.);
    let rising = |cols: usize| Input::of(&[1, cols], &[]).fill(|i| i as f64 - 3000.);
    let mut cases = vec![];
    for cols in [1, 2, 3, 7, 8, 9, 31, 63, 64, 65, 127, 129, 257] {
        cases.push(of(format!("3 of [3, {cols}]"), random(&[3, cols]), 3));
    }
    for (cols, k) in [(600, 257), (1500, 1024), (2000, 1536), (2100, 10), (2100, 1), (2100, 1536)] {
        cases.push(of(format!("{k} of [3, {cols}]"), random(&[3, cols]), k));
    }
    cases.extend([
        of("rows of nine values", Input::integers("ties", &[3, 2100]), 300),
        of("all the same", Input::of(&[3, 700], &[-1.; 2100]), 10),
        of("zeros of both signs", Input::of(&[1, 4], &[-0., 0., -0., 0.]), 4),
        // The largest stand last: a piece's last, and one that has a piece of its own.
        of("2038 rising", rising(2038), 10),
        of("2039 rising", rising(2039), 10),
        of("2100 rising", rising(2100), 1536),
        of("2048 rising", rising(2048), 1024),
        of("a few below all others", rising(5), 9),
        of("the lowest f32", Input::of(&[1, 3], &[f64::from(f32::MIN); 3]), 3).f32_only(),
        of("[5]", random(&[5]), 2),
        of("[2, 2, 5]", random(&[2, 2, 5]), 2),
        of("[0, 5]", random(&[0, 5]), 2),
        of("[3, 0]", random(&[3, 0]), 2),
        // More than one dispatch.
        of("1 of [600, 2100]", random(&[600, 2100]), 1),
        of("[70000, 3]", random(&[70_000, 3]), 2).f32_only(),
    ]);
    cases
}

pub(super) fn top_k_bench() -> Vec<Bench> {
    let bench = |(rows, cols, k): (usize, usize, usize)| {
        let make = move || of("rows", Input::uniform("scores", &[rows, cols], 1.), k);
        Bench::new(format!("{k} of [{rows}, {cols}]"), 0., rows * cols + 2 * rows * k, make)
    };
    [(16, 4096, 10), (16, 4096, 1024), (1024, 65_536, 10), (1024, 65_536, 1024)].map(bench).into()
}
