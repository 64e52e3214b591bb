//! Elementwise functions.
//!
//! ```
//! use crossmodal::{Device, Tensor, autograd::Tape, ops::{Unary, unary::UNARY}};
//! let tape = Tape::new();
//! let x = tape.leaf(&Tensor::scalar(&Device::Cpu, 0f32)?);
//! let y = tape.apply(&UNARY, Unary::Sigmoid, &[&x])?;
//! assert_eq!(tape.backward(&y)?.get(&x).unwrap().item()?, 0.25);
//! # Ok::<(), crossmodal::Error>(())
//! ```

pub use crate::reference::Unary;

use super::{Forward, Rule, Saved, check_floats, expect_inputs, groups, host, parts};
use crate::cpu;
use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::gpu::kernel::{params, read, write};
use crate::gpu::{Gpu, Kernel, Variant};
use crate::tensor::Tensor;
use std::cmp::Ordering;

const SOURCE: &str = concat!(
    include_str!("../../shaders/lib/grid.wgsl"),
    include_str!("../../shaders/lib/math.wgsl"),
    include_str!("../../shaders/lib/activation.wgsl"),
    include_str!("../../shaders/unary.wgsl")
);

params! {
    struct Params { count: u32, kind: u32, alpha: f32, beta: f32 }
}

const FORWARD: Kernel = Kernel::new::<Params>("unary", "forward", SOURCE, &[read("x"), write("out")]);
const BACKWARD: Kernel =
    Kernel::new::<Params>("unary", "backward", SOURCE, &[read("x"), read("grad"), write("dx")]);

/// The kernels of this operation. Example: [`Kernel`].
pub const KERNELS: &[&Kernel] = &[&FORWARD, &BACKWARD];

/// How the tape calls [`unary`]. Example: [the module](self).
pub const UNARY: Rule<Unary> = Rule {
    name: "unary",
    forward: |kind, inputs| {
        expect_inputs("unary", inputs, 1..=1)?;
        Ok(Forward::one(unary(*kind, inputs[0])?))
    },
    backward: |kind, saved: &Saved<'_>| {
        Ok(vec![Some(unary_backward(*kind, &saved.inputs[0], saved.grad())?)])
    },
};

/// The function's number and constants as the shaders have them.
pub(super) fn code(kind: Unary) -> (u32, f32, f32) {
    match kind {
        Unary::Scale(c) => (1, c as f32, 0.),
        Unary::Exp => (2, 0., 0.),
        Unary::Log => (3, 0., 0.),
        Unary::Tanh => (4, 0., 0.),
        Unary::Sigmoid => (5, 0., 0.),
        Unary::Relu => (6, 0., 0.),
        Unary::Gelu => (7, 0., 0.),
        Unary::GeluTanh => (8, 0., 0.),
        Unary::Clamp(low, high) => (9, low as f32, high as f32),
        Unary::Softplus => (10, 0., 0.),
        Unary::Power(p) => (11, p as f32, 0.),
        Unary::Shift(c) => (12, c as f32, 0.),
    }
}

/// `out = f(x)`, element by element, any shape.
///
/// Non-finite values, of `x` or of the result (`log(0)`, `exp(100)`), are what the formula gives on the CPU and
/// unspecified on a GPU; so are powers of negative numbers. Errors: `x` is not floating-point; a clamp whose lower bound is
/// not below its upper one.
///
/// ```
/// use crossmodal::{Device, Tensor, ops::{Unary, unary}};
/// let x = Tensor::from_slice(&Device::Cpu, &[2], &[-1f32, 2.])?;
/// assert_eq!(unary(Unary::Relu, &x)?.to_vec::<f32>()?, [0., 2.]);
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn unary(kind: Unary, x: &Tensor) -> Result<Tensor> {
    check_floats("unary", &[("x", x)])?;
    check_kind("unary", kind)?;
    match x.device() {
        Device::Cpu if x.dtype() == DType::F32 => {
            cpu::tensor(x.shape(), x.dtype(), cpu::unary(kind, &cpu::f32s(x)))
        }
        Device::Cpu => host(x.shape(), x.dtype(), x.f64s().iter().map(|&v| kind.apply(v)).collect()),
        Device::Gpu(gpu) => {
            let out = Tensor::uninit("unary", x.device(), x.shape(), x.dtype())?;
            run(gpu, &FORWARD, kind, &[x, &out])?;
            Ok(out)
        }
    }
}

/// `dx = g f'(x)`.
pub(super) fn unary_backward(kind: Unary, x: &Tensor, grad: &Tensor) -> Result<Tensor> {
    match x.device() {
        Device::Cpu if x.dtype() == DType::F32 => {
            let dx = cpu::unary_backward(kind, &cpu::f32s(x), &cpu::f32s(grad));
            cpu::tensor(x.shape(), x.dtype(), dx)
        }
        Device::Cpu => {
            let (x64, grad64) = (x.f64s(), grad.f64s());
            let dx = x64.iter().zip(grad64.iter()).map(|(&v, g)| g * kind.derivative(v)).collect();
            host(x.shape(), x.dtype(), dx)
        }
        Device::Gpu(gpu) => {
            let dx = Tensor::uninit("unary", x.device(), x.shape(), x.dtype())?;
            run(gpu, &BACKWARD, kind, &[x, grad, &dx])?;
            Ok(dx)
        }
    }
}

/// Refuses bounds of which neither clamps: devices would differ.
pub(super) fn check_kind(op: &'static str, kind: Unary) -> Result<()> {
    match kind {
        Unary::Clamp(low, high)
            if !matches!(low.partial_cmp(&high), Some(Ordering::Less | Ordering::Equal)) =>
        {
            Err(Error::argument(
                op,
                "kind",
                "a clamp from a lower to a higher bound",
                format!("{low} to {high}"),
            ))
        }
        _ => Ok(()),
    }
}

fn run(gpu: &Gpu, kernel: &Kernel, kind: Unary, tensors: &[&Tensor]) -> Result<()> {
    let ((kind, alpha, beta), x) = (code(kind), tensors[0]);
    let work = |count: usize| (Params { count: count as u32, kind, alpha, beta }, groups(count, 256));
    parts::dispatch_items(gpu, kernel, Variant::of(x.dtype()), x.len(), tensors, work)
}

/// `c x`.
///
/// ```
/// use crossmodal::{Device, Tensor, ops::scale};
/// assert_eq!(scale(&Tensor::scalar(&Device::Cpu, 3f32)?, 0.5)?.item()?, 1.5);
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn scale(x: &Tensor, c: f64) -> Result<Tensor> {
    unary(Unary::Scale(c), x)
}

/// `eˣ`.
///
/// ```
/// use crossmodal::{Device, Tensor, ops::exp};
/// assert_eq!(exp(&Tensor::scalar(&Device::Cpu, 0f32)?)?.item()?, 1.);
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn exp(x: &Tensor) -> Result<Tensor> {
    unary(Unary::Exp, x)
}

/// `ln x`.
///
/// ```
/// use crossmodal::{Device, Tensor, ops::log};
/// assert_eq!(log(&Tensor::scalar(&Device::Cpu, 1f32)?)?.item()?, 0.);
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn log(x: &Tensor) -> Result<Tensor> {
    unary(Unary::Log, x)
}

/// `tanh x`.
///
/// ```
/// use crossmodal::{Device, Tensor, ops::tanh};
/// assert!((tanh(&Tensor::scalar(&Device::Cpu, 1f64)?)?.item()? - 0.7615941559557649).abs() < 1e-15);
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn tanh(x: &Tensor) -> Result<Tensor> {
    unary(Unary::Tanh, x)
}

/// `1 / (1 + e⁻ˣ)`.
///
/// ```
/// use crossmodal::{Device, Tensor, ops::sigmoid};
/// assert_eq!(sigmoid(&Tensor::scalar(&Device::Cpu, 0f32)?)?.item()?, 0.5);
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn sigmoid(x: &Tensor) -> Result<Tensor> {
    unary(Unary::Sigmoid, x)
}

/// `max(x, 0)`.
///
/// ```
/// use crossmodal::{Device, Tensor, ops::relu};
/// assert_eq!(relu(&Tensor::from_slice(&Device::Cpu, &[2], &[-1f32, 2.])?)?.to_vec::<f32>()?, [0., 2.]);
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn relu(x: &Tensor) -> Result<Tensor> {
    unary(Unary::Relu, x)
}

/// `x Φ(x)`, the exact form; [`Unary::GeluTanh`] is the other.
///
/// ```
/// use crossmodal::{Device, Tensor, ops::gelu};
/// assert!((gelu(&Tensor::scalar(&Device::Cpu, 1f64)?)?.item()? - 0.8413447460685429).abs() < 1e-15);
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    unary(Unary::Gelu, x)
}
