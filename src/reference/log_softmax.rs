//! Log-softmax: `x − lse`.

use super::log_sum_exp::lse;

/// Log-softmax of each row of `cols` columns.
pub fn log_softmax(x: &[f64], cols: usize) -> Vec<f64> {
    let row = |row: &[f64]| {
        let lse = lse(row);
        row.iter().map(|v| v - lse).collect::<Vec<_>>()
    };
    x.chunks(cols.max(1)).flat_map(row).collect()
}

/// `dx = g − exp(y) Σg` of each row, from the result `y` and its gradient.
pub fn log_softmax_backward(y: &[f64], grad: &[f64], cols: usize) -> Vec<f64> {
    let row = |(y, g): (&[f64], &[f64])| {
        let sum: f64 = g.iter().sum();
        y.iter().zip(g).map(|(y, g)| g - y.exp() * sum).collect::<Vec<_>>()
    };
    y.chunks(cols.max(1)).zip(grad.chunks(cols.max(1))).flat_map(row).collect()
}
