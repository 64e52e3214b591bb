//! Elementwise arithmetic with broadcasting.
//!
//! ```
//! use crossmodal::{Device, Tensor, autograd::Tape, ops::{Binary, binary::BINARY}};
//! let tape = Tape::new();
//! let a = tape.leaf(&Tensor::scalar(&Device::Cpu, 2f32)?);
//! let b = tape.leaf(&Tensor::scalar(&Device::Cpu, 3f32)?);
//! let gradients = tape.backward(&tape.apply(&BINARY, Binary::Mul, &[&a, &b])?)?;
//! assert_eq!((gradients.get(&a).unwrap().item()?, gradients.get(&b).unwrap().item()?), (3., 2.));
//! # Ok::<(), crossmodal::Error>(())
//! ```

pub use crate::reference::Binary;

use super::reduce::sum_to;
use super::{Forward, Rule, Saved, check_floats, dispatch, expect_inputs, groups, host, pad8, parts, scale};
use crate::cpu;
use crate::device::Device;
use crate::dtype::DType;
use crate::error::Result;
use crate::gpu::kernel::{params, read, write};
use crate::gpu::{Gpu, Kernel, Variant};
use crate::reference;
use crate::shape::{broadcast, broadcast_strides, count};
use crate::tensor::{Tensor, check as check_size};

const SOURCE: &str =
    concat!(include_str!("../../shaders/lib/grid.wgsl"), include_str!("../../shaders/binary.wgsl"));

params! {
    struct Params {
        shape: [u32; 8],
        a_strides: [u32; 8],
        b_strides: [u32; 8],
        count: u32,
        rank: u32,
        kind: u32,
        pad: u32,
    }
}

const FORWARD: Kernel =
    Kernel::new::<Params>("binary", "forward", SOURCE, &[read("a"), read("b"), write("out")]);

/// The kernels of this operation. Example: [`Kernel`].
pub const KERNELS: &[&Kernel] = &[&FORWARD];

/// How the tape calls [`binary`]. Example: [the module](self).
pub const BINARY: Rule<Binary> = Rule {
    name: "binary",
    forward: |kind, inputs| {
        expect_inputs("binary", inputs, 2..=2)?;
        Ok(Forward::one(binary(*kind, inputs[0], inputs[1])?))
    },
    backward,
};

/// `out = a op b`; shapes broadcast as usual: aligned at the last axis, an axis of 1 stretches.
///
/// Errors: the shapes do not broadcast; types or devices differ; they are not floating-point.
///
/// ```
/// use crossmodal::{Device, Tensor, ops::{Binary, binary}};
/// let a = Tensor::from_slice(&Device::Cpu, &[2, 2], &[1f32, 2., 3., 4.])?;
/// let b = Tensor::from_slice(&Device::Cpu, &[2], &[10f32, 20.])?;
/// assert_eq!(binary(Binary::Add, &a, &b)?.to_vec::<f32>()?, [11., 22., 13., 24.]);
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn binary(kind: Binary, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    check_floats("binary", &[("a", a), ("b", b)])?;
    let shape = broadcast("binary", a.shape(), b.shape())?;
    check_size("binary", a.device(), &shape, a.dtype())?;
    match a.device() {
        Device::Cpu if a.dtype() == DType::F32 => {
            let (own, other) = (cpu::f32s(a), cpu::f32s(b));
            let out = cpu::binary(kind, (&own, a.shape()), (&other, b.shape()), &shape);
            cpu::tensor(&shape, a.dtype(), out)
        }
        Device::Cpu => {
            let out = reference::binary(kind, (&a.f64s(), a.shape()), (&b.f64s(), b.shape()), &shape);
            host(&shape, a.dtype(), out)
        }
        Device::Gpu(gpu) => {
            if parts::needed(gpu, &[a, b], &shape, a.dtype()) {
                return in_parts(gpu, kind, a, b, &shape);
            }
            let out = Tensor::uninit("binary", a.device(), &shape, a.dtype())?;
            let params = Params {
                shape: pad8(&shape),
                a_strides: pad8(&broadcast_strides(a.shape(), &shape)),
                b_strides: pad8(&broadcast_strides(b.shape(), &shape)),
                count: out.len() as u32,
                rank: shape.len() as u32,
                kind: kind as u32,
                pad: 0,
            };
            let groups = groups(out.len(), 256);
            dispatch(gpu, &FORWARD, Variant::of(a.dtype()), &params, &[a, b, &out], groups)?;
            Ok(out)
        }
    }
}

/// By rows of the first axis that has several.
fn in_parts(gpu: &Gpu, kind: Binary, a: &Tensor, b: &Tensor, shape: &[usize]) -> Result<Tensor> {
    let rows = &shape[shape.iter().position(|&size| size > 1).unwrap_or(0)..];
    let (a, b) = (parts::aligned(a, rows.len())?, parts::aligned(b, rows.len())?);
    let [out] = parts::in_rows(gpu, rows[0], count(&rows[1..]) * a.dtype().size(), |range| {
        let (a, b) = (parts::broadcast_rows(&a, range)?, parts::broadcast_rows(&b, range)?);
        Ok([binary(kind, &a, &b)?])
    })?;
    out.reshape(shape)
}

fn backward(kind: &Binary, saved: &Saved<'_>) -> Result<Vec<Option<Tensor>>> {
    let ([a, b], grad) = ([&saved.inputs[0], &saved.inputs[1]], saved.grad());
    let (da, db) = match kind {
        Binary::Add => (saved.needs[0].then(|| Ok(grad.clone())), saved.needs[1].then(|| Ok(grad.clone()))),
        Binary::Sub => (saved.needs[0].then(|| Ok(grad.clone())), saved.needs[1].then(|| scale(grad, -1.))),
        Binary::Mul => (saved.needs[0].then(|| mul(grad, b)), saved.needs[1].then(|| mul(grad, a))),
    };
    let fold =
        |full: Option<Result<Tensor>>, to: &Tensor| full.map(|full| sum_to(&full?, to.shape())).transpose();
    Ok(vec![fold(da, a)?, fold(db, b)?])
}

/// `a + b`.
///
/// ```
/// use crossmodal::{Device, Tensor, ops::add};
/// let x = Tensor::from_slice(&Device::Cpu, &[2], &[1f32, 2.])?;
/// assert_eq!(add(&x, &x)?.to_vec::<f32>()?, [2., 4.]);
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    binary(Binary::Add, a, b)
}

/// `a − b`.
///
/// ```
/// use crossmodal::{Device, Tensor, ops::sub};
/// let x = Tensor::from_slice(&Device::Cpu, &[2], &[1f32, 2.])?;
/// assert_eq!(sub(&x, &Tensor::scalar(&Device::Cpu, 1f32)?)?.to_vec::<f32>()?, [0., 1.]);
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn sub(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    binary(Binary::Sub, a, b)
}

/// `a b`, element by element.
///
/// ```
/// use crossmodal::{Device, Tensor, ops::mul};
/// let x = Tensor::from_slice(&Device::Cpu, &[2], &[3f32, 4.])?;
/// assert_eq!(mul(&x, &x)?.to_vec::<f32>()?, [9., 16.]);
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn mul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    binary(Binary::Mul, a, b)
}
