//! Permuting axes, and repeating them.

use crate::shape::{count, for_each_offset};

/// `out[index] = x[Σ strides · index]` for every index of `shape`: a permutation of axes, or with a stride of
/// 0 a broadcast.
///
/// ```
/// use crossmodal::reference::strided_copy;
/// assert_eq!(strided_copy(&[1., 2., 3., 4.], &[2, 2], &[1, 2]), [1., 3., 2., 4.]); // transposed
/// assert_eq!(strided_copy(&[1., 2.], &[2, 2], &[0, 1]), [1., 2., 1., 2.]); // repeated
/// ```
pub fn strided_copy(x: &[f64], shape: &[usize], strides: &[usize]) -> Vec<f64> {
    let mut out = Vec::with_capacity(count(shape));
    for_each_offset(shape, [strides], |[at]| out.push(x[at]));
    out
}
