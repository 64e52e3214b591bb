//! What the row-wise operations share: their parameters and the dispatch of one workgroup per row.

use super::check_floats;
use crate::error::Result;
use crate::gpu::kernel::params;
use crate::gpu::{Gpu, Kernel, Variant};
use crate::shape::rows_cols;
use crate::tensor::Tensor;

params! {
    pub(super) struct Rows { rows: u32, cols: u32 }
}

pub(super) const fn kernel(
    name: &'static str,
    entry: &'static str,
    source: &'static str,
    bindings: &'static [crate::gpu::Binding],
) -> Kernel {
    Kernel::new::<Rows>(name, entry, source, bindings)
}

/// Checks the input of a row-wise operation and gives (rows, columns).
pub(super) fn check(op: &'static str, x: &Tensor) -> Result<(usize, usize)> {
    check_floats(op, &[("x", x)])?;
    rows_cols(op, "x", x.shape())
}

/// As [`check`], refusing rows without columns, of which there is no maximum.
pub(super) fn check_not_empty(op: &'static str, x: &Tensor) -> Result<(usize, usize)> {
    let (rows, cols) = check(op, x)?;
    if cols == 0 && rows > 0 {
        return Err(crate::Error::argument(op, "x", "at least one column", format!("shape {:?}", x.shape())));
    }
    Ok((rows, cols))
}

/// One workgroup per row; the first tensor names the element type.
pub(super) fn run(
    gpu: &Gpu,
    kernel: &Kernel,
    (rows, cols): (usize, usize),
    tensors: &[&Tensor],
) -> Result<()> {
    let buffers: Vec<_> = tensors.iter().map(|t| t.buffer()).collect();
    let params = Rows { rows: rows as u32, cols: cols as u32 };
    gpu.dispatch(kernel, Variant::of(tensors[0].dtype()), &params, &buffers, rows as u64)
}
