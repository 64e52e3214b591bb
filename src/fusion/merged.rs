//! Intermediate fusion in one stream.

use super::streams::OneStream;
use super::{TokenBatch, check_widths};
use crate::autograd::{Tape, Var};
use crate::device::Device;
use crate::error::Result;
use crate::nn::{Bound, DropoutStep, Encoder, EncoderOptions, Parameters};
use crate::ops::AttentionWeights;
use crate::ops::concat::SPLIT;
use rand::Rng;

/// The merged encoder, a single stream (as ViLT, Kim et al., 2021, or FLAVA's fusion, Singh et al., 2022):
/// `[y_1; …; y_M] = E([x_1 + e_1; …; x_M + e_M])`, the tokens of all modalities joined along their length, each with a learned
/// embedding `e_m` of its modality, through an [`Encoder`] in which every token sees all. Tokens of another width than the encoder's are
/// projected to it first. What is not there is seen by none.
///
/// ```
/// use crossmodal::{Device, Tensor, autograd::Tape, nn::{EncoderOptions, Parameters, generator}};
/// use crossmodal::fusion::{MergedEncoder, Presence, TokenBatch};
/// let (cpu, mut parameters, options) = (Device::Cpu, Parameters::default(), EncoderOptions::new(4, 2));
/// let widths = [4, 3];
/// let fusion = MergedEncoder::new(&cpu, &mut parameters, "merged", &widths, 2, &options, &mut generator(0, 0))?;
/// let tape = Tape::new();
/// let text = tape.leaf(&Tensor::from_slice(&cpu, &[1, 2, 4], &[0.5f32; 8])?);
/// let image = tape.leaf(&Tensor::from_slice(&cpu, &[1, 5, 3], &[0.5f32; 15])?);
/// let batch = TokenBatch { tokens: &[&text, &image], masks: &[], presence: &Presence::all(1, 2) };
/// let y = fusion.forward(&tape, &parameters.on(&tape), &batch, None)?;
/// assert_eq!((y[0].value().shape(), y[1].value().shape()), (&[1, 2, 4][..], &[1, 5, 4][..]));
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct MergedEncoder {
    stream: OneStream,
    encoder: Encoder,
}

impl MergedEncoder {
    /// Of modalities of these widths, with an encoder of so many layers. Parameters are `name.0.weight` and `name.0.bias` of what
    /// projects the first modality, and so on; `name.modalities.weight`, normal numbers of deviation 0.02 at first; and
    /// `name.encoder.…` as [`Encoder`]'s.
    ///
    /// Errors: no modality, no layer, a width of 0; heads that do not fit; dropout outside [0, 1); the names are taken; the device's.
    /// Example: [`MergedEncoder`].
    pub fn new(
        device: &Device,
        parameters: &mut Parameters,
        name: &str,
        widths: &[usize],
        layers: usize,
        options: &EncoderOptions,
        random: &mut impl Rng,
    ) -> Result<MergedEncoder> {
        check_widths(widths)?;
        options.check("MergedEncoder")?;
        let of_encoder = format!("{name}.encoder");
        let encoder = Encoder::new(device, parameters, &of_encoder, layers, options, random)?;
        let stream = OneStream::new(device, parameters, name, (widths, options.width), random)?;
        Ok(MergedEncoder { stream, encoder })
    }

    /// Each modality's tokens `[batch, length, encoder's width]` with what they found in all; 0 where they are not there. While training
    /// with the step of its dropout, else with none.
    ///
    /// Errors: other modalities; other axes, widths or masks; the operations'. Example: [`MergedEncoder`].
    pub fn forward(
        &self,
        tape: &Tape,
        bound: &Bound,
        batch: &TokenBatch<'_>,
        step: Option<&DropoutStep>,
    ) -> Result<Vec<Var>> {
        Ok(self.forward_with_weights(tape, bound, batch, step, AttentionWeights::None)?.0)
    }

    /// As [`forward`](Self::forward), with the probabilities of the last layer's attention, from every token to every token in the order
    /// in which they are joined, the first modality's first. Those of a token that is not there are meaningless.
    ///
    /// ```
    /// use crossmodal::{Device, Tensor, autograd::Tape, nn::{EncoderOptions, Parameters, generator}};
    /// use crossmodal::{fusion::{MergedEncoder, Presence, TokenBatch}, ops::AttentionWeights};
    /// let (cpu, mut parameters, options) = (Device::Cpu, Parameters::default(), EncoderOptions::new(4, 2));
    /// let fusion = MergedEncoder::new(&cpu, &mut parameters, "one", &[4, 4], 1, &options, &mut generator(0, 0))?;
    /// let tape = Tape::no_grad();
    /// let of = |length: usize| Tensor::from_vec(&cpu, &[1, length, 4], vec![0.5f32; 4 * length]);
    /// let (text, image) = (tape.constant(&of(1)?), tape.constant(&of(2)?));
    /// let batch = TokenBatch { tokens: &[&text, &image], masks: &[], presence: &Presence::all(1, 2) };
    /// let (bound, per_head) = (parameters.on(&tape), AttentionWeights::PerHead);
    /// let (_, weights) = fusion.forward_with_weights(&tape, &bound, &batch, None, per_head)?;
    /// assert_eq!(weights.unwrap().value().shape(), [1, 2, 3, 3]);
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    pub fn forward_with_weights(
        &self,
        tape: &Tape,
        bound: &Bound,
        batch: &TokenBatch<'_>,
        step: Option<&DropoutStep>,
        weights: AttentionWeights,
    ) -> Result<(Vec<Var>, Option<Var>)> {
        let joined = self.stream.join("MergedEncoder", tape, bound, batch)?;
        let (x, mask) = (&joined.x, joined.mask.as_ref());
        let y = self.encoder.forward_with_weights(tape, bound, x, mask, step, weights)?;
        Ok((tape.apply_all(&SPLIT, (1, joined.lengths), &[&y.out])?, y.weights))
    }
}
