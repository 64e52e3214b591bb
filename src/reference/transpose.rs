//! Permuting axes, and repeating them.

use crate::shape::{count, for_each_offset};

/// `out[index] = x[Σ strides · index]` for every index of `shape`: a permutation of axes, or with a stride of 0 a broadcast.
pub fn strided_copy(x: &[f64], shape: &[usize], strides: &[usize]) -> Vec<f64> {
    let mut out = Vec::with_capacity(count(shape));
    for_each_offset(shape, [strides], |[at]| out.push(x[at]));
    out
}
