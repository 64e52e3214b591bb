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

#[cfg(feature = "verify")]
pub(crate) use super::matmul_cooperative::packed_and_back;
use super::matmul_dispatch::{INNER, Product, whole};
use super::matmul_kernels as kernels;
use super::matmul_parts::Split;
pub use super::matmul_tune::{Problem, Trial, tune};
pub use super::matmul_ways::Precision;
#[cfg(feature = "verify")]
pub(crate) use super::matmul_ways::{WAYS, Way};
use super::reduce::{Reduce, ReduceOptions, reduce, sum_to};
use super::unary::{self, Unary, unary_backward};
use super::{Forward, Rule, Saved, check_floats, check_shape, expect_inputs, host, parts};
use crate::cpu;
use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::gpu::Kernel;
use crate::reference::{self, MatmulShape};
use crate::shape::{broadcast, broadcast_strides, count};
use crate::tensor::{Tensor, check as check_size};

/// The kernels of this operation. Example: [`Kernel`].
pub const KERNELS: &[&Kernel] = kernels::KERNELS;

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
    /// Whether f32 may go through matrix units in parts of f16. Large products of f16 do so wherever they are; an operand that does not
    /// lie along the inner axis, in a multiple of 32, is copied first.
    pub precision: Precision,
}

impl Default for MatmulOptions {
    fn default() -> Self {
        MatmulOptions {
            transpose_a: false,
            transpose_b: false,
            scale: 1.,
            activation: None,
            precision: Precision::Strict,
        }
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
            let MatmulOptions { scale, activation, precision, .. } = *options;
            let product = Product { bias, scale, activation, precision, ..Product::default() };
            whole(gpu, [a, b], &shape, &out_shape, &product)
        }
    }
}

/// The product by one way and in so many pieces of the inner axis, where the device can take it; as [`matmul`] anywhere else. For
/// verification.
#[cfg(feature = "verify")]
pub(crate) fn matmul_by(
    (way, pieces): (Way, usize),
    [a, b]: [&Tensor; 2],
    bias: Option<&Tensor>,
    options: &MatmulOptions,
) -> Result<Tensor> {
    let shape = plan(a.shape(), b.shape(), options)?;
    let rows = a.shape()[a.shape().len() - if options.transpose_a { 1 } else { 2 }];
    let out_shape = [&broadcast("matmul", batch(a), batch(b))?[..], &[rows, shape.n]].concat();
    let Device::Gpu(gpu) = a.device() else { return matmul(a, b, bias, options) };
    let all: Vec<_> = [Some(a), Some(b), bias].into_iter().flatten().collect();
    // A binding has to span the sums of all pieces too.
    let sums = [&[pieces], &out_shape[..]].concat();
    if !way.serves(&gpu.abilities(), &shape) || parts::needed(gpu, &all, &sums, DType::F32) {
        return matmul(a, b, bias, options);
    }
    let MatmulOptions { scale, activation, .. } = *options;
    let (way, pieces) = (Some(way), Some(pieces));
    whole(
        gpu,
        [a, b],
        &shape,
        &out_shape,
        &Product { bias, scale, activation, way, pieces, ..Product::default() },
    )
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
        let options = MatmulOptions { transpose_a, transpose_b, activation: None, ..*options };
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
