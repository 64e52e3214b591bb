//! Dropout by a generator that counts: the backward replays what the forward kept, and nothing is stored.
//!
//! ```
//! use crossmodal::{Device, Tensor, autograd::Tape, ops::{Dropout, dropout::DROPOUT}};
//! let tape = Tape::new();
//! let x = tape.leaf(&Tensor::from_slice(&Device::Cpu, &[4], &[1f32; 4])?);
//! let y = tape.apply(&DROPOUT, Dropout { p: 0.5, seed: 3, first: 0 }, &[&x])?;
//! let gradients = tape.backward_from(&y, x.value())?;
//! assert_eq!(gradients.get(&x).unwrap().to_vec::<f32>()?, y.value().to_vec::<f32>()?); // 2 where it is kept, else 0
//! # Ok::<(), crossmodal::Error>(())
//! ```

pub use crate::reference::Dropout;

use super::{Forward, Rule, check_floats, dispatch, expect_inputs, groups, host, parts};
use crate::cpu;
use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::gpu::kernel::{params, read, write};
use crate::gpu::{Gpu, Kernel, Variant};
use crate::reference;
use crate::tensor::Tensor;

const SOURCE: &str = concat!(
    include_str!("../../shaders/lib/grid.wgsl"),
    include_str!("../../shaders/lib/threefry.wgsl"),
    include_str!("../../shaders/dropout.wgsl")
);

params! {
    struct Params { count: u32, first: u32, threshold: u32, seed_low: u32, seed_high: u32, scale: f32 }
}

const FORWARD: Kernel = Kernel::new::<Params>("dropout", "forward", SOURCE, &[read("x"), write("out")]);

/// The kernels of this operation. Example: [`Kernel`].
pub const KERNELS: &[&Kernel] = &[&FORWARD];

/// How the tape calls [`dropout`]; it is its own backward. Example: [the module](self).
pub const DROPOUT: Rule<Dropout> = Rule {
    name: "dropout",
    forward: |options, inputs| {
        expect_inputs("dropout", inputs, 1..=1)?;
        Ok(Forward::one(dropout(inputs[0], options)?))
    },
    backward: |options, saved| Ok(vec![Some(dropout(saved.grad(), options)?)]),
};

/// `x_i / (1 − p)` where element i is kept, else 0 (Srivastava et al., 2014), any shape: each element is kept with probability
/// `1 − p`, and which are is a function of the seed and of i alone, the same on every device.
///
/// Errors: p outside [0, 1); `x` is not floating-point.
///
/// ```
/// use crossmodal::{Device, Tensor, ops::{Dropout, dropout}};
/// let x = Tensor::from_slice(&Device::Cpu, &[1000], &[1f32; 1000])?;
/// let y = dropout(&x, &Dropout { p: 0.2, seed: 1, first: 0 })?.to_vec::<f32>()?;
/// let kept = y.iter().filter(|v| **v == 1.25).count();
/// assert!((760..840).contains(&kept) && y.iter().all(|v| *v == 1.25 || *v == 0.));
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn dropout(x: &Tensor, options: &Dropout) -> Result<Tensor> {
    check_floats("dropout", &[("x", x)])?;
    if !(0. ..1.).contains(&options.p) {
        return Err(Error::argument("dropout", "p", "0 to less than 1", format!("{:?}", options.p)));
    }
    match x.device() {
        Device::Cpu if x.dtype() != DType::F64 => {
            cpu::tensor(x.shape(), x.dtype(), cpu::dropout(&cpu::f32s(x), *options))
        }
        Device::Cpu => host(x.shape(), x.dtype(), reference::dropout(&x.f64s(), *options)),
        Device::Gpu(gpu) if parts::needed(gpu, &[x], x.shape(), x.dtype()) => {
            let flat = x.reshape(&[x.len()])?;
            let [out] = parts::in_rows(gpu, x.len(), x.dtype().size(), |range| {
                let part = super::concat::slice(&flat, 0, range)?;
                Ok([run(gpu, &part, range.start, options)?])
            })?;
            out.reshape(x.shape())
        }
        Device::Gpu(gpu) => run(gpu, x, 0, options),
    }
}

fn run(gpu: &Gpu, x: &Tensor, first: usize, options: &Dropout) -> Result<Tensor> {
    let out = Tensor::uninit("dropout", x.device(), x.shape(), x.dtype())?;
    let params = Params {
        count: x.len() as u32,
        first: options.first.wrapping_add(first as u32),
        threshold: options.threshold(),
        seed_low: options.seed as u32,
        seed_high: (options.seed >> 32) as u32,
        scale: options.scale() as f32,
    };
    dispatch(gpu, &FORWARD, Variant::of(x.dtype()), &params, &[x, &out], groups(x.len(), 256))?;
    Ok(out)
}
