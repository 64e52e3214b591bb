//! Several modalities of the same samples, which of them are there, and what is to be told from them.

use super::Presence;
use crate::align::{Data, Modality, Split};
use crate::error::{Error, Result};
use std::sync::Arc;

/// What is told from a sample.
///
/// ```
/// use crossmodal::fusion::Target;
/// let target = Target::of_labels(&[7, -2, 7]);
/// assert_eq!(target, Target::Classes { numbers: vec![1, 0, 1], labels: vec![-2, 7] });
/// ```
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// Its class.
    Classes {
        /// Of each sample, the place of its class in `labels`.
        numbers: Vec<u32>,
        /// The classes as they were called, in ascending order.
        labels: Vec<i64>,
    },
    /// A number.
    Values(Vec<f32>),
}

impl Target {
    /// Classes of any numbers. Example: [`Target`].
    pub fn of_labels(of_samples: &[i64]) -> Target {
        let mut labels = of_samples.to_vec();
        labels.sort_unstable();
        labels.dedup();
        let numbers = of_samples.iter().map(|label| labels.partition_point(|own| own < label) as u32);
        Target::Classes { numbers: numbers.collect(), labels }
    }

    fn len(&self) -> usize {
        match self {
            Target::Classes { numbers, .. } => numbers.len(),
            Target::Values(values) => values.len(),
        }
    }
}

/// Samples for a fusion to learn from.
///
/// ```
/// use crossmodal::{align::{Modality, Split}, fusion::{FusionData, Target}, io::Features};
/// let features = || Features { rows: 6, cols: 1, values: vec![1.; 6] };
/// let split = Split::from_labels(&[0, 0, 1, 1, 2, 2])?;
/// let modalities = vec![Modality::new("image", features()), Modality::new("text", features())];
/// let data = FusionData::new(modalities, Target::of_labels(&[0, 1, 0, 1, 0, 1]), split)?;
/// let data = data.with_presence("text", vec![true, false, true, true, true, true])?;
/// assert!(data.presence(&[0, 1])?.is_there(1, 0) && !data.presence(&[0, 1])?.is_there(1, 1));
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct FusionData {
    /// At least one.
    pub modalities: Vec<Modality>,
    /// Of each modality, in which samples it is there; none where it is in all.
    pub present: Vec<Option<Vec<bool>>>,
    /// What is to be told.
    pub target: Target,
    /// Which rows are for what.
    pub split: Split,
}

impl FusionData {
    /// With every modality in every sample.
    ///
    /// Errors: those of [`Data::of_modalities`], but that one modality is enough; further views; targets that are not one a row, or
    /// not finite.
    /// Example: [`FusionData`].
    pub fn new(modalities: Vec<Modality>, target: Target, split: Split) -> Result<FusionData> {
        let Some(first) = modalities.first() else {
            return Err(Error::argument("fuse", "modalities", "at least one", 0));
        };
        let rows = first.features.rows;
        let viewed = modalities.iter().find(|own| !own.views.is_empty());
        if let Some(own) = viewed {
            let expected = "one view: a fusion has no use for more";
            return Err(Error::argument("fuse", own.argument(), expected, 1 + own.views.len()));
        }
        if target.len() != rows {
            return Err(Error::argument("fuse", "target", format!("{rows}, one a row"), target.len()));
        }
        if let Target::Values(values) = &target
            && let Some(row) = values.iter().position(|v| !v.is_finite())
        {
            let got = format!("{} in row {row}", values[row]);
            return Err(Error::argument("fuse", "target", "finite numbers", got));
        }
        let Data { modalities, split, .. } = Data::checked("fuse", modalities, split)?;
        let present = vec![None; modalities.len()];
        Ok(FusionData { modalities, present, target, split })
    }

    /// With a modality in some samples only. Errors: there is none of that name; not one a row; none of the training rows has it.
    /// Example: [`FusionData`].
    pub fn with_presence(mut self, name: &str, present: Vec<bool>) -> Result<FusionData> {
        let names: Vec<_> = self.modalities.iter().map(|own| own.name.as_str()).collect();
        let Some(at) = names.iter().position(|own| *own == name) else {
            return Err(Error::argument("fuse", "name", format!("one of {}", names.join(", ")), name));
        };
        let rows = self.modalities[at].features.rows;
        if present.len() != rows {
            return Err(Error::argument("fuse", "presence", format!("{rows}, one a row"), present.len()));
        }
        if !self.split.train.iter().any(|&row| present[row as usize]) {
            let expected = format!("{name} in at least one of the training rows");
            return Err(Error::argument("fuse", "presence", expected, "none"));
        }
        self.present[at] = Some(present);
        Ok(self)
    }

    /// Which modalities are there in some rows. Errors: a row that is not there. Example: [`FusionData`].
    pub fn presence(&self, rows: &[u32]) -> Result<Presence> {
        let count = self.modalities[0].features.rows;
        if let Some(row) = rows.iter().find(|&&row| row as usize >= count) {
            return Err(Error::argument("fuse", "rows", format!("row numbers below {count}"), row));
        }
        let of = |present: &Option<Vec<bool>>| -> Option<Arc<[bool]>> {
            present.as_ref().map(|own| rows.iter().map(|&row| own[row as usize]).collect())
        };
        Presence::new(rows.len(), self.present.iter().map(of).collect())
    }

    /// The training rows in which a modality is there.
    pub(super) fn training_rows(&self, modality: usize) -> Vec<u32> {
        let there = |row: &u32| self.present[modality].as_ref().is_none_or(|own| own[*row as usize]);
        self.split.train.iter().copied().filter(there).collect()
    }
}
