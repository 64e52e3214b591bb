//! Joining tensors along an axis, and cutting them apart.
//!
//! ```
//! use crossmodal::{Device, Tensor, autograd::Tape, ops::concat::CONCAT};
//! let tape = Tape::new();
//! let [a, b] = [[1f32], [2f32]].map(|v| Tensor::from_slice(&Device::Cpu, &[1], &v).map(|v| tape.leaf(&v)));
//! let (a, b) = (a?, b?);
//! let both = tape.apply(&CONCAT, 0, &[&a, &b])?;
//! assert_eq!(tape.backward_from(&both, both.value())?.get(&b).unwrap().to_vec::<f32>()?, [2.]);
//! # Ok::<(), crossmodal::Error>(())
//! ```

use super::{Forward, Rule, Saved, check_floats, expect_inputs, groups, work_of_bytes};
use crate::device::Device;
use crate::dtype::{Element, HostData};
use crate::error::{Error, Result};
use crate::gpu::kernel::{params, read, write};
use crate::gpu::{Gpu, Kernel, Variant};
use crate::reference::{Block, copy_block};
use crate::shape::{around, check_axis};
use crate::tensor::Tensor;
use std::ops::Range;

const SOURCE: &str =
    concat!(include_str!("../../shaders/lib/grid.wgsl"), include_str!("../../shaders/concat.wgsl"));

params! {
    struct Params {
        count: u32,
        length: u32,
        from_stride: u32,
        from_offset: u32,
        to_stride: u32,
        to_offset: u32,
    }
}

const FORWARD: Kernel = Kernel::new::<Params>("concat", "forward", SOURCE, &[read("x"), write("out")]);

/// The kernels of this operation. Example: [`Kernel`].
pub const KERNELS: &[&Kernel] = &[&FORWARD];

/// How the tape calls [`concat()`]: the option is the axis. Example: [the module](self).
pub const CONCAT: Rule<usize> = Rule {
    name: "concat",
    forward: |axis, inputs| Ok(Forward::one(concat(inputs, *axis)?)),
    backward: |axis, saved: &Saved<'_>| {
        let sizes: Vec<_> = saved.inputs.iter().map(|x| x.shape()[*axis]).collect();
        Ok(split(saved.grad(), *axis, &sizes)?.into_iter().map(Some).collect())
    },
};

/// How the tape calls [`split`]: the options are the axis and the sizes. Example: [`Tape::apply_all`](crate::autograd::Tape::apply_all).
pub const SPLIT: Rule<(usize, Vec<usize>)> = Rule {
    name: "split",
    forward: |(axis, sizes), inputs| {
        expect_inputs("split", inputs, 1..=1)?;
        Ok(Forward { outputs: split(inputs[0], *axis, sizes)?, kept: vec![] })
    },
    backward: |(axis, _), saved: &Saved<'_>| {
        let parts = saved.grads.iter().zip(saved.outputs).map(|(grad, out)| match grad {
            Some(grad) => Ok(grad.clone()),
            None => Tensor::zeros(out.device(), out.shape(), out.dtype()),
        });
        let parts = parts.collect::<Result<Vec<_>>>()?;
        Ok(vec![Some(concat(&parts.iter().collect::<Vec<_>>(), *axis)?)])
    },
};

/// The tensors side by side along `axis`; their other axes agree.
///
/// Errors: no tensors; the axis does not exist; shapes, types or devices differ.
///
/// ```
/// use crossmodal::{Device, Tensor, ops::{concat, split}};
/// let image = Tensor::from_slice(&Device::Cpu, &[3], &[0.1f32, 0.2, 0.3])?;
/// let text = Tensor::from_slice(&Device::Cpu, &[3], &[0.4f32, 0.5, 0.6])?;
/// let both = concat(&[&image, &text], 0)?;
/// assert_eq!(both.to_vec::<f32>()?, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]);
/// assert_eq!(split(&both, 0, &[3, 3])?[1].to_vec::<f32>()?, [0.4, 0.5, 0.6]);
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn concat(tensors: &[&Tensor], axis: usize) -> Result<Tensor> {
    let Some(first) = tensors.first() else {
        return Err(Error::argument("concat", "tensors", "at least one tensor", 0));
    };
    check_floats("concat", &tensors.iter().map(|t| ("tensors", *t)).collect::<Vec<_>>())?;
    check_axis("concat", first.shape(), axis)?;
    let mut shape = first.shape().to_vec();
    shape[axis] = 0;
    for tensor in tensors {
        let mut rest = tensor.shape().to_vec();
        let size = rest.get(axis).copied().unwrap_or(0);
        shape[axis] += size;
        rest.iter_mut().skip(axis).take(1).for_each(|own| *own = shape[axis]);
        if rest != shape {
            let expected = format!("{:?} but for axis {axis}", first.shape());
            return Err(Error::argument("concat", "tensors", expected, format!("{:?}", tensor.shape())));
        }
    }
    let mut out = Tensor::uninit("concat", first.device(), &shape, first.dtype())?;
    let mut at = 0;
    for tensor in tensors {
        put(tensor, &mut out, axis, at)?;
        at += tensor.shape()[axis];
    }
    Ok(out)
}

/// `x` cut along `axis` into parts of the given sizes, which add up to its own.
///
/// Errors: the axis does not exist; the sizes do not add up; `x` is not floating-point. Example: [`concat()`].
pub fn split(x: &Tensor, axis: usize, sizes: &[usize]) -> Result<Vec<Tensor>> {
    check_floats("split", &[("x", x)])?;
    check_axis("split", x.shape(), axis)?;
    let whole = x.shape()[axis];
    if sizes.iter().try_fold(0usize, |sum, &size| sum.checked_add(size)) != Some(whole) {
        return Err(Error::argument(
            "split",
            "sizes",
            format!("sizes that add up to {whole}"),
            format!("{sizes:?}"),
        ));
    }
    let mut at = 0;
    let part = |size: &usize| {
        at += size;
        slice(x, axis, &(at - size..at))
    };
    sizes.iter().map(part).collect()
}

/// The part of `x` that a range of an axis makes.
pub(super) fn slice(x: &Tensor, axis: usize, range: &Range<usize>) -> Result<Tensor> {
    let (outer, whole, inner) = around(x.shape(), axis);
    let mut shape = x.shape().to_vec();
    shape[axis] = range.len();
    let mut out = Tensor::uninit("split", x.device(), &shape, x.dtype())?;
    let length = range.len() * inner;
    let block = Block {
        rows: outer,
        length,
        from_stride: whole * inner,
        from_offset: range.start * inner,
        to_stride: length,
        to_offset: 0,
    };
    copy(x, &mut out, &block)?;
    Ok(out)
}

/// Writes `part` over the rows of `whole` from row `at` on. Tensors that share the storage of `whole` keep what they hold.
pub(crate) fn overwrite(whole: &mut Tensor, part: &Tensor, at: usize) -> Result<()> {
    super::check_device("overwrite", "part", part, whole.device())?;
    whole.own_buffer("overwrite")?;
    put(part, whole, 0, at)
}

/// Writes `part` into `whole` from place `at` of an axis on.
pub(super) fn put(part: &Tensor, whole: &mut Tensor, axis: usize, at: usize) -> Result<()> {
    let (outer, full, inner) = around(whole.shape(), axis);
    let length = part.shape()[axis] * inner;
    let block = Block {
        rows: outer,
        length,
        from_stride: length,
        from_offset: 0,
        to_stride: full * inner,
        to_offset: at * inner,
    };
    copy(part, whole, &block)
}

pub(super) fn copy(from: &Tensor, to: &mut Tensor, block: &Block) -> Result<()> {
    if block.rows * block.length == 0 {
        return Ok(());
    }
    match from.device() {
        Device::Cpu => match from.data() {
            HostData::F32(v) => copy_host(v, to.host_mut(), block),
            HostData::F16(v) => copy_host(v, to.host_mut(), block),
            HostData::F64(v) => copy_host(v, to.host_mut(), block),
            HostData::U32(v) => copy_host(v, to.host_mut(), block),
        },
        Device::Gpu(gpu) => copy_on_gpu(gpu, from, to, block)?,
    }
    Ok(())
}

/// One dispatch for as many rows as lie within one piece of each tensor: for all, unless a tensor is split. A row that
/// straddles pieces is cut.
fn copy_on_gpu(gpu: &Gpu, from: &Tensor, to: &Tensor, block: &Block) -> Result<()> {
    let piece = gpu.piece_bytes() as usize / from.dtype().size();
    // The next row, and its elements that are done.
    let (mut row, mut done) = (0, 0);
    while row < block.rows {
        let source = block.from_offset + row * block.from_stride + done;
        let target = block.to_offset + row * block.to_stride + done;
        let rooms = [(piece - source % piece, block.from_stride), (piece - target % piece, block.to_stride)];
        let rest = block.length - done;
        let length = rooms.iter().fold(rest, |length, (room, _)| length.min(*room));
        let whole = rooms.iter().map(|(room, stride)| (room - length) / stride + 1).min().unwrap_or(1);
        let rows = if length == block.length { whole.min(block.rows - row) } else { 1 };
        let params = Params {
            count: (rows * length) as u32,
            length: length as u32,
            from_stride: block.from_stride as u32,
            from_offset: (source % piece) as u32,
            to_stride: block.to_stride as u32,
            to_offset: (target % piece) as u32,
        };
        let buffers = [&from.pieces()[source / piece], &to.pieces()[target / piece]];
        gpu.dispatch(&FORWARD, Variant::of(from.dtype()), &params, &buffers, groups(rows * length, 256))?;
        gpu.count_work(work_of_bytes(2 * rows * length * from.dtype().size()))?;
        (row, done) = if length == rest { (row + rows, 0) } else { (row, done + length) };
    }
    Ok(())
}

fn copy_host<T: Element>(from: &[T], to: &mut HostData, block: &Block) {
    let to = T::peek_mut(to).expect("both tensors have one type");
    copy_block(from, to, block);
}
