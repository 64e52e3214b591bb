//! Cases of the operations that move elements.

use super::bench::{Bench, LENGTHS, SQUARES};
use super::{Case, Input, Run, Tolerance, of_rule, of_rule_with};
use crate::ops::Indices;
use crate::ops::concat::{CONCAT, SPLIT};
use crate::ops::copy::{self, Copy};
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

pub(super) fn keep_rows_bench() -> Vec<Bench> {
    let of = |n: usize| {
        let make = move || {
            let keep = (0..n).map(|row| row % 2 == 0).collect();
            of_rule("rows", &KEEP_ROWS, keep, vec![Input::uniform("rows", &[n, n], 1.)], EXACT)
        };
        Bench::new(format!("[{n}, {n}], both"), 0., 4 * n * n, make)
    };
    SQUARES.map(of).into()
}

fn copied(way: Copy, length: usize) -> Case {
    let run = move |_: &Run, inputs: &[crate::Tensor]| Ok(vec![("out".into(), copy::copy(&inputs[0], way)?)]);
    let input = Input::uniform("copied", &[length], 4.);
    Case::of(format!("{} {length}", way.entry()), vec![input], run, Tolerance::exact())
}

pub(super) fn copy() -> Vec<Case> {
    let mut cases = vec![];
    for way in copy::ALL {
        // Around a workgroup's elements, and more workgroups than one.
        let group = 256 * way.width() * if way.entry().starts_with("several") { 8 } else { 1 };
        let lengths = [0, 1, 3, 65, 253, 257].map(|n| n * way.width());
        cases.extend(lengths.map(|length| copied(way, length)));
        cases.extend([group - 8, group + 8, 4 * group - 8, 4 * group].map(|length| copied(way, length)));
    }
    cases
}

pub(super) fn copy_bench() -> Vec<Bench> {
    let mut benches = vec![];
    for length in LENGTHS {
        for way in copy::ALL {
            let make = move || copied(way, length);
            benches.push(Bench::new(format!("{} {length}", way.entry()), 0., 2 * length, make));
        }
    }
    benches
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

pub(super) fn concat_bench() -> Vec<Bench> {
    let of = |n: usize| {
        let parts =
            move || vec![Input::uniform("left", &[n, n], 1.), Input::uniform("right", &[n, n / 2], 1.)];
        let make = move || of_rule("rows side by side", &CONCAT, 1, parts(), EXACT);
        Bench::new(format!("{n} and {} columns, both", n / 2), 0., 6 * n * n, make)
    };
    SQUARES.map(of).into()
}

pub(super) fn gather_bench() -> Vec<Bench> {
    let of = |rows: usize| {
        let make = move || {
            let indices: Vec<_> = (0..rows as u32).map(|i| (i * 7919) % rows as u32).collect();
            let indices = move |run: &Run| Indices::new(&run.device, &indices);
            of_rule_with("rows", &GATHER, indices, vec![Input::uniform("gather", &[rows, 256], 1.)], EXACT)
        };
        Bench::new(format!("{rows} rows of 256, both"), 0., 4 * rows * 256, make)
    };
    [1024, 131_072].map(of).into()
}

pub(super) fn transpose_bench() -> Vec<Bench> {
    let of = |n: usize| {
        let input = move || vec![Input::uniform("square", &[n, n], 1.)];
        let make = move || of_rule("square", &TRANSPOSE, vec![1, 0], input(), EXACT);
        Bench::new(format!("[{n}, {n}], both"), 0., 4 * n * n, make)
    };
    SQUARES.map(of).into()
}
