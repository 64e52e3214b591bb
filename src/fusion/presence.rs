//! Which modalities are there in which samples.

use crate::autograd::{Tape, Var};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::ops::keep_rows::KEEP_ROWS;
use crate::tensor::Tensor;
use std::sync::Arc;

/// Which modalities are there in each sample of a batch. A fusion's result is that of those that are there; what stands in the place
/// of a missing one, be it NaN, leaves no trace and gets no gradient.
///
/// ```
/// use crossmodal::fusion::Presence;
/// let presence = Presence::new(2, vec![None, Some([true, false].into())])?; // the second modality of sample 1 is missing
/// assert!(presence.is_there(0, 1) && !presence.is_there(1, 1));
/// assert!(Presence::new(2, vec![Some([true].into())]).is_err());
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Presence {
    rows: usize,
    /// Of each modality; none where it is in every sample.
    of: Vec<Option<Arc<[bool]>>>,
}

impl Presence {
    /// Every modality in every sample.
    ///
    /// ```
    /// assert_eq!(crossmodal::fusion::Presence::all(3, 2).modalities(), 2);
    /// ```
    pub fn all(rows: usize, modalities: usize) -> Presence {
        Presence { rows, of: vec![None; modalities] }
    }

    /// As it is given for each modality: `true` where it is there, none where it is in every sample.
    ///
    /// Errors: not one for each of `rows` samples. Example: [`Presence`].
    pub fn new(rows: usize, of: Vec<Option<Arc<[bool]>>>) -> Result<Presence> {
        if let Some(wrong) = of.iter().flatten().find(|own| own.len() != rows) {
            let expected = format!("{rows} for each modality, one a sample");
            return Err(Error::argument("fusion", "presence", expected, wrong.len()));
        }
        // One that is nowhere missing costs nothing.
        let of = of.into_iter().map(|own| own.filter(|own| own.contains(&false))).collect();
        Ok(Presence { rows, of })
    }

    /// How many modalities it tells of. Example: [`Presence::all`].
    pub fn modalities(&self) -> usize {
        self.of.len()
    }

    /// Whether a modality is there in a sample. Panics if there is no such modality or sample. Example: [`Presence`].
    pub fn is_there(&self, modality: usize, row: usize) -> bool {
        assert!(row < self.rows, "sample {row} of {}", self.rows);
        self.of[modality].as_ref().is_none_or(|own| own[row])
    }

    /// That of some samples.
    #[cfg(feature = "io")]
    pub(super) fn select(&self, rows: &[u32]) -> Result<Presence> {
        let of = |own: &Option<Arc<[bool]>>| {
            own.as_ref().map(|own| rows.iter().map(|&row| own[row as usize]).collect())
        };
        Presence::new(rows.len(), self.of.iter().map(of).collect())
    }

    /// The same with modalities missing from every sample but those that are given.
    #[cfg(feature = "io")]
    pub(super) fn of_given(&self, given: &[bool]) -> Result<Presence> {
        let of = |(own, given): (&Option<Arc<[bool]>>, &bool)| {
            if *given { own.clone() } else { Some(vec![false; self.rows].into()) }
        };
        Presence::new(self.rows, self.of.iter().zip(given).map(of).collect())
    }

    /// How many samples it tells of.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// For each sample, weights that sum to 1 over the modalities that are there and have one; 0 where there is none.
    pub(super) fn normalised(&self, weights: &[f64]) -> Vec<Vec<f64>> {
        let of_row = |row| {
            let there: Vec<_> = weights
                .iter()
                .enumerate()
                .map(|(m, w)| if self.is_there(m, row) { *w } else { 0. })
                .collect();
            let sum: f64 = there.iter().sum();
            there.iter().map(|w| if sum > 0. { w / sum } else { 0. }).collect()
        };
        (0..self.rows).map(of_row).collect()
    }

    /// Whether nothing is missing.
    pub(super) fn is_whole(&self) -> bool {
        self.of.iter().all(Option::is_none)
    }

    /// Refuses features of other numbers of modalities or samples.
    pub(super) fn check(&self, features: &[&Var]) -> Result<()> {
        if features.len() != self.of.len() || features.is_empty() {
            let expected = format!("features of {} modalities", self.of.len().max(1));
            return Err(Error::argument("fusion", "features", expected, features.len()));
        }
        for x in features {
            let shape = x.value().shape();
            if shape.len() < 2 || shape[0] != self.rows {
                let expected = format!("{} samples and at least two axes", self.rows);
                return Err(Error::argument("fusion", "features", expected, format!("shape {shape:?}")));
            }
        }
        Ok(())
    }

    /// Features with zeros where the modality is missing: no gradient goes there.
    pub(super) fn kept(&self, tape: &Tape, modality: usize, x: &Var) -> Result<Var> {
        match &self.of[modality] {
            None => Ok(x.clone()),
            Some(own) => tape.apply(&KEEP_ROWS, own.clone(), &[x]),
        }
    }

    /// 1 where a modality is there, else 0: a constant `[rows, 1]`.
    pub(super) fn column(&self, tape: &Tape, modality: usize, like: &Var) -> Result<Var> {
        let values = (0..self.rows).map(|row| f64::from(u8::from(self.is_there(modality, row)))).collect();
        constant(tape, &[self.rows, 1], values, like)
    }

    /// What is added to scores `[rows, modalities]` before a softmax: nothing, or so little that the weight is 0.
    pub(super) fn scores(&self, tape: &Tape, like: &Var) -> Result<Var> {
        let least = if like.value().dtype() == DType::F16 { -6e4 } else { -1e30 };
        let score = |(row, modality)| if self.is_there(modality, row) { 0. } else { least };
        let all = (0..self.rows).flat_map(|row| (0..self.of.len()).map(move |modality| (row, modality)));
        constant(tape, &[self.rows, self.of.len()], all.map(score).collect(), like)
    }

    /// The share of each modality in the mean of those that are there: `[rows, 1]`.
    pub(super) fn shares(&self, tape: &Tape, like: &Var) -> Result<Var> {
        let count = |row| (0..self.of.len()).filter(|&modality| self.is_there(modality, row)).count();
        constant(
            tape,
            &[self.rows, 1],
            (0..self.rows).map(|row| 1. / count(row).max(1) as f64).collect(),
            like,
        )
    }
}

/// Numbers of the type and on the device of another tensor.
pub(super) fn constant(tape: &Tape, shape: &[usize], values: Vec<f64>, like: &Var) -> Result<Var> {
    let like = like.value();
    Ok(tape.constant(&Tensor::from_f64(like.device(), shape, like.dtype(), values)?))
}
