//! One minus the cosine.

use super::reduced;
use crate::autograd::arithmetic::{add_number, unary};
use crate::autograd::{Tape, Var};
use crate::error::Result;
use crate::ops::cosine_similarity::COSINE_SIMILARITY;
use crate::ops::{Pairing, Reduction, Unary};

/// `1 − cos(a_i, b_i)` of rows `a [n, d]` and `b [n, d]`; 1 where either is the zero row, with gradient 0.
///
/// Errors: those of [`cosine_similarity`](crate::ops::cosine_similarity()). Example: [`losses`](super).
pub fn cosine(tape: &Tape, a: &Var, b: &Var, reduction: Reduction) -> Result<Var> {
    let cosine = tape.apply(&COSINE_SIMILARITY, Pairing::Pairs, &[a, b])?;
    let losses = add_number(tape, &unary(tape, Unary::Scale(-1.), &cosine)?, 1.)?;
    reduced(tape, &losses, reduction)
}
