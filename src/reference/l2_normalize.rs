//! Rows of length one.

/// `x / ‖x‖` of each row of `cols` columns, with the norms; 0 for the zero row. Scaled by the largest entry first, so that
/// tiny and huge rows are exact.
///
/// ```
/// let (y, norms) = crossmodal::reference::l2_normalize(&[3., 4., 0., 0.], 2);
/// assert_eq!((y, norms), (vec![0.6, 0.8, 0., 0.], vec![5., 0.]));
/// ```
pub fn l2_normalize(x: &[f64], cols: usize) -> (Vec<f64>, Vec<f64>) {
    let (mut out, mut norms) = (Vec::with_capacity(x.len()), vec![]);
    for row in x.chunks(cols.max(1)) {
        let largest = row.iter().fold(0., |m: f64, v| m.max(v.abs()));
        let scale = if largest == 0. { 1. } else { largest };
        let root = row.iter().map(|v| (v / scale) * (v / scale)).sum::<f64>().sqrt();
        let divisor = if largest == 0. { 1. } else { root };
        out.extend(row.iter().map(|v| v / scale / divisor));
        norms.push(largest * root);
    }
    (out, norms)
}

/// `dx = (g − y ⟨y, g⟩) / ‖x‖` of each row, 0 for the zero row.
///
/// ```
/// let dx = crossmodal::reference::l2_normalize_backward(&[1., 0.], &[2.], &[1., 1.], 2);
/// assert_eq!(dx, [0., 0.5]);
/// ```
pub fn l2_normalize_backward(y: &[f64], norms: &[f64], grad: &[f64], cols: usize) -> Vec<f64> {
    let mut dx = Vec::with_capacity(y.len());
    for ((y, g), &norm) in y.chunks(cols.max(1)).zip(grad.chunks(cols.max(1))).zip(norms) {
        let dot: f64 = y.iter().zip(g).map(|(y, g)| y * g).sum();
        dx.extend(y.iter().zip(g).map(|(y, g)| if norm == 0. { 0. } else { (g - y * dot) / norm }));
    }
    dx
}
