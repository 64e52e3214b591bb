//! InfoNCE, the contrastive loss, without ever storing the N×M logits (but in f64, which is the plain
//! definition).
//!
//! Similarities are computed block by block, `Cr × Cc` at a time, into scratch memory of a fixed budget. The forward merges
//! each block's row and column (maximum, sum) into running log-sum-exps: one sweep for both. The backward computes each block
//! again, turns it into the gradient in place and adds its two products to the gradients of x and of y, in a fixed order.
//! Four products in all, forward and backward; O(N + M) beyond the scratch.
//!
//! ```
//! use crossmodal::{Device, Tensor, autograd::Tape, ops::{InfoNceOptions, info_nce::INFO_NCE}};
//! let tape = Tape::new();
//! let x = tape.leaf(&Tensor::from_slice(&Device::Cpu, &[2, 2], &[1f32, 0., 0., 1.])?);
//! let log_scale = tape.leaf(&Tensor::scalar(&Device::Cpu, 0f32)?);
//! let loss = tape.apply(&INFO_NCE, InfoNceOptions::default(), &[&x, &x, &log_scale])?;
//! let gradients = tape.backward(&loss)?;
//! assert!(gradients.get(&log_scale).unwrap().item()? < 0.); // a larger scale would lower the loss
//! # Ok::<(), crossmodal::Error>(())
//! ```

use super::concat::{put, slice};
use super::matmul::{self, MatmulOptions, Product};
use super::{
    Forward, Reduce, ReduceOptions, Rule, Saved, add, cast, check_floats, check_shape, dispatch,
    expect_inputs, groups, host, mul, reduce, stats_dtype,
};
use crate::cpu;
use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::gpu::kernel::{params, read, write};
use crate::gpu::{Gpu, Kernel, Variant};
use crate::reference::{self, InfoNce, MatmulShape};
use crate::tensor::Tensor;

const SOURCE: &str = concat!(
    include_str!("../../shaders/lib/grid.wgsl"),
    include_str!("../../shaders/lib/reduce.wgsl"),
    include_str!("../../shaders/info_nce.wgsl")
);

params! {
    struct Params {
        rows: u32,
        cols: u32,
        first_row: u32,
        first_col: u32,
        fresh: u32,
        symmetric: u32,
        count: u32,
    }
}

const ROW_SWEEP: Kernel = Kernel::new::<Params>(
    "info_nce",
    "row_sweep",
    SOURCE,
    &[read("sims"), read("log_scale"), write("stats"), write("positive")],
);
const COLUMN_SWEEP: Kernel = Kernel::new::<Params>(
    "info_nce",
    "column_sweep",
    SOURCE,
    &[read("sims"), read("log_scale"), write("stats")],
);
const ROW_LOSSES: Kernel = Kernel::new::<Params>(
    "info_nce",
    "row_losses",
    SOURCE,
    &[read("row_stats"), read("col_stats"), read("positives"), read("log_scales"), write("losses")],
);
const GRADIENT: Kernel = Kernel::new::<Params>(
    "info_nce",
    "gradient",
    SOURCE,
    &[read("row_part"), read("col_part"), read("log_factor"), read("upstream"), write("block")],
);

/// The kernels of this operation. Example: [`Kernel`].
pub const KERNELS: &[&Kernel] = &[&ROW_SWEEP, &COLUMN_SWEEP, &ROW_LOSSES, &GRADIENT];

/// Which directions count, and how much scratch memory the blocks may take.
///
/// ```
/// use crossmodal::{Device, Tensor, ops::{InfoNceOptions, info_nce}};
/// let x = Tensor::from_slice(&Device::Cpu, &[1, 2], &[1f32, 0.])?;
/// let y = Tensor::from_slice(&Device::Cpu, &[2, 2], &[1f32, 0., 0., 1.])?; // row 1 is a negative only
/// let one_way = InfoNceOptions { symmetric: false, ..Default::default() };
/// let loss = info_nce(&x, &y, &Tensor::scalar(&Device::Cpu, 0f32)?, &one_way)?.item()?;
/// assert!((loss - (1. + (-1f64).exp()).ln()).abs() < 1e-6);
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InfoNceOptions {
    /// Rows against columns and columns against rows (CLIP), or rows against columns alone.
    pub symmetric: bool,
    /// Bytes of scratch for one block of similarities. The answer does not depend on it beyond rounding.
    pub scratch_bytes: usize,
}

impl Default for InfoNceOptions {
    fn default() -> Self {
        InfoNceOptions { symmetric: true, scratch_bytes: 16 << 20 }
    }
}

/// How the tape calls [`info_nce`]: inputs x, y, log_scale. Row and column statistics are kept, but in f64. Example: [the module](self).
pub const INFO_NCE: Rule<InfoNceOptions> = Rule {
    name: "info_nce",
    forward: |options, inputs| {
        expect_inputs("info_nce", inputs, 3..=3)?;
        forward(inputs[0], inputs[1], inputs[2], options)
    },
    backward,
};

/// The InfoNCE loss (van den Oord et al., 2018; symmetric as in CLIP, Radford et al., 2021), a scalar:
/// `mean_i(lse_j L_ij − L_ii)`, or `½` of that plus `½` of the same over columns, with `L = eᵗ X Yᵀ`, `t` = `log_scale []`.
///
/// `x [n, d]` and `y [m, d]` are embeddings, usually after [`l2_normalize`](super::l2_normalize()); row i's
/// positive is column i. One-way, y may have more rows: they are negatives. The temperature is fixed when
/// `log_scale` is a constant, learned when it is a leaf of the tape; `t = ln(1/τ)`. Non-finite input is
/// carried through on the CPU and unspecified on a GPU. Errors: not two axes, or `log_scale` has one; no
/// rows; widths differ; `m < n`, or `m ≠ n` when symmetric; types or devices differ.
///
/// ```
/// use crossmodal::{Device, Tensor, ops::{InfoNceOptions, info_nce}};
/// let x = Tensor::from_slice(&Device::Cpu, &[2, 2], &[1f32, 0., 0., 1.])?;
/// let log_scale = Tensor::scalar(&Device::Cpu, 0f32)?;
/// let loss = info_nce(&x, &x, &log_scale, &InfoNceOptions::default())?.item()?;
/// assert!((loss - (1. + (-1f64).exp()).ln()).abs() < 1e-6);
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn info_nce(x: &Tensor, y: &Tensor, log_scale: &Tensor, options: &InfoNceOptions) -> Result<Tensor> {
    Ok(forward(x, y, log_scale, options)?.outputs.remove(0))
}

fn check(x: &Tensor, y: &Tensor, log_scale: &Tensor, options: &InfoNceOptions) -> Result<InfoNce> {
    check_floats("info_nce", &[("x", x), ("y", y), ("log_scale", log_scale)])?;
    check_shape("info_nce", "log_scale", log_scale, &[])?;
    let ([n, d], [m, _]) = (x.shape(), y.shape()) else {
        let got = format!("shapes {:?} and {:?}", x.shape(), y.shape());
        return Err(Error::argument("info_nce", "x and y", "two axes each", got));
    };
    if *n == 0 {
        return Err(Error::argument("info_nce", "x", "at least one row", format!("shape {:?}", x.shape())));
    }
    if options.symmetric || m < n {
        check_shape("info_nce", "y", y, &[*n, *d])?;
    }
    check_shape("info_nce", "y", y, &[*m, *d])?;
    Ok(InfoNce { n: *n, m: *m, d: *d, symmetric: options.symmetric })
}

fn forward(x: &Tensor, y: &Tensor, log_scale: &Tensor, options: &InfoNceOptions) -> Result<Forward> {
    let size = check(x, y, log_scale, options)?;
    let dtype = x.dtype();
    if dtype == DType::F64 {
        let loss = reference::info_nce(&x.f64s(), &y.f64s(), log_scale.f64s()[0], size);
        return Ok(Forward::one(host(&[], dtype, vec![loss])?));
    }
    let [x, y, log_scale] = widened([x, y, log_scale])?;
    let (loss, kept) = match x.device() {
        Device::Cpu => {
            let (loss, statistics) = cpu::info_nce(&x, &y, &log_scale, size, options.scratch_bytes)?;
            (host(&[], dtype, vec![loss])?, statistics)
        }
        Device::Gpu(gpu) => {
            let (loss, statistics) = sweep(gpu, [&x, &y, &log_scale], size, options)?;
            (cast(&loss, dtype)?, statistics)
        }
    };
    Ok(Forward { outputs: vec![loss], kept })
}

/// f16 inputs as f32: the similarities of every precision are f32.
fn widened(inputs: [&Tensor; 3]) -> Result<[Tensor; 3]> {
    let [x, y, log_scale] = inputs.map(|input| cast(input, stats_dtype(input.dtype())));
    Ok([x?, y?, log_scale?])
}

fn backward(options: &InfoNceOptions, saved: &Saved<'_>) -> Result<Vec<Option<Tensor>>> {
    let [x, y, log_scale] = saved.inputs else { unreachable!("the forward takes three tensors") };
    let size = check(x, y, log_scale, options)?;
    let dtype = x.dtype();
    if dtype == DType::F64 {
        let (t, upstream) = (log_scale.f64s()[0], saved.grad().f64s()[0]);
        let (dx, dy, dt) = reference::info_nce_backward(&x.f64s(), &y.f64s(), t, upstream, size);
        let all = [(x, dx), (y, dy), (log_scale, vec![dt])];
        return all.into_iter().map(|(input, values)| host(input.shape(), dtype, values).map(Some)).collect();
    }
    let [x, y, log_scale] = widened([x, y, log_scale])?;
    let upstream = cast(saved.grad(), DType::F32)?;
    let [dx, dy] = match x.device() {
        Device::Cpu => {
            cpu::info_nce_backward([&x, &y, &log_scale], saved.kept, &upstream, size, options.scratch_bytes)?
        }
        Device::Gpu(gpu) => gradients(gpu, [&x, &y, &log_scale], saved.kept, &upstream, size, options)?,
    };
    // ∂t = ⟨X, ∂X⟩: no pass over the logits.
    let dt = saved.needs[2].then(|| cast(&dot(&x, &dx)?, dtype)).transpose()?;
    Ok(vec![Some(cast(&dx, dtype)?), Some(cast(&dy, dtype)?), dt])
}

/// `⟨a, b⟩` over all elements, a scalar.
fn dot(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if a.device() == &Device::Cpu {
        return host(&[], DType::F32, vec![cpu::dot(&cpu::f32s(a), &cpu::f32s(b))]);
    }
    let sum = ReduceOptions { kind: Reduce::Sum, axis: 0, keep_axis: false };
    reduce(&mul(a, b)?.reshape(&[a.len()])?, &sum)
}

fn params(size: InfoNce, (first_row, rows, first_col, cols): (usize, usize, usize, usize)) -> Params {
    Params {
        rows: rows as u32,
        cols: cols as u32,
        first_row: first_row as u32,
        first_col: first_col as u32,
        fresh: 0,
        symmetric: u32::from(size.symmetric),
        count: size.n as u32,
    }
}

/// `S = X[first_row..] Y[first_col..]ᵀ` of one block, in the scratch where a binding spans x and y.
fn similarities(
    gpu: &Gpu,
    [x, y]: [&Tensor; 2],
    scratch: &Tensor,
    d: usize,
    (first_row, rows, first_col, cols): (usize, usize, usize, usize),
) -> Result<Tensor> {
    if x.is_split() || y.is_split() {
        let (x, y) =
            (slice(x, 0, &(first_row..first_row + rows))?, slice(y, 0, &(first_col..first_col + cols))?);
        return matmul::matmul(&x, &y, None, &MatmulOptions { transpose_b: true, ..Default::default() });
    }
    let shape = MatmulShape {
        m: rows,
        n: cols,
        k: d,
        a_strides: (d, 1),
        b_strides: (1, d),
        ..MatmulShape::default()
    };
    let product =
        Product { scale: 1., a_offset: first_row * d, b_offset: first_col * d, ..Product::default() };
    matmul::dispatch(gpu, x, y, scratch, &shape, &product)?;
    Ok(scratch.clone())
}

/// Adds the product of a block of the gradient, or of its transpose, and the rows of `other` from `second` on to the rows of
/// `sum` from `first` on; writes it where it is the first.
fn add_product(
    gpu: &Gpu,
    (block, transposed): (&Tensor, bool),
    (other, second): (&Tensor, usize),
    (sum, first): (&mut Tensor, usize),
    (rows, cols): (usize, usize),
    accumulate: bool,
) -> Result<()> {
    let (m, k, n) = if transposed { (cols, rows, sum.shape()[1]) } else { (rows, cols, sum.shape()[1]) };
    if other.is_split() || sum.is_split() {
        let (block, other) = (block.reshape(&[rows, cols])?, slice(other, 0, &(second..second + k))?);
        let options = MatmulOptions { transpose_a: transposed, ..Default::default() };
        let product = matmul::matmul(&block, &other, None, &options)?;
        let own = || slice(sum, 0, &(first..first + m));
        let product = if accumulate { add(&own()?, &product)? } else { product };
        return put(&product, sum, 0, first);
    }
    let a_strides = if transposed { (1, cols) } else { (cols, 1) };
    let shape = MatmulShape { m, n, k, a_strides, b_strides: (n, 1), ..MatmulShape::default() };
    let (b_offset, out_offset) = (second * n, first * n);
    let product = Product { scale: 1., accumulate, b_offset, out_offset, ..Product::default() };
    matmul::dispatch(gpu, block, other, sum, &shape, &product)
}

/// The bytes of a block of similarities: what the caller allows, but no more than a binding spans.
fn block_bytes(gpu: &Gpu, options: &InfoNceOptions) -> usize {
    options.scratch_bytes.min(gpu.piece_bytes() as usize)
}

fn scratch(gpu: &Gpu, x: &Tensor, size: InfoNce, options: &InfoNceOptions) -> Result<Tensor> {
    let (rows, cols) = size.block_size(block_bytes(gpu, options));
    Tensor::uninit("info_nce", x.device(), &[rows, cols], DType::F32)
}

/// The loss, and (maximum, sum) of each row and of each column.
fn sweep(
    gpu: &Gpu,
    inputs: [&Tensor; 3],
    size: InfoNce,
    options: &InfoNceOptions,
) -> Result<(Tensor, Vec<Tensor>)> {
    let [x, y, log_scale] = inputs;
    let uninit = |shape: &[usize]| Tensor::uninit("info_nce", x.device(), shape, DType::F32);
    let columns = if size.symmetric { size.m } else { 1 };
    let (row_stats, col_stats) = (uninit(&[size.n, 2])?, uninit(&[columns, 2])?);
    let (positive, losses) = (uninit(&[size.n])?, uninit(&[size.n])?);
    let scratch = scratch(gpu, x, size, options)?;
    let variant = || Variant::of(DType::F32);
    for block in size.blocks(block_bytes(gpu, options)) {
        let sims = &similarities(gpu, [x, y], &scratch, size.d, block)?;
        let (first_row, rows, first_col, cols) = block;
        let params = Params { fresh: u32::from(first_col == 0), ..params(size, block) };
        let tensors = [sims, log_scale, &row_stats, &positive];
        dispatch(gpu, &ROW_SWEEP, variant(), &params, &tensors, rows as u64)?;
        if size.symmetric {
            let params = Params { fresh: u32::from(first_row == 0), ..params };
            let tensors = [sims, log_scale, &col_stats];
            dispatch(gpu, &COLUMN_SWEEP, variant(), &params, &tensors, groups(cols, 64))?;
        }
    }
    let tensors = [&row_stats, &col_stats, &positive, log_scale, &losses];
    dispatch(gpu, &ROW_LOSSES, variant(), &params(size, (0, 0, 0, 0)), &tensors, groups(size.n, 256))?;
    let loss = reduce(&losses, &ReduceOptions { kind: Reduce::Mean, axis: 0, keep_axis: false })?;
    Ok((loss, vec![row_stats, col_stats]))
}

/// The gradients of x and of y.
fn gradients(
    gpu: &Gpu,
    inputs: [&Tensor; 3],
    kept: &[Tensor],
    upstream: &Tensor,
    size: InfoNce,
    options: &InfoNceOptions,
) -> Result<[Tensor; 2]> {
    let ([x, y, log_scale], d) = (inputs, size.d);
    let mut dx = Tensor::uninit("info_nce", x.device(), x.shape(), DType::F32)?;
    let mut dy = Tensor::uninit("info_nce", y.device(), y.shape(), DType::F32)?;
    let scratch = scratch(gpu, x, size, options)?;
    for block in size.blocks(block_bytes(gpu, options)) {
        let (first_row, rows, first_col, cols) = block;
        let sims = &similarities(gpu, [x, y], &scratch, d, block)?;
        let (variant, params, groups) =
            (Variant::of(DType::F32), params(size, block), groups(rows * cols, 256));
        dispatch(gpu, &GRADIENT, variant, &params, &[&kept[0], &kept[1], log_scale, upstream, sims], groups)?;
        // ∂X += G Y and ∂Y += Gᵀ X, the first block of each row and column writing instead of adding.
        let block_size = (rows, cols);
        add_product(gpu, (sims, false), (y, first_col), (&mut dx, first_row), block_size, first_col > 0)?;
        add_product(gpu, (sims, true), (x, first_row), (&mut dy, first_col), block_size, first_row > 0)?;
    }
    Ok([dx, dy])
}
