//! The sigmoid loss with the logits written out.

use super::codes::same_class;
use super::{Codes, Reduction, Unary};

/// A sigmoid loss over the logits `L = eᵗ X Yᵀ + b [n, m]`: `Σ_ij softplus(−z_ij L_ij)`, z = 1 where row and column are of
/// one class, else −1.
///
/// ```
/// use crossmodal::reference::{Codes, Reduction, Siglip, siglip};
/// let problem = Siglip { n: 1, m: 1, d: 1, rows: Codes::Index, cols: Codes::Index, reduction: Reduction::Mean };
/// assert!((siglip(&[1.], &[1.], 0., -1., &problem)[0] - 2f64.ln()).abs() < 1e-15); // L = 0
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Siglip {
    /// Rows of x.
    pub n: usize,
    /// Rows of y.
    pub m: usize,
    /// Features.
    pub d: usize,
    /// The codes of the rows.
    pub rows: Codes,
    /// Those of the columns.
    pub cols: Codes,
    /// What becomes of the losses of rows.
    pub reduction: Reduction,
}

impl Siglip {
    /// Whether row i and column j belong together; none where one of them is masked.
    pub(crate) fn is_pair(&self, i: usize, j: usize) -> Option<bool> {
        let is_there = !self.rows.masks(i) && !self.cols.masks(j);
        is_there.then_some(same_class(self.rows.at(i), self.cols.at(j)))
    }

    /// What the loss of a row is multiplied by: for a mean, one over the rows that count.
    pub(crate) fn weight(&self) -> f64 {
        match self.reduction {
            Reduction::Mean => 1. / (0..self.n).filter(|&i| !self.rows.masks(i)).count().max(1) as f64,
            Reduction::Sum | Reduction::None => 1.,
        }
    }
}

fn logit(x: &[f64], y: &[f64], d: usize, (i, j): (usize, usize)) -> f64 {
    x[i * d..][..d].iter().zip(&y[j * d..][..d]).map(|(a, b)| a * b).sum()
}

/// The loss, or the losses of the rows. Example: [`Siglip`].
pub fn siglip(x: &[f64], y: &[f64], log_scale: f64, bias: f64, problem: &Siglip) -> Vec<f64> {
    let term = |i: usize, j: usize| {
        let l = || log_scale.exp() * logit(x, y, problem.d, (i, j)) + bias;
        problem.is_pair(i, j).map_or(0., |pair| Unary::Softplus.apply(if pair { -l() } else { l() }))
    };
    let rows = (0..problem.n).map(|i| (0..problem.m).map(|j| term(i, j)).sum::<f64>());
    if problem.reduction == Reduction::None {
        return rows.collect();
    }
    vec![rows.sum::<f64>() * problem.weight()]
}

/// Gradients of x, y, the logarithm of the scale and the bias, for an upstream gradient of each of the loss's elements.
/// Example: [`siglip`].
pub fn siglip_backward(
    x: &[f64],
    y: &[f64],
    log_scale: f64,
    bias: f64,
    upstream: &[f64],
    problem: &Siglip,
) -> [Vec<f64>; 4] {
    let Siglip { n, m, d, .. } = *problem;
    let (mut dx, mut dy, mut dt, mut db) = (vec![0.; n * d], vec![0.; m * d], 0., 0.);
    for (i, j) in (0..n).flat_map(|i| (0..m).map(move |j| (i, j))) {
        let Some(pair) = problem.is_pair(i, j) else { continue };
        let scaled = log_scale.exp() * logit(x, y, d, (i, j));
        let up = upstream[if problem.reduction == Reduction::None { i } else { 0 }];
        let sigmoid = Unary::Sigmoid.apply(if pair { -(scaled + bias) } else { scaled + bias });
        let g = up * problem.weight() * if pair { -sigmoid } else { sigmoid };
        dt += g * scaled;
        db += g;
        for f in 0..d {
            dx[i * d + f] += g * log_scale.exp() * y[j * d + f];
            dy[j * d + f] += g * log_scale.exp() * x[i * d + f];
        }
    }
    [dx, dy, vec![dt], vec![db]]
}
