//! Shapes: row-major sizes, strides and broadcasting. Plain functions on slices.

use crate::error::{Error, Result};

/// The largest number of axes a tensor may have; kernels carry shapes of this size in their parameters.
pub const MAX_RANK: usize = 8;

/// The number of elements: the product of the sizes, 1 for a scalar `[]`.
pub fn count(shape: &[usize]) -> usize {
    shape.iter().product()
}

/// Row-major strides in elements.
pub fn strides(shape: &[usize]) -> Vec<usize> {
    let mut out = vec![1; shape.len()];
    for axis in (0..shape.len().saturating_sub(1)).rev() {
        out[axis] = out[axis + 1] * shape[axis + 1];
    }
    out
}

/// The shape two shapes broadcast to: aligned at the last axis, an axis of 1 stretches.
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

/// The strides with which a tensor of `shape` is read at every index of `full`, to which it broadcasts: 0 where it stretches.
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

/// A shape seen around one axis: the product before it, its size, the product behind it.
pub fn around(shape: &[usize], axis: usize) -> (usize, usize, usize) {
    (count(&shape[..axis]), shape[axis], count(&shape[axis + 1..]))
}

/// A matrix view of the last axis: (rows, columns). A scalar is refused.
pub fn rows_cols(op: &'static str, argument: &'static str, shape: &[usize]) -> Result<(usize, usize)> {
    match shape.split_last() {
        Some((cols, rest)) => Ok((count(rest), *cols)),
        None => Err(Error::argument(op, argument, "at least one axis", "a scalar")),
    }
}

/// An axis counted from the front (`0…`) checked against a shape.
pub fn check_axis(op: &'static str, shape: &[usize], axis: usize) -> Result<()> {
    if axis < shape.len() {
        return Ok(());
    }
    Err(Error::argument(op, "axis", format!("less than {} for shape {shape:?}", shape.len()), axis))
}

/// Walks every index of `shape` in row-major order and calls `visit` with the offsets that the given strides give.
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
