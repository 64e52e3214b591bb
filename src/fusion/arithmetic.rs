//! Shorthands for operations on the tape.

use crate::autograd::{Tape, Var};
use crate::error::Result;
use crate::ops::binary::BINARY;
use crate::ops::concat::CONCAT;
use crate::ops::reduce::REDUCE;
use crate::ops::unary::UNARY;
use crate::ops::{Binary, Reduce, ReduceOptions, Unary};

pub(super) fn add(tape: &Tape, a: &Var, b: &Var) -> Result<Var> {
    tape.apply(&BINARY, Binary::Add, &[a, b])
}

pub(super) fn mul(tape: &Tape, a: &Var, b: &Var) -> Result<Var> {
    tape.apply(&BINARY, Binary::Mul, &[a, b])
}

pub(super) fn unary(tape: &Tape, kind: Unary, x: &Var) -> Result<Var> {
    tape.apply(&UNARY, kind, &[x])
}

/// The sum over an axis, which goes.
pub(super) fn sum(tape: &Tape, x: &Var, axis: usize) -> Result<Var> {
    tape.apply(&REDUCE, ReduceOptions { kind: Reduce::Sum, axis, keep_axis: false }, &[x])
}

pub(super) fn concat(tape: &Tape, axis: usize, parts: &[Var]) -> Result<Var> {
    match parts {
        [only] => Ok(only.clone()),
        _ => tape.apply(&CONCAT, axis, &parts.iter().collect::<Vec<_>>()),
    }
}

/// The sum of at least one variable, in order.
pub(super) fn total(tape: &Tape, parts: &[Var]) -> Result<Var> {
    let (first, others) = parts.split_first().expect("at least one modality");
    others.iter().try_fold(first.clone(), |sum, part| add(tape, &sum, part))
}
