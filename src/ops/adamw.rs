//! One step of AdamW.
//!
//! ```
//! use crossmodal::ops::AdamwStep;
//! let step = AdamwStep { step: 2, beta1: 0.5, ..Default::default() };
//! assert_eq!(step.corrections().0, 0.75); // 1 − β₁ᵗ
//! ```

pub use crate::reference::AdamwStep;

use super::{check_device, check_shape, groups, parts};
use crate::cpu;
use crate::device::Device;
use crate::dtype::{DType, HostData};
use crate::error::{Error, Result};
use crate::gpu::kernel::{params, read, write};
use crate::gpu::{Gpu, Kernel, Variant};
use crate::reference;
use crate::tensor::Tensor;

const SOURCE: &str =
    concat!(include_str!("../../shaders/lib/grid.wgsl"), include_str!("../../shaders/adamw.wgsl"));

params! {
    struct Params {
        count: u32,
        keep: f32,
        rate: f32,
        beta1: f32,
        beta2: f32,
        one_minus_beta1: f32,
        one_minus_beta2: f32,
        correction1: f32,
        correction2: f32,
        eps: f32,
    }
}

const FORWARD: Kernel = Kernel::new::<Params>(
    "adamw",
    "forward",
    SOURCE,
    &[read("grad"), write("weight"), write("first"), write("second")],
);

/// The kernels of this operation. Example: [`Kernel`].
pub const KERNELS: &[&Kernel] = &[&FORWARD];

/// A step of AdamW (Loshchilov and Hutter, 2019) in place:
/// `m ← β₁ m + (1 − β₁) g`, `v ← β₂ v + (1 − β₂) g²`, `w ← w (1 − ηλ) − η (m / (1 − β₁ᵗ)) / (√(v / (1 − β₂ᵗ)) + ε)`.
///
/// All four tensors have one shape, type (f32, or f64 on the CPU) and device. Clones of `weight`, `first` and `second` made
/// before keep their values. Errors: shapes, types or devices differ; the step is 0; the driver's, after which earlier
/// parts of a tensor larger than a binding have made the step.
///
/// ```
/// use crossmodal::{DType, Device, Tensor, ops::{AdamwStep, adamw}};
/// let mut weight = Tensor::from_slice(&Device::Cpu, &[1], &[1f32])?;
/// let grad = Tensor::from_slice(&Device::Cpu, &[1], &[0.5f32])?;
/// let mut first = Tensor::zeros(&Device::Cpu, &[1], DType::F32)?;
/// let mut second = first.clone();
/// adamw(&AdamwStep::default(), &mut weight, &grad, &mut first, &mut second)?;
/// assert!((weight.item()? - 0.999).abs() < 1e-6); // the first step has the length of the learning rate
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn adamw(
    step: &AdamwStep,
    weight: &mut Tensor,
    grad: &Tensor,
    first: &mut Tensor,
    second: &mut Tensor,
) -> Result<()> {
    check(step, weight, &[("grad", grad), ("first", first), ("second", second)])?;
    match weight.device().clone() {
        Device::Cpu => {
            on_cpu(step, weight, grad, first, second);
            Ok(())
        }
        Device::Gpu(gpu) => on_gpu(&gpu, step, weight, grad, first, second),
    }
}

fn check(step: &AdamwStep, weight: &Tensor, others: &[(&'static str, &Tensor)]) -> Result<()> {
    if !matches!(weight.dtype(), DType::F32 | DType::F64) {
        return Err(Error::argument("adamw", "weight", "f32 or f64", weight.dtype()));
    }
    if step.step == 0 {
        return Err(Error::argument("adamw", "step", "a number from 1", 0));
    }
    for (argument, tensor) in others {
        check_shape("adamw", argument, tensor, weight.shape())?;
        check_device("adamw", argument, tensor, weight.device())?;
        if tensor.dtype() != weight.dtype() {
            return Err(Error::argument("adamw", *argument, weight.dtype(), tensor.dtype()));
        }
    }
    Ok(())
}

fn on_cpu(step: &AdamwStep, weight: &mut Tensor, grad: &Tensor, first: &mut Tensor, second: &mut Tensor) {
    match (weight.host_mut(), grad.data(), first.host_mut(), second.host_mut()) {
        (HostData::F32(w), HostData::F32(g), HostData::F32(m), HostData::F32(v)) => {
            cpu::adamw(step, w, g, m, v)
        }
        (HostData::F64(w), HostData::F64(g), HostData::F64(m), HostData::F64(v)) => {
            reference::adamw(step, w, g, m, v)
        }
        _ => unreachable!("the types were checked"),
    }
}

fn on_gpu(
    gpu: &Gpu,
    step: &AdamwStep,
    weight: &mut Tensor,
    grad: &Tensor,
    first: &mut Tensor,
    second: &mut Tensor,
) -> Result<()> {
    for state in [&mut *weight, &mut *first, &mut *second] {
        state.own_buffer("adamw")?;
    }
    // Everything that is nearly 1 is computed in f64 first.
    let (correction1, correction2) = step.corrections();
    let params = |count: usize| Params {
        count: count as u32,
        keep: (1. - step.learning_rate * step.weight_decay) as f32,
        rate: step.learning_rate as f32,
        beta1: step.beta1 as f32,
        beta2: step.beta2 as f32,
        one_minus_beta1: (1. - step.beta1) as f32,
        one_minus_beta2: (1. - step.beta2) as f32,
        correction1: correction1 as f32,
        correction2: correction2 as f32,
        eps: step.eps as f32,
    };
    let (variant, count) = (Variant::of(weight.dtype()), weight.len());
    let work = |count: usize| (params(count), groups(count, 256));
    parts::dispatch_items(gpu, &FORWARD, variant, count, &[grad, weight, first, second], work)
}
