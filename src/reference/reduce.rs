//! Sum, mean and maximum over one axis.

/// What an axis is reduced to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reduce {
    /// The sum; 0 of nothing.
    Sum,
    /// The mean.
    Mean,
    /// The maximum. Its gradient goes to the first place that attains it.
    Max,
}

/// `x [outer, axis, inner]` to `[outer, inner]`.
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

/// The gradient of a maximum.
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
