//! Rows picked by index.

use rayon::prelude::*;

/// Copies that are not worth a task of their own.
const ROWS_PER_TASK: usize = 64;

/// `out[i] = x[indices[i]]`, rows of `width` elements.
///
/// ```
/// assert_eq!(crossmodal::reference::gather(&[10., 20., 30.], &[2, 0, 2], 1), [30., 10., 30.]);
/// ```
pub fn gather<T: Copy + Default + Send + Sync>(x: &[T], indices: &[u32], width: usize) -> Vec<T> {
    let mut out = vec![T::default(); indices.len() * width];
    if width > 0 {
        let rows = out.par_chunks_mut(width).zip(indices).with_min_len(ROWS_PER_TASK);
        rows.for_each(|(out, &row)| out.copy_from_slice(&x[row as usize * width..][..width]));
    }
    out
}

/// `dx[v] = Σ g[i]` over `indices[i] = v`, in the order of `i`, for `rows` rows of `width` elements.
///
/// ```
/// let dx = crossmodal::reference::gather_backward(&[1., 2., 4.], &[2, 0, 2], 3, 1);
/// assert_eq!(dx, [2., 0., 5.]);
/// ```
pub fn gather_backward(grad: &[f64], indices: &[u32], rows: usize, width: usize) -> Vec<f64> {
    let mut dx = vec![0.; rows * width];
    for (i, &row) in indices.iter().enumerate() {
        for j in 0..width {
            dx[row as usize * width + j] += grad[i * width + j];
        }
    }
    dx
}
