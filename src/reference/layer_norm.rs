//! Rows of mean 0 and deviation one, and rows of root mean square one.

/// `(x − mean) / √(variance + ε) · weight + bias` of each row, as many columns as there are weights; without a bias where
/// there is none. The variance is that of the row itself, over n.
///
/// ```
/// let y = crossmodal::reference::layer_norm(&[1., 3., 7., 7.], &[1., 1.], Some(&[0., 5.]), 0.);
/// assert_eq!(y[..2], [-1., 6.]);
/// assert_eq!(crossmodal::reference::layer_norm(&[7., 7.], &[1., 1.], None, 1e-5), [0., 0.]);
/// ```
pub fn layer_norm(x: &[f64], weight: &[f64], bias: Option<&[f64]>, eps: f64) -> Vec<f64> {
    forward(true, x, weight, bias, eps)
}

/// `x / √(mean of squares + ε) · weight` of each row.
///
/// ```
/// assert_eq!(crossmodal::reference::rms_norm(&[2., -2.], &[1., 2.], 0.), [1., -2.]);
/// ```
pub fn rms_norm(x: &[f64], weight: &[f64], eps: f64) -> Vec<f64> {
    forward(false, x, weight, None, eps)
}

/// The gradients of x, of the weight and of the bias of [`layer_norm`], the latter two sums over rows: with `h = g · weight`
/// and `x̂` the row before weight and bias, `dx = (h − ⟨h⟩ − x̂ ⟨x̂ h⟩) / √(variance + ε)`, `⟨⟩` means over the row.
///
/// ```
/// let [dx, dw, db] = crossmodal::reference::layer_norm_backward(&[1., 3., 5.], &[1.; 3], &[1.; 3], 1.);
/// assert_eq!((dx, db), (vec![0.; 3], vec![1.; 3])); // the mean is taken away: it has no gradient
/// assert_eq!(dw[1], 0.);
/// ```
pub fn layer_norm_backward(x: &[f64], weight: &[f64], grad: &[f64], eps: f64) -> [Vec<f64>; 3] {
    backward(true, x, weight, grad, eps)
}

/// The gradients of x and of the weight of [`rms_norm`]: as [`layer_norm_backward`] without `⟨h⟩`.
///
/// ```
/// let [dx, dw] = crossmodal::reference::rms_norm_backward(&[2.], &[3.], &[1.], 0.);
/// assert_eq!((dx, dw), (vec![0.], vec![1.])); // the sign of one element does not change
/// ```
pub fn rms_norm_backward(x: &[f64], weight: &[f64], grad: &[f64], eps: f64) -> [Vec<f64>; 2] {
    let [dx, dw, _] = backward(false, x, weight, grad, eps);
    [dx, dw]
}

fn mean(values: impl Iterator<Item = f64>, count: usize) -> f64 {
    values.sum::<f64>() / count as f64
}

/// A row less its mean, or less 0, and what it is multiplied by. From the first element on: the mean of a row far from 0 keeps its
/// digits, and that of a constant row is exact.
fn standardised(centred: bool, row: &[f64], eps: f64) -> (Vec<f64>, f64) {
    let origin = if centred { row[0] } else { 0. };
    let offset = if centred { mean(row.iter().map(|v| v - origin), row.len()) } else { 0. };
    let away: Vec<_> = row.iter().map(|v| v - origin - offset).collect();
    let variance = mean(away.iter().map(|v| v * v), row.len());
    (away, 1. / (variance + eps).sqrt())
}

fn forward(centred: bool, x: &[f64], weight: &[f64], bias: Option<&[f64]>, eps: f64) -> Vec<f64> {
    let mut out = Vec::with_capacity(x.len());
    for row in x.chunks(weight.len().max(1)) {
        let (away, factor) = standardised(centred, row, eps);
        let offset = |col: usize| bias.map_or(0., |bias| bias[col]);
        out.extend(away.iter().zip(weight).enumerate().map(|(col, (v, w))| v * factor * w + offset(col)));
    }
    out
}

fn backward(centred: bool, x: &[f64], weight: &[f64], grad: &[f64], eps: f64) -> [Vec<f64>; 3] {
    let cols = weight.len();
    let (mut dx, mut dw, mut db) = (Vec::with_capacity(x.len()), vec![0.; cols], vec![0.; cols]);
    for (row, grad) in x.chunks(cols.max(1)).zip(grad.chunks(cols.max(1))) {
        let (away, factor) = standardised(centred, row, eps);
        let hat: Vec<_> = away.iter().map(|v| v * factor).collect();
        let h: Vec<_> = grad.iter().zip(weight).map(|(g, w)| g * w).collect();
        let of_h = if centred { mean(h.iter().copied(), cols) } else { 0. };
        let dot = mean(hat.iter().zip(&h).map(|(hat, h)| hat * h), cols);
        dx.extend(hat.iter().zip(&h).map(|(hat, h)| (h - of_h - hat * dot) * factor));
        for col in 0..cols {
            dw[col] += grad[col] * hat[col];
            db[col] += grad[col];
        }
    }
    [dx, dw, db]
}
