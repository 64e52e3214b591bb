//! Another element type.
//!
//! ```
//! use crossmodal::{DType, Device, Tensor, autograd::Tape, ops::cast::CAST};
//! let tape = Tape::new();
//! let x = tape.leaf(&Tensor::scalar(&Device::Cpu, 1f32)?);
//! let half = tape.apply(&CAST, DType::F16, &[&x])?;
//! assert_eq!((half.dtype(), tape.backward(&half)?.get(&x).unwrap().dtype()), (DType::F16, DType::F32));
//! # Ok::<(), crossmodal::Error>(())
//! ```

use super::{Forward, Rule, Saved, check_floats, expect_inputs, groups, host, parts};
use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::gpu::kernel::{params, read, write};
use crate::gpu::{Kernel, Variant};
use crate::tensor::Tensor;

const SOURCE: &str =
    concat!(include_str!("../../shaders/lib/grid.wgsl"), include_str!("../../shaders/cast.wgsl"));

params! {
    struct Params { count: u32 }
}

const FORWARD: Kernel = Kernel::new::<Params>("cast", "forward", SOURCE, &[read("x"), write("out")]);

/// The kernels of this operation. Example: [`Kernel`].
pub const KERNELS: &[&Kernel] = &[&FORWARD];

/// How the tape calls [`cast`]; the gradient is cast back. Example: [the module](self).
pub const CAST: Rule<DType> = Rule {
    name: "cast",
    forward: |dtype, inputs| {
        expect_inputs("cast", inputs, 1..=1)?;
        Ok(Forward::one(cast(inputs[0], *dtype)?))
    },
    backward: |_, saved: &Saved<'_>| Ok(vec![Some(cast(saved.grad(), saved.inputs[0].dtype())?)]),
};

/// The values of `x` rounded to the nearest of `dtype` (a GPU may take the other neighbour: WGSL leaves it
/// open); `x` itself if it is of that type.
///
/// Errors: either type is not floating-point, or the device lacks `dtype`.
///
/// ```
/// use crossmodal::{DType, Device, Tensor, ops::cast};
/// let x = Tensor::from_slice(&Device::Cpu, &[1], &[0.1f32])?;
/// assert_eq!(cast(&x, DType::F16)?.item()?, 0.0999755859375);
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn cast(x: &Tensor, dtype: DType) -> Result<Tensor> {
    check_floats("cast", &[("x", x)])?;
    if !dtype.is_float() {
        return Err(Error::argument("cast", "dtype", "a floating-point type", dtype));
    }
    if dtype == x.dtype() {
        return Ok(x.clone());
    }
    match x.device() {
        Device::Cpu => host(x.shape(), dtype, x.f64s().into_owned()),
        Device::Gpu(gpu) => {
            let out = Tensor::uninit("cast", x.device(), x.shape(), dtype)?;
            let variant = Variant { elem_out: dtype, ..Variant::of(x.dtype()) };
            let work = |count: usize| (Params { count: count as u32 }, groups(count, 256));
            parts::dispatch_items(gpu, &FORWARD, variant, x.len(), &[x, &out], work)?;
            Ok(out)
        }
    }
}
