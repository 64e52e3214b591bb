//! Sum, mean and maximum over one axis.
//!
//! ```
//! use crossmodal::autograd::Tape;
//! use crossmodal::{Device, Tensor, ops::{Reduce, ReduceOptions, reduce::REDUCE}};
//! let tape = Tape::new();
//! let x = tape.leaf(&Tensor::from_slice(&Device::Cpu, &[3], &[1f32, 7., 7.])?);
//! let options = ReduceOptions { kind: Reduce::Max, axis: 0, keep_axis: false };
//! let largest = tape.apply(&REDUCE, options, &[&x])?;
//! assert_eq!(tape.backward(&largest)?.get(&x).unwrap().to_vec::<f32>()?, [0., 1., 0.]);
//! # Ok::<(), crossmodal::Error>(())
//! ```

pub use crate::reference::Reduce;

use super::concat::{put, slice};
use super::transpose::broadcast_to;
use super::{
    Forward, Rule, Saved, cast, check_floats, concat, dispatch, expect_inputs, groups, host, parts, scale,
    sub,
};
use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::gpu::kernel::{params, read, write};
use crate::gpu::{Gpu, Kernel, Variant};
use crate::reference;
use crate::shape::{around, check_axis};
use crate::tensor::Tensor;
use std::ops::Range;

const SOURCE: &str = concat!(
    include_str!("../../shaders/lib/grid.wgsl"),
    include_str!("../../shaders/lib/reduce.wgsl"),
    include_str!("../../shaders/reduce.wgsl")
);

params! {
    struct Params { outer: u32, axis: u32, inner: u32, chunk: u32, chunks: u32, kind: u32, factor: f32 }
}

const ROWS: Kernel = Kernel::new::<Params>("reduce", "rows", SOURCE, &[read("x"), write("out")]);
const COLUMNS: Kernel = Kernel::new::<Params>("reduce", "columns", SOURCE, &[read("x"), write("out")]);
const FIRST_OF_CHUNK: Kernel =
    Kernel::new::<Params>("reduce", "first_of_chunk", SOURCE, &[read("x"), read("largest"), write("first")]);
const FIRST_OF_AXIS: Kernel =
    Kernel::new::<Params>("reduce", "first_of_axis", SOURCE, &[read("of_chunks"), write("place")]);
const MAX_BACKWARD: Kernel =
    Kernel::new::<Params>("reduce", "max_backward", SOURCE, &[read("places"), read("grad"), write("dx")]);

/// The kernels of this operation. Example: [`Kernel`].
pub const KERNELS: &[&Kernel] = &[&ROWS, &COLUMNS, &FIRST_OF_CHUNK, &FIRST_OF_AXIS, &MAX_BACKWARD];

/// What one workgroup sums of a row, and one invocation of a column: longer axes take several rounds.
const ROW_CHUNK: usize = 4096;
const COLUMN_CHUNK: usize = 256;

/// Which reduction, over which axis.
///
/// ```
/// use crossmodal::{Device, Tensor, ops::{Reduce, ReduceOptions, reduce}};
/// let x = Tensor::from_slice(&Device::Cpu, &[2, 2], &[1f32, 2., 3., 4.])?;
/// let means = reduce(&x, &ReduceOptions { kind: Reduce::Mean, axis: 1, keep_axis: true })?;
/// assert_eq!((means.shape(), means.to_vec::<f32>()?), (&[2, 1][..], vec![1.5, 3.5]));
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReduceOptions {
    /// Sum, mean or maximum.
    pub kind: Reduce,
    /// The axis, from 0.
    pub axis: usize,
    /// Whether the axis stays, with size 1.
    pub keep_axis: bool,
}

/// How the tape calls [`reduce`]. Example: [the module](self).
pub const REDUCE: Rule<ReduceOptions> = Rule {
    name: "reduce",
    forward: |options, inputs| {
        expect_inputs("reduce", inputs, 1..=1)?;
        Ok(Forward::one(reduce(inputs[0], options)?))
    },
    backward,
};

/// `x` with one axis summed, averaged or reduced to its maximum.
///
/// Sums follow a fixed tree: the same bits every time. The gradient of a maximum goes to the first place that attains it.
/// Errors: the axis does not exist; a mean or maximum over nothing; `x` is not floating-point.
///
/// ```
/// use crossmodal::{Device, Tensor, ops::{Reduce, ReduceOptions, reduce}};
/// let x = Tensor::from_slice(&Device::Cpu, &[2, 2], &[1f32, 2., 3., 4.])?;
/// let columns = reduce(&x, &ReduceOptions { kind: Reduce::Sum, axis: 0, keep_axis: false })?;
/// assert_eq!(columns.to_vec::<f32>()?, [4., 6.]);
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn reduce(x: &Tensor, options: &ReduceOptions) -> Result<Tensor> {
    let ReduceOptions { kind, axis, keep_axis } = *options;
    check_floats("reduce", &[("x", x)])?;
    check_axis("reduce", x.shape(), axis)?;
    let size = around(x.shape(), axis);
    if size.1 == 0 && kind != Reduce::Sum {
        return Err(Error::argument(
            "reduce",
            "x",
            "an axis with elements",
            format!("shape {:?}", x.shape()),
        ));
    }
    let mut shape = x.shape().to_vec();
    if keep_axis {
        shape[axis] = 1;
    } else {
        shape.remove(axis);
    }
    match x.device() {
        Device::Cpu => host(&shape, x.dtype(), reference::reduce(kind, &x.f64s(), size)),
        Device::Gpu(gpu) => on_gpu(gpu, x, kind, size, &shape),
    }
}

/// Rounds of partial results in f32 until each axis is one chunk.
fn on_gpu(
    gpu: &Gpu,
    x: &Tensor,
    kind: Reduce,
    (outer, full, inner): (usize, usize, usize),
    shape: &[usize],
) -> Result<Tensor> {
    if x.is_empty() {
        return Tensor::zeros(x.device(), shape, x.dtype());
    }
    if x.is_split() {
        return in_parts(gpu, &x.reshape(&[outer, full, inner])?, kind)?.reshape(shape);
    }
    let (kernel, chunk) = if inner == 1 { (&ROWS, ROW_CHUNK) } else { (&COLUMNS, COLUMN_CHUNK) };
    let (mut x, mut axis) = (x.clone(), full);
    let dtype = x.dtype();
    loop {
        let chunks = axis.div_ceil(chunk).max(1);
        let last = chunks == 1;
        let out_dtype = if last { dtype } else { DType::F32 };
        let out = Tensor::uninit("reduce", x.device(), &[outer, chunks, inner], out_dtype)?;
        let params = Params {
            outer: outer as u32,
            axis: axis as u32,
            inner: inner as u32,
            chunk: chunk as u32,
            chunks: chunks as u32,
            kind: u32::from(kind == Reduce::Max),
            factor: if last && kind == Reduce::Mean { 1. / full as f32 } else { 1. },
        };
        let variant = Variant { elem_out: out_dtype, ..Variant::of(x.dtype()) };
        let each = if inner == 1 { 1 } else { 256 };
        dispatch(gpu, kernel, variant, &params, &[&x, &out], groups(out.len(), each))?;
        if last {
            return out.reshape(shape);
        }
        (x, axis) = (out, chunks);
    }
}

/// The middle axis of `x [outer, axis, inner]`: by blocks of the outer axis, else of the inner one where few of its rows go
/// through at once, else by blocks of the axis itself, whose results are reduced again.
fn in_parts(gpu: &Gpu, x: &Tensor, kind: Reduce) -> Result<Tensor> {
    let [outer, axis, inner] = x.shape()[..] else { unreachable!("three axes") };
    let over = |axis, keep_axis| ReduceOptions { kind, axis, keep_axis };
    let size = x.dtype().size();
    if outer > 1 {
        let part = |range: &Range<usize>| Ok([reduce(&slice(x, 0, range)?, &over(1, false))?]);
        let [out] = parts::in_rows(gpu, outer, axis * inner * size, part)?;
        return Ok(out);
    }
    if is_wide(gpu, inner, DType::F32.size()) {
        let mut out = Tensor::uninit("reduce", x.device(), &[1, inner], x.dtype())?;
        for range in parts::ranges(gpu, inner, axis * size) {
            put(&reduce(&slice(x, 2, &range)?, &over(1, false))?, &mut out, 1, range.start)?;
        }
        return Ok(out);
    }
    let factor = if kind == Reduce::Mean { 1. / axis as f64 } else { 1. };
    let kind = if kind == Reduce::Mean { Reduce::Sum } else { kind };
    let over_axis = |keep_axis| ReduceOptions { kind, axis: 1, keep_axis };
    let mut results = vec![];
    for range in parts::ranges(gpu, axis, inner * DType::F32.size()) {
        results.push(reduce(&cast(&slice(x, 1, &range)?, DType::F32)?, &over_axis(true))?);
    }
    let out = reduce(&concat(&results.iter().collect::<Vec<_>>(), 1)?, &over_axis(false))?;
    cast(&if factor == 1. { out } else { scale(&out, factor)? }, x.dtype())
}

/// Whether fewer than two rows of `inner` elements go through at once.
fn is_wide(gpu: &Gpu, inner: usize, size: usize) -> bool {
    inner > 1 && parts::items_at_once(gpu, inner * size) < 2
}

fn backward(options: &ReduceOptions, saved: &Saved<'_>) -> Result<Vec<Option<Tensor>>> {
    let (x, grad) = (&saved.inputs[0], saved.grad());
    let mut kept = x.shape().to_vec();
    kept[options.axis] = 1;
    let spread = |grad: &Tensor| broadcast_to(&grad.reshape(&kept)?, x.shape());
    let dx = match options.kind {
        Reduce::Sum => spread(grad)?,
        Reduce::Mean => spread(&scale(grad, 1. / x.shape()[options.axis] as f64)?)?,
        Reduce::Max => max_backward(x, &saved.outputs[0], grad, options.axis)?,
    };
    Ok(vec![Some(dx)])
}

fn max_backward(x: &Tensor, largest: &Tensor, grad: &Tensor, axis: usize) -> Result<Tensor> {
    let size = around(x.shape(), axis);
    match x.device() {
        Device::Cpu => host(x.shape(), x.dtype(), reference::max_backward(&x.f64s(), &grad.f64s(), size)),
        Device::Gpu(gpu) => {
            if parts::needed(gpu, &[x, largest, grad], x.shape(), x.dtype()) {
                let shape = [size.0, size.2];
                let (x3, largest, grad) =
                    (x.reshape(&[size.0, size.1, size.2])?, largest.reshape(&shape)?, grad.reshape(&shape)?);
                return max_backward_in_parts(gpu, &x3, &largest, &grad)?.reshape(x.shape());
            }
            on_gpu_max_backward(gpu, x, largest, grad, size)
        }
    }
}

/// Chunks of the axis are searched at once, then their results; as many chunks as elements in one keep either short.
fn on_gpu_max_backward(
    gpu: &Gpu,
    x: &Tensor,
    largest: &Tensor,
    grad: &Tensor,
    (outer, axis, inner): (usize, usize, usize),
) -> Result<Tensor> {
    let chunk = axis.isqrt().max(COLUMN_CHUNK);
    let chunks = axis.div_ceil(chunk);
    let indices = |shape: &[usize]| Tensor::uninit("reduce", x.device(), shape, DType::U32);
    let (first, place) = (indices(&[outer, chunks, inner])?, indices(&[outer, inner])?);
    let dx = Tensor::uninit("reduce", x.device(), x.shape(), x.dtype())?;
    let params = Params {
        outer: outer as u32,
        axis: axis as u32,
        inner: inner as u32,
        chunk: chunk as u32,
        chunks: chunks as u32,
        kind: 0,
        factor: 0.,
    };
    let variant = || Variant::of(x.dtype());
    let run = |kernel, tensors: &[&Tensor], items: usize| {
        dispatch(gpu, kernel, variant(), &params, tensors, groups(items, 256))
    };
    run(&FIRST_OF_CHUNK, &[x, largest, &first], first.len())?;
    run(&FIRST_OF_AXIS, &[&first, &place], place.len())?;
    run(&MAX_BACKWARD, &[&place, grad, &dx], dx.len())?;
    Ok(dx)
}

/// As [`in_parts`] cuts `x [outer, axis, inner]`; `largest` and `grad` are `[outer, inner]`.
fn max_backward_in_parts(gpu: &Gpu, x: &Tensor, largest: &Tensor, grad: &Tensor) -> Result<Tensor> {
    let [outer, axis, inner] = x.shape()[..] else { unreachable!("three axes") };
    let size = x.dtype().size();
    if outer > 1 {
        let [dx] = parts::in_rows(gpu, outer, axis * inner * size, |range| {
            let of = |x: &Tensor| slice(x, 0, range);
            Ok([max_backward(&of(x)?, &of(largest)?, &of(grad)?, 1)?])
        })?;
        return Ok(dx);
    }
    if is_wide(gpu, inner, size) {
        let mut dx = Tensor::uninit("reduce", x.device(), x.shape(), x.dtype())?;
        for range in parts::ranges(gpu, inner, axis * size) {
            let (largest, grad) = (slice(largest, 1, &range)?, slice(grad, 1, &range)?);
            put(&max_backward(&slice(x, 2, &range)?, &largest, &grad, 1)?, &mut dx, 2, range.start)?;
        }
        return Ok(dx);
    }
    // Where an earlier block has the maximum its gradient is used up.
    let (mut rest, sum) = (grad.clone(), ReduceOptions { kind: Reduce::Sum, axis: 0, keep_axis: true });
    let rows = x.reshape(&[axis, inner])?;
    let [dx] = parts::in_rows(gpu, axis, inner * size, |range| {
        let dx = max_backward(&slice(&rows, 0, range)?, largest, &rest, 0)?;
        rest = sub(&rest, &reduce(&dx, &sum)?)?;
        Ok([dx])
    })?;
    dx.reshape(x.shape())
}

/// The gradient of a broadcast: `grad` summed over the axes along which `shape` was repeated.
pub(super) fn sum_to(grad: &Tensor, shape: &[usize]) -> Result<Tensor> {
    let mut out = grad.clone();
    let missing = grad.shape().len() - shape.len();
    for axis in 0..grad.shape().len() {
        let stretched = axis < missing || shape[axis - missing] != grad.shape()[axis];
        if stretched {
            out = reduce(&out, &ReduceOptions { kind: Reduce::Sum, axis, keep_axis: true })?;
        }
    }
    out.reshape(shape)
}
