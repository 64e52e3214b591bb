//! Intermediate fusion that a trained model takes in without a change at first.

use super::TokenBatch;
use crate::autograd::arithmetic::{mul, unary};
use crate::autograd::{Tape, Var};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::nn::encoder::Residual;
use crate::nn::{
    Bound, DropoutStep, EncoderOptions, Mlp, MultiHeadAttended, MultiHeadAttention, MultiHeadSizes,
    NormPlace, ParameterId, Parameters,
};
use crate::ops::{AttentionOptions, AttentionWeights, Unary};
use crate::tensor::Tensor;
use rand::Rng;

/// Gated cross-attention (Flamingo; Alayrac et al., 2022), from the tokens x of one modality to the tokens c of another:
/// `h = x + tanh(a) A(N_1 x, c)`, `y = h + tanh(b) M(N_2 h)`, A being attention of queries from the first over keys and values from the
/// second ([`MultiHeadAttention`]), M an MLP with GELU and N layer norms. The media's tokens c are taken as they are, without a norm.
///
/// The gates a and b are single numbers that start at 0: then the block is exactly the identity, and between the layers of a trained
/// model it changes nothing. The inner weights' gradient is exactly 0 until the gates, whose is not, have left it.
///
/// In a sample without a token of the second A adds exactly 0, and the gate a gets nothing from it; one without the first has the
/// result 0.
///
/// ```
/// use crossmodal::{Device, Tensor, autograd::Tape, nn::{EncoderOptions, Parameters, generator}};
/// use crossmodal::fusion::{GatedCrossAttention, Presence, TokenBatch};
/// let (cpu, mut parameters) = (Device::Cpu, Parameters::default());
/// let options = EncoderOptions::new(4, 2); // of the text, over an image of three features
/// let fusion = GatedCrossAttention::new(&cpu, &mut parameters, "gated", 3, &options, &mut generator(0, 0))?;
/// let tape = Tape::new();
/// let text = tape.leaf(&Tensor::from_slice(&cpu, &[2, 1, 4], &[1f32, 2., 3., 4., 5., 6., 7., 8.])?);
/// let image = [[1f32, 2., 3., 4., 5., 6.], [f32::NAN; 6]].concat(); // the second sample has none
/// let image = tape.leaf(&Tensor::from_slice(&cpu, &[2, 2, 3], &image)?);
/// let presence = Presence::new(2, vec![None, Some([true, false].into())])?;
/// let batch = TokenBatch { tokens: &[&text, &image], masks: &[], presence: &presence };
/// let y = fusion.forward(&tape, &parameters.on(&tape), &batch, None)?;
/// assert_eq!(y.value().to_vec::<f32>()?, text.value().to_vec::<f32>()?); // the gates are still shut
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct GatedCrossAttention {
    /// `a` and `b`, scalars: how far the attention and the MLP are let in.
    pub gates: [ParameterId; 2],
    attention: MultiHeadAttention,
    around_attention: Residual,
    mlp: Mlp,
    around_mlp: Residual,
}

impl GatedCrossAttention {
    /// From tokens of `options.width` over tokens of the width `context`. Parameters are `name.attention.query.weight` and so on,
    /// `name.attention_norm.weight`, `name.attention_gate`, `name.mlp.0.weight`, `name.mlp_norm.weight` and `name.mlp_gate`; there are
    /// two numbers for dropout. Gates do not decay.
    ///
    /// Errors: a width of 0; heads that do not fit; dropout outside [0, 1); norms after, with which it could not be the identity; the
    /// names are taken; the device's. Example: [`GatedCrossAttention`].
    pub fn new(
        device: &Device,
        parameters: &mut Parameters,
        name: &str,
        context: usize,
        options: &EncoderOptions,
        random: &mut impl Rng,
    ) -> Result<GatedCrossAttention> {
        options.check("GatedCrossAttention")?;
        if options.norm != NormPlace::Before {
            let expected = "norms before, that shut gates be the identity";
            return Err(Error::argument(
                "GatedCrossAttention",
                "norm",
                expected,
                format!("{:?}", options.norm),
            ));
        }
        let (of_attention, of_mlp) = (format!("{name}.attention"), format!("{name}.mlp"));
        let sizes = MultiHeadSizes { key: context, value: context, ..options.attention_sizes() };
        let attention = MultiHeadAttention::new(device, parameters, &of_attention, sizes, random)?;
        let around_attention =
            Residual::new(device, parameters, &format!("{of_attention}_norm"), options, 0)?;
        let gate = |parameters: &mut Parameters, of: &str| {
            parameters.add(format!("{of}_gate"), Tensor::scalar(device, 0f32)?, false)
        };
        let attention_gate = gate(parameters, &of_attention)?;
        let sizes = [options.width, options.hidden, options.width];
        let mlp = Mlp::new(device, parameters, &of_mlp, &sizes, Unary::Gelu, random)?;
        let around_mlp = Residual::new(device, parameters, &format!("{of_mlp}_norm"), options, 1)?;
        let gates = [attention_gate, gate(parameters, &of_mlp)?];
        Ok(GatedCrossAttention { gates, attention, around_attention, mlp, around_mlp })
    }

    /// The first modality's tokens `[batch, length, width]` with what they were let find in the second's; 0 where they are not there.
    /// While training with the step of its dropout, else with none.
    ///
    /// Errors: other than two modalities; other axes, widths or masks; the operations'. Example: [`GatedCrossAttention`].
    pub fn forward(
        &self,
        tape: &Tape,
        bound: &Bound,
        batch: &TokenBatch<'_>,
        step: Option<&DropoutStep>,
    ) -> Result<Var> {
        Ok(self.forward_with_weights(tape, bound, batch, step, AttentionWeights::None)?.out)
    }

    /// As [`forward`](Self::forward), with the attention's probabilities, whatever the gate lets in of it: what each token of the first
    /// looks at in the second. Those of a token that is not there are meaningless, and 0 where it has nothing to look at.
    ///
    /// ```
    /// use crossmodal::{Device, Tensor, autograd::Tape, nn::{EncoderOptions, Parameters, generator}};
    /// use crossmodal::{fusion::{GatedCrossAttention, Presence, TokenBatch}, ops::AttentionWeights};
    /// let (cpu, mut parameters, options) = (Device::Cpu, Parameters::default(), EncoderOptions::new(4, 2));
    /// let fusion = GatedCrossAttention::new(&cpu, &mut parameters, "gated", 4, &options, &mut generator(0, 0))?;
    /// let tape = Tape::no_grad();
    /// let x = tape.constant(&Tensor::from_slice(&cpu, &[1, 2, 4], &[0.5f32; 8])?);
    /// let batch = TokenBatch { tokens: &[&x, &x], masks: &[], presence: &Presence::all(1, 2) };
    /// let (bound, weights) = (parameters.on(&tape), AttentionWeights::Averaged);
    /// let seen = fusion.forward_with_weights(&tape, &bound, &batch, None, weights)?;
    /// assert_eq!(seen.weights.unwrap().value().to_vec::<f32>()?, [0.5; 4]); // the two tokens are the same
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    pub fn forward_with_weights(
        &self,
        tape: &Tape,
        bound: &Bound,
        batch: &TokenBatch<'_>,
        step: Option<&DropoutStep>,
        weights: AttentionWeights,
    ) -> Result<MultiHeadAttended> {
        let widths = [self.attention.sizes.query, self.attention.sizes.key];
        let seen = batch.seen("GatedCrossAttention", tape, &widths)?;
        let (own, media) = (&seen[0], &seen[1]);
        let options =
            AttentionOptions { key_mask: media.mask.clone(), weights, ..AttentionOptions::default() };
        let mut weights = None;
        let let_in = |gate: usize, added: &Var| {
            mul(tape, added, &unary(tape, Unary::Tanh, bound.get(self.gates[gate]))?)
        };
        let h = self.around_attention.around(tape, bound, &own.x, step, |x| {
            let attended = self.attention.attend(tape, bound, [x, &media.x, &media.x], &options)?;
            weights = attended.weights;
            let_in(0, &media.kept_of(tape, &attended.out)?)
        })?;
        let y = self
            .around_mlp
            .around(tape, bound, &h, step, |h| let_in(1, &self.mlp.forward(tape, bound, h)?))?;
        Ok(MultiHeadAttended { out: own.kept(tape, &y)?, weights })
    }
}
