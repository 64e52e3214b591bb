//! Intermediate fusion by attention both ways.

use super::TokenBatch;
use super::cross_attention::Branch;
use crate::autograd::{Tape, Var};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::nn::{Bound, DropoutStep, EncoderLayer, EncoderOptions, MultiHeadAttended, Parameters};
use crate::ops::AttentionWeights;
use rand::Rng;

/// Two-way co-attention (as LXMERT's layers; Tan and Bansal, 2019): with tokens x and y of two modalities,
/// `x' = x + A_x(N x, N y)` and `y' = y + A_y(N y, N x)`, both from the tokens as they came, then self-attention and an MLP in each:
/// an [`EncoderLayer`] on x' and one on y'. Every norm is another.
///
/// In a sample without a token of one modality the other is that of its own layer alone, the attention adding exactly 0.
///
/// ```
/// use crossmodal::{Device, Tensor, autograd::Tape, nn::{EncoderOptions, Parameters, generator}};
/// use crossmodal::fusion::{CoAttention, Presence, TokenBatch};
/// let (cpu, mut parameters) = (Device::Cpu, Parameters::default());
/// let options = [EncoderOptions::new(4, 2), EncoderOptions::new(6, 2)]; // of each modality
/// let fusion = CoAttention::new(&cpu, &mut parameters, "co", &options, &mut generator(0, 0))?;
/// let tape = Tape::new();
/// let text = tape.leaf(&Tensor::from_slice(&cpu, &[1, 2, 4], &[0.5f32; 8])?);
/// let image = tape.leaf(&Tensor::from_slice(&cpu, &[1, 3, 6], &[0.5f32; 18])?);
/// let batch = TokenBatch { tokens: &[&text, &image], masks: &[], presence: &Presence::all(1, 2) };
/// let [text, image] = fusion.forward(&tape, &parameters.on(&tape), &batch, None)?;
/// assert_eq!((text.value().shape(), image.value().shape()), (&[1, 2, 4][..], &[1, 3, 6][..]));
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct CoAttention {
    branches: [Branch; 2],
    layers: [EncoderLayer; 2],
}

/// Numbers for dropout that a modality takes: of its attention over the other, and of its layer.
const DROPOUTS: u64 = 3;

impl CoAttention {
    /// Of two modalities with the options of each, which may differ. Parameters are `name.0.attention.query.weight` and so on as
    /// [`CrossAttention`](super::CrossAttention)'s, `name.0.layer.…` as [`EncoderLayer`]'s, and `name.1.…`. A modality has three numbers
    /// for dropout.
    ///
    /// Errors: a width of 0; heads that do not fit; dropout outside [0, 1), or with numbers that both modalities take; the names are
    /// taken; the device's. Example: [`CoAttention`].
    pub fn new(
        device: &Device,
        parameters: &mut Parameters,
        name: &str,
        options: &[EncoderOptions; 2],
        random: &mut impl Rng,
    ) -> Result<CoAttention> {
        for own in options {
            own.check("CoAttention")?;
        }
        let [first, second] = options.map(|own| own.first_dropout);
        if options.iter().any(|own| own.dropout > 0.) && first.abs_diff(second) < DROPOUTS {
            let expected = format!("numbers {DROPOUTS} apart, so that modalities drop independently");
            return Err(Error::argument(
                "CoAttention",
                "first_dropout",
                expected,
                format!("{first} and {second}"),
            ));
        }
        let mut one = |m: usize| -> Result<(Branch, EncoderLayer)> {
            let (name, own, context) = (format!("{name}.{m}"), &options[m], options[1 - m].width);
            let branch = Branch::new(device, parameters, &name, context, own, random)?;
            let of_layer = EncoderOptions { first_dropout: own.first_dropout.wrapping_add(1), ..*own };
            Ok((branch, EncoderLayer::new(device, parameters, &format!("{name}.layer"), &of_layer, random)?))
        };
        let ((branch, layer), (other_branch, other_layer)) = (one(0)?, one(1)?);
        Ok(CoAttention { branches: [branch, other_branch], layers: [layer, other_layer] })
    }

    /// Each modality's tokens `[batch, length, width]` with what they found in the other's; 0 where they are not there. While training
    /// with the step of its dropout, else with none.
    ///
    /// Errors: other than two modalities; other axes, widths or masks; the operations'. Example: [`CoAttention`].
    pub fn forward(
        &self,
        tape: &Tape,
        bound: &Bound,
        batch: &TokenBatch<'_>,
        step: Option<&DropoutStep>,
    ) -> Result<[Var; 2]> {
        Ok(self.forward_with_weights(tape, bound, batch, step, AttentionWeights::None)?.map(|own| own.out))
    }

    /// As [`forward`](Self::forward), with the attention's probabilities: what each token of one looks at in the other. Those of a token
    /// that is not there are meaningless, and 0 where it has nothing to look at.
    ///
    /// ```
    /// use crossmodal::{Device, Tensor, autograd::Tape, nn::{EncoderOptions, Parameters, generator}};
    /// use crossmodal::{fusion::{CoAttention, Presence, TokenBatch}, ops::AttentionWeights};
    /// let (cpu, mut parameters, options) = (Device::Cpu, Parameters::default(), [EncoderOptions::new(4, 2); 2]);
    /// let fusion = CoAttention::new(&cpu, &mut parameters, "co", &options, &mut generator(0, 0))?;
    /// let tape = Tape::no_grad();
    /// let of = |length: usize| Tensor::from_vec(&cpu, &[1, length, 4], vec![0.5f32; 4 * length]);
    /// let (text, image) = (tape.constant(&of(1)?), tape.constant(&of(2)?));
    /// let batch = TokenBatch { tokens: &[&text, &image], masks: &[], presence: &Presence::all(1, 2) };
    /// let (bound, weights) = (parameters.on(&tape), AttentionWeights::Averaged);
    /// let [text, image] = fusion.forward_with_weights(&tape, &bound, &batch, None, weights)?;
    /// assert_eq!(text.weights.unwrap().value().to_vec::<f32>()?, [0.5; 2]);
    /// assert_eq!(image.weights.unwrap().value().to_vec::<f32>()?, [1.; 2]);
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    pub fn forward_with_weights(
        &self,
        tape: &Tape,
        bound: &Bound,
        batch: &TokenBatch<'_>,
        step: Option<&DropoutStep>,
        weights: AttentionWeights,
    ) -> Result<[MultiHeadAttended; 2]> {
        let seen = batch.seen("CoAttention", tape, &self.branches[0].widths())?;
        let one = |m: usize| {
            let (own, other) = (&seen[m], &seen[1 - m]);
            let h = self.branches[m].forward(tape, bound, [own, other], step, weights)?;
            let no = AttentionWeights::None;
            let y = self.layers[m].run(tape, bound, &h.out, own.mask.as_ref(), step, no)?.out;
            Ok(MultiHeadAttended { out: own.kept(tape, &y)?, weights: h.weights })
        };
        Ok([one(0)?, one(1)?])
    }
}
