//! Permuting axes.
//!
//! ```
//! use crossmodal::{DType, Device, Tensor, autograd::Tape, ops::transpose::TRANSPOSE};
//! let tape = Tape::new();
//! let x = tape.leaf(&Tensor::zeros(&Device::Cpu, &[2, 3, 4], DType::F32)?);
//! let y = tape.apply(&TRANSPOSE, vec![2, 0, 1], &[&x])?;
//! assert_eq!(y.value().shape(), [4, 2, 3]);
//! assert_eq!(tape.backward_from(&y, y.value())?.get(&x).unwrap().shape(), [2, 3, 4]);
//! # Ok::<(), crossmodal::Error>(())
//! ```

use super::concat::{put, slice};
use super::{Forward, Rule, Saved, check_floats, dispatch, expect_inputs, groups, host, pad8, parts};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::gpu::kernel::{params, read, write};
use crate::gpu::{Kernel, Variant};
use crate::reference;
use crate::shape::{broadcast_strides, count, strides};
use crate::tensor::Tensor;

const SOURCE: &str =
    concat!(include_str!("../../shaders/lib/grid.wgsl"), include_str!("../../shaders/transpose.wgsl"));

params! {
    struct Params { shape: [u32; 8], strides: [u32; 8], count: u32, rank: u32, pad: u32, pad2: u32 }
}

const FORWARD: Kernel = Kernel::new::<Params>("transpose", "forward", SOURCE, &[read("x"), write("out")]);

/// The kernels of this operation. Example: [`Kernel`].
pub const KERNELS: &[&Kernel] = &[&FORWARD];

/// How the tape calls [`transpose`]. Example: [the module](self).
pub const TRANSPOSE: Rule<Vec<usize>> = Rule {
    name: "transpose",
    forward: |axes, inputs| {
        expect_inputs("transpose", inputs, 1..=1)?;
        Ok(Forward::one(transpose(inputs[0], axes)?))
    },
    backward: |axes, saved: &Saved<'_>| {
        let mut inverse = vec![0; axes.len()];
        axes.iter().enumerate().for_each(|(i, &axis)| inverse[axis] = i);
        Ok(vec![Some(transpose(saved.grad(), &inverse)?)])
    },
};

/// The axes of `x` in another order: axis `i` of the result is axis `axes[i]` of `x`.
///
/// Errors: `axes` does not name every axis once; `x` is not floating-point.
///
/// ```
/// use crossmodal::{Device, Tensor, ops::transpose};
/// let x = Tensor::from_slice(&Device::Cpu, &[2, 3], &[1f32, 2., 3., 4., 5., 6.])?;
/// let y = transpose(&x, &[1, 0])?;
/// assert_eq!((y.shape(), y.to_vec::<f32>()?), (&[3, 2][..], vec![1., 4., 2., 5., 3., 6.]));
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn transpose(x: &Tensor, axes: &[usize]) -> Result<Tensor> {
    check_floats("transpose", &[("x", x)])?;
    let mut sorted = axes.to_vec();
    sorted.sort_unstable();
    if !sorted.iter().copied().eq(0..x.shape().len()) {
        let expected = format!("each of the {} axes once", x.shape().len());
        return Err(Error::argument("transpose", "axes", expected, format!("{axes:?}")));
    }
    let own = strides(x.shape());
    let shape: Vec<_> = axes.iter().map(|&axis| x.shape()[axis]).collect();
    if x.is_split() {
        return in_parts(x, axes, &shape);
    }
    let strides: Vec<_> = axes.iter().map(|&axis| own[axis]).collect();
    strided_copy(x, &shape, &strides)
}

/// By rows of the first axis: each part lies in the result where its axis goes.
fn in_parts(x: &Tensor, axes: &[usize], shape: &[usize]) -> Result<Tensor> {
    let (Device::Gpu(gpu), [rows, rest @ ..]) = (x.device(), x.shape()) else { return Ok(x.clone()) };
    let to = axes.iter().position(|&axis| axis == 0).unwrap_or(0);
    if *rows == 1 {
        let others: Vec<_> = axes.iter().filter(|&&axis| axis > 0).map(|axis| axis - 1).collect();
        return if rest.is_empty() {
            Ok(x.clone())
        } else {
            transpose(&x.reshape(rest)?, &others)?.reshape(shape)
        };
    }
    let mut out = Tensor::uninit("transpose", x.device(), shape, x.dtype())?;
    for range in parts::ranges(gpu, *rows, count(rest) * x.dtype().size()) {
        put(&transpose(&slice(x, 0, &range)?, axes)?, &mut out, to, range.start)?;
    }
    Ok(out)
}

/// `x` repeated along the axes in which `shape` is larger: what adding zeros of that shape would give.
pub(crate) fn broadcast_to(x: &Tensor, shape: &[usize]) -> Result<Tensor> {
    if x.shape() == shape {
        return Ok(x.clone());
    }
    if let Device::Gpu(gpu) = x.device()
        && parts::needed(gpu, &[x], shape, x.dtype())
    {
        // By rows of the first axis that has several.
        let rows = &shape[shape.iter().position(|&size| size > 1).unwrap_or(0)..];
        let x = parts::aligned(x, rows.len())?;
        let [out] = parts::in_rows(gpu, rows[0], count(&rows[1..]) * x.dtype().size(), |range| {
            let own = [&[range.len()], &rows[1..]].concat();
            Ok([broadcast_to(&parts::broadcast_rows(&x, range)?, &own)?])
        })?;
        return out.reshape(shape);
    }
    strided_copy(x, shape, &broadcast_strides(x.shape(), shape))
}

fn strided_copy(x: &Tensor, shape: &[usize], strides: &[usize]) -> Result<Tensor> {
    match x.device() {
        Device::Cpu => host(shape, x.dtype(), reference::strided_copy(&x.f64s(), shape, strides)),
        Device::Gpu(gpu) => {
            let out = Tensor::uninit("transpose", x.device(), shape, x.dtype())?;
            let (count, rank) = (out.len() as u32, shape.len() as u32);
            let params = Params { shape: pad8(shape), strides: pad8(strides), count, rank, pad: 0, pad2: 0 };
            let groups = groups(out.len(), 256);
            dispatch(gpu, &FORWARD, Variant::of(x.dtype()), &params, &[x, &out], groups)?;
            Ok(out)
        }
    }
}
