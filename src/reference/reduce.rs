//! Sum, mean and maximum over one axis.

/// What an axis is reduced to.
///
/// ```
/// use crossmodal::reference::{Reduce, reduce};
/// let columns = |kind| reduce(kind, &[1., 2., 3., 6.], (1, 2, 2));
/// assert_eq!(columns(Reduce::Sum), [4., 8.]);
/// assert_eq!((columns(Reduce::Mean), columns(Reduce::Max)), (vec![2., 4.], vec![3., 6.]));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reduce {
    /// The sum; 0 of nothing.
    Sum,
    /// The mean.
    Mean,
    /// The maximum. Its gradient goes to the first place that attains it.
    Max,
}

/// `x [outer, axis, inner]` to `[outer, inner]`. Example: [`Reduce`].
pub fn reduce(kind: Reduce, x: &[f64], (outer, axis, inner): (usize, usize, usize)) -> Vec<f64> {
    let start = if kind == Reduce::Max { f64::NEG_INFINITY } else { 0. };
    let mut out = vec![start; outer * inner];
    for (o, row) in out.chunks_mut(inner.max(1)).enumerate() {
        for a in 0..axis {
            for (value, &v) in row.iter_mut().zip(&x[(o * axis + a) * inner..][..inner]) {
                *value = match kind {
                    Reduce::Max if v > *value || v.is_nan() => v,
                    Reduce::Max => *value,
                    Reduce::Sum | Reduce::Mean => *value + v,
                };
            }
        }
    }
    if kind == Reduce::Mean {
        out.iter_mut().for_each(|v| *v /= axis as f64);
    }
    out
}

/// The gradient of a maximum: that of each result to the first place that attains it, 0 elsewhere.
///
/// ```
/// assert_eq!(crossmodal::reference::max_backward(&[1., 7., 7.], &[2.], (1, 3, 1)), [0., 2., 0.]);
/// ```
pub fn max_backward(x: &[f64], grad: &[f64], (outer, axis, inner): (usize, usize, usize)) -> Vec<f64> {
    let mut dx = vec![0.; x.len()];
    for o in 0..outer {
        for i in 0..inner {
            let at = |a: usize| (o * axis + a) * inner + i;
            let first = (0..axis).reduce(|best, a| if x[at(a)] > x[at(best)] { a } else { best });
            if let Some(a) = first {
                dx[at(a)] = grad[o * inner + i];
            }
        }
    }
    dx
}
