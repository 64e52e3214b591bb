//! Softmax, log-softmax's sibling: `exp(x − lse)`.

use super::log_sum_exp::lse;

/// Softmax of each row of `cols` columns.
///
/// ```
/// assert_eq!(crossmodal::reference::softmax(&[5., f64::NEG_INFINITY], 2), [1., 0.]);
/// ```
pub fn softmax(x: &[f64], cols: usize) -> Vec<f64> {
    let row = |row: &[f64]| {
        let lse = lse(row);
        row.iter().map(|v| (v - lse).exp()).collect::<Vec<_>>()
    };
    x.chunks(cols.max(1)).flat_map(row).collect()
}

/// `dx = y (g − ⟨y, g⟩)` of each row, from the result `y` and its gradient.
///
/// ```
/// assert_eq!(crossmodal::reference::softmax_backward(&[0.5, 0.5], &[1., 0.], 2), [0.25, -0.25]);
/// ```
pub fn softmax_backward(y: &[f64], grad: &[f64], cols: usize) -> Vec<f64> {
    let row = |(y, g): (&[f64], &[f64])| {
        let dot: f64 = y.iter().zip(g).map(|(y, g)| y * g).sum();
        y.iter().zip(g).map(|(y, g)| y * (g - dot)).collect::<Vec<_>>()
    };
    y.chunks(cols.max(1)).zip(grad.chunks(cols.max(1))).flat_map(row).collect()
}
