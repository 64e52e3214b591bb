//! The batched matrix product, with scale, bias and activation in its epilogue.
//!
//! ```
//! use crossmodal::autograd::Tape;
//! use crossmodal::{Device, Tensor, ops::{MatmulOptions, Unary, matmul::MATMUL}};
//! let matrix = |value: f32| Tensor::from_slice(&Device::Cpu, &[1, 1], &[value]);
//! let tape = Tape::new();
//! let (a, b) = (tape.leaf(&matrix(2.)?), tape.leaf(&matrix(3.)?));
//! let options = MatmulOptions { activation: Some(Unary::Relu), ..Default::default() };
//! let out = tape.apply(&MATMUL, options, &[&a, &b])?; // a third input is the bias
//! assert_eq!(tape.backward(&out)?.get(&a).unwrap().item()?, 3.);
//! # Ok::<(), crossmodal::Error>(())
//! ```

use super::matmul_parts::Split;
use super::reduce::{Reduce, ReduceOptions, reduce, sum_to};
use super::unary::{self, Unary, unary_backward};
use super::{
    Forward, Rule, Saved, cast, check_floats, check_shape, dispatch_counted, expect_inputs, host, pad8, parts,
};
use crate::cpu;
use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::gpu::kernel::{params, read, write};
use crate::gpu::{Gpu, Kernel, Variant};
use crate::reference::{self, MatmulShape};
use crate::shape::{broadcast, broadcast_strides, count};
use crate::tensor::{Tensor, check as check_size};

const SOURCE: &str = concat!(
    include_str!("../../shaders/lib/grid.wgsl"),
    include_str!("../../shaders/lib/math.wgsl"),
    include_str!("../../shaders/lib/activation.wgsl"),
    include_str!("../../shaders/matmul.wgsl")
);

params! {
    struct Params {
        batch_shape: [u32; 8],
        a_batch: [u32; 8],
        b_batch: [u32; 8],
        m: u32,
        n: u32,
        inner: u32,
        batches: u32,
        batch_rank: u32,
        a_row: u32,
        a_col: u32,
        b_row: u32,
        b_col: u32,
        a_offset: u32,
        b_offset: u32,
        out_offset: u32,
        first_group: u32,
        has_bias: u32,
        activation: u32,
        accumulate: u32,
        scale: f32,
        alpha: f32,
        beta: f32,
        pad: u32,
    }
}

const FORWARD: Kernel =
    Kernel::new::<Params>("matmul", "forward", SOURCE, &[read("a"), read("b"), read("bias"), write("out")]);

/// The kernels of this operation. Example: [`Kernel`].
pub const KERNELS: &[&Kernel] = &[&FORWARD];

/// The part of the product that one workgroup computes, as in the shader.
const TILE: (usize, usize) = (32, 64);

/// How a product reads its inputs and what follows it.
///
/// ```
/// use crossmodal::{Device, Tensor, ops::{MatmulOptions, matmul}};
/// let x = Tensor::from_slice(&Device::Cpu, &[2, 1], &[1f32, 2.])?;
/// let options = MatmulOptions { transpose_a: true, scale: 10., ..Default::default() };
/// assert_eq!(matmul(&x, &x, None, &options)?.item()?, 50.);
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MatmulOptions {
    /// `a` is stored as `[..., k, m]`; a GPU reads it so, the CPU copies matrices of some sizes, up to 8 MiB,
    /// into rows.
    pub transpose_a: bool,
    /// `b` is stored as `[..., n, k]`.
    pub transpose_b: bool,
    /// The factor of the product.
    pub scale: f64,
    /// Applied last.
    pub activation: Option<Unary>,
}

impl Default for MatmulOptions {
    fn default() -> Self {
        MatmulOptions { transpose_a: false, transpose_b: false, scale: 1., activation: None }
    }
}

/// How the tape calls [`matmul`]: inputs a, b and perhaps a bias. With an activation, what goes into it is kept. Example: [the module](self).
pub const MATMUL: Rule<MatmulOptions> = Rule {
    name: "matmul",
    forward: |options, inputs| {
        expect_inputs("matmul", inputs, 2..=3)?;
        let plain = MatmulOptions { activation: None, ..*options };
        let before = matmul(inputs[0], inputs[1], inputs.get(2).copied(), &plain)?;
        match options.activation {
            None => Ok(Forward::one(before)),
            Some(kind) => Ok(Forward { outputs: vec![unary::unary(kind, &before)?], kept: vec![before] }),
        }
    },
    backward,
};

/// `out = act(scale · A B + bias)`: `A [..., m, k]`, `B [..., k, n]`, `bias [n]`, `out [..., m, n]`; batch axes broadcast.
///
/// Sums over k in f32 (f64 for f64). The bits do not depend on the number of threads. Errors: the inner
/// sizes, the batch axes or the bias do not fit; `a` or `b` has fewer than two axes; types or devices differ.
///
/// ```
/// use crossmodal::{Device, Tensor, ops::{MatmulOptions, matmul}};
/// let a = Tensor::from_slice(&Device::Cpu, &[1, 2], &[1f32, 2.])?;
/// let b = Tensor::from_slice(&Device::Cpu, &[1, 2], &[3f32, 4.])?;
/// let options = MatmulOptions { transpose_b: true, ..Default::default() };
/// assert_eq!(matmul(&a, &b, None, &options)?.item()?, 11.);
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn matmul(a: &Tensor, b: &Tensor, bias: Option<&Tensor>, options: &MatmulOptions) -> Result<Tensor> {
    check_floats("matmul", &[("a", a), ("b", b)])?;
    options.activation.map_or(Ok(()), |kind| unary::check_kind("matmul", kind))?;
    let shape = plan(a.shape(), b.shape(), options)?;
    if let Some(bias) = bias {
        check_floats("matmul", &[("a", a), ("bias", bias)])?;
        check_shape("matmul", "bias", bias, &[shape.n])?;
    }
    let rows = a.shape()[a.shape().len() - if options.transpose_a { 1 } else { 2 }];
    let out_shape = [&broadcast("matmul", batch(a), batch(b))?[..], &[rows, shape.n]].concat();
    check_size("matmul", a.device(), &out_shape, a.dtype())?;
    match a.device() {
        Device::Cpu => on_cpu(a, b, bias, options, &shape, &out_shape),
        Device::Gpu(gpu) => {
            let all = [Some(a), Some(b), bias].into_iter().flatten().collect::<Vec<_>>();
            // Between blocks of the inner axis a sum is kept in f32.
            let dtype = if shape.k > INNER { DType::F32 } else { a.dtype() };
            if parts::needed(gpu, &all, &out_shape, dtype) {
                return Split { gpu, a, b, bias, options, shape: &out_shape }.product();
            }
            let out = Tensor::uninit("matmul", a.device(), &out_shape, dtype)?;
            let product =
                Product { bias, scale: options.scale, activation: options.activation, ..Product::default() };
            dispatch(gpu, a, b, &out, &shape, &product)?;
            cast(&out, a.dtype())
        }
    }
}

fn batch(x: &Tensor) -> &[usize] {
    &x.shape()[..x.shape().len() - 2]
}

/// Sizes and strides. A plain matrix B under batch axes of A is one larger product.
fn plan(a: &[usize], b: &[usize], options: &MatmulOptions) -> Result<MatmulShape> {
    for (argument, shape) in [("a", a), ("b", b)] {
        if shape.len() < 2 {
            return Err(Error::argument("matmul", argument, "at least two axes", format!("shape {shape:?}")));
        }
    }
    let matrix = |shape: &[usize], transposed: bool| {
        let (rows, cols) = (shape[shape.len() - 2], shape[shape.len() - 1]);
        if transposed { (cols, rows, (1, cols)) } else { (rows, cols, (cols, 1)) }
    };
    let (mut m, k, a_strides) = matrix(a, options.transpose_a);
    let (k_of_b, n, b_strides) = matrix(b, options.transpose_b);
    if k != k_of_b {
        let expected = format!("an inner size of {k} as a {a:?} has it");
        return Err(Error::argument("matmul", "b", expected, format!("{k_of_b} of {b:?}")));
    }
    let (a_axes, b_axes) = (&a[..a.len() - 2], &b[..b.len() - 2]);
    let full = broadcast("matmul", a_axes, b_axes)?;
    if b_axes.is_empty() && !options.transpose_a {
        m *= count(a_axes);
        return Ok(MatmulShape { m, n, k, a_strides, b_strides, ..MatmulShape::default() });
    }
    // Matrices lie behind the batch axes: strides are counted in matrices, then in elements.
    let by_matrix = |axes: &[usize], elements: usize| -> Vec<usize> {
        broadcast_strides(axes, &full).iter().map(|stride| stride * elements).collect()
    };
    let (a_batch, b_batch) = (by_matrix(a_axes, m * k), by_matrix(b_axes, k * n));
    Ok(MatmulShape { m, n, k, batch: full, a_batch, b_batch, a_strides, b_strides })
}

fn on_cpu(
    a: &Tensor,
    b: &Tensor,
    bias: Option<&Tensor>,
    options: &MatmulOptions,
    shape: &MatmulShape,
    out_shape: &[usize],
) -> Result<Tensor> {
    let bias = bias.map(|bias| bias.f64s());
    if a.dtype() == DType::F64 {
        let mut out = reference::matmul(&a.f64s(), &b.f64s(), shape);
        for (i, value) in out.iter_mut().enumerate() {
            *value = *value * options.scale + bias.as_ref().map_or(0., |bias| bias[i % shape.n]);
            *value = options.activation.map_or(*value, |kind| kind.apply(*value));
        }
        return host(out_shape, a.dtype(), out);
    }
    let bias: Option<Vec<f32>> = bias.map(|bias| bias.iter().map(|&v| v as f32).collect());
    let mut out = cpu::matmul(&cpu::f32s(a), &cpu::f32s(b), bias.as_deref(), options.scale as f32, shape);
    if let Some(kind) = options.activation {
        out = cpu::unary(kind, &out);
    }
    cpu::tensor(out_shape, a.dtype(), out)
}

/// One product on a GPU, of whole tensors or of parts that begin at an element.
#[derive(Default)]
pub(super) struct Product<'a> {
    pub bias: Option<&'a Tensor>,
    pub scale: f64,
    pub activation: Option<Unary>,
    /// Whether to add to what is there.
    pub accumulate: bool,
    pub a_offset: usize,
    pub b_offset: usize,
    pub out_offset: usize,
}

/// The inner axis of one dispatch. A sum is one running f32 there, and the results of dispatches are another: rounding grows
/// with the length of either, not of both together.
pub(crate) const INNER: usize = 2048;

/// Floating-point operations in one dispatch: a desktop driver resets the device after about two seconds; this is a fifth of
/// a second at 100 GFLOP/s.
const DISPATCH_FLOPS: f64 = 2e10;

pub(super) fn dispatch(
    gpu: &Gpu,
    a: &Tensor,
    b: &Tensor,
    out: &Tensor,
    shape: &MatmulShape,
    product: &Product<'_>,
) -> Result<()> {
    let batches = count(&shape.batch);
    let tiles = batches * shape.m.div_ceil(TILE.0) * shape.n.div_ceil(TILE.1);
    let variant = Variant { elem_out: out.dtype(), ..Variant::of(a.dtype()) };
    // Without a bias its binding still needs a buffer; it is not read.
    let tensors = [a, b, product.bias.unwrap_or(b), out];
    // An empty inner axis is one empty block.
    for first in (0..shape.k.max(1)).step_by(INNER) {
        let (inner, last) = (INNER.min(shape.k - first), first + INNER >= shape.k);
        let mut params = block_params(shape, product, batches, first, inner, last);
        let flops_per_tile = 2. * (TILE.0 * TILE.1 * inner.max(1)) as f64;
        let at_once = ((DISPATCH_FLOPS / flops_per_tile) as usize).max(1);
        for first_group in (0..tiles).step_by(at_once) {
            params.first_group = first_group as u32;
            let groups = at_once.min(tiles - first_group);
            let work = groups as f64 * flops_per_tile;
            dispatch_counted(gpu, &FORWARD, variant.clone(), &params, &tensors, groups as u64, work)?;
        }
    }
    Ok(())
}

/// The parameters for a block of the inner axis.
fn block_params(
    shape: &MatmulShape,
    product: &Product<'_>,
    batches: usize,
    first: usize,
    inner: usize,
    last: bool,
) -> Params {
    let (kind, alpha, beta) = product.activation.filter(|_| last).map_or((0, 0., 0.), unary::code);
    Params {
        batch_shape: pad8(&shape.batch),
        a_batch: pad8(&shape.a_batch),
        b_batch: pad8(&shape.b_batch),
        m: shape.m as u32,
        n: shape.n as u32,
        inner: inner as u32,
        batches: batches as u32,
        batch_rank: shape.batch.len() as u32,
        a_row: shape.a_strides.0 as u32,
        a_col: shape.a_strides.1 as u32,
        b_row: shape.b_strides.0 as u32,
        b_col: shape.b_strides.1 as u32,
        a_offset: (product.a_offset + first * shape.a_strides.1) as u32,
        b_offset: (product.b_offset + first * shape.b_strides.0) as u32,
        out_offset: product.out_offset as u32,
        first_group: 0,
        has_bias: u32::from(last && product.bias.is_some()),
        activation: kind,
        accumulate: u32::from(product.accumulate || first > 0),
        scale: product.scale as f32,
        alpha,
        beta,
        pad: 0,
    }
}

fn backward(options: &MatmulOptions, saved: &Saved<'_>) -> Result<Vec<Option<Tensor>>> {
    let (a, b) = (&saved.inputs[0], &saved.inputs[1]);
    let grad = match options.activation {
        Some(kind) => &unary_backward(kind, &saved.kept[0], saved.grad())?,
        None => saved.grad(),
    };
    // Batch axes that only A has are rows of one larger matrix.
    let folded = b.shape().len() == 2 && !options.transpose_a;
    let fold = |x: &Tensor| {
        let cols = x.shape()[x.shape().len() - 1];
        let rows = count(&x.shape()[..x.shape().len() - 1]);
        if folded { x.reshape(&[rows, cols]) } else { Ok(x.clone()) }
    };
    let (a_matrix, grad_matrix) = (fold(a)?, fold(grad)?);
    let product = |left: &Tensor, right: &Tensor, transpose_a: bool, transpose_b: bool, to: &Tensor| {
        let options = MatmulOptions { transpose_a, transpose_b, scale: options.scale, activation: None };
        let full = matmul(left, right, None, &options)?;
        if folded { full.reshape(to.shape()) } else { sum_to(&full, to.shape()) }
    };
    let da = || match options.transpose_a {
        false => product(&grad_matrix, b, false, !options.transpose_b, a),
        true => product(b, &grad_matrix, options.transpose_b, true, a),
    };
    let db = || match options.transpose_b {
        false => product(&a_matrix, &grad_matrix, !options.transpose_a, false, b),
        true => product(&grad_matrix, &a_matrix, true, options.transpose_a, b),
    };
    let mut out = vec![saved.needs[0].then(da).transpose()?, saved.needs[1].then(db).transpose()?];
    if saved.inputs.len() == 3 {
        let cols = grad.shape()[grad.shape().len() - 1];
        let rows = grad.reshape(&[count(&grad.shape()[..grad.shape().len() - 1]), cols])?;
        let options = ReduceOptions { kind: Reduce::Sum, axis: 0, keep_axis: false };
        out.push(saved.needs[2].then(|| reduce(&rows, &options)).transpose()?);
    }
    Ok(out)
}
