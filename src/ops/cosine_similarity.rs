//! Cosine similarity of rows: of pairs, or of all with all.
//!
//! ```
//! use crossmodal::autograd::Tape;
//! use crossmodal::{Device, Tensor, ops::{Pairing, cosine_similarity::COSINE_SIMILARITY}};
//! let tape = Tape::new();
//! let x = tape.leaf(&Tensor::from_slice(&Device::Cpu, &[1, 2], &[2f32, 0.])?);
//! let y = tape.constant(&Tensor::from_slice(&Device::Cpu, &[1, 2], &[0f32, 3.])?);
//! let cosine = tape.apply(&COSINE_SIMILARITY, Pairing::Pairs, &[&x, &y])?;
//! assert_eq!(tape.backward_from(&cosine, &Tensor::from_slice(&Device::Cpu, &[1], &[1f32])?)?
//!     .get(&x).unwrap().to_vec::<f32>()?, [0., 0.5]);
//! # Ok::<(), crossmodal::Error>(())
//! ```

use super::matmul::{MatmulOptions, Precision, matmul};
use super::reduce::{Reduce, ReduceOptions, reduce};
use super::{
    Forward, Rule, Saved, cast, check_floats, check_shape, expect_inputs, l2_normalize, mul, stats_dtype,
};
use crate::error::{Error, Result};
use crate::gpu::Kernel;
use crate::tensor::Tensor;

/// It is made of other operations' kernels. Example: [`Kernel`].
pub const KERNELS: &[&Kernel] = &[];

/// Which rows are compared.
///
/// ```
/// use crossmodal::{DType, Device, Tensor, ops::{Pairing, cosine_similarity}};
/// let x = Tensor::zeros(&Device::Cpu, &[3, 4], DType::F32)?;
/// assert_eq!(cosine_similarity(&x, &x, Pairing::Pairs)?.shape(), [3]);
/// assert_eq!(cosine_similarity(&x, &x, Pairing::AllPairs)?.shape(), [3, 3]);
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairing {
    /// Row i of x with row i of y.
    Pairs,
    /// Every row of x with every row of y.
    AllPairs,
}

/// How the tape calls [`cosine_similarity`]; rows of length one and norms are kept. Example: [the module](self).
pub const COSINE_SIMILARITY: Rule<Pairing> = Rule {
    name: "cosine_similarity",
    forward: |pairing, inputs| {
        expect_inputs("cosine_similarity", inputs, 2..=2)?;
        forward(inputs[0], inputs[1], *pairing)
    },
    backward,
};

const AT_B: MatmulOptions = MatmulOptions {
    transpose_a: false,
    transpose_b: true,
    scale: 1.,
    activation: None,
    precision: Precision::Strict,
};

/// `cos(x, y) = ⟨x, y⟩ / (‖x‖ ‖y‖)`, 0 where either is the zero row: `x [n, d]`, `y [m, d]` to `[n]` (pairs,
/// n = m) or `[n, m]`.
///
/// Errors: not two axes; widths differ, or row counts of pairs; types or devices differ.
///
/// ```
/// use crossmodal::{Device, Tensor, ops::{Pairing, cosine_similarity}};
/// let x = Tensor::from_slice(&Device::Cpu, &[1, 3], &[0.1, 0.2, 0.3])?;
/// let y = Tensor::from_slice(&Device::Cpu, &[1, 3], &[0.4, 0.5, 0.6])?;
/// let cosine = cosine_similarity(&x, &y, Pairing::Pairs)?.item()?;
/// assert!((cosine - 0.974632).abs() < 1e-6);
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn cosine_similarity(x: &Tensor, y: &Tensor, pairing: Pairing) -> Result<Tensor> {
    Ok(forward(x, y, pairing)?.outputs.remove(0))
}

fn forward(x: &Tensor, y: &Tensor, pairing: Pairing) -> Result<Forward> {
    check_floats("cosine_similarity", &[("x", x), ("y", y)])?;
    let [rows, cols] = x.shape() else {
        return Err(Error::argument("cosine_similarity", "x", "two axes", format!("shape {:?}", x.shape())));
    };
    let others = if pairing == Pairing::Pairs { *rows } else { y.shape().first().copied().unwrap_or(0) };
    check_shape("cosine_similarity", "y", y, &[others, *cols])?;
    // f16 rows of length one would carry the rounding of f16 into every product.
    let wide = stats_dtype(x.dtype());
    let (x_hat, x_norms) = l2_normalize::with_norms(&cast(x, wide)?)?;
    let (y_hat, y_norms) = l2_normalize::with_norms(&cast(y, wide)?)?;
    let cosine = match pairing {
        Pairing::Pairs => {
            let sum = ReduceOptions { kind: Reduce::Sum, axis: 1, keep_axis: false };
            reduce(&mul(&x_hat, &y_hat)?, &sum)?
        }
        Pairing::AllPairs => matmul(&x_hat, &y_hat, None, &AT_B)?,
    };
    Ok(Forward { outputs: vec![cast(&cosine, x.dtype())?], kept: vec![x_hat, x_norms, y_hat, y_norms] })
}

fn backward(pairing: &Pairing, saved: &Saved<'_>) -> Result<Vec<Option<Tensor>>> {
    let [x_hat, x_norms, y_hat, y_norms] = saved.kept else { unreachable!("the forward keeps four tensors") };
    let grad = cast(saved.grad(), x_hat.dtype())?;
    let dtype = saved.inputs[0].dtype();
    let of_x = || match pairing {
        Pairing::Pairs => mul(&grad.reshape(&[grad.len(), 1])?, y_hat),
        Pairing::AllPairs => matmul(&grad, y_hat, None, &MatmulOptions::default()),
    };
    let of_y = || match pairing {
        Pairing::Pairs => mul(&grad.reshape(&[grad.len(), 1])?, x_hat),
        Pairing::AllPairs => {
            matmul(&grad, x_hat, None, &MatmulOptions { transpose_a: true, ..MatmulOptions::default() })
        }
    };
    let through = |d_hat: Result<Tensor>, hat: &Tensor, norms: &Tensor| {
        cast(&l2_normalize::backward(hat, norms, &d_hat?)?, dtype)
    };
    Ok(vec![
        saved.needs[0].then(|| through(of_x(), x_hat, x_norms)).transpose()?,
        saved.needs[1].then(|| through(of_y(), y_hat, y_norms)).transpose()?,
    ])
}
