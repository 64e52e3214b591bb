//! Softmax over the last axis.
//!
//! ```
//! use crossmodal::{Device, Tensor, autograd::Tape, ops::softmax::SOFTMAX};
//! let tape = Tape::new();
//! let x = tape.leaf(&Tensor::from_slice(&Device::Cpu, &[2], &[0f32, 0.])?);
//! let y = tape.apply(&SOFTMAX, (), &[&x])?;
//! let upstream = Tensor::from_slice(&Device::Cpu, &[2], &[1f32, 0.])?;
//! assert_eq!(tape.backward_from(&y, &upstream)?.get(&x).unwrap().to_vec::<f32>()?, [0.25, -0.25]);
//! # Ok::<(), crossmodal::Error>(())
//! ```

use super::{Forward, Rule, Saved, expect_inputs, row_lanes, rows};
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
    include_str!("../../shaders/softmax.wgsl")
);
const FORWARD: Kernel = rows::kernel("softmax", "forward", SOURCE, &[read("x"), write("out")]);
const BACKWARD: Kernel = rows::kernel("softmax", "backward", SOURCE, &[read("y"), read("grad"), write("dx")]);

const LANES: &str = concat!(
    include_str!("../../shaders/lib/grid.wgsl"),
    include_str!("../../shaders/lib/pairs.wgsl"),
    include_str!("../../shaders/lib/row_lanes.wgsl"),
    include_str!("../../shaders/softmax_lanes.wgsl")
);
const FORWARD_LANES: Kernel = row_lanes::kernel("softmax_lanes", "forward", LANES, FORWARD.bindings);
const BACKWARD_LANES: Kernel = row_lanes::kernel("softmax_lanes", "backward", LANES, BACKWARD.bindings);

/// The kernels of this operation. Example: [`Kernel`].
pub const KERNELS: &[&Kernel] = &[&FORWARD, &BACKWARD, &FORWARD_LANES, &BACKWARD_LANES];

/// How the tape calls [`softmax`]. Example: [the module](self).
pub const SOFTMAX: Rule<()> = Rule {
    name: "softmax",
    forward: |(), inputs| {
        expect_inputs("softmax", inputs, 1..=1)?;
        Ok(Forward::one(softmax(inputs[0])?))
    },
    backward,
};

/// `softmax(x)_j = exp(x_j − lse(x))` over each row `x [..., cols]`.
///
/// The row's maximum is subtracted first: logits of ±1e4 are exact. Non-finite logits give what the formula gives on the
/// CPU and are unspecified on a GPU. Errors: `x` is a scalar, not floating-point, or has rows without columns.
///
/// ```
/// use crossmodal::{Device, Tensor, ops::softmax};
/// let x = Tensor::from_slice(&Device::Cpu, &[1, 2], &[0f32, 0.])?;
/// assert_eq!(softmax(&x)?.to_vec::<f32>()?, [0.5, 0.5]);
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    let size = rows::check_not_empty("softmax", x)?;
    match x.device() {
        Device::Cpu => {
            let result = [(x.shape(), x.dtype())];
            let [out] = rows::on_cpu(size, &[x], result, |v| [reference::softmax(&v[0], size.1)])?;
            Ok(out)
        }
        Device::Gpu(gpu) => {
            let out = Tensor::uninit("softmax", x.device(), x.shape(), x.dtype())?;
            row_lanes::run(gpu, [&FORWARD_LANES, &FORWARD], size, &[x, &out])?;
            Ok(out)
        }
    }
}

fn backward(_: &(), saved: &Saved<'_>) -> Result<Vec<Option<Tensor>>> {
    let (y, grad) = (&saved.outputs[0], saved.grad());
    let size = rows::check("softmax", y)?;
    let dx = match y.device() {
        Device::Cpu => {
            let definition = |v: &[Cow<'_, [f64]>]| [reference::softmax_backward(&v[0], &v[1], size.1)];
            let [dx] = rows::on_cpu(size, &[y, grad], [(y.shape(), y.dtype())], definition)?;
            dx
        }
        Device::Gpu(gpu) => {
            let dx = Tensor::uninit("softmax", y.device(), y.shape(), y.dtype())?;
            row_lanes::run(gpu, [&BACKWARD_LANES, &BACKWARD], size, &[y, grad, &dx])?;
            dx
        }
    };
    Ok(vec![Some(dx)])
}
