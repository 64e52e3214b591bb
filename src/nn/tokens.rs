//! What layers over sequences share: tokens `[batch, length, width]` and masks `[batch, length]`.

use crate::autograd::{Tape, Var};
use crate::error::{Error, Result};
use crate::ops::Mask;
use crate::ops::keep_rows::KEEP_ROWS;

/// (batch, length) of tokens `[batch, length, width]`; refuses others.
pub(crate) fn check_tokens(
    layer: &'static str,
    argument: &'static str,
    x: &Var,
    width: usize,
) -> Result<[usize; 2]> {
    match x.value().shape() {
        &[batch, length, own] if own == width => Ok([batch, length]),
        shape => {
            let expected = format!("three axes: batch, length, a width of {width}");
            Err(Error::argument(layer, argument, expected, format!("shape {shape:?}")))
        }
    }
}

/// Refuses a mask that is not one of `[batch, length]`.
pub(crate) fn check_mask(
    layer: &'static str,
    mask: Option<&Mask>,
    [batch, length]: [usize; 2],
) -> Result<()> {
    let Some(mask) = mask else { return Ok(()) };
    if mask.shape == [batch, length] && mask.values.len() == batch * length {
        return Ok(());
    }
    let expected = format!("shape {:?}, an element for each token", [batch, length]);
    let got = format!("shape {:?} of {} elements", mask.shape, mask.values.len());
    Err(Error::argument(layer, "key_mask", expected, got))
}

/// Tokens with zeros where a mask does not keep them, and no gradient there. A mask in the softmax alone is not enough: a NaN in a
/// masked token would reach the gradient of the weights that project it, as 0 · NaN. The mask has been checked.
pub(crate) fn keep_tokens(tape: &Tape, x: &Var, mask: Option<&Mask>) -> Result<Var> {
    let Some(mask) = mask else { return Ok(x.clone()) };
    let shape = x.value().shape().to_vec();
    let rows = tape.reshape(x, &[shape[0] * shape[1], shape[2]])?;
    let keep = (0..mask.values.len()).map(|at| mask.keeps(at)).collect();
    tape.reshape(&tape.apply(&KEEP_ROWS, keep, &[&rows])?, &shape)
}
