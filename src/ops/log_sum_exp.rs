//! Log-sum-exp over the last axis.
//!
//! ```
//! use crossmodal::{Device, Tensor, autograd::Tape, ops::log_sum_exp::LOG_SUM_EXP};
//! let tape = Tape::new();
//! let x = tape.leaf(&Tensor::from_slice(&Device::Cpu, &[2], &[0f32, 0.])?);
//! let y = tape.apply(&LOG_SUM_EXP, (), &[&x])?;
//! assert_eq!(tape.backward(&y)?.get(&x).unwrap().to_vec::<f32>()?, [0.5, 0.5]);
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
    include_str!("../../shaders/log_sum_exp.wgsl")
);
const FORWARD: Kernel = rows::kernel("log_sum_exp", "forward", SOURCE, &[read("x"), write("out")]);
const BACKWARD: Kernel =
    rows::kernel("log_sum_exp", "backward", SOURCE, &[read("x"), read("grad"), write("dx")]);

const LANES: &str = concat!(
    include_str!("../../shaders/lib/grid.wgsl"),
    include_str!("../../shaders/lib/pairs.wgsl"),
    include_str!("../../shaders/log_sum_exp_lanes.wgsl")
);
const FORWARD_LANES: Kernel = rows::kernel("log_sum_exp_lanes", "forward", LANES, FORWARD.bindings);

/// The kernels of this operation. Example: [`Kernel`].
pub const KERNELS: &[&Kernel] = &[&FORWARD, &BACKWARD, &FORWARD_LANES];

/// How the tape calls [`log_sum_exp`]. Example: [the module](self).
pub const LOG_SUM_EXP: Rule<()> = Rule {
    name: "log_sum_exp",
    forward: |(), inputs| {
        expect_inputs("log_sum_exp", inputs, 1..=1)?;
        Ok(Forward::one(log_sum_exp(inputs[0])?))
    },
    backward,
};

/// `lse(x) = max + log Σ_j exp(x_j − max)` of each row: `x [..., cols]` to `[...]`.
///
/// Non-finite logits give what the formula gives on the CPU and are unspecified on a GPU. Errors: `x` is a scalar, not
/// floating-point, or has rows without columns.
///
/// ```
/// use crossmodal::{Device, Tensor, ops::log_sum_exp};
/// let x = Tensor::from_slice(&Device::Cpu, &[65], &[-104f64; 65])?;
/// assert!((log_sum_exp(&x)?.item()? - (-104. + 65f64.ln())).abs() < 1e-12);
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn log_sum_exp(x: &Tensor) -> Result<Tensor> {
    let size = rows::check_not_empty("log_sum_exp", x)?;
    let shape = &x.shape()[..x.shape().len() - 1];
    match x.device() {
        Device::Cpu => {
            let result = [(shape, x.dtype())];
            let [out] = rows::on_cpu(size, &[x], result, |v| [reference::log_sum_exp(&v[0], size.1)])?;
            Ok(out)
        }
        Device::Gpu(gpu) => {
            let out = Tensor::uninit("log_sum_exp", x.device(), shape, x.dtype())?;
            row_lanes::run_each(gpu, [&FORWARD_LANES, &FORWARD], size, &[x, &out])?;
            Ok(out)
        }
    }
}

fn backward(_: &(), saved: &Saved<'_>) -> Result<Vec<Option<Tensor>>> {
    let (x, grad) = (&saved.inputs[0], saved.grad());
    let size = rows::check("log_sum_exp", x)?;
    let dx = match x.device() {
        Device::Cpu => {
            let definition = |v: &[Cow<'_, [f64]>]| [reference::log_sum_exp_backward(&v[0], &v[1], size.1)];
            let [dx] = rows::on_cpu(size, &[x, grad], [(x.shape(), x.dtype())], definition)?;
            dx
        }
        Device::Gpu(gpu) => {
            let dx = Tensor::uninit("log_sum_exp", x.device(), x.shape(), x.dtype())?;
            rows::run(gpu, &BACKWARD, size, &[x, grad, &dx])?;
            dx
        }
    };
    Ok(vec![Some(dx)])
}
