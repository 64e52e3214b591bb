//! Gradients scaled down together.

/// The tensors times `min(1, max_norm / norm)`, and the norm of all their elements together.
///
/// ```
/// let (clipped, norm) = crossmodal::reference::clip_global_norm(&[&[3.], &[4.]], 2.5);
/// assert_eq!((clipped, norm), (vec![vec![1.5], vec![2.]], 5.));
/// ```
pub fn clip_global_norm(tensors: &[&[f64]], max_norm: f64) -> (Vec<Vec<f64>>, f64) {
    let values = || tensors.iter().flat_map(|t| t.iter());
    let largest = values().fold(0., |m: f64, v| m.max(v.abs()));
    let scale = if largest == 0. { 1. } else { largest };
    let norm = largest * values().fold(0., |sum, v| sum + (v / scale) * (v / scale)).sqrt();
    let factor = if norm <= max_norm { 1. } else { max_norm / norm };
    (tensors.iter().map(|t| t.iter().map(|v| v * factor).collect()).collect(), norm)
}
