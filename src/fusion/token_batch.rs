//! Tokens of several modalities, and which of them are there.

use super::Presence;
use super::presence::constant;
use crate::autograd::arithmetic::{mul, sum, total};
use crate::autograd::{Tape, Var};
use crate::error::{Error, Result};
use crate::nn::tokens::{check_mask, check_tokens, keep_tokens};
use crate::ops::Mask;
use crate::ops::keep_rows::KEEP_ROWS;
use std::sync::Arc;

/// A batch of tokens, as the fusions of tokens take it. A token is there where its modality is and its mask has it; what stands in the
/// place of another, be it NaN, leaves no trace and gets no gradient.
///
/// ```
/// use crossmodal::{DType, Device, Tensor, autograd::Tape, ops::Mask};
/// use crossmodal::fusion::{Presence, TokenBatch};
/// let tape = Tape::new();
/// let of = |length: usize| tape.leaf(&Tensor::zeros(&Device::Cpu, &[2, length, 8], DType::F32).unwrap());
/// let (text, image) = (of(3), of(5));
/// let padding = Mask::keep(&[2, 3], &[true, true, true, true, false, false]); // the second text has one token
/// let presence = Presence::new(2, vec![None, Some([true, false].into())])?; // and no image
/// let batch = TokenBatch { tokens: &[&text, &image], masks: &[Some(&padding), None], presence: &presence };
/// assert_eq!(batch.tokens.len(), 2);
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct TokenBatch<'a> {
    /// `[batch, length, width]` of each modality, lengths and widths of its own.
    pub tokens: &'a [&'a Var],
    /// Which tokens there are, `[batch, length]` of each modality; `None` where all are, and nothing at all where that is so of every
    /// modality.
    pub masks: &'a [Option<&'a Mask>],
    /// Which modalities are there in which samples.
    pub presence: &'a Presence,
}

/// A modality's tokens with zeros where they are not there.
pub(super) struct Seen {
    pub x: Var,
    /// Which tokens are there; none where all are.
    pub mask: Option<Mask>,
    /// Which samples have a token.
    pub samples: Arc<[bool]>,
}

impl TokenBatch<'_> {
    /// Each modality's tokens. Refuses what does not fit the widths.
    pub(super) fn seen(&self, fusion: &'static str, tape: &Tape, widths: &[usize]) -> Result<Vec<Seen>> {
        let (count, presence) = (widths.len(), self.presence);
        let counts = [("tokens", self.tokens.len()), ("presence", presence.modalities())];
        let of_masks = (!self.masks.is_empty()).then_some(("masks", self.masks.len()));
        for (argument, got) in counts.into_iter().chain(of_masks) {
            if got != count {
                return Err(Error::argument(
                    fusion,
                    argument,
                    format!("one for each of {count} modalities"),
                    got,
                ));
            }
        }
        let mut all = vec![];
        for (m, (x, &width)) in self.tokens.iter().zip(widths).enumerate() {
            let [batch, length] = check_tokens(fusion, "tokens", x, width)?;
            if batch != presence.rows() {
                let expected = format!("a batch of {}, as the presence has it", presence.rows());
                return Err(Error::argument(fusion, "tokens", expected, batch));
            }
            let own = self.masks.get(m).copied().flatten();
            check_mask(fusion, own, [batch, length])?;
            let is_there =
                |at: usize| presence.is_there(m, at / length) && own.is_none_or(|mask| mask.keeps(at));
            let there: Vec<_> = (0..batch * length).map(is_there).collect();
            let samples = match length {
                0 => vec![false; batch],
                _ => there.chunks(length).map(|own| own.contains(&true)).collect(),
            };
            let mask = there.contains(&false).then(|| Mask::keep(&[batch, length], &there));
            all.push(Seen { x: keep_tokens(tape, x, mask.as_ref())?, mask, samples: samples.into() });
        }
        Ok(all)
    }
}

impl TokenBatch<'_> {
    /// The same of modalities of which some have vectors `[batch, width]`: a vector is one token.
    pub(super) fn sequences(&self, tape: &Tape, widths: &[usize]) -> Result<Vec<Seen>> {
        let token = |x: &&Var| match *x.value().shape() {
            [batch, width] => tape.reshape(x, &[batch, 1, width]),
            _ => Ok((*x).clone()),
        };
        let tokens = self.tokens.iter().map(token).collect::<Result<Vec<_>>>()?;
        let tokens: Vec<_> = tokens.iter().collect();
        TokenBatch { tokens: &tokens, ..*self }.seen("fuse", tape, widths)
    }

    /// A vector `[batch, width]` of each modality: the mean of the tokens that are there; and which modalities have one.
    pub(super) fn pooled(&self, tape: &Tape, widths: &[usize]) -> Result<(Vec<Var>, Presence)> {
        let seen = self.sequences(tape, widths)?;
        let pooled = seen.iter().map(|own| own.mean(tape, &own.x)).collect::<Result<_>>()?;
        let there = seen.iter().map(|own| Some(own.samples.clone())).collect();
        Ok((pooled, Presence::new(self.presence.rows(), there)?))
    }
}

/// The mean over modalities, of those that have a token in a sample, of the means of what stands in the places of their tokens
/// `[batch, length, width]`; 0 where there is none.
pub(super) fn mean_of_modalities(tape: &Tape, fused: &[Var], seen: &[Seen]) -> Result<Var> {
    let means = fused.iter().zip(seen).map(|(x, own)| own.mean(tape, x)).collect::<Result<Vec<_>>>()?;
    mul(tape, &total(tape, &means)?, &shares(tape, seen, &means[0])?)
}

/// The mean of tokens `[batch, length, width]` that are all there.
pub(super) fn mean_of_all(tape: &Tape, x: &Var) -> Result<Var> {
    let [batch, length, _] = *x.value().shape() else { unreachable!("tokens have three axes") };
    weighted_sum(tape, x, vec![1. / length as f64; batch * length])
}

/// The share of each modality in the mean of those that have a token: `[batch, 1]`.
pub(super) fn shares(tape: &Tape, seen: &[Seen], like: &Var) -> Result<Var> {
    let count = |row: usize| seen.iter().filter(|own| own.samples[row]).count();
    let rows = seen[0].samples.len();
    constant(tape, &[rows, 1], (0..rows).map(|row| 1. / count(row).max(1) as f64).collect(), like)
}

/// The sum of tokens with weights `[batch, length]`.
fn weighted_sum(tape: &Tape, x: &Var, weights: Vec<f64>) -> Result<Var> {
    let [batch, length, _] = *x.value().shape() else { unreachable!("tokens have three axes") };
    sum(tape, &mul(tape, x, &constant(tape, &[batch, length, 1], weights, x)?)?, 1)
}

impl Seen {
    /// The mean of what stands in the places of these tokens, of those that are there: `[batch, width]`.
    fn mean(&self, tape: &Tape, y: &Var) -> Result<Var> {
        let [batch, length, width] = *y.value().shape() else { unreachable!("tokens have three axes") };
        if length == 1 && self.mask.is_none() {
            return tape.reshape(y, &[batch, width]);
        }
        let keeps = |at: usize| self.mask.as_ref().is_none_or(|mask| mask.keeps(at));
        let of_sample = |row: usize| {
            let there: Vec<_> = (row * length..(row + 1) * length).map(keeps).collect();
            let count = there.iter().filter(|own| **own).count().max(1) as f64;
            there.into_iter().map(move |own| if own { 1. / count } else { 0. })
        };
        weighted_sum(tape, &self.kept(tape, y)?, (0..batch).flat_map(of_sample).collect())
    }

    /// What others have of these tokens, such as attention over them added: exactly 0 in samples that have none.
    pub(super) fn kept_of(&self, tape: &Tape, added: &Var) -> Result<Var> {
        match self.samples.contains(&false) {
            true => tape.apply(&KEEP_ROWS, self.samples.clone(), &[added]),
            false => Ok(added.clone()),
        }
    }

    /// Results in the places of these tokens, 0 where they are not there.
    pub(super) fn kept(&self, tape: &Tape, y: &Var) -> Result<Var> {
        keep_tokens(tape, y, self.mask.as_ref())
    }
}

/// Masks `[rows, length]` side by side, with the lengths: which of the tokens joined along their length are there. None where all are.
pub(super) fn joined_mask(rows: usize, masks: &[(Option<&Mask>, usize)]) -> Option<Mask> {
    masks.iter().any(|(mask, _)| mask.is_some()).then(|| {
        let of_row = |row: usize| {
            masks.iter().flat_map(move |&(mask, length)| {
                let is_there = move |at| mask.is_none_or(|mask| mask.keeps(at));
                (row * length..(row + 1) * length).map(is_there)
            })
        };
        let length = masks.iter().map(|(_, length)| length).sum();
        Mask::keep(&[rows, length], &(0..rows).flat_map(of_row).collect::<Vec<_>>())
    })
}
