//! Tokens of any number into a few.

use super::TokenBatch;
use super::streams::{OneStream, for_each_sample};
use super::token_batch::joined_mask;
use crate::autograd::arithmetic::concat;
use crate::autograd::{Tape, Var};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::nn::encoder::Residual;
use crate::nn::{
    Bound, DropoutStep, Embedding, EncoderOptions, LayerNorm, Mlp, MultiHeadAttention, NormPlace,
    ParameterId, Parameters,
};
use crate::ops::{AttentionOptions, Unary};
use rand::Rng;

/// The Perceiver's resampler (Jaegle et al., 2021; as Flamingo has it, Alayrac et al., 2022): a few learned latents z that attend over
/// the tokens c of all modalities and over themselves. With `c = [x_1 + e_1; …; x_M + e_M]`, `e_m` a learned embedding of the modality,
/// each layer is `h = z + A(N_1 z, [N_c c; N_1 z])` and `z ← h + M(N_2 h)`, A being attention of queries from the first over keys and
/// values from the second ([`MultiHeadAttention`]), M an MLP with GELU and N layer norms, and a last norm is behind all layers. With
/// [`NormPlace::After`] `h = N_1(z + A(z, [N_c c; z]))`, `z ← N_2(h + M h)`, and there is no last norm.
///
/// The result has as many tokens whatever came in, and the cost grows with the tokens' number, not with its square. Tokens of another
/// width than the latents' are projected to it first. What is not there is seen by none; a sample without a token has what the latents
/// find in themselves.
///
/// ```
/// use crossmodal::{Device, Tensor, autograd::Tape, nn::{EncoderOptions, Parameters, generator}};
/// use crossmodal::fusion::{Presence, Resampler, TokenBatch};
/// let (cpu, mut parameters, options) = (Device::Cpu, Parameters::default(), EncoderOptions::new(4, 2));
/// let (widths, sizes) = ([4, 3], (2, 1)); // two latents, one layer
/// let resampler = Resampler::new(&cpu, &mut parameters, "few", &widths, sizes, &options, &mut generator(0, 0))?;
/// let tape = Tape::new();
/// let text = tape.leaf(&Tensor::from_slice(&cpu, &[2, 3, 4], &[0.5f32; 24])?);
/// let image = [[0.5f32; 15], [f32::NAN; 15]].concat(); // the second sample has none
/// let image = tape.leaf(&Tensor::from_slice(&cpu, &[2, 5, 3], &image)?);
/// let presence = Presence::new(2, vec![None, Some([true, false].into())])?;
/// let batch = TokenBatch { tokens: &[&text, &image], masks: &[], presence: &presence };
/// let z = resampler.forward(&tape, &parameters.on(&tape), &batch, None)?;
/// assert!(z.value().shape() == [2, 2, 4] && z.value().to_vec::<f32>()?.iter().all(|v| v.is_finite()));
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Resampler {
    /// The first `z`, `[latents, width]`.
    pub latents: ParameterId,
    stream: OneStream,
    layers: Vec<Layer>,
    norm: Option<LayerNorm>,
}

/// Attention over tokens and latents, and an MLP.
#[derive(Debug, Clone, PartialEq)]
struct Layer {
    attention: MultiHeadAttention,
    around_attention: Residual,
    context_norm: LayerNorm,
    mlp: Mlp,
    around_mlp: Residual,
}

impl Resampler {
    /// Of modalities of these widths, with so many latents and layers. Parameters are `name.layers.0.attention.query.weight` and so on
    /// as [`CrossAttention`](super::CrossAttention)'s, `name.norm.weight`, `name.0.weight` and `name.0.bias` of what projects the first
    /// modality, and so on; and `name.modalities.weight` and `name.latents.weight`, normal numbers of deviation 0.02 at first. A layer
    /// has two numbers for dropout.
    ///
    /// Errors: no modality, no latent, no layer, a width of 0; heads that do not fit; dropout outside [0, 1); the names are taken; the
    /// device's. Example: [`Resampler`].
    pub fn new(
        device: &Device,
        parameters: &mut Parameters,
        name: &str,
        widths: &[usize],
        (latents, layers): (usize, usize),
        options: &EncoderOptions,
        random: &mut impl Rng,
    ) -> Result<Resampler> {
        super::check_widths(widths)?;
        options.check("Resampler")?;
        if latents == 0 || layers == 0 {
            let got = format!("{latents} latents, {layers} layers");
            return Err(Error::argument("Resampler", "sizes", "at least one latent and layer", got));
        }
        let mut layer = |i: usize| {
            let first_dropout = options.first_dropout.wrapping_add(2 * i as u64);
            let own = EncoderOptions { first_dropout, ..*options };
            Layer::new(device, parameters, &format!("{name}.layers.{i}"), &own, random)
        };
        let layers = (0..layers).map(&mut layer).collect::<Result<_>>()?;
        let norm = match options.norm {
            NormPlace::Before => {
                Some(LayerNorm::new(device, parameters, &format!("{name}.norm"), options.width)?)
            }
            NormPlace::After => None,
        };
        let stream = OneStream::new(device, parameters, name, (widths, options.width), random)?;
        let (of_latents, sizes) = (format!("{name}.latents"), (latents, options.width));
        let latents = Embedding::new(device, parameters, &of_latents, sizes, random)?.weight;
        Ok(Resampler { latents, stream, layers, norm })
    }

    /// The latents `[batch, latents, width]` with what they found in the tokens. While training with the step of its dropout, else with
    /// none.
    ///
    /// Errors: other modalities; other axes, widths or masks; the operations'. Example: [`Resampler`].
    pub fn forward(
        &self,
        tape: &Tape,
        bound: &Bound,
        batch: &TokenBatch<'_>,
        step: Option<&DropoutStep>,
    ) -> Result<Var> {
        let context = self.stream.join("Resampler", tape, bound, batch)?;
        let (rows, z) = (batch.presence.rows(), bound.get(self.latents));
        let own = (None, z.value().shape()[0]);
        let mask = joined_mask(rows, &[(context.mask.as_ref(), context.lengths.iter().sum()), own]);
        let options = AttentionOptions { key_mask: mask, ..AttentionOptions::default() };
        let mut z = for_each_sample(tape, z, rows)?;
        for layer in &self.layers {
            z = layer.forward(tape, bound, [&z, &context.x], &options, step)?;
        }
        match &self.norm {
            Some(norm) => norm.forward(tape, bound, &z),
            None => Ok(z),
        }
    }
}

impl Layer {
    fn new(
        device: &Device,
        parameters: &mut Parameters,
        name: &str,
        options: &EncoderOptions,
        random: &mut impl Rng,
    ) -> Result<Layer> {
        let (of_attention, of_mlp) = (format!("{name}.attention"), format!("{name}.mlp"));
        let (own, sizes) = (options.attention_sizes(), [options.width, options.hidden, options.width]);
        let of_context = format!("{name}.context_norm");
        Ok(Layer {
            attention: MultiHeadAttention::new(device, parameters, &of_attention, own, random)?,
            around_attention: Residual::new(device, parameters, &format!("{of_attention}_norm"), options, 0)?,
            context_norm: LayerNorm::new(device, parameters, &of_context, options.width)?,
            mlp: Mlp::new(device, parameters, &of_mlp, &sizes, Unary::Gelu, random)?,
            around_mlp: Residual::new(device, parameters, &format!("{of_mlp}_norm"), options, 1)?,
        })
    }

    fn forward(
        &self,
        tape: &Tape,
        bound: &Bound,
        [z, context]: [&Var; 2],
        options: &AttentionOptions,
        step: Option<&DropoutStep>,
    ) -> Result<Var> {
        let c = self.context_norm.forward(tape, bound, context)?;
        let h = self.around_attention.around(tape, bound, z, step, |z| {
            let keys = concat(tape, 1, &[c, z.clone()])?;
            Ok(self.attention.attend(tape, bound, [z, &keys, &keys], options)?.out)
        })?;
        self.around_mlp.around(tape, bound, &h, step, |h| self.mlp.forward(tape, bound, h))
    }
}
