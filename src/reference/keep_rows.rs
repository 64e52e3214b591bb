/// The rows of x, `keep.len()` of them, zeros where `keep` is 0: whatever is in those, not 0 times it.
///
/// ```
/// assert_eq!(crossmodal::reference::keep_rows(&[1., 2., f64::NAN, 4.], &[1., 0.]), [1., 2., 0., 0.]);
/// ```
pub fn keep_rows(x: &[f64], keep: &[f64]) -> Vec<f64> {
    let cols = x.len() / keep.len().max(1);
    x.iter().enumerate().map(|(at, &v)| if keep[at / cols] == 1. { v } else { 0. }).collect()
}
