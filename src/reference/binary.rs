//! Elementwise arithmetic with broadcasting.

use crate::shape::{broadcast_strides, count, for_each_offset};

/// An elementwise operation of two tensors.
///
/// ```
/// use crossmodal::reference::{Binary, binary};
/// assert_eq!(binary(Binary::Sub, (&[5., 7.], &[2]), (&[1.], &[1]), &[2]), [4., 6.]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binary {
    /// `a + b`.
    Add,
    /// `a − b`.
    Sub,
    /// `a b`.
    Mul,
}

/// `out = a op b`, both broadcast to `shape`. Example: [`Binary`].
pub fn binary(kind: Binary, a: (&[f64], &[usize]), b: (&[f64], &[usize]), shape: &[usize]) -> Vec<f64> {
    let mut out = Vec::with_capacity(count(shape));
    let strides = [a.1, b.1].map(|own| broadcast_strides(own, shape));
    for_each_offset(shape, [&strides[0], &strides[1]], |[i, j]| {
        out.push(match kind {
            Binary::Add => a.0[i] + b.0[j],
            Binary::Sub => a.0[i] - b.0[j],
            Binary::Mul => a.0[i] * b.0[j],
        });
    });
    out
}
