//! What the row-wise operations share: their parameters and the dispatch of one workgroup per row.

use super::{check_floats, parts};
use crate::device::Device;
use crate::dtype::{DType, HostData};
use crate::error::Result;
use crate::gpu::kernel::params;
use crate::gpu::{Gpu, Kernel, Variant};
use crate::shape::rows_cols;
use crate::tensor::Tensor;
use rayon::prelude::*;
use std::borrow::Cow;

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
    let work = |rows: usize| (Rows { rows: rows as u32, cols: cols as u32 }, rows as u64);
    parts::dispatch_items(gpu, kernel, Variant::of(tensors[0].dtype()), rows, tensors, work)
}

/// Elements that one task of the CPU path takes: rows are independent, so that the bits do not depend on how they are shared out.
const CHUNK: usize = 1 << 13;

/// Rows of one task.
fn rows_each(cols: usize) -> usize {
    (CHUNK / cols.max(1)).max(1)
}

/// How many tasks [`on_cpu`] makes: a result that is one row for each of them has as many.
pub(super) fn chunks((rows, cols): (usize, usize)) -> usize {
    rows.div_ceil(rows_each(cols))
}

/// The CPU path of a row-wise operation: its definition on chunks of rows, each widened to f64 and rounded once.
///
/// An input of as many elements as there are rows is cut with them; so are the results, of the given shapes and types.
pub(super) fn on_cpu<const K: usize>(
    (rows, cols): (usize, usize),
    inputs: &[&Tensor],
    results: [(&[usize], DType); K],
    definition: impl Fn(&[Cow<'_, [f64]>]) -> [Vec<f64>; K] + Sync,
) -> Result<[Tensor; K]> {
    let each = rows_each(cols);
    let chunk = |first: usize| -> [HostData; K] {
        let last = rows.min(first + each);
        let mut widened = vec![];
        for x in inputs {
            let width = x.len() / rows;
            widened.push(x.data().range_to_f64(first * width..last * width));
        }
        let mut values = definition(&widened).into_iter();
        results.map(|(_, dtype)| HostData::from_f64(dtype, values.next().unwrap_or_default()))
    };
    let chunks: Vec<_> = (0..chunks((rows, cols))).into_par_iter().map(|i| chunk(i * each)).collect();
    let mut parts = [const { vec![] }; K];
    chunks
        .into_iter()
        .for_each(|chunk| parts.iter_mut().zip(chunk).for_each(|(parts, part)| parts.push(part)));
    let mut tensors = vec![];
    for ((shape, dtype), parts) in results.into_iter().zip(parts) {
        tensors.push(Tensor::from_host(&Device::Cpu, shape, HostData::join(dtype, parts))?);
    }
    Ok(tensors.try_into().unwrap_or_else(|_| unreachable!("as many tensors as results")))
}
