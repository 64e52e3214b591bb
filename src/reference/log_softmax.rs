//! Log-softmax: `x − lse`.

use super::log_sum_exp::lse;

/// Log-softmax of each row of `cols` columns.
///
/// ```
/// assert_eq!(crossmodal::reference::log_softmax(&[0., -1000.], 2), [0., -1000.]);
/// ```
pub fn log_softmax(x: &[f64], cols: usize) -> Vec<f64> {
    let row = |row: &[f64]| {
        let lse = lse(row);
        row.iter().map(|v| v - lse).collect::<Vec<_>>()
    };
    x.chunks(cols.max(1)).flat_map(row).collect()
}

/// `dx = g − exp(y) Σg` of each row, from the result `y` and its gradient.
///
/// ```
/// let dx = crossmodal::reference::log_softmax_backward(&[0.5f64.ln(); 2], &[1., 0.], 2);
/// assert!((dx[0] - 0.5).abs() < 1e-15 && (dx[1] + 0.5).abs() < 1e-15);
/// ```
pub fn log_softmax_backward(y: &[f64], grad: &[f64], cols: usize) -> Vec<f64> {
    let row = |(y, g): (&[f64], &[f64])| {
        let sum: f64 = g.iter().sum();
        y.iter().zip(g).map(|(y, g)| g - y.exp() * sum).collect::<Vec<_>>()
    };
    y.chunks(cols.max(1)).zip(grad.chunks(cols.max(1))).flat_map(row).collect()
}
