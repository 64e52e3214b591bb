//! How a fusion is trained, and what cannot be.

use super::{FusionData, FusionKind, Target};
use crate::align::Scaling;
use crate::error::{Error, Result};

/// What is trained, for how long, with which numbers.
///
/// ```
/// use crossmodal::fusion::{FusionKind, FusionRecipe};
/// let recipe = FusionRecipe { kind: FusionKind::Gated, epochs: 10, ..FusionRecipe::default() };
/// assert_eq!((recipe.dim, recipe.batch_size), (128, 64));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FusionRecipe {
    /// The fusion.
    pub kind: FusionKind,
    /// The width of its result, from which a linear layer tells the target.
    pub dim: usize,
    /// Passes over the training rows.
    pub epochs: u32,
    /// Rows in a batch; the last of an epoch may be shorter.
    pub batch_size: usize,
    /// The learning rate at the start; half a cosine takes it to 0.
    pub learning_rate: f64,
    /// The decoupled decay of the weights.
    pub weight_decay: f64,
    /// The part of the scaled features, and of the fused ones, that is dropped in training, at random in each step.
    pub dropout: f64,
    /// The part of the samples of which each modality is taken away in training, as long as another is left.
    pub modality_dropout: f64,
    /// How features are scaled, on the training rows.
    pub scaling: Scaling,
    /// For the initial weights, the order of rows and what is dropped.
    pub seed: u64,
}

impl Default for FusionRecipe {
    fn default() -> FusionRecipe {
        FusionRecipe {
            kind: FusionKind::Concat,
            dim: 128,
            epochs: 40,
            batch_size: 64,
            learning_rate: 1e-3,
            weight_decay: 0.1,
            dropout: 0.5,
            modality_dropout: 0.,
            scaling: Scaling::Feature,
            seed: 0,
        }
    }
}

impl FusionRecipe {
    /// What is right for a fusion: those of tokens learn faster, and forget less.
    ///
    /// ```
    /// use crossmodal::fusion::{FusionKind, FusionRecipe};
    /// let of = |kind| FusionRecipe::of(kind).epochs;
    /// assert_eq!((of(FusionKind::Concat), of(FusionKind::Merged { heads: 4, layers: 1 })), (40, 15));
    /// ```
    pub fn of(kind: FusionKind) -> FusionRecipe {
        let base = FusionRecipe { kind, ..FusionRecipe::default() };
        match kind.is_of_tokens() {
            true => FusionRecipe { epochs: 15, learning_rate: 3e-3, dropout: 0.3, ..base },
            false => base,
        }
    }

    /// Refuses what cannot train.
    pub(super) fn check(&self, data: &FusionData) -> Result<()> {
        let refuse = |argument: &'static str, expected: String, got: String| {
            Err(Error::argument("fuse", argument, expected, got))
        };
        let train = data.split.train.len();
        for (argument, value, most) in [
            ("dim", self.dim, 65536),
            ("epochs", self.epochs as usize, u32::MAX as usize),
            ("batch size", self.batch_size, train),
        ] {
            if value == 0 || value > most {
                return refuse(argument, format!("1 to {most}"), value.to_string());
            }
        }
        let steps = train.div_ceil(self.batch_size);
        if u32::try_from(steps).ok().and_then(|steps| steps.checked_mul(self.epochs)).is_none() {
            return refuse("epochs", "fewer than 2^32 steps".into(), self.epochs.to_string());
        }
        for (argument, value, fits, expected) in [
            ("learning rate", self.learning_rate, self.learning_rate > 0., "a finite number above 0"),
            ("weight decay", self.weight_decay, self.weight_decay >= 0., "a finite number of at least 0"),
            ("dropout", self.dropout, (0. ..1.).contains(&self.dropout), "0 to less than 1"),
            (
                "modality dropout",
                self.modality_dropout,
                (0. ..1.).contains(&self.modality_dropout),
                "0 to less than 1",
            ),
        ] {
            if !value.is_finite() || !fits {
                return refuse(argument, expected.into(), format!("{value:?}"));
            }
        }
        self.kind.check(data.modalities.len(), self.dim)?;
        match &data.target {
            Target::Classes { labels, .. } if labels.len() < 2 => {
                refuse("target", "at least two classes".into(), labels.len().to_string())
            }
            Target::Values(values) => {
                let of = |row: u32| values[row as usize];
                let validation = &data.split.validation;
                let Some(&first) = validation.first() else { return Ok(()) };
                if validation.iter().any(|&row| of(row) != of(first)) {
                    return Ok(());
                }
                let expected =
                    "values that differ among the validation rows: the score is a part of their variance";
                refuse("target", expected.into(), format!("{} alone", of(first)))
            }
            Target::Classes { .. } => Ok(()),
        }
    }
}
