//! What can be asked of a softmax loss, and what cannot.

use super::logit_blocks::Means;
use super::{Precision, check_floats, check_shape};
use crate::error::{Error, Result};
use crate::reference::Reduction;
use crate::tensor::Tensor;
use std::sync::Arc;

/// What belongs to what.
///
/// ```
/// use crossmodal::{Device, Tensor, ops::{InfoNceOptions, Targets, info_nce}};
/// let x = Tensor::from_slice(&Device::Cpu, &[3, 2], &[1f32, 0., 1., 0., 0., 1.])?;
/// // Rows 0 and 1 are of one class: each has two positives.
/// let targets = Targets::Classes { rows: [7, 7, 9].into(), cols: [7, 7, 9].into() };
/// let loss = info_nce(&x, &x, &Tensor::scalar(&Device::Cpu, 9f32)?, &InfoNceOptions { targets, ..Default::default() })?;
/// assert!((loss.item()? - 2f64.ln() * 2. / 3.).abs() < 1e-3); // they share their probability, row 2 has its own
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone)]
pub enum Targets {
    /// Column i is the positive of row i; further columns are negatives only.
    Diagonal,
    /// The positives of a row are the columns of its class, each with the same weight. A negative class is none: such a row
    /// has no positive and does not count, such a column is a negative only.
    Classes {
        /// The class of each row of x.
        rows: Arc<[i64]>,
        /// The class of each row of y.
        cols: Arc<[i64]>,
    },
    /// Weights `[n, m]` of at least 0, of x's type and on its device: of each row, and of each column where the loss is
    /// symmetric, those that are not masked are scaled to sum to one. No gradient is taken of them. (It is the caller who
    /// stores N×M elements here.)
    Soft(Tensor),
    /// Nothing: the loss of a row is its log-sum-exp alone.
    None,
}

/// Which softmax loss it is, and how much scratch memory the blocks may take.
///
/// The options combine, but for pairs without a meaning, which are refused: smoothing or soft targets with `decoupled`, soft
/// targets with `hard_negatives`, the diagonal with `exclude_self`, smoothing, `decoupled` and `hard_negatives` without targets, a
/// symmetric loss per row of different numbers of rows and columns.
///
/// ```
/// use crossmodal::{Device, Tensor, ops::{InfoNceOptions, info_nce}};
/// let x = Tensor::from_slice(&Device::Cpu, &[1, 2], &[1f32, 0.])?;
/// let y = Tensor::from_slice(&Device::Cpu, &[2, 2], &[1f32, 0., 0., 1.])?; // row 1 is a negative only
/// let one_way = InfoNceOptions { symmetric: false, ..Default::default() };
/// let loss = info_nce(&x, &y, &Tensor::scalar(&Device::Cpu, 0f32)?, &one_way)?.item()?;
/// assert!((loss - (1. + (-1f64).exp()).ln()).abs() < 1e-6);
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct InfoNceOptions {
    /// Rows against columns and columns against rows (CLIP), or rows against columns alone.
    pub symmetric: bool,
    /// What belongs to what.
    pub targets: Targets,
    /// Which rows of x there are, the others being masked: no loss, no negative, no gradient, whatever is in them.
    pub keep_rows: Option<Arc<[bool]>>,
    /// Which rows of y there are. A row of x whose positives are all masked counts as masked.
    pub keep_cols: Option<Arc<[bool]>>,
    /// Label smoothing `ε` in [0, 1): that part of the target is spread over all entries of a row.
    pub smoothing: f64,
    /// Positives are left out of the log-sum-exp (decoupled contrastive learning, Yeh et al., 2022).
    pub decoupled: bool,
    /// Hard negatives: `α` times its similarity is added to each negative's logit, without a gradient.
    pub hard_negatives: f64,
    /// x and y are one set: row i is no partner of itself (SupCon, Khosla et al., 2020).
    pub exclude_self: bool,
    /// Mean, sum, or a loss per row.
    pub reduction: Reduction,
    /// Bytes of scratch for one block of similarities; a discrete GPU takes 16 times as much. The answer does not depend on
    /// it beyond rounding.
    pub scratch_bytes: usize,
    /// How exact the products of f32 on a GPU have to be.
    pub precision: Precision,
}

impl Default for InfoNceOptions {
    fn default() -> Self {
        InfoNceOptions {
            symmetric: true,
            targets: Targets::Diagonal,
            keep_rows: None,
            keep_cols: None,
            smoothing: 0.,
            decoupled: false,
            hard_negatives: 0.,
            exclude_self: false,
            reduction: Reduction::Mean,
            scratch_bytes: 16 << 20,
            precision: Precision::Strict,
        }
    }
}

impl InfoNceOptions {
    pub(super) fn means(&self) -> Means {
        Means { scratch_bytes: self.scratch_bytes, precision: self.precision }
    }
}

pub(super) fn refuse<T>(
    argument: &'static str,
    expected: impl std::fmt::Display,
    got: impl std::fmt::Display,
) -> Result<T> {
    Err(Error::argument("info_nce", argument, expected, got))
}

/// Refuses options of other sizes or ranges, and those that exclude each other.
pub(super) fn check_options(x: &Tensor, (n, m): (usize, usize), options: &InfoNceOptions) -> Result<()> {
    let length = |argument, expected: usize, got: Option<usize>| match got {
        Some(got) if got != expected => refuse(argument, format!("{expected} elements"), got),
        _ => Ok(()),
    };
    length("keep_rows", n, options.keep_rows.as_ref().map(|keep| keep.len()))?;
    length("keep_cols", m, options.keep_cols.as_ref().map(|keep| keep.len()))?;
    let (smoothing, hard) = (options.smoothing, options.hard_negatives);
    if !(0. ..1.).contains(&smoothing) {
        return refuse("smoothing", "0 to less than 1", format!("{smoothing:?}"));
    }
    if !(0. ..=1e6).contains(&hard) {
        return refuse("hard_negatives", "0 to 1e6", format!("{hard:?}"));
    }
    if options.symmetric && options.reduction == Reduction::None && n != m {
        return refuse("reduction", "a mean or a sum where rows and columns differ in number", "none");
    }
    if options.exclude_self && n != m {
        return refuse("exclude_self", "x and y to be one set", format!("{n} and {m} rows"));
    }
    let exclusive =
        |yes: bool, argument, expected: &str| if yes { refuse(argument, expected, "both") } else { Ok(()) };
    let on =
        "the targets to be on the logits that compete: smoothing has no meaning where positives are left out";
    exclusive(options.decoupled && smoothing > 0., "smoothing", on)?;
    match &options.targets {
        Targets::Diagonal => {
            let expected = "classes as targets, since it leaves out the diagonal";
            exclusive(options.exclude_self, "exclude_self", expected)
        }
        Targets::Classes { rows, cols } => {
            length("rows", n, Some(rows.len()))?;
            length("cols", m, Some(cols.len()))
        }
        Targets::Soft(soft) => {
            check_floats("info_nce", &[("x", x), ("targets", soft)])?;
            check_shape("info_nce", "targets", soft, &[n, m])?;
            let expected = "targets that say which columns are positives: soft ones do not";
            exclusive(options.decoupled, "decoupled", expected)?;
            exclusive(hard > 0., "hard_negatives", expected)
        }
        Targets::None => {
            let expected =
                "targets: without any there is nothing to smooth, to leave out or to tell negatives by";
            exclusive(options.decoupled, "decoupled", expected)?;
            exclusive(hard > 0., "hard_negatives", expected)?;
            exclusive(smoothing > 0., "smoothing", expected)
        }
    }
}
