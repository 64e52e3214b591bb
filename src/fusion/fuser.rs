//! Any of the trained fusions with its layers.

use super::{
    AttentionPooling, Concatenation, DeepSet, FusionKind, GatedUnit, LowRankFusion, TensorFusion, TokenBatch,
    TokenFuser,
};
use crate::autograd::{Tape, Var};
use crate::device::Device;
use crate::error::Result;
use crate::nn::{Bound, Parameters};
use rand::Rng;

/// A fusion with its layers: features of every modality to one vector.
///
/// ```
/// use crossmodal::{DType, Device, Tensor, autograd::Tape, nn::{Parameters, generator}};
/// use crossmodal::fusion::{Fuser, FusionKind, Presence, TokenBatch};
/// let (mut parameters, mut random) = (Parameters::default(), generator(0, 0));
/// let fuser = Fuser::new(&Device::Cpu, &mut parameters, "fusion", FusionKind::Gated, &[3, 2], 4, &mut random)?;
/// let tape = Tape::new();
/// let zeros = |shape: &[usize]| tape.leaf(&Tensor::zeros(&Device::Cpu, shape, DType::F32).unwrap());
/// let (image, text) = (zeros(&[5, 3]), zeros(&[5, 7, 2])); // a vector, and a sequence of seven
/// let batch = TokenBatch { tokens: &[&image, &text], masks: &[], presence: &Presence::all(5, 2) };
/// let h = fuser.forward(&tape, &parameters.on(&tape), &batch)?;
/// assert_eq!(h.value().shape(), [5, 4]);
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Fuser {
    widths: Vec<usize>,
    fusion: Fusion,
}

#[derive(Debug, Clone, PartialEq)]
enum Fusion {
    Concat(Concatenation),
    Gated(GatedUnit),
    Tensor(TensorFusion),
    LowRank(LowRankFusion),
    Pooling(AttentionPooling),
    DeepSet(DeepSet),
    Tokens(Box<TokenFuser>),
}

impl Fuser {
    /// From features of these widths to `dim`. Parameters are the fusion's own, of those of tokens the [`TokenFuser`]'s.
    ///
    /// Errors: those of the fusion. Example: [`Fuser`].
    pub fn new(
        device: &Device,
        parameters: &mut Parameters,
        name: &str,
        kind: FusionKind,
        widths: &[usize],
        dim: usize,
        random: &mut impl Rng,
    ) -> Result<Fuser> {
        let fusion = match kind {
            FusionKind::Concat => {
                Fusion::Concat(Concatenation::new(device, parameters, name, widths, &[dim], random)?)
            }
            FusionKind::Gated => {
                Fusion::Gated(GatedUnit::new(device, parameters, name, widths, dim, random)?)
            }
            FusionKind::Tensor { inner } => {
                Fusion::Tensor(TensorFusion::new(device, parameters, name, widths, (inner, dim), random)?)
            }
            FusionKind::LowRank { rank } => {
                Fusion::LowRank(LowRankFusion::new(device, parameters, name, widths, (rank, dim), random)?)
            }
            FusionKind::Pooling => {
                Fusion::Pooling(AttentionPooling::new(device, parameters, name, widths, dim, random)?)
            }
            FusionKind::DeepSet { hidden } => {
                Fusion::DeepSet(DeepSet::new(device, parameters, name, widths, (hidden, dim), random)?)
            }
            of_tokens => {
                let own = TokenFuser::new(device, parameters, name, of_tokens, widths, dim, random)?;
                Fusion::Tokens(Box::new(own))
            }
        };
        Ok(Fuser { widths: widths.to_vec(), fusion })
    }

    /// Features `[rows, width]` or tokens `[rows, length, width]` of each modality to `[rows, dim]`. A fusion of vectors takes the mean of
    /// the tokens that are there, one of tokens a vector as a single token.
    ///
    /// Errors: other modalities, rows, widths or masks; the operations'. Example: [`Fuser`].
    pub fn forward(&self, tape: &Tape, bound: &Bound, batch: &TokenBatch<'_>) -> Result<Var> {
        if let Fusion::Tokens(own) = &self.fusion {
            return own.forward(tape, bound, batch);
        }
        let (pooled, presence) = batch.pooled(tape, &self.widths)?;
        let (features, presence) = (&pooled.iter().collect::<Vec<_>>()[..], &presence);
        match &self.fusion {
            Fusion::Concat(own) => own.forward(tape, bound, features, presence),
            Fusion::Gated(own) => own.forward(tape, bound, features, presence),
            Fusion::Tensor(own) => own.forward(tape, bound, features, presence),
            Fusion::LowRank(own) => own.forward(tape, bound, features, presence),
            Fusion::Pooling(own) => own.forward(tape, bound, features, presence),
            Fusion::DeepSet(own) => own.forward(tape, bound, features, presence),
            Fusion::Tokens(_) => unreachable!("it has been dealt with"),
        }
    }

    /// The fusion of tokens, if it is one: for the attention inside it. Example: [`TokenFuser`].
    pub fn of_tokens(&self) -> Option<&TokenFuser> {
        if let Fusion::Tokens(own) = &self.fusion { Some(own) } else { None }
    }
}
