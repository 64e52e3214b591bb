//! Supervised contrastive learning, and negatives that belong to one row.

use crate::autograd::{Tape, Var};
use crate::error::{Error, Result};
use crate::ops::info_nce::INFO_NCE;
use crate::ops::keep_rows::KEEP_ROWS;
use crate::ops::matmul::MATMUL;
use crate::ops::{InfoNceOptions, MatmulOptions, Targets};
use crate::reference::Reduction;
use std::sync::Arc;

/// SupCon (Khosla et al., 2020, the form with the sum outside the logarithm) of one set `z [n, d]`, rows of length one:
/// `lse_{a≠i} L_ia − (1/|P_i|) Σ_{p∈P_i} L_ip` with `L = eᵗ Z Zᵀ`, `P_i` the other rows of the class of row i.
///
/// A mean is over the rows that have a positive; a negative label is no class, and such a row only a negative. It is
/// [`info_nce`](crate::ops::info_nce()) with classes on one set; build its options yourself to combine it with others.
/// Errors: as many labels as rows are expected; those of the operation.
///
/// ```
/// use crossmodal::{Device, Tensor, autograd::Tape, losses::sup_con, ops::Reduction};
/// let tape = Tape::new();
/// let z = tape.leaf(&Tensor::from_slice(&Device::Cpu, &[3, 2], &[1f64, 0., 1., 0., 0., 1.])?);
/// let log_scale = tape.constant(&Tensor::scalar(&Device::Cpu, 0f64)?);
/// let loss = sup_con(&tape, &z, &log_scale, &[5, 5, -1], Reduction::Mean, 1 << 20)?;
/// assert!((loss.value().item()? - (1. + (-1f64).exp()).ln()).abs() < 1e-12);
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn sup_con(
    tape: &Tape,
    z: &Var,
    log_scale: &Var,
    labels: &[i64],
    reduction: Reduction,
    scratch_bytes: usize,
) -> Result<Var> {
    let labels: Arc<[i64]> = labels.into();
    let options = InfoNceOptions {
        symmetric: false,
        targets: Targets::Classes { rows: labels.clone(), cols: labels },
        exclude_self: true,
        reduction,
        scratch_bytes,
        ..InfoNceOptions::default()
    };
    tape.apply(&INFO_NCE, options, &[z, z, log_scale])
}

/// The similarities `[n, k]` of rows `x [n, d]` with negatives `[n, k, d]` of their own: the fourth input of
/// [`INFO_NCE`](crate::ops::info_nce::INFO_NCE), which competes in its row and in no column.
///
/// `keep_rows` are those of the loss: of the others, and of their negatives, whatever is in them leaves no trace, here or in a
/// gradient. Errors: other axes; widths or row counts differ; not as many of `keep_rows` as rows; types or devices differ.
///
/// ```
/// use crossmodal::ops::{InfoNceOptions, info_nce::INFO_NCE};
/// use crossmodal::{Device, Tensor, autograd::Tape, losses::paired_negatives};
/// let tape = Tape::new();
/// let x = tape.leaf(&Tensor::from_slice(&Device::Cpu, &[1, 2], &[1f64, 0.])?);
/// let negatives = tape.leaf(&Tensor::from_slice(&Device::Cpu, &[1, 1, 2], &[0f64, 1.])?);
/// let own = paired_negatives(&tape, &x, &negatives, None)?;
/// let log_scale = tape.constant(&Tensor::scalar(&Device::Cpu, 0f64)?);
/// let options = InfoNceOptions { symmetric: false, ..Default::default() };
/// let loss = tape.apply(&INFO_NCE, options, &[&x, &x, &log_scale, &own])?;
/// assert!((loss.value().item()? - (1. + (-1f64).exp()).ln()).abs() < 1e-12);
/// assert!(tape.backward(&loss)?.get(&negatives).is_some());
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn paired_negatives(
    tape: &Tape,
    x: &Var,
    negatives: &Var,
    keep_rows: Option<&Arc<[bool]>>,
) -> Result<Var> {
    let ([n, d], [rows, k, width]) = (x.value().shape(), negatives.value().shape()) else {
        let got = format!("shapes {:?} and {:?}", x.value().shape(), negatives.value().shape());
        return Err(Error::argument("paired_negatives", "x and negatives", "two and three axes", got));
    };
    if (rows, width) != (n, d) {
        let got = format!("{:?}", negatives.value().shape());
        return Err(Error::argument("paired_negatives", "negatives", format!("shape [{n}, k, {d}]"), got));
    }
    let (n, d, k) = (*n, *d, *k);
    let kept = |rows: &Var| match keep_rows {
        Some(keep) => tape.apply(&KEEP_ROWS, keep.clone(), &[rows]),
        None => Ok(rows.clone()),
    };
    let column = tape.reshape(&kept(x)?, &[n, d, 1])?;
    let products = tape.apply(&MATMUL, MatmulOptions::default(), &[&kept(negatives)?, &column])?;
    tape.reshape(&products, &[n, k])
}
