//! Log-softmax over the last axis.
//!
//! ```
//! use crossmodal::{Device, Tensor, autograd::Tape, ops::log_softmax::LOG_SOFTMAX};
//! let tape = Tape::new();
//! let x = tape.leaf(&Tensor::from_slice(&Device::Cpu, &[2], &[0f32, 0.])?);
//! let y = tape.apply(&LOG_SOFTMAX, (), &[&x])?;
//! let upstream = Tensor::from_slice(&Device::Cpu, &[2], &[1f32, 0.])?;
//! assert_eq!(tape.backward_from(&y, &upstream)?.get(&x).unwrap().to_vec::<f32>()?, [0.5, -0.5]);
//! # Ok::<(), crossmodal::Error>(())
//! ```

use super::{Forward, Rule, Saved, expect_inputs, rows};
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
    include_str!("../../shaders/lib/row_stats.wgsl"),
    include_str!("../../shaders/log_softmax.wgsl")
);
const FORWARD: Kernel = rows::kernel("log_softmax", "forward", SOURCE, &[read("x"), write("out")]);
const BACKWARD: Kernel =
    rows::kernel("log_softmax", "backward", SOURCE, &[read("y"), read("grad"), write("dx")]);

/// The kernels of this operation. Example: [`Kernel`].
pub const KERNELS: &[&Kernel] = &[&FORWARD, &BACKWARD];

/// How the tape calls [`log_softmax`]. Example: [the module](self).
pub const LOG_SOFTMAX: Rule<()> = Rule {
    name: "log_softmax",
    forward: |(), inputs| {
        expect_inputs("log_softmax", inputs, 1..=1)?;
        Ok(Forward::one(log_softmax(inputs[0])?))
    },
    backward,
};

/// `log_softmax(x)_j = x_j − lse(x)` over each row `x [..., cols]`: the logarithm of [`softmax`](super::softmax()) without its
/// underflow.
///
/// Non-finite logits give what the formula gives on the CPU and are unspecified on a GPU. Errors: `x` is a scalar, not
/// floating-point, or has rows without columns.
///
/// ```
/// use crossmodal::{Device, Tensor, ops::log_softmax};
/// let x = Tensor::from_slice(&Device::Cpu, &[1, 2], &[0f32, -1000.])?;
/// assert_eq!(log_softmax(&x)?.to_vec::<f32>()?, [0., -1000.]);
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn log_softmax(x: &Tensor) -> Result<Tensor> {
    let size = rows::check_not_empty("log_softmax", x)?;
    match x.device() {
        Device::Cpu => {
            let result = [(x.shape(), x.dtype())];
            let [out] = rows::on_cpu(size, &[x], result, |v| [reference::log_softmax(&v[0], size.1)])?;
            Ok(out)
        }
        Device::Gpu(gpu) => {
            let out = Tensor::uninit("log_softmax", x.device(), x.shape(), x.dtype())?;
            rows::run(gpu, &FORWARD, size, &[x, &out])?;
            Ok(out)
        }
    }
}

fn backward(_: &(), saved: &Saved<'_>) -> Result<Vec<Option<Tensor>>> {
    let (y, grad) = (&saved.outputs[0], saved.grad());
    let size = rows::check("log_softmax", y)?;
    let dx = match y.device() {
        Device::Cpu => {
            let definition = |v: &[Cow<'_, [f64]>]| [reference::log_softmax_backward(&v[0], &v[1], size.1)];
            let [dx] = rows::on_cpu(size, &[y, grad], [(y.shape(), y.dtype())], definition)?;
            dx
        }
        Device::Gpu(gpu) => {
            let dx = Tensor::uninit("log_softmax", y.device(), y.shape(), y.dtype())?;
            rows::run(gpu, &BACKWARD, size, &[y, grad, &dx])?;
            dx
        }
    };
    Ok(vec![Some(dx)])
}
