//! Any of the fusions of tokens, from sequences to one vector.

use super::token_batch::{Seen, mean_of_all, mean_of_modalities};
use super::{
    BottleneckFusion, CoAttention, CrossAttention, FusionKind, GatedCrossAttention, MergedEncoder, Resampler,
    TokenBatch, projections,
};
use crate::autograd::{Tape, Var};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::nn::{Bound, EncoderOptions, LayerNorm, Linear, Parameters};
use crate::ops::AttentionWeights;
use crate::ops::concat::SPLIT;
use rand::Rng;

/// A fusion of tokens with what stands around it: each modality's tokens are projected to one width, fused, and then the mean is taken,
/// of each modality's tokens and over the modalities, of those that are there, behind which is a layer norm. Of a cross-attention the
/// second modality's tokens are those that the first looked at; of a [`Resampler`] the mean is that of its latents.
///
/// Tokens carry their places themselves, as encoders give them; where they do not,
/// [`PositionalEmbedding`](crate::nn::PositionalEmbedding) adds them.
///
/// ```
/// use crossmodal::{DType, Device, Tensor, autograd::Tape, nn::{Parameters, generator}, ops::Mask};
/// use crossmodal::fusion::{FusionKind, Presence, TokenBatch, TokenFuser};
/// let (mut parameters, mut random) = (Parameters::default(), generator(0, 0));
/// let kind = FusionKind::Bottleneck { heads: 2, layers: 1, latents: 3 };
/// let fuser = TokenFuser::new(&Device::Cpu, &mut parameters, "fusion", kind, &[3, 2], 8, &mut random)?;
/// let tape = Tape::new();
/// let tokens = |shape: &[usize]| tape.leaf(&Tensor::zeros(&Device::Cpu, shape, DType::F32).unwrap());
/// let (image, text) = (tokens(&[2, 9, 3]), tokens(&[2, 4, 2]));
/// let words = Mask::keep(&[2, 4], &[true, true, true, true, true, false, false, false]);
/// let batch = TokenBatch { tokens: &[&image, &text], masks: &[None, Some(&words)], presence: &Presence::all(2, 2) };
/// let h = fuser.forward(&tape, &parameters.on(&tape), &batch)?;
/// assert_eq!(h.value().shape(), [2, 8]);
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct TokenFuser {
    widths: Vec<usize>,
    projections: Vec<Linear>,
    fusion: Fusion,
    norm: LayerNorm,
}

#[derive(Debug, Clone, PartialEq)]
enum Fusion {
    Cross(Vec<CrossAttention>),
    Co(Vec<CoAttention>),
    Merged(MergedEncoder),
    Gated(Vec<GatedCrossAttention>),
    Bottleneck(BottleneckFusion),
    Resampler(Resampler),
}

impl Fusion {
    fn new(
        device: &Device,
        parameters: &mut Parameters,
        name: &str,
        kind: FusionKind,
        (modalities, dim): (usize, usize),
        random: &mut impl Rng,
    ) -> Result<Fusion> {
        kind.check(modalities, dim)?;
        let widths = vec![dim; modalities];
        let block = |i: usize| format!("{name}.blocks.{i}");
        match kind {
            FusionKind::CrossAttention { heads, layers } => {
                let options = EncoderOptions::new(dim, heads);
                let one = |i| CrossAttention::new(device, parameters, &block(i), dim, &options, random);
                Ok(Fusion::Cross((0..layers).map(one).collect::<Result<_>>()?))
            }
            FusionKind::GatedCrossAttention { heads, layers } => {
                let options = EncoderOptions::new(dim, heads);
                let one = |i| GatedCrossAttention::new(device, parameters, &block(i), dim, &options, random);
                Ok(Fusion::Gated((0..layers).map(one).collect::<Result<_>>()?))
            }
            FusionKind::CoAttention { heads, layers } => {
                let options = [EncoderOptions::new(dim, heads); 2];
                let one = |i| CoAttention::new(device, parameters, &block(i), &options, random);
                Ok(Fusion::Co((0..layers).map(one).collect::<Result<_>>()?))
            }
            FusionKind::Merged { heads, layers } => {
                let options = EncoderOptions::new(dim, heads);
                let own = MergedEncoder::new(device, parameters, name, &widths, layers, &options, random)?;
                Ok(Fusion::Merged(own))
            }
            FusionKind::Bottleneck { heads, layers, latents } => {
                let (options, sizes) = (EncoderOptions::new(dim, heads), (latents, layers));
                let own = BottleneckFusion::new(device, parameters, name, &widths, sizes, &options, random)?;
                Ok(Fusion::Bottleneck(own))
            }
            FusionKind::Resampler { heads, layers, latents } => {
                let (options, sizes) = (EncoderOptions::new(dim, heads), (latents, layers));
                let own = Resampler::new(device, parameters, name, &widths, sizes, &options, random)?;
                Ok(Fusion::Resampler(own))
            }
            other => Err(Error::argument("fuse", "fusion", "a fusion of tokens", other)),
        }
    }

    /// The fused tokens of each modality, or the latents of all; and, of what was asked for, what the last layer's attention saw from one
    /// modality to another.
    fn forward(
        &self,
        tape: &Tape,
        bound: &Bound,
        batch: &TokenBatch<'_>,
        ask: Option<[usize; 2]>,
    ) -> Result<(Vec<Var>, Option<Var>)> {
        let mut tokens: Vec<Var> = batch.tokens.iter().map(|x| (*x).clone()).collect();
        let (presence, masks) = (batch.presence, batch.masks);
        let weights = ask.map_or(AttentionWeights::None, |_| AttentionWeights::PerHead);
        let of = |i: usize, layers: usize| if i + 1 == layers { weights } else { AttentionWeights::None };
        let mut seen = None;
        match self {
            Fusion::Cross(blocks) => {
                for (i, block) in blocks.iter().enumerate() {
                    let own = TokenBatch { tokens: &[&tokens[0], &tokens[1]], masks, presence };
                    let y = block.forward_with_weights(tape, bound, &own, None, of(i, blocks.len()))?;
                    (tokens[0], seen) = (y.out, y.weights);
                }
            }
            Fusion::Gated(blocks) => {
                for (i, block) in blocks.iter().enumerate() {
                    let own = TokenBatch { tokens: &[&tokens[0], &tokens[1]], masks, presence };
                    let y = block.forward_with_weights(tape, bound, &own, None, of(i, blocks.len()))?;
                    (tokens[0], seen) = (y.out, y.weights);
                }
            }
            Fusion::Co(blocks) => {
                for (i, block) in blocks.iter().enumerate() {
                    let own = TokenBatch { tokens: &[&tokens[0], &tokens[1]], masks, presence };
                    let y = block.forward_with_weights(tape, bound, &own, None, of(i, blocks.len()))?;
                    seen = ask.and_then(|[query, _]| y[query].weights.clone());
                    tokens = y.map(|own| own.out).into();
                }
            }
            Fusion::Merged(own) => {
                let (y, all) = own.forward_with_weights(tape, bound, batch, None, weights)?;
                let lengths: Vec<_> = y.iter().map(|x| x.value().shape()[1]).collect();
                if let (Some(all), Some([query, key])) = (&all, ask) {
                    let rows = tape.apply_all(&SPLIT, (2, lengths.clone()), &[all])?.swap_remove(query);
                    seen = Some(tape.apply_all(&SPLIT, (3, lengths), &[&rows])?.swap_remove(key));
                }
                tokens = y;
            }
            Fusion::Bottleneck(own) => tokens = own.forward(tape, bound, batch, None)?.tokens,
            Fusion::Resampler(own) => tokens = vec![own.forward(tape, bound, batch, None)?],
        }
        Ok((tokens, seen))
    }

    /// Whether it has attention from one modality to another.
    fn has(&self, [query, key]: [usize; 2], modalities: usize) -> bool {
        match self {
            Fusion::Cross(_) | Fusion::Gated(_) => [query, key] == [0, 1],
            Fusion::Co(_) => query != key && query < 2 && key < 2,
            Fusion::Merged(_) => query < modalities && key < modalities,
            Fusion::Bottleneck(_) | Fusion::Resampler(_) => false,
        }
    }
}

impl TokenFuser {
    /// From tokens of these widths to `dim`, the width of the fusion's own tokens. Parameters are `name.0.weight` and `name.0.bias` of what
    /// projects the first modality, and so on; `name.tokens.…` as the fusion's, of those that are blocks
    /// `name.tokens.blocks.0.…`; and `name.norm.weight`.
    ///
    /// Errors: a fusion of vectors; modalities other than two where the fusion is of two; sizes of 0; heads that do not divide `dim`; the
    /// names are taken; the device's. Example: [`TokenFuser`].
    pub fn new(
        device: &Device,
        parameters: &mut Parameters,
        name: &str,
        kind: FusionKind,
        widths: &[usize],
        dim: usize,
        random: &mut impl Rng,
    ) -> Result<TokenFuser> {
        let projections = projections(device, parameters, name, widths, dim, random)?;
        let (of_fusion, sizes) = (format!("{name}.tokens"), (widths.len(), dim));
        let fusion = Fusion::new(device, parameters, &of_fusion, kind, sizes, random)?;
        let norm = LayerNorm::new(device, parameters, &format!("{name}.norm"), dim)?;
        Ok(TokenFuser { widths: widths.to_vec(), projections, fusion, norm })
    }

    /// Tokens `[rows, length, width]` of each modality, or one token `[rows, width]`, to `[rows, dim]`.
    ///
    /// Errors: other modalities, rows, widths or masks; the operations'. Example: [`TokenFuser`].
    pub fn forward(&self, tape: &Tape, bound: &Bound, batch: &TokenBatch<'_>) -> Result<Var> {
        let (fused, seen, _) = self.fused(tape, bound, batch, None)?;
        let mean = match self.fusion {
            Fusion::Resampler(_) => mean_of_all(tape, &fused[0])?,
            _ => mean_of_modalities(tape, &fused, &seen)?,
        };
        self.norm.forward(tape, bound, &mean)
    }

    /// What each token of one modality looks at in another, by the numbers of both: the probabilities of the last layer's attention,
    /// `[rows, heads, length of the one, length of the other]`. Those of a token that is not there are meaningless. In a merged encoder a
    /// token looks at its own modality too, so that they sum to less than 1.
    ///
    /// Errors: a fusion without such attention: of those of two modalities by cross-attention it is the first's over the second; those of
    /// [`TokenFuser::forward`].
    ///
    /// ```
    /// use crossmodal::{DType, Device, Tensor, autograd::Tape, nn::{Parameters, generator}};
    /// use crossmodal::fusion::{FusionKind, Presence, TokenBatch, TokenFuser};
    /// let (mut parameters, mut random) = (Parameters::default(), generator(0, 0));
    /// let kind = FusionKind::Merged { heads: 2, layers: 1 };
    /// let fuser = TokenFuser::new(&Device::Cpu, &mut parameters, "fusion", kind, &[3, 2], 8, &mut random)?;
    /// let tape = Tape::no_grad();
    /// let tokens = |shape: &[usize]| tape.constant(&Tensor::zeros(&Device::Cpu, shape, DType::F32).unwrap());
    /// let (image, text) = (tokens(&[1, 9, 3]), tokens(&[1, 4, 2]));
    /// let batch = TokenBatch { tokens: &[&image, &text], masks: &[], presence: &Presence::all(1, 2) };
    /// let seen = fuser.attention(&tape, &parameters.on(&tape), &batch, [1, 0])?; // of the words over the picture
    /// assert_eq!(seen.value().shape(), [1, 2, 4, 9]);
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    pub fn attention(
        &self,
        tape: &Tape,
        bound: &Bound,
        batch: &TokenBatch<'_>,
        [query, key]: [usize; 2],
    ) -> Result<Var> {
        if !self.fusion.has([query, key], self.widths.len()) {
            let expected = "a fusion with attention from one modality to the other";
            let got = format!("none from modality {query} to {key}");
            return Err(Error::argument("attention maps", "fusion", expected, got));
        }
        let (_, _, weights) = self.fused(tape, bound, batch, Some([query, key]))?;
        weights.ok_or_else(|| Error::argument("attention maps", "fusion", "attention", "none"))
    }

    /// What the fusion makes of the projected tokens, these, and what it saw.
    fn fused(
        &self,
        tape: &Tape,
        bound: &Bound,
        batch: &TokenBatch<'_>,
        ask: Option<[usize; 2]>,
    ) -> Result<(Vec<Var>, Vec<Seen>, Option<Var>)> {
        let seen = self.projected(tape, bound, batch)?;
        let tokens: Vec<_> = seen.iter().map(|own| &own.x).collect();
        let masks: Vec<_> = seen.iter().map(|own| own.mask.as_ref()).collect();
        let own = TokenBatch { tokens: &tokens, masks: &masks, presence: batch.presence };
        let (fused, weights) = self.fusion.forward(tape, bound, &own, ask)?;
        Ok((fused, seen, weights))
    }

    /// The tokens of each modality, projected.
    fn projected(&self, tape: &Tape, bound: &Bound, batch: &TokenBatch<'_>) -> Result<Vec<Seen>> {
        let mut seen = batch.sequences(tape, &self.widths)?;
        for (own, projection) in seen.iter_mut().zip(&self.projections) {
            own.x = projection.forward(tape, bound, &own.x)?;
        }
        Ok(seen)
    }
}
