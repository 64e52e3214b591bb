//! Intermediate fusion by attention from one modality to another.

use super::TokenBatch;
use super::token_batch::Seen;
use crate::autograd::{Tape, Var};
use crate::device::Device;
use crate::error::Result;
use crate::nn::encoder::Residual;
use crate::nn::{
    Bound, DropoutStep, EncoderOptions, LayerNorm, Mlp, MultiHeadAttended, MultiHeadAttention,
    MultiHeadSizes, Parameters,
};
use crate::ops::{AttentionOptions, AttentionWeights, Unary};
use rand::Rng;

/// The cross-attention block, from the tokens x of one modality to the tokens c of another: `h = x + A(N_1 x, N_c c)`,
/// `y = h + M(N_2 h)`, A being attention of queries from the first over keys and values from the second
/// ([`MultiHeadAttention`]), M an MLP with GELU and N layer norms. With
/// [`NormPlace::After`](crate::nn::NormPlace::After) `h = N_1(x + A(x, N_c c))` and `y = N_2(h + M h)`.
///
/// In a sample without a token of the second A adds exactly 0; one without the first has the result 0.
///
/// ```
/// use crossmodal::{Device, Tensor, autograd::Tape, nn::{EncoderOptions, Parameters, generator}};
/// use crossmodal::fusion::{CrossAttention, Presence, TokenBatch};
/// let (cpu, mut parameters) = (Device::Cpu, Parameters::default());
/// let options = EncoderOptions::new(4, 2); // of the text, over an image of three features
/// let fusion = CrossAttention::new(&cpu, &mut parameters, "cross", 3, &options, &mut generator(0, 0))?;
/// let tape = Tape::new();
/// let text = tape.leaf(&Tensor::from_slice(&cpu, &[2, 1, 4], &[0.5f32; 8])?);
/// let image = [[1f32, 2., 3., 4., 5., 6.], [f32::NAN; 6]].concat(); // the second sample has none
/// let image = tape.leaf(&Tensor::from_slice(&cpu, &[2, 2, 3], &image)?);
/// let presence = Presence::new(2, vec![None, Some([true, false].into())])?;
/// let batch = TokenBatch { tokens: &[&text, &image], masks: &[], presence: &presence };
/// let y = fusion.forward(&tape, &parameters.on(&tape), &batch, None)?;
/// assert!(y.value().shape() == [2, 1, 4] && y.value().to_vec::<f32>()?.iter().all(|v| v.is_finite()));
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct CrossAttention {
    branch: Branch,
    mlp: Mlp,
    around_mlp: Residual,
}

impl CrossAttention {
    /// From tokens of `options.width` over tokens of the width `context`. Parameters are `name.attention.query.weight` and so on,
    /// `name.attention_norm.weight`, `name.context_norm.weight`, `name.mlp.0.weight` and `name.mlp_norm.weight`; there are two numbers
    /// for dropout.
    ///
    /// Errors: a width of 0; heads that do not fit; dropout outside [0, 1); the names are taken; the device's. Example:
    /// [`CrossAttention`].
    pub fn new(
        device: &Device,
        parameters: &mut Parameters,
        name: &str,
        context: usize,
        options: &EncoderOptions,
        random: &mut impl Rng,
    ) -> Result<CrossAttention> {
        options.check("CrossAttention")?;
        let (sizes, of_mlp) = ([options.width, options.hidden, options.width], format!("{name}.mlp"));
        Ok(CrossAttention {
            branch: Branch::new(device, parameters, name, context, options, random)?,
            mlp: Mlp::new(device, parameters, &of_mlp, &sizes, Unary::Gelu, random)?,
            around_mlp: Residual::new(device, parameters, &format!("{of_mlp}_norm"), options, 1)?,
        })
    }

    /// The first modality's tokens `[batch, length, width]` with what they found in the second's; 0 where they are not there. While
    /// training with the step of its dropout, else with none.
    ///
    /// Errors: other than two modalities; other axes, widths or masks; the operations'. Example: [`CrossAttention`].
    pub fn forward(
        &self,
        tape: &Tape,
        bound: &Bound,
        batch: &TokenBatch<'_>,
        step: Option<&DropoutStep>,
    ) -> Result<Var> {
        Ok(self.forward_with_weights(tape, bound, batch, step, AttentionWeights::None)?.out)
    }

    /// As [`forward`](Self::forward), with the attention's probabilities: what each token of the first looks at in the second. Those of a
    /// token that is not there are meaningless, and 0 where it has nothing to look at.
    ///
    /// ```
    /// use crossmodal::{Device, Tensor, autograd::Tape, nn::{EncoderOptions, Parameters, generator}};
    /// use crossmodal::{fusion::{CrossAttention, Presence, TokenBatch}, ops::AttentionWeights};
    /// let (cpu, mut parameters, options) = (Device::Cpu, Parameters::default(), EncoderOptions::new(4, 2));
    /// let fusion = CrossAttention::new(&cpu, &mut parameters, "cross", 4, &options, &mut generator(0, 0))?;
    /// let tape = Tape::no_grad();
    /// let x = tape.leaf(&Tensor::from_slice(&cpu, &[1, 2, 4], &[0.5f32; 8])?);
    /// let batch = TokenBatch { tokens: &[&x, &x], masks: &[], presence: &Presence::all(1, 2) };
    /// let bound = parameters.on(&tape);
    /// let seen = fusion.forward_with_weights(&tape, &bound, &batch, None, AttentionWeights::Averaged)?;
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
        let seen = batch.seen("CrossAttention", tape, &self.branch.widths())?;
        let MultiHeadAttended { out: h, weights } =
            self.branch.forward(tape, bound, [&seen[0], &seen[1]], step, weights)?;
        let y = self.around_mlp.around(tape, bound, &h, step, |h| self.mlp.forward(tape, bound, h))?;
        Ok(MultiHeadAttended { out: seen[0].kept(tape, &y)?, weights })
    }
}

/// `x + A(N x, N_c c)`, or with the norm after.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Branch {
    attention: MultiHeadAttention,
    around: Residual,
    context_norm: LayerNorm,
}

impl Branch {
    pub(super) fn new(
        device: &Device,
        parameters: &mut Parameters,
        name: &str,
        context: usize,
        options: &EncoderOptions,
        random: &mut impl Rng,
    ) -> Result<Branch> {
        let of_attention = format!("{name}.attention");
        let sizes = MultiHeadSizes { key: context, value: context, ..options.attention_sizes() };
        Ok(Branch {
            attention: MultiHeadAttention::new(device, parameters, &of_attention, sizes, random)?,
            around: Residual::new(device, parameters, &format!("{of_attention}_norm"), options, 0)?,
            context_norm: LayerNorm::new(device, parameters, &format!("{name}.context_norm"), context)?,
        })
    }

    /// The widths of x and c.
    pub(super) fn widths(&self) -> [usize; 2] {
        [self.attention.sizes.query, self.attention.sizes.key]
    }

    pub(super) fn forward(
        &self,
        tape: &Tape,
        bound: &Bound,
        [x, context]: [&Seen; 2],
        step: Option<&DropoutStep>,
        weights: AttentionWeights,
    ) -> Result<MultiHeadAttended> {
        let options =
            AttentionOptions { key_mask: context.mask.clone(), weights, ..AttentionOptions::default() };
        let c = self.context_norm.forward(tape, bound, &context.x)?;
        let mut weights = None;
        let out = self.around.around(tape, bound, &x.x, step, |x| {
            let attended = self.attention.attend(tape, bound, [x, &c, &c], &options)?;
            weights = attended.weights;
            context.kept_of(tape, &attended.out)
        })?;
        Ok(MultiHeadAttended { out, weights })
    }
}
