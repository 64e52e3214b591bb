//! The transformer's encoder.

use super::tokens::{check_mask, check_tokens, keep_tokens};
use super::{
    Bound, Dropout, DropoutStep, LayerNorm, Mlp, MultiHeadAttended, MultiHeadAttention, MultiHeadSizes,
    Parameters,
};
use crate::autograd::{Tape, Var};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::ops::binary::BINARY;
use crate::ops::{AttentionOptions, AttentionWeights, Binary, Mask, Unary};
use rand::Rng;

/// Where a transformer's norms stand.
///
/// ```
/// use crossmodal::nn::{EncoderOptions, NormPlace};
/// assert_eq!(EncoderOptions::new(8, 2).norm, NormPlace::Before);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NormPlace {
    /// `x + f(norm x)`: trains without a warm-up (Xiong et al., 2020).
    #[default]
    Before,
    /// `norm(x + f x)`, as Vaswani et al. (2017) have it.
    After,
}

/// What an [`EncoderLayer`] is made of.
///
/// ```
/// use crossmodal::nn::EncoderOptions;
/// let options = EncoderOptions { dropout: 0.1, ..EncoderOptions::new(64, 4) };
/// assert_eq!((options.width, options.heads, options.kv_heads, options.hidden), (64, 4, 4, 256));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EncoderOptions {
    /// The width of the tokens.
    pub width: usize,
    /// Heads, each of `width / heads` features.
    pub heads: usize,
    /// Heads of keys and values, of which `heads` is a multiple.
    pub kv_heads: usize,
    /// The width inside the MLP.
    pub hidden: usize,
    /// Where the norms stand.
    pub norm: NormPlace,
    /// The part dropped of what the attention and the MLP add, while training.
    pub dropout: f64,
    /// The number of the first [`Dropout`]: a layer has two. Those of one model are to differ.
    pub first_dropout: u64,
}

impl EncoderOptions {
    /// As many heads of keys and values, an MLP four times as wide, norms before, no dropout. Example: [`EncoderOptions`].
    pub fn new(width: usize, heads: usize) -> EncoderOptions {
        EncoderOptions {
            width,
            heads,
            kv_heads: heads,
            hidden: width.saturating_mul(4),
            norm: NormPlace::Before,
            dropout: 0.,
            first_dropout: 0,
        }
    }

    pub(crate) fn attention_sizes(&self) -> MultiHeadSizes {
        MultiHeadSizes { kv_heads: self.kv_heads, ..MultiHeadSizes::new(self.width, self.heads) }
    }

    /// Refuses what would be refused only after parameters have been added.
    pub(crate) fn check(&self, layer: &'static str) -> Result<()> {
        if self.width == 0 || self.hidden == 0 {
            let got = format!("width {}, hidden {}", self.width, self.hidden);
            return Err(Error::argument(layer, "sizes", "at least one feature", got));
        }
        if !(0. ..1.).contains(&self.dropout) {
            return Err(Error::argument(layer, "dropout", "p of 0 to less than 1", self.dropout));
        }
        Ok(())
    }
}

/// A norm and what is dropped around a function whose result is added to its argument: how every block of a transformer is made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Residual {
    pub norm: LayerNorm,
    pub place: NormPlace,
    pub dropout: Dropout,
}

impl Residual {
    pub(crate) fn new(
        device: &Device,
        parameters: &mut Parameters,
        name: &str,
        options: &EncoderOptions,
        dropout: u64,
    ) -> Result<Residual> {
        Ok(Residual {
            norm: LayerNorm::new(device, parameters, name, options.width)?,
            place: options.norm,
            dropout: Dropout { p: options.dropout, layer: options.first_dropout.wrapping_add(dropout) },
        })
    }

    /// `x + f(norm x)` or `norm(x + f x)`.
    pub(crate) fn around(
        &self,
        tape: &Tape,
        parameters: &Bound,
        x: &Var,
        step: Option<&DropoutStep>,
        f: impl FnOnce(&Var) -> Result<Var>,
    ) -> Result<Var> {
        let added = match self.place {
            NormPlace::Before => f(&self.norm.forward(tape, parameters, x)?)?,
            NormPlace::After => f(x)?,
        };
        let added = self.dropout.forward(tape, &added, step)?;
        let sum = tape.apply(&BINARY, Binary::Add, &[x, &added])?;
        match self.place {
            NormPlace::Before => Ok(sum),
            NormPlace::After => self.norm.forward(tape, parameters, &sum),
        }
    }
}

/// A layer of a transformer's encoder (Vaswani et al., 2017): self-attention, then an MLP on each token, each added to what it was
/// given. With norms before (Xiong et al., 2020) `h = x + A(N_1 x)` and `y = h + M(N_2 h)`; with norms after, `h = N_1(x + A x)` and
/// `y = N_2(h + M h)`. A is [`MultiHeadAttention`], `M u = GELU(u W_0 + b_0) W_1 + b_1`, N is [`LayerNorm`]; while training, elements
/// of what A and M give are dropped, as in the paper.
///
/// ```
/// use crossmodal::{Device, Tensor, autograd::Tape, ops::Mask};
/// use crossmodal::nn::{EncoderLayer, EncoderOptions, Parameters, generator};
/// let (cpu, mut parameters) = (Device::Cpu, Parameters::default());
/// let layer = EncoderLayer::new(&cpu, &mut parameters, "layer", &EncoderOptions::new(4, 2), &mut generator(0, 0))?;
/// let tape = Tape::new();
/// let tokens = [[0.1f32, 0.2, 0.3, 0.4], [f32::NAN; 4]].concat(); // the second is padding
/// let x = tape.leaf(&Tensor::from_slice(&cpu, &[1, 2, 4], &tokens)?);
/// let mask = Mask::keep(&[1, 2], &[true, false]);
/// let y = layer.forward(&tape, &parameters.on(&tape), &x, Some(&mask), None)?.value().to_vec::<f32>()?;
/// assert!(y[..4].iter().all(|v| v.is_finite()) && y[4..] == [0.; 4]);
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct EncoderLayer {
    attention: MultiHeadAttention,
    around_attention: Residual,
    mlp: Mlp,
    around_mlp: Residual,
}

impl EncoderLayer {
    /// A layer initialised as [`MultiHeadAttention::new`], [`Mlp::new`] and [`LayerNorm::new`] do; parameters
    /// `name.attention.query.weight` and so on, `name.attention_norm.weight`, `name.mlp.0.weight`, `name.mlp_norm.weight`.
    ///
    /// Errors: a width of 0; heads that do not fit; dropout outside [0, 1); the names are taken; the device's.
    ///
    /// ```
    /// use crossmodal::{Device, nn::{EncoderLayer, EncoderOptions, Parameters, generator}};
    /// let (mut parameters, options) = (Parameters::default(), EncoderOptions { hidden: 5, ..EncoderOptions::new(4, 2) });
    /// EncoderLayer::new(&Device::Cpu, &mut parameters, "layer", &options, &mut generator(0, 0))?;
    /// assert_eq!(parameters.len(), 16); // of four projections, two norms and two layers, weight and bias each
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    pub fn new(
        device: &Device,
        parameters: &mut Parameters,
        name: &str,
        options: &EncoderOptions,
        random: &mut impl Rng,
    ) -> Result<EncoderLayer> {
        options.check("EncoderLayer")?;
        let EncoderOptions { width, hidden, .. } = *options;
        let (of_attention, of_mlp) = (format!("{name}.attention"), format!("{name}.mlp"));
        let sizes = options.attention_sizes();
        Ok(EncoderLayer {
            attention: MultiHeadAttention::new(device, parameters, &of_attention, sizes, random)?,
            around_attention: Residual::new(device, parameters, &format!("{of_attention}_norm"), options, 0)?,
            mlp: Mlp::new(device, parameters, &of_mlp, &[width, hidden, width], Unary::Gelu, random)?,
            around_mlp: Residual::new(device, parameters, &format!("{of_mlp}_norm"), options, 1)?,
        })
    }

    /// Tokens `[batch, length, width]` to as many. Those that `key_mask [batch, length]` drops are seen by none: what is in them, NaN
    /// too, leaves no trace; they come out as 0 and get no gradient. While training with the step of its dropout, else with none.
    ///
    /// Errors: other axes or another width; a mask of another shape; `x` of another type than the parameters. Example:
    /// [`EncoderLayer`].
    pub fn forward(
        &self,
        tape: &Tape,
        parameters: &Bound,
        x: &Var,
        key_mask: Option<&Mask>,
        step: Option<&DropoutStep>,
    ) -> Result<Var> {
        let tokens = check_tokens("EncoderLayer", "x", x, self.attention.sizes.query)?;
        check_mask("EncoderLayer", key_mask, tokens)?;
        let x = keep_tokens(tape, x, key_mask)?;
        let y = self.run(tape, parameters, &x, key_mask, step, AttentionWeights::None)?.out;
        keep_tokens(tape, &y, key_mask)
    }

    /// The layer on tokens that are finite where they are masked, and come out so: no other depends on them.
    pub(crate) fn run(
        &self,
        tape: &Tape,
        parameters: &Bound,
        x: &Var,
        key_mask: Option<&Mask>,
        step: Option<&DropoutStep>,
        weights: AttentionWeights,
    ) -> Result<MultiHeadAttended> {
        let options =
            AttentionOptions { key_mask: key_mask.cloned(), weights, ..AttentionOptions::default() };
        let mut weights = None;
        let h = self.around_attention.around(tape, parameters, x, step, |x| {
            let attended = self.attention.attend(tape, parameters, [x; 3], &options)?;
            weights = attended.weights;
            Ok(attended.out)
        })?;
        let out =
            self.around_mlp.around(tape, parameters, &h, step, |h| self.mlp.forward(tape, parameters, h))?;
        Ok(MultiHeadAttended { out, weights })
    }
}

/// Several [`EncoderLayer`]s one behind the other and, where their norms stand before, a last norm.
///
/// ```
/// use crossmodal::{DType, Device, Tensor, autograd::Tape};
/// use crossmodal::nn::{DropoutStep, Encoder, EncoderOptions, Parameters, generator};
/// let (cpu, mut parameters) = (Device::Cpu, Parameters::default());
/// let options = EncoderOptions { dropout: 0.1, ..EncoderOptions::new(8, 2) };
/// let encoder = Encoder::new(&cpu, &mut parameters, "text", 3, &options, &mut generator(0, 0))?;
/// let tape = Tape::new();
/// let x = tape.leaf(&Tensor::from_slice(&cpu, &[1, 2, 8], &[0.5f32; 16])?);
/// let step = DropoutStep { seed: 0, step: 0, first_row: 0 };
/// let y = encoder.forward(&tape, &parameters.on(&tape), &x, None, Some(&step))?;
/// assert_eq!(y.value().shape(), [1, 2, 8]);
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Encoder {
    /// At least one.
    layers: Vec<EncoderLayer>,
    norm: Option<LayerNorm>,
}

impl Encoder {
    /// As many layers, with numbers of their own for dropout from `options.first_dropout` on, two each; parameters `name.0.…` and so
    /// on, and `name.norm.weight`.
    ///
    /// Errors: no layer; as [`EncoderLayer::new`]'s. Example: [`Encoder`].
    pub fn new(
        device: &Device,
        parameters: &mut Parameters,
        name: &str,
        layers: usize,
        options: &EncoderOptions,
        random: &mut impl Rng,
    ) -> Result<Encoder> {
        options.check("Encoder")?;
        if layers == 0 {
            return Err(Error::argument("Encoder", "layers", "at least one", layers));
        }
        let layer = |i: usize| {
            let first_dropout = options.first_dropout.wrapping_add(2 * i as u64);
            let own = EncoderOptions { first_dropout, ..*options };
            EncoderLayer::new(device, parameters, &format!("{name}.{i}"), &own, random)
        };
        let layers = (0..layers).map(layer).collect::<Result<_>>()?;
        let norm = match options.norm {
            NormPlace::Before => {
                Some(LayerNorm::new(device, parameters, &format!("{name}.norm"), options.width)?)
            }
            NormPlace::After => None,
        };
        Ok(Encoder { layers, norm })
    }

    /// Tokens `[batch, length, width]` to as many, with masked ones as in [`EncoderLayer::forward`], and its errors. Example:
    /// [`Encoder`].
    pub fn forward(
        &self,
        tape: &Tape,
        parameters: &Bound,
        x: &Var,
        key_mask: Option<&Mask>,
        step: Option<&DropoutStep>,
    ) -> Result<Var> {
        Ok(self.forward_with_weights(tape, parameters, x, key_mask, step, AttentionWeights::None)?.out)
    }

    /// As [`forward`](Self::forward), with the probabilities of the last layer's attention. Those of a masked token are meaningless.
    ///
    /// ```
    /// use crossmodal::{Device, Tensor, autograd::Tape, ops::AttentionWeights};
    /// use crossmodal::nn::{Encoder, EncoderOptions, Parameters, generator};
    /// let (cpu, mut parameters, options) = (Device::Cpu, Parameters::default(), EncoderOptions::new(8, 2));
    /// let encoder = Encoder::new(&cpu, &mut parameters, "text", 3, &options, &mut generator(0, 0))?;
    /// let tape = Tape::no_grad();
    /// let x = tape.constant(&Tensor::from_slice(&cpu, &[1, 2, 8], &[0.5f32; 16])?);
    /// let (bound, weights) = (parameters.on(&tape), AttentionWeights::PerHead);
    /// let seen = encoder.forward_with_weights(&tape, &bound, &x, None, None, weights)?.weights.unwrap();
    /// assert_eq!(seen.value().to_vec::<f32>()?, [0.5; 8]); // of two heads and two tokens that are the same
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    pub fn forward_with_weights(
        &self,
        tape: &Tape,
        parameters: &Bound,
        x: &Var,
        key_mask: Option<&Mask>,
        step: Option<&DropoutStep>,
        weights: AttentionWeights,
    ) -> Result<MultiHeadAttended> {
        let tokens = check_tokens("Encoder", "x", x, self.layers[0].attention.sizes.query)?;
        check_mask("Encoder", key_mask, tokens)?;
        let mut y = MultiHeadAttended { out: keep_tokens(tape, x, key_mask)?, weights: None };
        for (i, layer) in self.layers.iter().enumerate() {
            let own = if i + 1 == self.layers.len() { weights } else { AttentionWeights::None };
            y = layer.run(tape, parameters, &y.out, key_mask, step, own)?;
        }
        if let Some(norm) = &self.norm {
            y.out = norm.forward(tape, parameters, &y.out)?;
        }
        Ok(MultiHeadAttended { out: keep_tokens(tape, &y.out, key_mask)?, weights: y.weights })
    }
}
