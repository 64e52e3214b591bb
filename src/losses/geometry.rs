//! Alignment and uniformity on the unit sphere (Wang and Isola, 2020).

use super::reduced;
use crate::autograd::arithmetic::{add_number, binary, sum, unary};
use crate::autograd::{Tape, Var};
use crate::error::{Error, Result};
use crate::ops::info_nce::INFO_NCE;
use crate::ops::l2_normalize::L2_NORMALIZE;
use crate::ops::log_sum_exp::LOG_SUM_EXP;
use crate::ops::{Binary, InfoNceOptions, Reduction, Targets, Unary};
use crate::tensor::Tensor;

/// `‖x̂_i − ŷ_i‖^α` of rows `x [n, d]` and `y [n, d]`, each scaled to length one; α = 2 as a rule.
///
/// Errors: α is not a finite number above 0; shapes, types or devices differ.
///
/// ```
/// use crossmodal::{Device, Tensor, autograd::Tape, losses, ops::Reduction};
/// let tape = Tape::new();
/// let x = tape.leaf(&Tensor::from_slice(&Device::Cpu, &[1, 2], &[2f64, 0.])?);
/// let y = tape.leaf(&Tensor::from_slice(&Device::Cpu, &[1, 2], &[0f64, 3.])?);
/// let loss = losses::alignment(&tape, &x, &y, 2., Reduction::Mean)?;
/// assert!((loss.value().item()? - 2.).abs() < 1e-12);
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn alignment(tape: &Tape, x: &Var, y: &Var, alpha: f64, reduction: Reduction) -> Result<Var> {
    if !(alpha > 0. && alpha.is_finite()) {
        return Err(Error::argument("alignment", "alpha", "a finite number above 0", format!("{alpha:?}")));
    }
    let unit = |v: &Var| tape.apply(&L2_NORMALIZE, (), &[v]);
    let difference = binary(tape, Binary::Sub, &unit(x)?, &unit(y)?)?;
    let squares = sum(tape, &binary(tape, Binary::Mul, &difference, &difference)?, 1)?;
    let losses = if alpha == 2. { squares } else { unary(tape, Unary::Power(0.5 * alpha), &squares)? };
    reduced(tape, &losses, reduction)
}

/// `ln mean_{i<j} e^{−t‖x̂_i − x̂_j‖²}` of rows `x [n, d]`, each scaled to length one; t = 2 as a rule. 0 for one row.
///
/// It is the log-sum-exp of the similarities off the diagonal, in blocks of `scratch_bytes`: no n × n matrix is stored.
/// Errors: t is not a finite number above 0; those of [`info_nce`](crate::ops::info_nce()).
///
/// ```
/// use crossmodal::{Device, Tensor, autograd::Tape, losses};
/// let tape = Tape::new();
/// let x = tape.leaf(&Tensor::from_slice(&Device::Cpu, &[2, 2], &[2f64, 0., 0., 3.])?);
/// let loss = losses::uniformity(&tape, &x, 2., 1 << 20)?;
/// assert!((loss.value().item()? + 4.).abs() < 1e-12); // one pair, at a squared distance of 2
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn uniformity(tape: &Tape, x: &Var, t: f64, scratch_bytes: usize) -> Result<Var> {
    if !(t > 0. && t.is_finite()) {
        return Err(Error::argument("uniformity", "t", "a finite number above 0", format!("{t:?}")));
    }
    let unit = tape.apply(&L2_NORMALIZE, (), &[x])?;
    let options = InfoNceOptions {
        symmetric: false,
        targets: Targets::None,
        exclude_self: true,
        reduction: Reduction::None,
        scratch_bytes,
        ..InfoNceOptions::default()
    };
    let (like, scale) = (x.value(), (2. * t).ln());
    let log_scale = tape.constant(&Tensor::from_f64(like.device(), &[], like.dtype(), vec![scale])?);
    let of_rows = tape.apply(&INFO_NCE, options, &[&unit, &unit, &log_scale])?;
    let n = of_rows.value().len() as f64;
    if n < 2. {
        // There is no pair: its log-sum-exp does not count, and is 0.
        return sum(tape, &of_rows, 0);
    }
    let all = tape.apply(&LOG_SUM_EXP, (), &[&of_rows])?;
    add_number(tape, &all, -2. * t - (n * (n - 1.)).ln())
}
