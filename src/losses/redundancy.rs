//! Losses without negatives: what is learned must agree, vary, and not repeat itself.

use super::sum_all;
use crate::autograd::arithmetic::{add_number, binary, sum, unary};
use crate::autograd::{Tape, Var};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::ops::matmul::MATMUL;
use crate::ops::reduce::REDUCE;
use crate::ops::{Binary, MatmulOptions, Reduce, ReduceOptions, Unary};

/// The weights of [`vicreg`], and what keeps it smooth.
///
/// ```
/// let options = crossmodal::losses::VicRegOptions::default();
/// assert_eq!((options.invariance, options.variance, options.covariance), (25., 25., 1.));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VicRegOptions {
    /// Of the mean squared difference of the two sides.
    pub invariance: f64,
    /// Of what each feature's deviation falls short of one.
    pub variance: f64,
    /// Of the squared covariances of different features.
    pub covariance: f64,
    /// Added to a variance under the root.
    pub epsilon: f64,
}

impl Default for VicRegOptions {
    fn default() -> Self {
        VicRegOptions { invariance: 25., variance: 25., covariance: 1., epsilon: 1e-4 }
    }
}

fn check(op: &'static str, a: &Var, b: &Var) -> Result<(f64, f64)> {
    let ([n, d], same) = (a.value().shape(), a.value().shape() == b.value().shape()) else {
        let got = format!("shape {:?}", a.value().shape());
        return Err(Error::argument(op, "a", "two axes", got));
    };
    if !same {
        let got = format!("{:?}", b.value().shape());
        return Err(Error::argument(op, "b", format!("shape [{n}, {d}]"), got));
    }
    if *n < 2 || *d == 0 {
        let got = format!("shape [{n}, {d}]");
        return Err(Error::argument(op, "a", "at least two rows and one feature", got));
    }
    Ok((*n as f64, *d as f64))
}

fn mean_over_rows(tape: &Tape, x: &Var) -> Result<Var> {
    tape.apply(&REDUCE, ReduceOptions { kind: Reduce::Mean, axis: 0, keep_axis: true }, &[x])
}

fn square(tape: &Tape, x: &Var) -> Result<Var> {
    binary(tape, Binary::Mul, x, x)
}

fn scaled(tape: &Tape, x: &Var, c: f64) -> Result<Var> {
    unary(tape, Unary::Scale(c), x)
}

/// `aᵀ b` times a number: features by features.
fn cross(tape: &Tape, a: &Var, b: &Var, scale: f64) -> Result<Var> {
    tape.apply(&MATMUL, MatmulOptions { transpose_a: true, scale, ..Default::default() }, &[a, b])
}

/// The squares off the diagonal of `c [d, d]`, summed, where the diagonal is `diagonal [d]`.
fn off_diagonal(tape: &Tape, c: &Var, diagonal: &Var) -> Result<Var> {
    let (all, own) = (sum_all(tape, &square(tape, c)?)?, sum(tape, &square(tape, diagonal)?, 0)?);
    binary(tape, Binary::Sub, &all, &own)
}

/// VICReg (Bardes et al., 2022) of `a [n, d]` and `b [n, d]`, a scalar:
/// `λ mean (a − b)² + μ/2 Σ_side mean_j [1 − √(var_j + ε)]₊ + ν Σ_side (1/d) Σ_{j≠k} cov_jk²`, variances and covariances
/// over n − 1.
///
/// Errors: fewer than two rows; shapes, types or devices differ.
///
/// ```
/// use crossmodal::{Device, Tensor, autograd::Tape, losses::{VicRegOptions, vicreg}};
/// let tape = Tape::new();
/// let a = tape.leaf(&Tensor::from_slice(&Device::Cpu, &[2, 1], &[-1f64, 1.])?);
/// let b = tape.leaf(&Tensor::from_slice(&Device::Cpu, &[2, 1], &[1f64, -1.])?);
/// let loss = vicreg(&tape, &a, &b, &VicRegOptions::default())?; // they vary by √2, and disagree
/// assert_eq!(loss.value().item()?, 25. * 4.);
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn vicreg(tape: &Tape, a: &Var, b: &Var, options: &VicRegOptions) -> Result<Var> {
    let (n, d) = check("vicreg", a, b)?;
    let difference = binary(tape, Binary::Sub, a, b)?;
    let agree = sum_all(tape, &square(tape, &difference)?)?;
    let mut loss = scaled(tape, &agree, options.invariance / (n * d))?;
    for side in [a, b] {
        let centred = binary(tape, Binary::Sub, side, &mean_over_rows(tape, side)?)?;
        let variances = scaled(tape, &sum(tape, &square(tape, &centred)?, 0)?, 1. / (n - 1.))?;
        let deviations = unary(tape, Unary::Power(0.5), &add_number(tape, &variances, options.epsilon)?)?;
        let short = add_number(tape, &scaled(tape, &deviations, -1.)?, 1.)?;
        let short = sum(tape, &unary(tape, Unary::Relu, &short)?, 0)?;
        let covariances = cross(tape, &centred, &centred, 1. / (n - 1.))?;
        let repeat = off_diagonal(tape, &covariances, &variances)?;
        for (part, weight) in [(short, 0.5 * options.variance / d), (repeat, options.covariance / d)] {
            loss = binary(tape, Binary::Add, &loss, &scaled(tape, &part, weight)?)?;
        }
    }
    Ok(loss)
}

/// Barlow Twins (Zbontar et al., 2021) of `a [n, d]` and `b [n, d]`, a scalar: `Σ_j (1 − C_jj)² + λ Σ_{j≠k} C_jk²`, C the
/// correlations of a's features with b's over the rows. λ = 0.0051 in the paper. A feature that does not vary correlates
/// with nothing.
///
/// Errors: fewer than two rows; shapes, types or devices differ.
///
/// ```
/// use crossmodal::{Device, Tensor, autograd::Tape, losses::barlow_twins};
/// let tape = Tape::new();
/// let a = tape.leaf(&Tensor::from_slice(&Device::Cpu, &[2, 1], &[0f64, 2.])?);
/// let b = tape.leaf(&Tensor::from_slice(&Device::Cpu, &[2, 1], &[7f64, 5.])?);
/// let loss = barlow_twins(&tape, &a, &b, 0.0051)?; // a correlation of -1
/// assert!((loss.value().item()? - 4.).abs() < 1e-6);
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn barlow_twins(tape: &Tape, a: &Var, b: &Var, lambda: f64) -> Result<Var> {
    let (n, _) = check("barlow_twins", a, b)?;
    let centred = |side: &Var| binary(tape, Binary::Sub, side, &mean_over_rows(tape, side)?);
    let standardised = |side: &Var| -> Result<Var> {
        // Twice: the rounded mean of a constant is not the constant, and what is left of it would count as its variance.
        let centred = centred(&centred(side)?)?;
        let variances = mean_over_rows(tape, &square(tape, &centred)?)?;
        // The least that the type holds and that keeps a constant feature at 0 instead of 0/0.
        let least = if side.dtype() == DType::F16 { 1e-6 } else { 1e-12 };
        let safe = add_number(tape, &variances, least)?;
        binary(tape, Binary::Mul, &centred, &unary(tape, Unary::Power(-0.5), &safe)?)
    };
    let (a, b) = (standardised(a)?, standardised(b)?);
    let own = scaled(tape, &sum(tape, &binary(tape, Binary::Mul, &a, &b)?, 0)?, 1. / n)?;
    let apart = off_diagonal(tape, &cross(tape, &a, &b, 1. / n)?, &own)?;
    let short = sum(tape, &square(tape, &add_number(tape, &own, -1.)?)?, 0)?;
    binary(tape, Binary::Add, &short, &scaled(tape, &apart, lambda)?)
}
