//! Rows of length one.
//!
//! ```
//! use crossmodal::{Device, Tensor, autograd::Tape, ops::l2_normalize::L2_NORMALIZE};
//! let tape = Tape::new();
//! let x = tape.leaf(&Tensor::from_slice(&Device::Cpu, &[2], &[2f32, 0.])?);
//! let y = tape.apply(&L2_NORMALIZE, (), &[&x])?;
//! let upstream = Tensor::from_slice(&Device::Cpu, &[2], &[1f32, 1.])?;
//! assert_eq!(tape.backward_from(&y, &upstream)?.get(&x).unwrap().to_vec::<f32>()?, [0., 0.5]);
//! # Ok::<(), crossmodal::Error>(())
//! ```

use super::rows::{self, Rows};
use super::{Forward, Rule, Saved, expect_inputs, stats_dtype};
use crate::device::Device;
use crate::error::Result;
use crate::gpu::Kernel;
use crate::gpu::kernel::{read, write};
use crate::reference;
use crate::tensor::Tensor;
use std::borrow::Cow;

const SOURCE: &str = concat!(
    include_str!("../../shaders/lib/grid.wgsl"),
    include_str!("../../shaders/lib/reduce.wgsl"),
    include_str!("../../shaders/l2_normalize.wgsl")
);
const FORWARD: Kernel =
    Kernel::new::<Rows>("l2_normalize", "forward", SOURCE, &[read("x"), write("out"), write("norm")]);
const BACKWARD: Kernel = Kernel::new::<Rows>(
    "l2_normalize",
    "backward",
    SOURCE,
    &[read("y"), read("length"), read("grad"), write("dx")],
);

/// The kernels of this operation. Example: [`Kernel`].
pub const KERNELS: &[&Kernel] = &[&FORWARD, &BACKWARD];

/// How the tape calls [`l2_normalize`]; the norms are kept. Example: [the module](self).
pub const L2_NORMALIZE: Rule<()> = Rule {
    name: "l2_normalize",
    forward: |(), inputs| {
        expect_inputs("l2_normalize", inputs, 1..=1)?;
        let (out, norms) = with_norms(inputs[0])?;
        Ok(Forward { outputs: vec![out], kept: vec![norms] })
    },
    backward: |(), saved: &Saved<'_>| {
        Ok(vec![Some(backward(&saved.outputs[0], &saved.kept[0], saved.grad())?)])
    },
};

/// `x / ‖x‖` of each row `x [..., cols]`.
///
/// Scaled by the largest entry first: rows of 1e-20 and of 1e20 are as exact as rows of 1. Only the zero row is degenerate:
/// it stays 0, with gradient 0. Errors: `x` is a scalar or not floating-point.
///
/// ```
/// use crossmodal::{Device, Tensor, ops::l2_normalize};
/// let x = Tensor::from_slice(&Device::Cpu, &[2, 2], &[3f32, 4., 0., 0.])?;
/// assert_eq!(l2_normalize(&x)?.to_vec::<f32>()?, [0.6, 0.8, 0., 0.]);
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn l2_normalize(x: &Tensor) -> Result<Tensor> {
    Ok(with_norms(x)?.0)
}

/// The rows of length one, and the norms, `[...]`, in f32 or f64.
pub(super) fn with_norms(x: &Tensor) -> Result<(Tensor, Tensor)> {
    let size = rows::check("l2_normalize", x)?;
    let (shape, dtype) = (&x.shape()[..x.shape().len() - 1], stats_dtype(x.dtype()));
    match x.device() {
        Device::Cpu => {
            if size.1 == 0 {
                return Ok((x.clone(), Tensor::zeros(&Device::Cpu, shape, dtype)?));
            }
            let definition = |v: &[Cow<'_, [f64]>]| <[_; 2]>::from(reference::l2_normalize(&v[0], size.1));
            let [out, norms] =
                rows::on_cpu(size, &[x], [(x.shape(), x.dtype()), (shape, dtype)], definition)?;
            Ok((out, norms))
        }
        Device::Gpu(gpu) => {
            let out = Tensor::uninit("l2_normalize", x.device(), x.shape(), x.dtype())?;
            let norms = Tensor::uninit("l2_normalize", x.device(), shape, dtype)?;
            rows::run(gpu, &FORWARD, size, &[x, &out, &norms])?;
            Ok((out, norms))
        }
    }
}

pub(super) fn backward(y: &Tensor, norms: &Tensor, grad: &Tensor) -> Result<Tensor> {
    let size = rows::check("l2_normalize", y)?;
    match y.device() {
        Device::Cpu => {
            let definition =
                |v: &[Cow<'_, [f64]>]| [reference::l2_normalize_backward(&v[0], &v[1], &v[2], size.1)];
            let [dx] = rows::on_cpu(size, &[y, norms, grad], [(y.shape(), y.dtype())], definition)?;
            Ok(dx)
        }
        Device::Gpu(gpu) => {
            let dx = Tensor::uninit("l2_normalize", y.device(), y.shape(), y.dtype())?;
            rows::run(gpu, &BACKWARD, size, &[y, norms, grad, &dx])?;
            Ok(dx)
        }
    }
}
