//! Rows picked by index.

use rayon::prelude::*;

/// Copies that are not worth a task of their own.
const ROWS_PER_TASK: usize = 64;

/// `out[i] = x[indices[i]]`, rows of `width` elements.
pub fn gather<T: Copy + Default + Send + Sync>(x: &[T], indices: &[u32], width: usize) -> Vec<T> {
    let mut out = vec![T::default(); indices.len() * width];
    if width > 0 {
        let rows = out.par_chunks_mut(width).zip(indices).with_min_len(ROWS_PER_TASK);
        rows.for_each(|(out, &row)| out.copy_from_slice(&x[row as usize * width..][..width]));
    }
    out
}

/// `dx[v] = Σ g[i]` over `indices[i] = v`, in the order of `i`.
pub fn gather_backward(grad: &[f64], indices: &[u32], rows: usize, width: usize) -> Vec<f64> {
    let mut dx = vec![0.; rows * width];
    for (i, &row) in indices.iter().enumerate() {
        for j in 0..width {
            dx[row as usize * width + j] += grad[i * width + j];
        }
    }
    dx
}
