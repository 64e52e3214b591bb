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
    let mut out = Vec::with_capacity(outer * inner);
    for o in 0..outer {
        for i in 0..inner {
            let values = (0..axis).map(|a| x[(o * axis + a) * inner + i]);
            out.push(match kind {
                Reduce::Sum => values.sum(),
                Reduce::Mean => values.sum::<f64>() / axis as f64,
                Reduce::Max => values.reduce(|a, b| if b > a || b.is_nan() { b } else { a }).unwrap_or(f64::NEG_INFINITY),
            });
        }
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
