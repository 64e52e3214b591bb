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

use super::transpose::broadcast_to;
use super::{Forward, Rule, Saved, check_floats, expect_inputs, groups, host, scale};
use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::gpu::kernel::{params, read, write};
use crate::gpu::{Gpu, Kernel, Variant};
use crate::reference;
use crate::shape::{around, check_axis};
use crate::tensor::Tensor;

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
const MAX_BACKWARD: Kernel = Kernel::new::<Params>(
    "reduce",
    "max_backward",
    SOURCE,
    &[read("x"), read("largest"), read("grad"), write("dx")],
);

/// The kernels of this operation.
pub const KERNELS: &[&Kernel] = &[&ROWS, &COLUMNS, &MAX_BACKWARD];

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

/// How the tape calls [`reduce`].
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
        gpu.dispatch(kernel, variant, &params, &[x.buffer(), out.buffer()], groups(out.len(), each))?;
        if last {
            return out.reshape(shape);
        }
        (x, axis) = (out, chunks);
    }
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
            let dx = Tensor::uninit("reduce", x.device(), x.shape(), x.dtype())?;
            let (outer, axis, inner) = (size.0 as u32, size.1 as u32, size.2 as u32);
            let params = Params { outer, axis, inner, chunk: 0, chunks: 0, kind: 0, factor: 0. };
            let buffers = [x.buffer(), largest.buffer(), grad.buffer(), dx.buffer()];
            let groups = groups(size.0 * size.2, 256);
            gpu.dispatch(&MAX_BACKWARD, Variant::of(x.dtype()), &params, &buffers, groups)?;
            Ok(dx)
        }
    }
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
