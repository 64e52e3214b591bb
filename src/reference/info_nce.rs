//! InfoNCE with the logits written out: for verification, at sizes where N×M is small.

use super::log_sum_exp::lse;

/// The sizes of a contrastive loss: `x [n, d]`, `y [m, d]`, the positive of row i is column i.
///
/// ```
/// use crossmodal::reference::{InfoNce, info_nce, info_nce_backward};
/// let (x, size) = ([1., 0., 0., 1.], InfoNce { n: 2, m: 2, d: 2, symmetric: true });
/// assert!((info_nce(&x, &x, 0., size) - (1. + (-1f64).exp()).ln()).abs() < 1e-15);
/// let (_, _, log_scale) = info_nce_backward(&x, &x, 0., 1., size);
/// assert!(log_scale < 0.);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InfoNce {
    /// Rows of x.
    pub n: usize,
    /// Rows of y: n, or more when one-way, the others being negatives only.
    pub m: usize,
    /// Features.
    pub d: usize,
    /// Whether columns are scored against rows too.
    pub symmetric: bool,
}

impl InfoNce {
    /// The blocks of the logits in order: (first row, rows, first column, columns). Both devices cut alike.
    /// Example: [`InfoNce::block_size`].
    pub fn blocks(self, scratch_bytes: usize) -> impl Iterator<Item = (usize, usize, usize, usize)> {
        let (rows, cols) = self.block_size(scratch_bytes);
        let starts = move |whole: usize, each: usize| {
            (0..whole).step_by(each).map(move |at| (at, each.min(whole - at)))
        };
        starts(self.n, rows)
            .flat_map(move |(r, rows)| starts(self.m, cols).map(move |(c, cols)| (r, rows, c, cols)))
    }

    /// Rows and columns of a block of f32 in a scratch memory: nearly square, because thin products are slow; at least 1 × 1
    /// whatever the budget.
    ///
    /// ```
    /// use crossmodal::reference::InfoNce;
    /// let size = InfoNce { n: 100, m: 100, d: 8, symmetric: true };
    /// assert_eq!(size.block_size(4 * 64), (8, 8));
    /// assert_eq!(size.blocks(1 << 20).collect::<Vec<_>>(), [(0, 100, 0, 100)]);
    /// ```
    pub fn block_size(self, scratch_bytes: usize) -> (usize, usize) {
        let elements = (scratch_bytes / 4).max(1);
        let side = elements.isqrt().max(1);
        let rows = self.n.min(side);
        let cols = self.m.min(elements / rows).max(1);
        (self.n.min(elements / cols).max(1), cols)
    }
}

fn logits(x: &[f64], y: &[f64], log_scale: f64, size: InfoNce) -> Vec<f64> {
    let scale = log_scale.exp();
    let dot =
        |i: usize, j: usize| -> f64 { (0..size.d).map(|k| x[i * size.d + k] * y[j * size.d + k]).sum() };
    (0..size.n).flat_map(|i| (0..size.m).map(move |j| scale * dot(i, j))).collect()
}

fn column(logits: &[f64], j: usize, size: InfoNce) -> Vec<f64> {
    (0..size.n).map(|i| logits[i * size.m + j]).collect()
}

/// `mean_i(lse_j L_ij − L_ii)`, or the mean of that and of the same over columns; `L = eᵗ X Yᵀ`, `t` =
/// `log_scale`. Example: [`InfoNce`].
pub fn info_nce(x: &[f64], y: &[f64], log_scale: f64, size: InfoNce) -> f64 {
    let logits = logits(x, y, log_scale, size);
    let loss = |i: usize| {
        let row = lse(&logits[i * size.m..][..size.m]) - logits[i * size.m + i];
        if !size.symmetric {
            return row;
        }
        0.5 * (row + lse(&column(&logits, i, size)) - logits[i * size.m + i])
    };
    (0..size.n).map(loss).sum::<f64>() / size.n as f64
}

/// Gradients of x, of y and of the logarithm of the scale, for an upstream gradient `upstream` of the loss.
/// Example: [`InfoNce`].
pub fn info_nce_backward(
    x: &[f64],
    y: &[f64],
    log_scale: f64,
    upstream: f64,
    size: InfoNce,
) -> (Vec<f64>, Vec<f64>, f64) {
    let InfoNce { n, m, d, symmetric } = size;
    let logits = logits(x, y, log_scale, size);
    let columns: Vec<f64> = (0..m).map(|j| lse(&column(&logits, j, size))).collect();
    let (mut dx, mut dy, mut dt) = (vec![0.; n * d], vec![0.; m * d], 0.);
    for i in 0..n {
        let row = lse(&logits[i * m..][..m]);
        for j in 0..m {
            let logit = logits[i * m + j];
            let p_row = (logit - row).exp();
            let p = if symmetric { 0.5 * (p_row + (logit - columns[j]).exp()) } else { p_row };
            let g = upstream * (p - f64::from(i == j)) / n as f64;
            dt += g * logit;
            for k in 0..d {
                dx[i * d + k] += g * log_scale.exp() * y[j * d + k];
                dy[j * d + k] += g * log_scale.exp() * x[i * d + k];
            }
        }
    }
    (dx, dy, dt)
}
