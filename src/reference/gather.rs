//! Rows picked by index.

/// `out[i] = x[indices[i]]`, rows of `width` elements.
pub fn gather<T: Copy>(x: &[T], indices: &[u32], width: usize) -> Vec<T> {
    let mut out = Vec::with_capacity(indices.len() * width);
    indices.iter().for_each(|&row| out.extend_from_slice(&x[row as usize * width..][..width]));
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
