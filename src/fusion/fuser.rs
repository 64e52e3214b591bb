//! Any of the trained fusions, by name.

use super::{AttentionPooling, Concatenation, DeepSet, GatedUnit, LowRankFusion, Presence, TensorFusion};
use crate::autograd::{Tape, Var};
use crate::device::Device;
use crate::error::Result;
use crate::nn::{Bound, Parameters};
use rand::Rng;

/// Which fusion is trained.
///
/// ```
/// use crossmodal::fusion::FusionKind;
/// assert_eq!("gmu".parse(), Ok(FusionKind::Gated));
/// assert_eq!(FusionKind::LowRank { rank: 4 }.to_string(), "lowrank 4");
/// assert!("glue".parse::<FusionKind>().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FusionKind {
    /// [`Concatenation`] with one layer behind it.
    Concat,
    /// [`GatedUnit`].
    Gated,
    /// [`TensorFusion`].
    Tensor {
        /// The width that each modality is projected to.
        inner: usize,
    },
    /// [`LowRankFusion`].
    LowRank {
        /// Factors of each modality.
        rank: usize,
    },
    /// [`AttentionPooling`].
    Pooling,
    /// [`DeepSet`].
    DeepSet {
        /// The width between its two layers.
        hidden: usize,
    },
}

impl std::fmt::Display for FusionKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FusionKind::Concat => write!(f, "concat"),
            FusionKind::Gated => write!(f, "gmu"),
            FusionKind::Tensor { inner } => write!(f, "tensor {inner}"),
            FusionKind::LowRank { rank } => write!(f, "lowrank {rank}"),
            FusionKind::Pooling => write!(f, "pooling"),
            FusionKind::DeepSet { hidden } => write!(f, "deepset {hidden}"),
        }
    }
}

impl std::str::FromStr for FusionKind {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let words: Vec<_> = text.split(' ').collect();
        let kind = match words[..] {
            ["concat"] => Some(FusionKind::Concat),
            ["gmu"] => Some(FusionKind::Gated),
            ["tensor", inner] => inner.parse().ok().map(|inner| FusionKind::Tensor { inner }),
            ["lowrank", rank] => rank.parse().ok().map(|rank| FusionKind::LowRank { rank }),
            ["pooling"] => Some(FusionKind::Pooling),
            ["deepset", hidden] => hidden.parse().ok().map(|hidden| FusionKind::DeepSet { hidden }),
            _ => None,
        };
        kind.ok_or_else(|| format!("expected a fusion, got {text}"))
    }
}

/// A fusion with its layers.
///
/// ```
/// use crossmodal::{DType, Device, Tensor, autograd::Tape, nn::{Parameters, generator}};
/// use crossmodal::fusion::{Fuser, FusionKind, Presence};
/// let (mut parameters, mut random) = (Parameters::default(), generator(0, 0));
/// let fuser = Fuser::new(&Device::Cpu, &mut parameters, "fusion", FusionKind::Gated, &[3, 2], 4, &mut random)?;
/// let tape = Tape::new();
/// let x = [3, 2].map(|width| tape.leaf(&Tensor::zeros(&Device::Cpu, &[5, width], DType::F32).unwrap()));
/// let h = fuser.forward(&tape, &parameters.on(&tape), &[&x[0], &x[1]], &Presence::all(5, 2))?;
/// assert_eq!(h.value().shape(), [5, 4]);
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub enum Fuser {
    /// [`FusionKind::Concat`].
    Concat(Concatenation),
    /// [`FusionKind::Gated`].
    Gated(GatedUnit),
    /// [`FusionKind::Tensor`].
    Tensor(TensorFusion),
    /// [`FusionKind::LowRank`].
    LowRank(LowRankFusion),
    /// [`FusionKind::Pooling`].
    Pooling(AttentionPooling),
    /// [`FusionKind::DeepSet`].
    DeepSet(DeepSet),
}

impl Fuser {
    /// From features of these widths to `dim`. Errors: those of the fusion. Example: [`Fuser`].
    pub fn new(
        device: &Device,
        parameters: &mut Parameters,
        name: &str,
        kind: FusionKind,
        widths: &[usize],
        dim: usize,
        random: &mut impl Rng,
    ) -> Result<Fuser> {
        Ok(match kind {
            FusionKind::Concat => {
                Fuser::Concat(Concatenation::new(device, parameters, name, widths, &[dim], random)?)
            }
            FusionKind::Gated => Fuser::Gated(GatedUnit::new(device, parameters, name, widths, dim, random)?),
            FusionKind::Tensor { inner } => {
                Fuser::Tensor(TensorFusion::new(device, parameters, name, widths, (inner, dim), random)?)
            }
            FusionKind::LowRank { rank } => {
                Fuser::LowRank(LowRankFusion::new(device, parameters, name, widths, (rank, dim), random)?)
            }
            FusionKind::Pooling => {
                Fuser::Pooling(AttentionPooling::new(device, parameters, name, widths, dim, random)?)
            }
            FusionKind::DeepSet { hidden } => {
                Fuser::DeepSet(DeepSet::new(device, parameters, name, widths, (hidden, dim), random)?)
            }
        })
    }

    /// Features `[rows, width]` of each modality to `[rows, dim]`. Errors: those of the fusion. Example: [`Fuser`].
    pub fn forward(&self, tape: &Tape, bound: &Bound, features: &[&Var], presence: &Presence) -> Result<Var> {
        match self {
            Fuser::Concat(own) => own.forward(tape, bound, features, presence),
            Fuser::Gated(own) => own.forward(tape, bound, features, presence),
            Fuser::Tensor(own) => own.forward(tape, bound, features, presence),
            Fuser::LowRank(own) => own.forward(tape, bound, features, presence),
            Fuser::Pooling(own) => own.forward(tape, bound, features, presence),
            Fuser::DeepSet(own) => own.forward(tape, bound, features, presence),
        }
    }
}
