//! The batched matrix product.

use crate::shape::{count, for_each_offset};

/// Sizes and strides, in elements, of `out[batch, m, n] = A[batch, m, k] B[batch, k, n]`; out is row-major.
///
/// ```
/// use crossmodal::reference::{MatmulShape, matmul};
/// // The same A twice, with two different B.
/// let (batch, a_batch, b_batch) = (vec![2], vec![0], vec![2]);
/// let shape =
///     MatmulShape { m: 1, n: 1, k: 2, batch, a_batch, b_batch, a_strides: (2, 1), b_strides: (1, 1) };
/// assert_eq!(matmul(&[1., 2.], &[3., 4., 5., 6.], &shape), [11., 17.]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MatmulShape {
    /// Rows of A and of the product.
    pub m: usize,
    /// Columns of B and of the product.
    pub n: usize,
    /// Columns of A, rows of B.
    pub k: usize,
    /// The batch axes.
    pub batch: Vec<usize>,
    /// A's strides along the batch axes, 0 where it repeats.
    pub a_batch: Vec<usize>,
    /// B's strides along the batch axes.
    pub b_batch: Vec<usize>,
    /// A's strides along (m, k).
    pub a_strides: (usize, usize),
    /// B's strides along (k, n).
    pub b_strides: (usize, usize),
}

impl MatmulShape {
    /// Calls `visit` with the offsets of each matrix of A, of B and of the product, in order.
    ///
    /// ```
    /// use crossmodal::reference::MatmulShape;
    /// let (batch, a_batch, b_batch) = (vec![2], vec![8], vec![0]);
    /// let shape = MatmulShape { m: 2, n: 3, k: 4, batch, a_batch, b_batch, ..Default::default() };
    /// let mut seen = vec![];
    /// shape.for_each_matrix(|a, b, out| seen.push((a, b, out)));
    /// assert_eq!(seen, [(0, 0, 0), (8, 0, 6)]);
    /// ```
    pub fn for_each_matrix(&self, mut visit: impl FnMut(usize, usize, usize)) {
        let mut at = 0;
        for_each_offset(&self.batch, [&self.a_batch, &self.b_batch], |[a, b]| {
            visit(a, b, at);
            at += self.m * self.n;
        });
    }
}

/// The product alone: scale, bias and activation are the caller's. Example: [`MatmulShape`].
pub fn matmul(a: &[f64], b: &[f64], shape: &MatmulShape) -> Vec<f64> {
    let MatmulShape { m, n, k, .. } = *shape;
    let ((a_row, a_col), (b_row, b_col)) = (shape.a_strides, shape.b_strides);
    let mut out = vec![0.; count(&shape.batch) * m * n];
    shape.for_each_matrix(|a_at, b_at, at| {
        for i in 0..m {
            let row = &mut out[at + i * n..][..n];
            for p in 0..k {
                let left = a[a_at + i * a_row + p * a_col];
                for (j, value) in row.iter_mut().enumerate() {
                    *value += left * b[b_at + p * b_row + j * b_col];
                }
            }
        }
    });
    out
}
