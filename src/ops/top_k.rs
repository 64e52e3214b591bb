//! The largest entries of each row, with their indices.
//!
//! ```
//! use crossmodal::{Device, Tensor, ops::top_k};
//! let scores = Tensor::from_slice(&Device::Cpu, &[2, 3], &[0.1f32, 0.9, 0.9, 0.5, 0.2, 0.4])?;
//! let (values, indices) = top_k(&scores, 2)?;
//! assert_eq!(values.to_vec::<f32>()?, [0.9, 0.9, 0.5, 0.4]);
//! assert_eq!(indices.to_vec::<u32>()?, [1, 2, 0, 2]);
//! # Ok::<(), crossmodal::Error>(())
//! ```

use super::{dispatch_counted, parts, rows};
use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::gpu::kernel::{params, read, write};
use crate::gpu::{Gpu, Kernel, Variant};
use crate::reference;
use crate::tensor::Tensor;

const SOURCE: &str =
    concat!(include_str!("../../shaders/lib/grid.wgsl"), include_str!("../../shaders/top_k.wgsl"));

params! {
    struct Params { rows: u32, cols: u32, kept: u32, log2_slots: u32, first_row: u32 }
}

const FORWARD: Kernel =
    Kernel::new::<Params>("top_k", "forward", SOURCE, &[read("x"), write("out"), write("places")]);

/// The kernels of this operation. Example: [`Kernel`].
pub const KERNELS: &[&Kernel] = &[&FORWARD];

/// Pairs that the kernel sorts at once: what every device's workgroup memory holds.
pub(crate) const SLOTS: usize = 2048;

/// Operations that a compare and exchange counts for, and those of one dispatch: 5 ms at 100 GOP/s, far below the two seconds after
/// which a desktop driver resets the device, and enough rows to fill a large one.
const EXCHANGE_OPS: f64 = 8.;
const DISPATCH_OPS: f64 = 5e8;

/// The most entries of a row: at least a quarter of the slots is left for what they are compared with.
///
/// ```
/// use crossmodal::{Device, Tensor, ops::{top_k, top_k::MAX_K}};
/// let x = Tensor::from_slice(&Device::Cpu, &[1, 1], &[1f32])?;
/// assert!(top_k(&x, MAX_K).is_ok() && top_k(&x, MAX_K + 1).is_err());
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub const MAX_K: usize = 1536;

/// The `k` largest entries of each row of `x [..., cols]`, the largest first, and their indices in the row (u32), of equal entries
/// the lower index first: two tensors `[..., min(k, cols)]`.
///
/// There is no backward. A NaN stands behind every number on the CPU; non-finite entries are unspecified on a GPU. Errors: `k` is 0
/// or above [`MAX_K`]; `x` is a scalar or not floating-point. Example: [the module](self).
pub fn top_k(x: &Tensor, k: usize) -> Result<(Tensor, Tensor)> {
    let (rows, cols) = rows::check("top_k", x)?;
    if !(1..=MAX_K).contains(&k) {
        return Err(Error::argument("top_k", "k", format!("1 to {MAX_K}"), k));
    }
    let kept = k.min(cols);
    let shape = [&x.shape()[..x.shape().len() - 1], &[kept]].concat();
    match x.device() {
        Device::Cpu => {
            let results = [(&shape[..], x.dtype()), (&shape[..], DType::U32)];
            let [values, indices] = rows::on_cpu((rows, cols), &[x], results, |v| {
                let (values, indices) = reference::top_k(&v[0], cols, kept);
                [values, indices.into_iter().map(f64::from).collect()]
            })?;
            Ok((values, indices))
        }
        Device::Gpu(gpu) => {
            let values = Tensor::uninit("top_k", x.device(), &shape, x.dtype())?;
            let indices = Tensor::uninit("top_k", x.device(), &shape, DType::U32)?;
            if !values.is_empty() {
                on_gpu(gpu, (rows, cols, kept), &[x, &values, &indices])?;
            }
            Ok((values, indices))
        }
    }
}

fn on_gpu(gpu: &Gpu, (rows, cols, kept): (usize, usize, usize), tensors: &[&Tensor; 3]) -> Result<()> {
    // No more slots than a row and its results need: short rows are many.
    let log2_slots = SLOTS.min((kept + cols).next_power_of_two()).ilog2();
    let params = |rows: usize, first_row: usize| {
        let (rows, first_row) = (rows as u32, first_row as u32);
        Params { rows, cols: cols as u32, kept: kept as u32, log2_slots, first_row }
    };
    let variant = || Variant::of(tensors[0].dtype());
    if tensors.iter().any(|tensor| tensor.is_split()) {
        let work = |rows: usize| (params(rows, 0), rows as u64);
        return parts::dispatch_items(gpu, &FORWARD, variant(), rows, tensors, work);
    }
    // Every piece of a row goes through a sorting network: so many layers of half as many exchanges as slots.
    let (levels, slots) = (log2_slots as usize, 1 << log2_slots);
    let exchanges = cols.div_ceil(slots - kept) * levels * (levels + 1) / 2 * slots / 2;
    let row_work = EXCHANGE_OPS * exchanges as f64;
    let at_once = ((DISPATCH_OPS / row_work) as usize).max(1);
    for first in (0..rows).step_by(at_once) {
        let last = rows.min(first + at_once);
        let (params, work) = (params(last, first), row_work * (last - first) as f64);
        dispatch_counted(gpu, &FORWARD, variant(), &params, tensors, (last - first) as u64, work)?;
    }
    Ok(())
}
