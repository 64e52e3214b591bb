//! Rows as they are, those that are masked as zeros.
//!
//! ```
//! use crossmodal::{Device, Tensor, autograd::Tape, ops::keep_rows::KEEP_ROWS};
//! let tape = Tape::new();
//! let x = tape.leaf(&Tensor::from_slice(&Device::Cpu, &[2, 1], &[3f32, f32::NAN])?);
//! let kept = tape.apply(&KEEP_ROWS, [true, false].into(), &[&x])?;
//! let upstream = Tensor::from_slice(&Device::Cpu, &[2, 1], &[5f32, f32::NAN])?;
//! assert_eq!(tape.backward_from(&kept, &upstream)?.get(&x).unwrap().to_vec::<f32>()?, [5., 0.]);
//! # Ok::<(), crossmodal::Error>(())
//! ```

use super::{Forward, Rule, Saved, check_floats, expect_inputs, groups, parts, rows};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::gpu::kernel::{params, read, write};
use crate::gpu::{Kernel, Variant};
use crate::reference;
use crate::tensor::Tensor;
use std::sync::Arc;

const SOURCE: &str =
    concat!(include_str!("../../shaders/lib/grid.wgsl"), include_str!("../../shaders/keep_rows.wgsl"));

params! {
    struct Params { count: u32, cols: u32 }
}

const FORWARD: Kernel =
    Kernel::new::<Params>("keep_rows", "forward", SOURCE, &[read("x"), read("keep"), write("out")]);

/// The kernels of this operation. Example: [`Kernel`].
pub const KERNELS: &[&Kernel] = &[&FORWARD];

/// How the tape calls [`keep_rows`]: the option says which rows are kept. Example: [the module](self).
pub const KEEP_ROWS: Rule<Arc<[bool]>> = Rule {
    name: "keep_rows",
    forward: |keep, inputs| {
        expect_inputs("keep_rows", inputs, 1..=1)?;
        Ok(Forward::one(keep_rows(inputs[0], keep)?))
    },
    backward: |keep, saved: &Saved<'_>| Ok(vec![Some(keep_rows(saved.grad(), keep)?)]),
};

/// `x` with zeros in the rows, along its first axis, that are not kept: what is in them, NaN too, leaves no trace, neither here
/// nor in the gradient. `x` itself where all are kept.
///
/// Errors: `x` is not floating-point or has no axis; not as many of `keep` as rows.
///
/// ```
/// use crossmodal::{Device, Tensor, ops::keep_rows};
/// let x = Tensor::from_slice(&Device::Cpu, &[2, 2], &[1f32, 2., f32::NAN, 4.])?;
/// assert_eq!(keep_rows(&x, &[true, false])?.to_vec::<f32>()?, [1., 2., 0., 0.]);
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn keep_rows(x: &Tensor, keep: &[bool]) -> Result<Tensor> {
    check_floats("keep_rows", &[("x", x)])?;
    if x.shape().first() != Some(&keep.len()) {
        let got = format!("shape {:?}", x.shape());
        return Err(Error::argument("keep_rows", "x", format!("{} rows", keep.len()), got));
    }
    if x.is_empty() || keep.iter().all(|&keep| keep) {
        return Ok(x.clone());
    }
    let flags: Vec<_> = keep.iter().map(|&keep| u32::from(keep)).collect();
    let flags = Tensor::from_slice(x.device(), &[keep.len()], &flags)?;
    let cols = x.len() / keep.len();
    match x.device() {
        Device::Cpu => {
            let results = [(x.shape(), x.dtype())];
            rows::on_cpu((keep.len(), cols), &[x, &flags], results, |chunk| {
                [reference::keep_rows(&chunk[0], &chunk[1])]
            })
            .map(|[out]| out)
        }
        Device::Gpu(gpu) => {
            let out = Tensor::uninit("keep_rows", x.device(), x.shape(), x.dtype())?;
            let work = |rows: usize| {
                let params = Params { count: (rows * cols) as u32, cols: cols as u32 };
                (params, groups(rows * cols, 256))
            };
            let variant = Variant::of(x.dtype());
            parts::dispatch_items(gpu, &FORWARD, variant, keep.len(), &[x, &flags, &out], work)?;
            Ok(out)
        }
    }
}
