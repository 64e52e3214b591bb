//! Several modalities into one: early fusion of their features, late fusion of what was decided from each.
//!
//! Every fusion takes a [`Presence`]: where a modality is missing, the result is that of the others.
//!
//! ```
//! use crossmodal::{Device, Tensor, autograd::Tape, nn::{Parameters, generator}};
//! use crossmodal::fusion::{GatedUnit, Presence};
//! let mut parameters = Parameters::default();
//! let fusion = GatedUnit::new(&Device::Cpu, &mut parameters, "gmu", &[2, 1], 3, &mut generator(0, 0))?;
//! let tape = Tape::new();
//! let image = tape.leaf(&Tensor::from_slice(&Device::Cpu, &[2, 2], &[1f32, 2., 3., 4.])?);
//! let text = tape.leaf(&Tensor::from_slice(&Device::Cpu, &[2, 1], &[1f32, f32::NAN])?);
//! let presence = Presence::new(2, vec![None, Some([true, false].into())])?;
//! let h = fusion.forward(&tape, &parameters.on(&tape), &[&image, &text], &presence)?;
//! assert!(h.value().to_vec::<f32>()?.iter().all(|v| v.is_finite())); // the missing text left no trace
//! # Ok::<(), crossmodal::Error>(())
//! ```

#[cfg(feature = "io")]
mod attention_maps;
mod attention_pooling;
mod bottleneck;
#[cfg(feature = "io")]
mod class_names;
mod class_scores;
mod co_attention;
mod concatenation;
mod cross_attention;
#[cfg(feature = "io")]
mod data;
mod deep_set;
#[cfg(feature = "io")]
mod experts;
mod fuser;
mod gated;
mod gated_cross_attention;
mod kind;
mod late;
#[cfg(feature = "io")]
mod late_file;
#[cfg(feature = "io")]
mod late_model;
#[cfg(feature = "io")]
mod late_rule;
mod low_rank;
mod merged;
#[cfg(feature = "io")]
mod model;
#[cfg(feature = "io")]
mod model_file;
#[cfg(feature = "io")]
mod model_inputs;
mod presence;
#[cfg(feature = "io")]
mod recipe;
mod resampler;
mod selection;
mod streams;
mod tensor_fusion;
mod token_batch;
mod token_fuser;
#[cfg(feature = "io")]
mod trainer;
mod value_scores;
mod vote;

#[cfg(feature = "io")]
pub use attention_maps::AttentionMaps;
pub use attention_pooling::AttentionPooling;
pub use bottleneck::{BottleneckFusion, Bottlenecked};
pub use class_scores::{ClassScore, ClassScores};
pub use co_attention::CoAttention;
pub use concatenation::Concatenation;
pub use cross_attention::CrossAttention;
#[cfg(feature = "io")]
pub use data::{FusionData, Target, TokenCount};
pub use deep_set::DeepSet;
#[cfg(feature = "io")]
pub use experts::Experts;
pub use fuser::Fuser;
pub use gated::GatedUnit;
pub use gated_cross_attention::GatedCrossAttention;
pub use kind::FusionKind;
pub use late::{LearnedMean, maximum, product_of_experts, weighted_mean};
#[cfg(feature = "io")]
pub use late_model::LateModel;
#[cfg(feature = "io")]
pub use late_rule::LateRule;
pub use low_rank::LowRankFusion;
pub use merged::MergedEncoder;
#[cfg(feature = "io")]
pub use model::{Channel, FusionModel, Told};
pub use presence::Presence;
#[cfg(feature = "io")]
pub use recipe::FusionRecipe;
pub use resampler::Resampler;
pub use selection::greedy_selection;
pub use tensor_fusion::TensorFusion;
pub use token_batch::TokenBatch;
pub use token_fuser::TokenFuser;
#[cfg(feature = "io")]
pub use trainer::{FusionReport, FusionTrainer};
pub use value_scores::ValueScores;
pub use vote::Ballots;

use crate::device::Device;
use crate::error::{Error, Result};
use crate::nn::{Linear, Parameters};
use rand::Rng;

/// A layer for each modality, from its width to one that they share: parameters `name.0.weight` and so on.
fn projections(
    device: &Device,
    parameters: &mut Parameters,
    name: &str,
    widths: &[usize],
    dim: usize,
    random: &mut impl Rng,
) -> Result<Vec<Linear>> {
    check_widths(widths)?;
    let layer = |(m, &width): (usize, &usize)| {
        Linear::new(device, parameters, &format!("{name}.{m}"), (width, dim), random)
    };
    widths.iter().enumerate().map(layer).collect()
}

fn check_widths(widths: &[usize]) -> Result<()> {
    if widths.is_empty() || widths.contains(&0) {
        let expected = "at least one modality, each of at least one feature";
        return Err(Error::argument("fusion", "widths", expected, format!("{widths:?}")));
    }
    Ok(())
}
