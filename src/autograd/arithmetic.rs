//! Shorthands for operations on the tape.

use super::{Tape, Var};
use crate::error::Result;
use crate::ops::binary::BINARY;
use crate::ops::concat::CONCAT;
use crate::ops::reduce::REDUCE;
use crate::ops::unary::UNARY;
use crate::ops::{Binary, Reduce, ReduceOptions, Unary};

pub(crate) fn binary(tape: &Tape, kind: Binary, a: &Var, b: &Var) -> Result<Var> {
    tape.apply(&BINARY, kind, &[a, b])
}

pub(crate) fn add(tape: &Tape, a: &Var, b: &Var) -> Result<Var> {
    binary(tape, Binary::Add, a, b)
}

pub(crate) fn mul(tape: &Tape, a: &Var, b: &Var) -> Result<Var> {
    binary(tape, Binary::Mul, a, b)
}

pub(crate) fn unary(tape: &Tape, kind: Unary, x: &Var) -> Result<Var> {
    tape.apply(&UNARY, kind, &[x])
}

pub(crate) fn add_number(tape: &Tape, x: &Var, value: f64) -> Result<Var> {
    unary(tape, Unary::Shift(value), x)
}

/// The sum over an axis, which goes.
pub(crate) fn sum(tape: &Tape, x: &Var, axis: usize) -> Result<Var> {
    tape.apply(&REDUCE, ReduceOptions { kind: Reduce::Sum, axis, keep_axis: false }, &[x])
}

pub(crate) fn concat(tape: &Tape, axis: usize, parts: &[Var]) -> Result<Var> {
    match parts {
        [only] => Ok(only.clone()),
        _ => tape.apply(&CONCAT, axis, &parts.iter().collect::<Vec<_>>()),
    }
}

/// The sum of at least one variable, in order.
pub(crate) fn total(tape: &Tape, parts: &[Var]) -> Result<Var> {
    let (first, others) = parts.split_first().expect("at least one modality");
    others.iter().try_fold(first.clone(), |sum, part| add(tape, &sum, part))
}
