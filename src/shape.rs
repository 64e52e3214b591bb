//! Shapes: row-major sizes, strides and broadcasting. Plain functions on slices.
//!
//! ```
//! use crossmodal::shape::{broadcast, count, strides};
//! assert_eq!((count(&[2, 3]), strides(&[2, 3])), (6, vec![3, 1]));
//! assert_eq!(broadcast("example", &[2, 1], &[3])?, [2, 3]);
//! # Ok::<(), crossmodal::Error>(())
//! ```

use crate::error::{Error, Result};

/// The largest number of axes a tensor may have; kernels carry shapes of this size in their parameters.
///
/// ```
/// use crossmodal::{DType, Device, Tensor, shape::MAX_RANK};
/// assert!(Tensor::zeros(&Device::Cpu, &[1; MAX_RANK], DType::F32).is_ok());
/// assert!(Tensor::zeros(&Device::Cpu, &[1; MAX_RANK + 1], DType::F32).is_err());
/// ```
pub const MAX_RANK: usize = 8;

/// The number of elements: the product of the sizes, 1 for a scalar `[]`.
///
/// ```
/// use crossmodal::shape::count;
/// assert_eq!((count(&[2, 3]), count(&[]), count(&[2, 0])), (6, 1, 0));
/// ```
pub fn count(shape: &[usize]) -> usize {
    shape.iter().product()
}

/// Row-major strides in elements.
///
/// ```
/// assert_eq!(crossmodal::shape::strides(&[2, 3, 4]), [12, 4, 1]);
/// ```
pub fn strides(shape: &[usize]) -> Vec<usize> {
    let mut out = vec![1; shape.len()];
    for axis in (0..shape.len().saturating_sub(1)).rev() {
        out[axis] = out[axis + 1] * shape[axis + 1];
    }
    out
}

/// The shape two shapes broadcast to: aligned at the last axis, an axis of 1 stretches. `op` is named in
/// errors.
///
/// Errors: sizes of an axis differ and neither is 1.
///
/// ```
/// use crossmodal::shape::broadcast;
/// assert_eq!(broadcast("example", &[3, 1], &[4])?, [3, 4]);
/// assert!(broadcast("example", &[3], &[4]).is_err());
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn broadcast(op: &'static str, a: &[usize], b: &[usize]) -> Result<Vec<usize>> {
    let rank = a.len().max(b.len());
    let size = |shape: &[usize], axis: usize| (axis + shape.len()).checked_sub(rank).map_or(1, |i| shape[i]);
    (0..rank)
        .map(|axis| match (size(a, axis), size(b, axis)) {
            (x, y) if x == y => Ok(x),
            (1, y) => Ok(y),
            (x, 1) => Ok(x),
            _ => {
                Err(Error::argument(op, "b", format!("a shape that broadcasts with {a:?}"), format!("{b:?}")))
            }
        })
        .collect()
}

/// The strides with which a tensor of `shape` is read at every index of `full`, to which it broadcasts: 0
/// where it stretches. Panics if `full` has fewer axes.
///
/// ```
/// assert_eq!(crossmodal::shape::broadcast_strides(&[3, 1], &[2, 3, 4]), [0, 1, 0]);
/// ```
pub fn broadcast_strides(shape: &[usize], full: &[usize]) -> Vec<usize> {
    let own = strides(shape);
    let missing = full.len() - shape.len();
    (0..full.len())
        .map(|axis| match axis.checked_sub(missing) {
            Some(i) if shape[i] == full[axis] => own[i],
            _ => 0,
        })
        .collect()
}

/// A shape seen around one axis: the product before it, its size, the product behind it. Panics if there is
/// no such axis.
///
/// ```
/// assert_eq!(crossmodal::shape::around(&[2, 3, 4, 5], 1), (2, 3, 20));
/// ```
pub fn around(shape: &[usize], axis: usize) -> (usize, usize, usize) {
    (count(&shape[..axis]), shape[axis], count(&shape[axis + 1..]))
}

/// A matrix view of the last axis: (rows, columns). Errors: a scalar; `op` and `argument` are named in it.
///
/// ```
/// use crossmodal::shape::rows_cols;
/// assert_eq!(rows_cols("example", "x", &[2, 3, 4])?, (6, 4));
/// assert!(rows_cols("example", "x", &[]).is_err());
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn rows_cols(op: &'static str, argument: &'static str, shape: &[usize]) -> Result<(usize, usize)> {
    match shape.split_last() {
        Some((cols, rest)) => Ok((count(rest), *cols)),
        None => Err(Error::argument(op, argument, "at least one axis", "a scalar")),
    }
}

/// An axis counted from the front (`0…`) checked against a shape. Errors: there is no such axis.
///
/// ```
/// use crossmodal::shape::check_axis;
/// assert!(check_axis("example", &[2, 3], 1).is_ok() && check_axis("example", &[2, 3], 2).is_err());
/// ```
pub fn check_axis(op: &'static str, shape: &[usize], axis: usize) -> Result<()> {
    if axis < shape.len() {
        return Ok(());
    }
    Err(Error::argument(op, "axis", format!("less than {} for shape {shape:?}", shape.len()), axis))
}

/// Walks every index of `shape` in row-major order and calls `visit` with the offsets that the given strides give.
///
/// ```
/// let mut columns_first = vec![];
/// crossmodal::shape::for_each_offset(&[3, 2], [&[1, 3]], |[at]| columns_first.push(at));
/// assert_eq!(columns_first, [0, 3, 1, 4, 2, 5]);
/// ```
pub fn for_each_offset<const N: usize>(
    shape: &[usize],
    strides: [&[usize]; N],
    mut visit: impl FnMut([usize; N]),
) {
    let mut index = vec![0; shape.len()];
    let mut offsets = [0; N];
    for _ in 0..count(shape) {
        visit(offsets);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            for (offset, stride) in offsets.iter_mut().zip(strides) {
                *offset += stride[axis];
            }
            if index[axis] < shape[axis] {
                break;
            }
            for (offset, stride) in offsets.iter_mut().zip(strides) {
                *offset -= stride[axis] * shape[axis];
            }
            index[axis] = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broadcasting_follows_the_last_axis() {
        assert_eq!(broadcast("t", &[3, 1], &[4]).unwrap(), [3, 4]);
        assert_eq!(broadcast("t", &[], &[2, 0]).unwrap(), [2, 0]);
        assert!(broadcast("t", &[3], &[4]).is_err());
        assert_eq!(broadcast_strides(&[3, 1], &[2, 3, 4]), [0, 1, 0]);
    }

    #[test]
    fn offsets_walk_in_row_major_order() {
        let mut seen = vec![];
        for_each_offset(&[2, 3], [&[3, 1], &[1, 2]], |o| seen.push(o));
        assert_eq!(seen, [[0, 0], [1, 2], [2, 4], [3, 1], [4, 3], [5, 5]]);
    }
}
