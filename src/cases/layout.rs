//! Cases of the operations that move elements.

use super::{Case, Input, Scale, Tolerance, of_rule, of_rule_with};
use crate::ops::Indices;
use crate::ops::concat::{CONCAT, SPLIT};
use crate::ops::gather::GATHER;
use crate::ops::keep_rows::KEEP_ROWS;
use crate::ops::transpose::TRANSPOSE;

const EXACT: (Tolerance, Tolerance) = (Tolerance::exact(), Tolerance::exact());

pub(super) fn concat() -> Vec<Case> {
    let mut cases = vec![];
    let x = |i: usize, shape: &[usize]| Input::integers(&format!("part {i}"), shape);
    for (axis, shapes) in [
        (0, vec![vec![3], vec![4], vec![1]]),
        (1, vec![vec![5, 7], vec![5, 64], vec![5, 0]]),
        (0, vec![vec![2, 9], vec![3, 9]]),
        (1, vec![vec![2, 3, 31], vec![2, 1, 31]]),
        (2, vec![vec![2, 3, 1], vec![2, 3, 65]]),
        (1, vec![vec![0, 2], vec![0, 3]]),
        (1, vec![vec![40, 20], vec![40, 5]]),
    ] {
        let sizes: Vec<_> = shapes.iter().map(|shape| shape[axis]).collect();
        let mut whole = shapes[0].clone();
        whole[axis] = sizes.iter().sum();
        let parts = shapes.iter().enumerate().map(|(i, shape)| x(i, shape)).collect();
        cases.push(of_rule(format!("concat {shapes:?} along {axis}"), &CONCAT, axis, parts, EXACT));
        let options = (axis, sizes);
        cases.push(of_rule(
            format!("split {whole:?} along {axis}"),
            &SPLIT,
            options,
            vec![x(9, &whole)],
            EXACT,
        ));
    }
    cases
}

pub(super) fn gather() -> Vec<Case> {
    let of = |name: &str, shape: &[usize], indices: Vec<u32>| {
        let input = Input::integers("gather", shape);
        of_rule_with(name, &GATHER, move |run| Indices::new(&run.device, &indices), vec![input], EXACT)
    };
    let scattered = (0..300u32).map(|i| i * 37 % 65).collect();
    vec![
        of("in order", &[3, 5], vec![0, 1, 2]),
        of("repeated", &[4, 9], vec![3, 3, 0, 3]),
        of("300 of 65 rows of 33", &[65, 33], scattered),
        of("no indices", &[2, 3], vec![]),
        of("elements", &[7], vec![6, 0]),
        of("matrices", &[3, 2, 4], vec![2, 2]),
        of("rows without columns", &[3, 0], vec![1]),
        of("70000 rows", &[5, 3], (0..70_000u32).map(|i| i % 5).collect()).f32_only(),
    ]
}

pub(super) fn keep_rows() -> Vec<Case> {
    let of = |name: &str, shape: &[usize], keep: fn(usize) -> bool| {
        let each = shape[1..].iter().product::<usize>();
        let input = Input::integers("keep", shape).map(|at, v| if keep(at / each) { v } else { f64::NAN });
        of_rule(name, &KEEP_ROWS, (0..shape[0]).map(keep).collect(), vec![input], EXACT)
    };
    vec![
        of("NaN in one row of three", &[3, 5], |row| row != 1),
        of("NaN in every row", &[2, 3], |_| false),
        of("nothing masked", &[4, 7], |_| true),
        of("elements", &[300], |row| row % 3 != 0),
        of("matrices", &[7, 3, 41], |row| row % 2 == 0),
        of("65 rows of 127", &[65, 127], |row| row % 5 != 3),
        of("rows without columns", &[3, 0], |row| row == 0),
        of("no rows", &[0, 3], |_| false),
    ]
}

pub(super) fn keep_rows_bench(scale: Scale) -> Vec<Case> {
    let n = scale.pick(512, 4096);
    let input = vec![Input::uniform("rows", &[n, n], 1.)];
    vec![of_rule("every other row", &KEEP_ROWS, (0..n).map(|row| row % 2 == 0).collect(), input, EXACT)]
}

pub(super) fn transpose() -> Vec<Case> {
    let mut cases = vec![];
    for (shape, axes) in [
        (vec![], vec![]),
        (vec![3], vec![0]),
        (vec![2, 3], vec![1, 0]),
        (vec![65, 127], vec![1, 0]),
        (vec![2, 3, 4], vec![2, 0, 1]),
        (vec![2, 3, 4], vec![1, 2, 0]),
        (vec![2, 0, 4], vec![2, 1, 0]),
        (vec![3, 1, 2, 5], vec![0, 2, 1, 3]),
        (vec![1, 2, 1, 3, 1, 2, 2, 2], vec![7, 6, 5, 4, 3, 2, 1, 0]),
    ] {
        let input = Input::integers("transpose", &shape);
        cases.push(of_rule(format!("{shape:?} to {axes:?}"), &TRANSPOSE, axes, vec![input], EXACT));
    }
    cases
}

pub(super) fn concat_bench(scale: Scale) -> Vec<Case> {
    let n = scale.pick(512, 4096);
    let parts = vec![Input::uniform("left", &[n, n], 1.), Input::uniform("right", &[n, n / 2], 1.)];
    vec![of_rule("rows side by side", &CONCAT, 1, parts, EXACT)]
}

pub(super) fn gather_bench(scale: Scale) -> Vec<Case> {
    let rows = scale.pick(2048, 65536);
    let input = Input::uniform("gather", &[rows, 256], 1.);
    let indices: Vec<_> = (0..rows as u32).map(|i| (i * 7919) % rows as u32).collect();
    vec![of_rule_with(
        "rows of 256",
        &GATHER,
        move |run| Indices::new(&run.device, &indices),
        vec![input],
        EXACT,
    )]
}

pub(super) fn transpose_bench(scale: Scale) -> Vec<Case> {
    let n = scale.pick(512, 4096);
    vec![of_rule("square", &TRANSPOSE, vec![1, 0], vec![Input::uniform("square", &[n, n], 1.)], EXACT)]
}
