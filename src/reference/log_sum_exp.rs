//! Log-sum-exp with the maximum subtracted.

/// Log-sum-exp of one row: −∞ for an empty one.
pub(super) fn lse(row: &[f64]) -> f64 {
    let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if max == f64::NEG_INFINITY {
        return max;
    }
    max + row.iter().map(|v| (v - max).exp()).sum::<f64>().ln()
}

/// Log-sum-exp of each row of `cols` columns.
///
/// ```
/// assert_eq!(crossmodal::reference::log_sum_exp(&[1000., 1000.], 2), [1000. + 2f64.ln()]);
/// ```
pub fn log_sum_exp(x: &[f64], cols: usize) -> Vec<f64> {
    x.chunks(cols.max(1)).map(lse).collect()
}

/// `dx = g softmax(x)` of each row.
///
/// ```
/// let dx = crossmodal::reference::log_sum_exp_backward(&[7., 7.], &[3.], 2);
/// assert!(dx.iter().all(|v| (v - 1.5).abs() < 1e-14));
/// ```
pub fn log_sum_exp_backward(x: &[f64], grad: &[f64], cols: usize) -> Vec<f64> {
    let rows = x.chunks(cols.max(1)).zip(grad);
    rows.flat_map(|(row, g)| super::softmax(row, cols).into_iter().map(move |p| g * p)).collect()
}
