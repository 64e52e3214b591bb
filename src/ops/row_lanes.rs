//! The ways of row-wise operations on drivers on a CPU, where a kernel's time is that of its loads: numbers are loaded in pairs, as
//! 64-bit integers, and once.

use super::rows::Rows;
use super::{parts, rows, ways};
use crate::dtype::DType;
use crate::error::Result;
use crate::gpu::{Abilities, Binding, Gpu, Kernel, Variant};
use crate::tensor::Tensor;

/// Invocations of a subgroup.
const SUBGROUP: usize = 8;
/// The most pairs of an invocation: more would not stay in registers.
const MOST_PAIRS: usize = 32;
/// The most invocations of a row: every device runs a workgroup of so many.
const MOST_LANES: usize = 256;
/// Invocations of a workgroup whose rows need no more than a subgroup.
const WIDTH: usize = 64;

/// What the sources of kernels with rows in registers leave open: invocations of a row, and pairs of each.
const OPEN: &[(&str, u32)] = &[("ROW_LANES", 16), ("PAIRS", 2)];

/// A kernel with rows in registers.
pub(super) const fn kernel(
    name: &'static str,
    entry: &'static str,
    source: &'static str,
    bindings: &'static [Binding],
) -> Kernel {
    Kernel { constants: OPEN, ..rows::kernel(name, entry, source, bindings) }
}

/// How many invocations share a row of so many columns, and how many pairs each has; none where the row is too long.
fn shares(cols: usize) -> Option<(usize, usize)> {
    let pairs = cols.div_ceil(2);
    let lanes = match pairs {
        0..=MOST_PAIRS => 1,
        _ => SUBGROUP * pairs.div_ceil(SUBGROUP * MOST_PAIRS),
    };
    // Even numbers: fewer pipelines.
    (lanes <= MOST_LANES).then(|| (lanes, pairs.div_ceil(lanes).next_multiple_of(2)))
}

fn loads_pairs(device: &Abilities, tensors: &[&Tensor]) -> bool {
    device.software && device.int64 && tensors[0].dtype() == DType::F32
}

/// Runs `lanes`, a kernel with rows in registers, where it suits the device and the rows, else `plain`.
pub(super) fn run(
    gpu: &Gpu,
    [lanes, plain]: [&Kernel; 2],
    (rows, cols): (usize, usize),
    tensors: &[&Tensor],
) -> Result<()> {
    let device = gpu.abilities();
    let suits = loads_pairs(&device, tensors) && device.subgroup_sizes == (8, 8);
    let found = shares(cols).filter(|_| suits && ways::choose(2) == 0);
    let Some((of_row, pairs)) = found else {
        return rows::run(gpu, plain, (rows, cols), tensors);
    };
    let variant = Variant::of(DType::F32).with("ROW_LANES", of_row as u32).with("PAIRS", pairs as u32);
    let width = if of_row <= SUBGROUP { WIDTH } else { of_row };
    dispatch(gpu, lanes, variant, (rows, cols), tensors, width / of_row)
}

/// Runs `each`, a kernel of one invocation a row, where it suits the device and there are rows enough, else `plain`.
pub(super) fn run_each(
    gpu: &Gpu,
    [each, plain]: [&Kernel; 2],
    (rows, cols): (usize, usize),
    tensors: &[&Tensor],
) -> Result<()> {
    let first = if rows >= WIDTH { 0 } else { 1 };
    if !loads_pairs(&gpu.abilities(), tensors) || ways::choose(2) != first {
        return rows::run(gpu, plain, (rows, cols), tensors);
    }
    dispatch(gpu, each, Variant::of(DType::F32), (rows, cols), tensors, WIDTH)
}

/// Workgroups of so many rows.
fn dispatch(
    gpu: &Gpu,
    kernel: &Kernel,
    variant: Variant,
    (rows, cols): (usize, usize),
    tensors: &[&Tensor],
    each: usize,
) -> Result<()> {
    let work = |rows: usize| (Rows { rows: rows as u32, cols: cols as u32 }, rows.div_ceil(each) as u64);
    parts::dispatch_items(gpu, kernel, variant, rows, tensors, work)
}
