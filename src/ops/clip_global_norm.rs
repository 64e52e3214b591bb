//! Gradients scaled down together.
//!
//! ```
//! use crossmodal::{Device, Tensor, ops::clip_global_norm};
//! let [a, b] = [3f32, 4.].map(|v| Tensor::scalar(&Device::Cpu, v));
//! let (clipped, norm) = clip_global_norm(&[&a?, &b?], 10.)?;
//! assert_eq!((norm.item()?, clipped[1].item()?), (5., 4.)); // within the limit: as it was
//! # Ok::<(), crossmodal::Error>(())
//! ```

use super::concat::slice;
use super::{check_floats, dispatch, groups, host, parts, stats_dtype};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::gpu::kernel::{params, read, write};
use crate::gpu::{Gpu, Kernel, Variant};
use crate::reference;
use crate::tensor::Tensor;

const SOURCE: &str = concat!(
    include_str!("../../shaders/lib/grid.wgsl"),
    include_str!("../../shaders/lib/reduce.wgsl"),
    include_str!("../../shaders/clip_global_norm.wgsl")
);

params! {
    struct Params { count: u32, chunk: u32, first: u32, max_norm: f32 }
}

const PARTIAL: Kernel =
    Kernel::new::<Params>("clip_global_norm", "partial_norms", SOURCE, &[read("x"), write("parts")]);
const TOTAL: Kernel =
    Kernel::new::<Params>("clip_global_norm", "total_norm", SOURCE, &[read("all_parts"), write("norm")]);
const APPLY: Kernel = Kernel::new::<Params>(
    "clip_global_norm",
    "apply_factor",
    SOURCE,
    &[read("x"), read("factor"), write("out")],
);

/// The kernels of this operation. Example: [`Kernel`].
pub const KERNELS: &[&Kernel] = &[&PARTIAL, &TOTAL, &APPLY];

/// Elements in one partial norm.
const CHUNK: usize = 16384;

/// `g ← g min(1, max_norm / ‖g‖)` where `‖g‖` is the norm of all elements of all tensors together; gives the tensors and the
/// norm before clipping, a scalar on the device.
///
/// Scaled by the largest entry first: gradients of 1e20 do not overflow. Errors: no tensors; types or devices differ;
/// `max_norm` is not positive.
///
/// ```
/// use crossmodal::{Device, Tensor, ops::clip_global_norm};
/// let grad = Tensor::from_slice(&Device::Cpu, &[2], &[3f32, 4.])?;
/// let (clipped, norm) = clip_global_norm(&[&grad], 1.)?;
/// assert_eq!((norm.item()?, clipped[0].to_vec::<f32>()?), (5., vec![0.6, 0.8]));
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn clip_global_norm(tensors: &[&Tensor], max_norm: f64) -> Result<(Vec<Tensor>, Tensor)> {
    let Some(first) = tensors.first() else {
        return Err(Error::argument("clip_global_norm", "tensors", "at least one tensor", 0));
    };
    check_floats("clip_global_norm", &tensors.iter().map(|t| ("tensors", *t)).collect::<Vec<_>>())?;
    if max_norm.is_nan() || max_norm <= 0. {
        return Err(Error::argument("clip_global_norm", "max_norm", "a positive number", max_norm));
    }
    match first.device() {
        Device::Cpu => {
            let values: Vec<_> = tensors.iter().map(|t| t.f64s()).collect();
            let slices: Vec<_> = values.iter().map(|v| &v[..]).collect();
            let (clipped, norm) = reference::clip_global_norm(&slices, max_norm);
            let clipped = clipped.into_iter().zip(tensors).map(|(v, t)| host(t.shape(), t.dtype(), v));
            Ok((clipped.collect::<Result<_>>()?, host(&[], stats_dtype(first.dtype()), vec![norm])?))
        }
        Device::Gpu(gpu) => on_gpu(gpu, tensors, max_norm),
    }
}

fn on_gpu(gpu: &Gpu, tensors: &[&Tensor], max_norm: f64) -> Result<(Vec<Tensor>, Tensor)> {
    if tensors.iter().any(|tensor| tensor.is_split()) {
        return in_parts(gpu, tensors, max_norm);
    }
    let (device, dtype) = (tensors[0].device(), stats_dtype(tensors[0].dtype()));
    let variant = || Variant::of(tensors[0].dtype());
    let max_norm = max_norm as f32;
    let chunks: usize = tensors.iter().map(|t| t.len().div_ceil(CHUNK)).sum();
    let partials = Tensor::uninit("clip_global_norm", device, &[chunks, 2], dtype)?;
    let mut first = 0;
    for tensor in tensors {
        let params = Params { count: tensor.len() as u32, chunk: CHUNK as u32, first, max_norm };
        let own = tensor.len().div_ceil(CHUNK);
        dispatch(gpu, &PARTIAL, variant(), &params, &[tensor, &partials], own as u64)?;
        first += own as u32;
    }
    // The norm and the factor; the norm alone goes out.
    let norm = Tensor::uninit("clip_global_norm", device, &[2], dtype)?;
    let params = Params { count: chunks as u32, chunk: 0, first: 0, max_norm };
    dispatch(gpu, &TOTAL, variant(), &params, &[&partials, &norm], 1)?;
    let apply = |tensor: &&Tensor| {
        let out = Tensor::uninit("clip_global_norm", device, tensor.shape(), tensor.dtype())?;
        let params = Params { count: tensor.len() as u32, chunk: 0, first: 0, max_norm };
        dispatch(gpu, &APPLY, variant(), &params, &[tensor, &norm, &out], groups(tensor.len(), 256))?;
        Ok(out)
    };
    let clipped = tensors.iter().map(apply).collect::<Result<_>>()?;
    Ok((clipped, super::split(&norm, 0, &[1, 1])?.remove(0).reshape(&[])?))
}

/// The norm of all parts of all tensors is that of the tensors.
fn in_parts(gpu: &Gpu, tensors: &[&Tensor], max_norm: f64) -> Result<(Vec<Tensor>, Tensor)> {
    let mut pieces = vec![];
    for tensor in tensors {
        let flat = tensor.reshape(&[tensor.len()])?;
        for range in parts::ranges(gpu, flat.len(), flat.dtype().size()) {
            pieces.push(slice(&flat, 0, &range)?);
        }
    }
    let (clipped, norm) = on_gpu(gpu, &pieces.iter().collect::<Vec<_>>(), max_norm)?;
    let mut clipped = clipped.iter();
    let joined = tensors.iter().map(|tensor| {
        let count = parts::ranges(gpu, tensor.len(), tensor.dtype().size()).count();
        let own: Vec<_> = clipped.by_ref().take(count).collect();
        if own.is_empty() { Ok((*tensor).clone()) } else { super::concat(&own, 0)?.reshape(tensor.shape()) }
    });
    Ok((joined.collect::<Result<_>>()?, norm))
}
