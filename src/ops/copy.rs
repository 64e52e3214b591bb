//! A tensor copied by a plain kernel, in one of four ways (feature `verify`): the best of them is what of a device's memory
//! bandwidth a kernel can have, by which the benches measure the others.
//!
//! ```
//! use crossmodal::{Device, Tensor, ops::copy::{ALL, copy}};
//! let x = Tensor::from_slice(&Device::best()?, &[4], &[1f32, 2., 3., 4.])?;
//! for way in ALL {
//!     assert_eq!(copy(&x, way)?.to_vec::<f32>()?, [1., 2., 3., 4.]);
//! }
//! # Ok::<(), crossmodal::Error>(())
//! ```

use super::{check_floats, groups, parts};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::gpu::kernel::{params, read, write};
use crate::gpu::{Kernel, Variant};
use crate::tensor::Tensor;

/// How a kernel goes through the elements. On the CPU all are one.
///
/// ```
/// use crossmodal::ops::copy::Copy;
/// assert_eq!((Copy::Scalar.entry(), Copy::Scalar.width()), ("scalar", 1));
/// assert_eq!(Copy::SeveralVectors.width(), 4);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copy {
    /// One element an invocation.
    Scalar,
    /// Eight elements an invocation, as far apart as there are invocations.
    Several,
    /// Four neighbours an invocation.
    Vector,
    /// Eight times four neighbours an invocation.
    SeveralVectors,
}

/// Every way. Example: [the module](self).
pub const ALL: [Copy; 4] = [Copy::Scalar, Copy::Several, Copy::Vector, Copy::SeveralVectors];

impl Copy {
    fn kernel(self) -> &'static Kernel {
        KERNELS[self as usize]
    }

    /// Its entry point. Example: [`enum@Copy`].
    pub fn entry(self) -> &'static str {
        self.kernel().entry
    }

    /// How many neighbours are copied at once: a tensor's length is a multiple of it. Example: [`enum@Copy`].
    pub fn width(self) -> usize {
        if matches!(self, Copy::Vector | Copy::SeveralVectors) { 4 } else { 1 }
    }

    /// How many times as much an invocation copies.
    fn turns(self) -> usize {
        if matches!(self, Copy::Several | Copy::SeveralVectors) { 8 } else { 1 }
    }
}

params! {
    struct Count { count: u32, stride: u32 }
}

/// Invocations of a workgroup.
const WIDTH: usize = 256;
const SOURCE: &str =
    concat!(include_str!("../../shaders/lib/grid.wgsl"), include_str!("../../shaders/copy.wgsl"));

const fn kernel(entry: &'static str, bindings: &'static [crate::gpu::Binding]) -> Kernel {
    Kernel::new::<Count>("copy", entry, SOURCE, bindings)
}

/// The kernels of this operation, in the order of [`ALL`]. Example: [`Kernel`].
pub const KERNELS: &[&Kernel] = &[
    &kernel("scalar", &[read("x"), write("out")]),
    &kernel("several", &[read("x"), write("out")]),
    &kernel("vector", &[read("x4"), write("out4")]),
    &kernel("several_vectors", &[read("x4"), write("out4")]),
];

/// A tensor with the same elements.
///
/// Errors: `x` is not floating-point, or its length no multiple of the way's width. Example: [the module](self).
pub fn copy(x: &Tensor, way: Copy) -> Result<Tensor> {
    check_floats("copy", &[("x", x)])?;
    if !x.len().is_multiple_of(way.width()) {
        let expected = format!("a multiple of {} elements", way.width());
        return Err(Error::argument("copy", "x", expected, x.len()));
    }
    let Device::Gpu(gpu) = x.device() else {
        return Tensor::from_host(x.device(), x.shape(), x.data().clone());
    };
    let out = Tensor::uninit("copy", x.device(), x.shape(), x.dtype())?;
    let work = |count: usize| {
        let groups = groups(count, WIDTH * way.turns());
        (Count { count: count as u32, stride: groups as u32 * WIDTH as u32 }, groups)
    };
    let variant = Variant::of(x.dtype());
    parts::dispatch_items(gpu, way.kernel(), variant, x.len() / way.width(), &[x, &out], work)?;
    Ok(out)
}
