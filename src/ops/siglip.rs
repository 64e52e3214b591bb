//! The sigmoid loss: every pair by itself, without ever storing the N×M logits (but in f64, which is the plain definition).
//!
//! Block by block as [`info_nce`](mod@super::info_nce), without statistics between the forward and the backward.
//!
//! ```
//! use crossmodal::{Device, Tensor, autograd::Tape, ops::{SiglipOptions, siglip::SIGLIP}};
//! let tape = Tape::new();
//! let x = tape.leaf(&Tensor::from_slice(&Device::Cpu, &[2, 2], &[1f32, 0., 0., 1.])?);
//! let log_scale = tape.leaf(&Tensor::scalar(&Device::Cpu, 10f32.ln())?);
//! let bias = tape.leaf(&Tensor::scalar(&Device::Cpu, -10f32)?);
//! let loss = tape.apply(&SIGLIP, SiglipOptions::default(), &[&x, &x, &log_scale, &bias])?;
//! // The pairs' logits are 0: a larger bias would lower the loss.
//! assert!(tape.backward(&loss)?.get(&bias).unwrap().item()? < 0.);
//! # Ok::<(), crossmodal::Error>(())
//! ```

use super::info_nce::{Targets, dot};
use super::line_codes::{codes, flags, kept_rows, on_device, without_lost};
use super::logit_blocks::{Means, add_products, block_bytes, scratch, similarities, uninit};
use super::{
    Forward, Precision, Reduce, ReduceOptions, Rule, Saved, cast, check_floats, check_shape, dispatch,
    expect_inputs, host, reduce, scale, stats_dtype,
};
use crate::cpu;
use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::gpu::kernel::{params, read, write};
use crate::gpu::{Gpu, Kernel, Variant};
use crate::reference::{self, LogitBlock, Reduction, Siglip, blocks};
use crate::tensor::Tensor;
use std::sync::Arc;

const SOURCE: &str = concat!(
    include_str!("../../shaders/lib/grid.wgsl"),
    include_str!("../../shaders/lib/reduce.wgsl"),
    include_str!("../../shaders/lib/math.wgsl"),
    include_str!("../../shaders/lib/codes.wgsl"),
    include_str!("../../shaders/siglip.wgsl")
);

params! {
    struct Params {
        rows: u32,
        cols: u32,
        first_row: u32,
        first_col: u32,
        fresh: u32,
        flags: u32,
        weight: f32,
    }
}

// As in the shader.
const PER_ROW: u32 = 1;

const FORWARD: Kernel = Kernel::new::<Params>(
    "siglip",
    "forward",
    SOURCE,
    &[read("sims"), read("log_scale"), read("bias"), read("row_codes"), read("col_codes"), write("losses")],
);
const BACKWARD: Kernel = Kernel::new::<Params>(
    "siglip",
    "backward",
    SOURCE,
    &[
        read("upstream"),
        read("log_scale"),
        read("bias"),
        read("row_codes"),
        read("col_codes"),
        write("block"),
        write("bias_parts"),
    ],
);

/// The kernels of this operation. Example: [`Kernel`].
pub const KERNELS: &[&Kernel] = &[&FORWARD, &BACKWARD];

/// What belongs to what, and how much scratch memory the blocks may take.
///
/// ```
/// use crossmodal::{Device, Tensor, ops::{Reduction, SiglipOptions, siglip}};
/// let x = Tensor::from_slice(&Device::Cpu, &[2, 1], &[1f32, -1.])?;
/// let (log_scale, bias) = (Tensor::scalar(&Device::Cpu, 0f32)?, Tensor::scalar(&Device::Cpu, 0f32)?);
/// let options = SiglipOptions { reduction: Reduction::None, ..Default::default() };
/// let losses = siglip(&x, &x, &log_scale, &bias, &options)?.to_vec::<f32>()?;
/// assert!((losses[0] - 2. * (1. + (-1f32).exp()).ln()).abs() < 1e-6); // the pair and the other, both right
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct SiglipOptions {
    /// The diagonal or classes: each pair by itself has no weights.
    pub targets: Targets,
    /// Which rows of x there are, the others being masked: no loss, no gradient, whatever is in them.
    pub keep_rows: Option<Arc<[bool]>>,
    /// Which rows of y there are. A row of x whose positives are all masked counts as masked; one that never had any does not.
    pub keep_cols: Option<Arc<[bool]>>,
    /// Mean over the rows (not over the pairs), sum, or a loss per row.
    pub reduction: Reduction,
    /// Bytes of scratch for one block of similarities; a discrete GPU takes 16 times as much. The answer does not depend on
    /// it beyond rounding.
    pub scratch_bytes: usize,
    /// How exact the products of f32 on a GPU have to be.
    pub precision: Precision,
}

impl Default for SiglipOptions {
    fn default() -> Self {
        SiglipOptions {
            targets: Targets::Diagonal,
            keep_rows: None,
            keep_cols: None,
            reduction: Reduction::Mean,
            scratch_bytes: 16 << 20,
            precision: Precision::Strict,
        }
    }
}

impl SiglipOptions {
    pub(super) fn means(&self) -> Means {
        Means { scratch_bytes: self.scratch_bytes, precision: self.precision }
    }
}

/// How the tape calls [`siglip`]: inputs x, y, log_scale, bias. Example: [the module](self).
pub const SIGLIP: Rule<SiglipOptions> = Rule {
    name: "siglip",
    forward: |options, inputs| {
        expect_inputs("siglip", inputs, 4..=4)?;
        Ok(Forward::one(siglip(inputs[0], inputs[1], inputs[2], inputs[3], options)?))
    },
    backward,
};

/// The sigmoid loss (SigLIP, Zhai et al., 2023), a scalar: `(1/n) Σ_ij softplus(−z_ij L_ij)` with `L = eᵗ X Yᵀ + b`,
/// `t` = `log_scale []`, `b` = `bias []`, z = 1 where row i and column j belong together, else −1. Divided by the number of
/// rows of x that are not masked, not of pairs.
///
/// `x [n, d]` and `y [m, d]` are embeddings, usually after [`l2_normalize`](super::l2_normalize()). A start that suits is
/// `t = ln 10`, `b = −10`. Non-finite input in rows that are not masked is carried through on the CPU and unspecified on a GPU.
/// Errors: not two axes, or `log_scale` or `bias` has one; no rows; widths differ; soft targets or none; an option's size;
/// types or devices differ.
///
/// ```
/// use crossmodal::{Device, Tensor, ops::{SiglipOptions, siglip}};
/// let x = Tensor::from_slice(&Device::Cpu, &[1, 2], &[1f32, 0.])?;
/// let (log_scale, bias) = (Tensor::scalar(&Device::Cpu, 0f32)?, Tensor::scalar(&Device::Cpu, -1f32)?);
/// let loss = siglip(&x, &x, &log_scale, &bias, &SiglipOptions::default())?.item()?;
/// assert!((loss - 2f64.ln()).abs() < 1e-6); // its logit is 0
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn siglip(
    x: &Tensor,
    y: &Tensor,
    log_scale: &Tensor,
    bias: &Tensor,
    options: &SiglipOptions,
) -> Result<Tensor> {
    let problem = check([x, y, log_scale, bias], options)?;
    let shape = if problem.reduction == Reduction::None { vec![problem.n] } else { vec![] };
    let dtype = x.dtype();
    let [x, y, log_scale, bias] = widened([x, y, log_scale, bias])?;
    let loss = match x.device() {
        Device::Cpu if dtype == DType::F64 => {
            let (t, b) = (log_scale.f64s()[0], bias.f64s()[0]);
            return host(&shape, dtype, reference::siglip(&x.f64s(), &y.f64s(), t, b, &problem));
        }
        Device::Cpu => {
            let loss = cpu::siglip([&x, &y, &log_scale, &bias], &problem, options.scratch_bytes);
            return host(&shape, dtype, loss);
        }
        Device::Gpu(gpu) => losses(gpu, [&x, &y, &log_scale, &bias], &problem, options.means())?,
    };
    if problem.reduction == Reduction::None {
        return cast(&loss, dtype);
    }
    let sum = reduce(&loss, &ReduceOptions { kind: Reduce::Sum, axis: 0, keep_axis: false })?;
    cast(&scale(&sum, problem.weight())?, dtype)
}

fn refuse<T>(argument: &'static str, expected: &str, got: impl std::fmt::Display) -> Result<T> {
    Err(Error::argument("siglip", argument, expected, got))
}

fn check([x, y, log_scale, bias]: [&Tensor; 4], options: &SiglipOptions) -> Result<Siglip> {
    check_floats("siglip", &[("x", x), ("y", y), ("log_scale", log_scale), ("bias", bias)])?;
    check_shape("siglip", "log_scale", log_scale, &[])?;
    check_shape("siglip", "bias", bias, &[])?;
    let ([n, d], [m, _]) = (x.shape(), y.shape()) else {
        return refuse("x and y", "two axes each", format!("shapes {:?} and {:?}", x.shape(), y.shape()));
    };
    let (n, m, d) = (*n, *m, *d);
    for (argument, tensor) in [("x", x), ("y", y)] {
        if tensor.shape()[0] == 0 {
            return refuse(argument, "at least one row", format!("shape {:?}", tensor.shape()));
        }
    }
    check_shape("siglip", "y", y, &[m, d])?;
    let length = |argument, expected: usize, got: Option<usize>| match got {
        Some(got) if got != expected => refuse(argument, &format!("{expected} elements"), got),
        _ => Ok(()),
    };
    length("keep_rows", n, options.keep_rows.as_ref().map(|keep| keep.len()))?;
    length("keep_cols", m, options.keep_cols.as_ref().map(|keep| keep.len()))?;
    match &options.targets {
        Targets::Diagonal => {}
        Targets::Classes { rows, cols } => {
            length("rows", n, Some(rows.len()))?;
            length("cols", m, Some(cols.len()))?;
        }
        Targets::Soft(_) | Targets::None => {
            let expected = "the diagonal or classes: each pair by itself has no weights";
            return refuse("targets", expected, "soft ones or none");
        }
    }
    let [rows, cols] = codes(&options.targets, [&options.keep_rows, &options.keep_cols], [n, m]);
    let rows = match options.keep_cols {
        None => rows,
        Some(_) => {
            let [_, all] = codes(&options.targets, [&None, &None], [n, m]);
            without_lost(rows, [&all, &cols], [n, m])
        }
    };
    Ok(Siglip { n, m, d, rows, cols, reduction: options.reduction })
}

fn widened(inputs: [&Tensor; 4]) -> Result<[Tensor; 4]> {
    let [x, y, log_scale, bias] = inputs.map(|input| cast(input, stats_dtype(input.dtype())));
    Ok([x?, y?, log_scale?, bias?])
}

fn params(problem: &Siglip, (first_row, rows, first_col, cols): LogitBlock) -> Params {
    let per_row = if problem.reduction == Reduction::None { PER_ROW } else { 0 };
    Params {
        rows: rows as u32,
        cols: cols as u32,
        first_row: first_row as u32,
        first_col: first_col as u32,
        fresh: u32::from(first_col == 0),
        flags: flags(&problem.rows, &problem.cols) | per_row,
        weight: problem.weight() as f32,
    }
}

/// The inputs without masked rows, and the codes, on the device.
fn prepared([x, y, log_scale]: [&Tensor; 3], problem: &Siglip) -> Result<[Tensor; 4]> {
    let (rows, cols) = (&problem.rows, &problem.cols);
    Ok([kept_rows(x, rows)?, kept_rows(y, cols)?, on_device(rows, log_scale)?, on_device(cols, log_scale)?])
}

/// The loss of each row.
fn losses(gpu: &Gpu, inputs: [&Tensor; 4], problem: &Siglip, means: Means) -> Result<Tensor> {
    let [x, y, log_scale, bias] = inputs;
    let [x, y, row_codes, col_codes] = &prepared([x, y, log_scale], problem)?;
    let losses = uninit(x, &[problem.n])?;
    let (size, bytes) = ((problem.n, problem.m), block_bytes(gpu, means.scratch_bytes));
    let scratch = scratch(x, size, bytes)?;
    for block in blocks(size, bytes) {
        let sims = &similarities(gpu, [x, y], &scratch, block, means.precision)?;
        let tensors = [sims, log_scale, bias, row_codes, col_codes, &losses];
        dispatch(gpu, &FORWARD, Variant::of(DType::F32), &params(problem, block), &tensors, block.1 as u64)?;
    }
    Ok(losses)
}

fn backward(options: &SiglipOptions, saved: &Saved<'_>) -> Result<Vec<Option<Tensor>>> {
    let [x, y, log_scale, bias] = saved.inputs else { unreachable!("the forward takes four tensors") };
    let problem = check([x, y, log_scale, bias], options)?;
    let (dtype, shapes) = (x.dtype(), [x.shape(), y.shape()]);
    if dtype == DType::F64 {
        let (t, b, upstream) = (log_scale.f64s()[0], bias.f64s()[0], saved.grad().f64s());
        let all = reference::siglip_backward(&x.f64s(), &y.f64s(), t, b, &upstream, &problem);
        let shapes = [shapes[0], shapes[1], &[], &[]];
        return shapes
            .into_iter()
            .zip(all)
            .map(|(shape, values)| host(shape, dtype, values).map(Some))
            .collect();
    }
    let [x, y, log_scale, bias] = &widened([x, y, log_scale, bias])?;
    let upstream = &cast(saved.grad(), DType::F32)?;
    let inputs = [x, y, log_scale, bias];
    // The gradient of the scale is made of that of x.
    let needs = [saved.needs[0] || saved.needs[2], saved.needs[1]];
    let (dx, dy, db) = match x.device() {
        Device::Cpu => cpu::siglip_backward(inputs, upstream, needs, &problem, options.scratch_bytes)?,
        Device::Gpu(gpu) => gradients(gpu, inputs, upstream, needs, &problem, options.means())?,
    };
    // ∂t = ⟨X, ∂X⟩: no pass over the logits.
    let dt = dx.as_ref().filter(|_| saved.needs[2]);
    let dt = dt.map(|dx| dot(&kept_rows(x, &problem.rows)?, dx)).transpose()?;
    let all = [dx, dy, dt, Some(db)].into_iter();
    all.map(|gradient| gradient.map(|gradient| cast(&gradient, dtype)).transpose()).collect()
}

/// The gradients of x and of y, where they are needed, and of the bias.
fn gradients(
    gpu: &Gpu,
    [x, y, log_scale, bias]: [&Tensor; 4],
    upstream: &Tensor,
    [needs_x, needs_y]: [bool; 2],
    problem: &Siglip,
    means: Means,
) -> Result<(Option<Tensor>, Option<Tensor>, Tensor)> {
    let [x, y, row_codes, col_codes] = &prepared([x, y, log_scale], problem)?;
    let sum = |like: &Tensor, needed: bool| needed.then(|| uninit(like, like.shape())).transpose();
    let (mut dx, mut dy) = (sum(x, needs_x)?, sum(y, needs_y)?);
    let bias_parts = uninit(x, &[problem.n])?;
    let (size, bytes) = ((problem.n, problem.m), block_bytes(gpu, means.scratch_bytes));
    let scratch = scratch(x, size, bytes)?;
    for block in blocks(size, bytes) {
        let sims = &similarities(gpu, [x, y], &scratch, block, means.precision)?;
        let tensors = [upstream, log_scale, bias, row_codes, col_codes, sims, &bias_parts];
        dispatch(gpu, &BACKWARD, Variant::of(DType::F32), &params(problem, block), &tensors, block.1 as u64)?;
        add_products(gpu, sims, [x, y], [&mut dx, &mut dy], block, means.precision)?;
    }
    let db = reduce(&bias_parts, &ReduceOptions { kind: Reduce::Sum, axis: 0, keep_axis: false })?;
    Ok((dx, dy, db))
}
