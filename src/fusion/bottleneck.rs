//! Intermediate fusion through a few tokens that all modalities share.

use super::TokenBatch;
use super::streams::{ToWidth, for_each_sample};
use super::token_batch::{Seen, joined_mask, shares};
use crate::autograd::arithmetic::{concat, mul, total};
use crate::autograd::{Tape, Var};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::nn::{Bound, DropoutStep, Embedding, EncoderLayer, EncoderOptions, ParameterId, Parameters};
use crate::ops::AttentionWeights;
use crate::ops::concat::SPLIT;
use rand::Rng;

/// What [`BottleneckFusion::forward`] gives. Example: [`BottleneckFusion`].
#[derive(Debug, Clone)]
pub struct Bottlenecked {
    /// Each modality's tokens `[batch, length, width]`; 0 where they are not there.
    pub tokens: Vec<Var>,
    /// The shared tokens `[batch, count, width]`; 0 in a sample without any modality.
    pub bottleneck: Var,
}

/// Fusion by bottleneck tokens (MBT; Nagrani et al., 2021): in each layer `[x_m'; z_m] = L_m([x_m; z])` and then `z ← mean_m z_m`, over
/// the modalities that have a token in the sample. L is an [`EncoderLayer`], another for every modality and layer, and the first z is
/// learned. What one modality tells another has to go through z: attention costs what each modality's own does.
///
/// Tokens of another width than the layers' are projected to it first. The paper's first layers, where modalities are on their own, are
/// an [`Encoder`](crate::nn::Encoder) of each in front of this; there is no norm behind the last layer.
///
/// In a sample without a token of a modality the result is that of the others.
///
/// ```
/// use crossmodal::{Device, Tensor, autograd::Tape, nn::{EncoderOptions, Parameters, generator}};
/// use crossmodal::fusion::{BottleneckFusion, Presence, TokenBatch};
/// let (cpu, mut parameters, options) = (Device::Cpu, Parameters::default(), EncoderOptions::new(4, 2));
/// let (widths, sizes) = ([4, 3], (2, 1)); // two tokens between the modalities, one layer
/// let random = &mut generator(0, 0);
/// let fusion = BottleneckFusion::new(&cpu, &mut parameters, "mbt", &widths, sizes, &options, random)?;
/// let tape = Tape::new();
/// let text = tape.leaf(&Tensor::from_slice(&cpu, &[2, 3, 4], &[0.5f32; 24])?);
/// let image = [[0.5f32; 15], [f32::NAN; 15]].concat(); // the second sample has none
/// let image = tape.leaf(&Tensor::from_slice(&cpu, &[2, 5, 3], &image)?);
/// let presence = Presence::new(2, vec![None, Some([true, false].into())])?;
/// let batch = TokenBatch { tokens: &[&text, &image], masks: &[], presence: &presence };
/// let y = fusion.forward(&tape, &parameters.on(&tape), &batch, None)?;
/// assert_eq!((y.tokens[0].value().shape(), y.tokens[1].value().shape()), (&[2, 3, 4][..], &[2, 5, 4][..]));
/// assert_eq!(y.bottleneck.value().shape(), [2, 2, 4]);
/// assert!(y.bottleneck.value().to_vec::<f32>()?.iter().all(|v| v.is_finite()));
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct BottleneckFusion {
    /// The first `z`, `[count, width]`.
    pub bottleneck: ParameterId,
    to_width: ToWidth,
    /// Of each layer, those of each modality.
    layers: Vec<Vec<EncoderLayer>>,
}

impl BottleneckFusion {
    /// Of modalities of these widths, with so many shared tokens and layers. Parameters are `name.layers.0.0.…` of the first layer's
    /// first modality as [`EncoderLayer`]'s, and so on; `name.0.weight` and `name.0.bias` of what projects the first modality, and so
    /// on; and `name.bottleneck.weight`, normal numbers of deviation 0.02 at first. There are two numbers for dropout for every
    /// modality in every layer.
    ///
    /// Errors: no modality, no shared token, no layer, a width of 0; heads that do not fit; dropout outside [0, 1); the names are
    /// taken; the device's. Example: [`BottleneckFusion`].
    pub fn new(
        device: &Device,
        parameters: &mut Parameters,
        name: &str,
        widths: &[usize],
        (count, layers): (usize, usize),
        options: &EncoderOptions,
        random: &mut impl Rng,
    ) -> Result<BottleneckFusion> {
        super::check_widths(widths)?;
        options.check("BottleneckFusion")?;
        if count == 0 || layers == 0 {
            let (expected, got) =
                ("at least one shared token and layer", format!("{count} tokens, {layers} layers"));
            return Err(Error::argument("BottleneckFusion", "sizes", expected, got));
        }
        let modalities = widths.len();
        let mut one = |i: usize| {
            let first_dropout = options.first_dropout.wrapping_add(2 * i as u64);
            let own = EncoderOptions { first_dropout, ..*options };
            let name = format!("{name}.layers.{}.{}", i / modalities, i % modalities);
            EncoderLayer::new(device, parameters, &name, &own, random)
        };
        let mut layer = |l: usize| (l * modalities..(l + 1) * modalities).map(&mut one).collect();
        let layers = (0..layers).map(&mut layer).collect::<Result<Vec<_>>>()?;
        let to_width = ToWidth::new(device, parameters, name, (widths, options.width), random)?;
        let (of_bottleneck, sizes) = (format!("{name}.bottleneck"), (count, options.width));
        let bottleneck = Embedding::new(device, parameters, &of_bottleneck, sizes, random)?.weight;
        Ok(BottleneckFusion { bottleneck, to_width, layers })
    }

    /// Each modality's tokens with what they found in their own and in the bottleneck, and the bottleneck. While training with the step
    /// of its dropout, else with none.
    ///
    /// Errors: other modalities; other axes, widths or masks; the operations'. Example: [`BottleneckFusion`].
    pub fn forward(
        &self,
        tape: &Tape,
        bound: &Bound,
        batch: &TokenBatch<'_>,
        step: Option<&DropoutStep>,
    ) -> Result<Bottlenecked> {
        let mut seen = self.to_width.seen("BottleneckFusion", tape, bound, batch)?;
        let rows = batch.presence.rows();
        let z = bound.get(self.bottleneck);
        let (count, mut z) = (z.value().shape()[0], for_each_sample(tape, z, rows)?);
        let shares = tape.reshape(&shares(tape, &seen, &z)?, &[rows, 1, 1])?;
        let lengths: Vec<_> = seen.iter().map(|own| own.x.value().shape()[1]).collect();
        let mask = |(own, &length): (&Seen, &usize)| {
            joined_mask(rows, &[(own.mask.as_ref(), length), (None, count)])
        };
        let masks: Vec<_> = seen.iter().zip(&lengths).map(mask).collect();
        for layer in &self.layers {
            let mut found = vec![];
            for (m, own) in seen.iter_mut().enumerate() {
                let joined = concat(tape, 1, &[own.x.clone(), z.clone()])?;
                let no = AttentionWeights::None;
                let y = layer[m].run(tape, bound, &joined, masks[m].as_ref(), step, no)?.out;
                let mut parts = tape.apply_all(&SPLIT, (1, vec![lengths[m], count]), &[&y])?;
                found.push(own.kept_of(tape, &parts.swap_remove(1))?);
                own.x = parts.swap_remove(0);
            }
            z = mul(tape, &total(tape, &found)?, &shares)?;
        }
        let tokens = seen.iter().map(|own| own.kept(tape, &own.x)).collect::<Result<_>>()?;
        Ok(Bottlenecked { tokens, bottleneck: z })
    }
}
