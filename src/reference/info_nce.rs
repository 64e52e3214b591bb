//! The softmax losses of contrastive learning with the logits written out: for verification, at sizes where N×M is small.

use super::codes::{Codes, same_class};
use super::log_sum_exp::lse;

/// How the losses of rows become one.
///
/// ```
/// use crossmodal::{Device, Tensor, ops::{InfoNceOptions, Reduction, info_nce}};
/// let x = Tensor::from_slice(&Device::Cpu, &[2, 2], &[1f32, 0., 0., 1.])?;
/// let options = InfoNceOptions { reduction: Reduction::None, ..Default::default() };
/// assert_eq!(info_nce(&x, &x, &Tensor::scalar(&Device::Cpu, 0f32)?, &options)?.shape(), [2]);
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reduction {
    /// The mean over the rows that count; in each direction over its own.
    #[default]
    Mean,
    /// The sum.
    Sum,
    /// A loss per row, 0 for one that does not count.
    None,
}

/// Where the targets of a row come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetKind {
    /// Rows and columns with the same code.
    Codes,
    /// Weights `[n, m]`.
    Soft,
    /// There are none: the loss is the log-sum-exp alone.
    None,
}

/// A softmax loss over the logits `L = eᵗ X Yᵀ [n, m]`, and `k` more columns that each row has to itself.
///
/// A *line*, a row or a column of L, has weights `T` over its entries, those that count scaled to sum to one. Its loss is
/// `lse_j Z_j − Σ_j T_j L_j`, where Z is L with a bonus for hard negatives, over the entries that are kept.
///
/// ```
/// use crossmodal::reference::{InfoNce, info_nce, info_nce_backward};
/// let (x, problem) = ([1., 0., 0., 1.], InfoNce::diagonal(2, 2, 2, true));
/// let loss = info_nce(&x, &x, 0., &[], &[], &problem);
/// assert!((loss[0] - (1. + (-1f64).exp()).ln()).abs() < 1e-15);
/// let gradients = info_nce_backward(&x, &x, 0., &[], &[], &[1.], &problem);
/// assert!(gradients.log_scale < 0.);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct InfoNce {
    /// Rows of x.
    pub n: usize,
    /// Rows of y.
    pub m: usize,
    /// Features.
    pub d: usize,
    /// Columns that each row has to itself.
    pub k: usize,
    /// Whether columns are scored against rows too.
    pub symmetric: bool,
    /// Where the targets come from.
    pub targets: TargetKind,
    /// The codes of the rows.
    pub rows: Codes,
    /// Those of the columns.
    pub cols: Codes,
    /// `ε`: the part of the target that is spread over all entries of a line.
    pub smoothing: f64,
    /// Whether positives are left out of the log-sum-exp (DCL).
    pub decoupled: bool,
    /// `α`: negatives' logits are larger by `α` times their similarity, of which no gradient is taken.
    pub hard_negatives: f64,
    /// Whether row i and column i are the same thing, which is then no partner of itself.
    pub exclude_self: bool,
    /// What becomes of the losses of rows.
    pub reduction: Reduction,
}

impl InfoNce {
    /// The plain loss: column i is the positive of row i, the other columns are its negatives. Example: [`InfoNce`].
    pub fn diagonal(n: usize, m: usize, d: usize, symmetric: bool) -> InfoNce {
        InfoNce {
            n,
            m,
            d,
            k: 0,
            symmetric,
            targets: TargetKind::Codes,
            rows: Codes::Index,
            cols: Codes::Index,
            smoothing: 0.,
            decoupled: false,
            hard_negatives: 0.,
            exclude_self: false,
            reduction: Reduction::Mean,
        }
    }

    /// Rows and columns of a block of logits, and the blocks: [`block_size`](super::block_size), [`blocks`](super::blocks).
    pub(crate) fn block_size(&self, scratch_bytes: usize) -> (usize, usize) {
        super::block_size((self.n, self.m), scratch_bytes)
    }

    pub(crate) fn blocks(&self, scratch_bytes: usize) -> impl Iterator<Item = super::LogitBlock> + use<> {
        super::blocks((self.n, self.m), scratch_bytes)
    }

    /// Whether the entry in row i and column j is one at all.
    pub(crate) fn keeps(&self, i: usize, j: usize) -> bool {
        !(self.rows.masks(i) || self.cols.masks(j) || (self.exclude_self && i == j))
    }

    /// The weight of column j among the targets of row i, before it is scaled.
    pub(crate) fn target(&self, soft: &[f64], i: usize, j: usize) -> f64 {
        match self.targets {
            TargetKind::Codes => f64::from(same_class(self.rows.at(i), self.cols.at(j))),
            TargetKind::Soft => soft[i * self.m + j],
            TargetKind::None => 0.,
        }
    }
}

/// One entry of a line.
#[derive(Clone, Copy)]
struct Entry {
    logit: f64,
    target: f64,
    kept: bool,
}

/// The loss of a line and its gradient by each logit; none for a line that does not count.
fn line(problem: &InfoNce, scale: f64, entries: &[Entry]) -> Option<(f64, Vec<f64>)> {
    let kept = || entries.iter().filter(|entry| entry.kept);
    let (mass, count) = (kept().map(|entry| entry.target).sum::<f64>(), kept().count() as f64);
    let counts = if problem.targets == TargetKind::None { count > 0. } else { mass > 0. };
    if !counts {
        return None;
    }
    let competes = |e: &Entry| e.kept && !(problem.decoupled && e.target > 0.);
    let bonus = |e: &Entry| {
        let none = e.target > 0. || problem.hard_negatives == 0.;
        if none { 0. } else { problem.hard_negatives * e.logit / scale }
    };
    let z: Vec<f64> = entries.iter().filter(|e| competes(e)).map(|e| e.logit + bonus(e)).collect();
    if z.is_empty() {
        return Some((0., vec![0.; entries.len()]));
    }
    let lse = lse(&z);
    let target = |e: &Entry| match (e.kept, problem.targets) {
        (false, _) | (_, TargetKind::None) => 0.,
        _ => (1. - problem.smoothing) * e.target / mass + problem.smoothing / count,
    };
    let probability = |e: &Entry| if competes(e) { (e.logit + bonus(e) - lse).exp() } else { 0. };
    let aimed: f64 = kept().map(|e| target(e) * e.logit).sum();
    Some((lse - aimed, entries.iter().map(|e| probability(e) - target(e)).collect()))
}

/// What the rows and the columns of a problem come to.
struct Lines {
    rows: Vec<Option<(f64, Vec<f64>)>>,
    cols: Vec<Option<(f64, Vec<f64>)>>,
    logits: Vec<f64>,
}

fn lines(x: &[f64], y: &[f64], log_scale: f64, extra: &[f64], soft: &[f64], problem: &InfoNce) -> Lines {
    let InfoNce { n, m, d, k, .. } = *problem;
    let scale = log_scale.exp();
    let dot = |i: usize, j: usize| -> f64 { (0..d).map(|f| x[i * d + f] * y[j * d + f]).sum() };
    let logits: Vec<f64> = (0..n * m).map(|at| scale * dot(at / m, at % m)).collect();
    let entry = |i: usize, j: usize| Entry {
        logit: logits[i * m + j],
        target: problem.target(soft, i, j),
        kept: problem.keeps(i, j),
    };
    let own = |i: usize, j: usize| Entry {
        logit: scale * extra[i * k + j],
        target: 0.,
        kept: !problem.rows.masks(i),
    };
    let row = |i: usize| (0..m).map(|j| entry(i, j)).chain((0..k).map(|j| own(i, j))).collect::<Vec<_>>();
    let rows = (0..n).map(|i| line(problem, scale, &row(i))).collect();
    let col = |j: usize| (0..n).map(|i| entry(i, j)).collect::<Vec<_>>();
    let columns = if problem.symmetric { m } else { 0 };
    let cols = (0..columns).map(|j| line(problem, scale, &col(j))).collect();
    Lines { rows, cols, logits }
}

/// What a direction's losses are multiplied by: half of it where there are two, over the lines that count for a mean.
fn weight(lines: &[Option<(f64, Vec<f64>)>], problem: &InfoNce) -> f64 {
    let half = if problem.symmetric { 0.5 } else { 1. };
    match problem.reduction {
        Reduction::Mean => half / lines.iter().flatten().count().max(1) as f64,
        Reduction::Sum | Reduction::None => half,
    }
}

/// The loss, or the losses of the rows. `extra [n, k]` are similarities, `soft [n, m]` the weights of soft targets; both may
/// be empty where there are none. Example: [`InfoNce`].
pub fn info_nce(
    x: &[f64],
    y: &[f64],
    log_scale: f64,
    extra: &[f64],
    soft: &[f64],
    problem: &InfoNce,
) -> Vec<f64> {
    let Lines { rows, cols, .. } = lines(x, y, log_scale, extra, soft, problem);
    let (of_rows, of_cols) = (weight(&rows, problem), weight(&cols, problem));
    let loss = |line: &Option<(f64, Vec<f64>)>| line.as_ref().map_or(0., |(loss, _)| *loss);
    if problem.reduction == Reduction::None {
        let col = |i: usize| cols.get(i).map_or(0., loss);
        return rows.iter().enumerate().map(|(i, row)| of_rows * loss(row) + of_cols * col(i)).collect();
    }
    let sum = |lines: &[_]| lines.iter().map(loss).sum::<f64>();
    vec![of_rows * sum(&rows) + of_cols * sum(&cols)]
}

/// Gradients of a softmax loss. Example: [`InfoNce`].
#[derive(Debug, Clone, PartialEq)]
pub struct InfoNceGradients {
    /// Of x.
    pub x: Vec<f64>,
    /// Of y.
    pub y: Vec<f64>,
    /// Of the logarithm of the scale.
    pub log_scale: f64,
    /// Of the similarities that each row has to itself.
    pub extra: Vec<f64>,
}

/// Gradients for an upstream gradient of each of the loss's elements. Example: [`InfoNce`].
pub fn info_nce_backward(
    x: &[f64],
    y: &[f64],
    log_scale: f64,
    extra: &[f64],
    soft: &[f64],
    upstream: &[f64],
    problem: &InfoNce,
) -> InfoNceGradients {
    let InfoNce { n, m, d, k, .. } = *problem;
    let Lines { rows, cols, logits } = lines(x, y, log_scale, extra, soft, problem);
    let (of_rows, of_cols) = (weight(&rows, problem), weight(&cols, problem));
    let up = |line: usize| upstream[if problem.reduction == Reduction::None { line } else { 0 }];
    let part = |lines: &[Option<(f64, Vec<f64>)>], line: usize, at: usize| {
        lines.get(line).and_then(Option::as_ref).map_or(0., |(_, g)| g[at] * up(line))
    };
    let scale = log_scale.exp();
    let (mut dx, mut dy, mut dt) = (vec![0.; n * d], vec![0.; m * d], 0.);
    for (i, j) in (0..n).flat_map(|i| (0..m).map(move |j| (i, j))).filter(|&(i, j)| problem.keeps(i, j)) {
        let g = of_rows * part(&rows, i, j) + of_cols * part(&cols, j, i);
        dt += g * logits[i * m + j];
        for f in 0..d {
            dx[i * d + f] += g * scale * y[j * d + f];
            dy[j * d + f] += g * scale * x[i * d + f];
        }
    }
    let own = |at: usize| of_rows * part(&rows, at / k, m + at % k);
    let kept = |at: &usize| !problem.rows.masks(at / k);
    dt += (0..n * k).filter(kept).map(|at| own(at) * scale * extra[at]).sum::<f64>();
    let extra = (0..n * k).map(|at| if kept(&at) { own(at) * scale } else { 0. }).collect();
    InfoNceGradients { x: dx, y: dy, log_scale: dt, extra }
}
