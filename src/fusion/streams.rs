//! Tokens of several modalities brought to one width, and joined into one sequence.

use super::presence::constant;
use super::token_batch::{Seen, joined_mask};
use super::{TokenBatch, check_widths};
use crate::autograd::arithmetic::{add, concat};
use crate::autograd::{Tape, Var};
use crate::device::Device;
use crate::error::Result;
use crate::nn::{Bound, Embedding, Linear, Parameters};
use crate::ops::Mask;
use crate::ops::concat::SPLIT;
use rand::Rng;

/// A layer for each modality whose width is not the one that all are brought to.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ToWidth {
    widths: Vec<usize>,
    projections: Vec<Option<Linear>>,
}

impl ToWidth {
    /// Parameters `name.0.weight` and `name.0.bias` of what projects the first modality, and so on.
    pub(super) fn new(
        device: &Device,
        parameters: &mut Parameters,
        name: &str,
        (widths, width): (&[usize], usize),
        random: &mut impl Rng,
    ) -> Result<ToWidth> {
        check_widths(widths)?;
        let mut projection = |(m, &own): (usize, &usize)| {
            let made = |_| Linear::new(device, parameters, &format!("{name}.{m}"), (own, width), random);
            (own != width).then_some(()).map(made).transpose()
        };
        let projections = widths.iter().enumerate().map(&mut projection).collect::<Result<_>>()?;
        Ok(ToWidth { widths: widths.to_vec(), projections })
    }

    /// Each modality's tokens in the one width. Refuses what does not fit.
    pub(super) fn seen(
        &self,
        fusion: &'static str,
        tape: &Tape,
        bound: &Bound,
        batch: &TokenBatch<'_>,
    ) -> Result<Vec<Seen>> {
        let mut seen = batch.seen(fusion, tape, &self.widths)?;
        for (own, projection) in seen.iter_mut().zip(&self.projections) {
            if let Some(projection) = projection {
                own.x = projection.forward(tape, bound, &own.x)?;
            }
        }
        Ok(seen)
    }
}

/// `[x_1 + e_1; …; x_M + e_M]`, e learned.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct OneStream {
    to_width: ToWidth,
    modalities: Embedding,
}

/// The tokens of all modalities behind each other.
pub(super) struct Joined {
    /// `[batch, length of all, width]`.
    pub x: Var,
    /// Which of them are there; none where all are.
    pub mask: Option<Mask>,
    /// How many each modality has.
    pub lengths: Vec<usize>,
}

impl OneStream {
    /// Parameters as [`ToWidth::new`]'s, and `name.modalities.weight`.
    pub(super) fn new(
        device: &Device,
        parameters: &mut Parameters,
        name: &str,
        (widths, width): (&[usize], usize),
        random: &mut impl Rng,
    ) -> Result<OneStream> {
        let to_width = ToWidth::new(device, parameters, name, (widths, width), random)?;
        let (of_modalities, sizes) = (format!("{name}.modalities"), (widths.len(), width));
        let modalities = Embedding::new(device, parameters, &of_modalities, sizes, random)?;
        Ok(OneStream { to_width, modalities })
    }

    pub(super) fn join(
        &self,
        fusion: &'static str,
        tape: &Tape,
        bound: &Bound,
        batch: &TokenBatch<'_>,
    ) -> Result<Joined> {
        let seen = self.to_width.seen(fusion, tape, bound, batch)?;
        let table = bound.get(self.modalities.weight);
        let embeddings = tape.apply_all(&SPLIT, (0, vec![1; seen.len()]), &[table])?;
        let tokens = seen.iter().zip(&embeddings).map(|(own, e)| add(tape, &own.x, e));
        let tokens = tokens.collect::<Result<Vec<_>>>()?;
        let lengths: Vec<_> = tokens.iter().map(|x| x.value().shape()[1]).collect();
        let masks: Vec<_> = seen.iter().map(|own| own.mask.as_ref()).zip(lengths.iter().copied()).collect();
        let mask = joined_mask(batch.presence.rows(), &masks);
        Ok(Joined { x: concat(tape, 1, &tokens)?, mask, lengths })
    }
}

/// Learned rows `[count, width]` for each sample of a batch: `[batch, count, width]`.
pub(super) fn for_each_sample(tape: &Tape, rows: &Var, batch: usize) -> Result<Var> {
    add(tape, &constant(tape, &[batch, 1, 1], vec![0.; batch], rows)?, rows)
}
