//! The flags of `fuse` that say which fusion, and how it is made.

use clap::ValueEnum;
use crossmodal::align::Scaling;
use crossmodal::fusion::{FusionKind, FusionRecipe};

use crate::failure::Failure;
use crate::fuse_data::Task;
use crate::fuse_ways::Way;

/// How fusions train.
#[derive(clap::Args)]
pub(crate) struct RecipeArgs {
    /// Width of what is fused [default: 128]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    dim: Option<usize>,
    /// tensor: width of each modality [default: 32]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    inner: Option<usize>,
    /// lowrank: factors of each modality [default: 4]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    rank: Option<usize>,
    /// deepset: width between its layers [default: 128]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    hidden: Option<usize>,
    /// attentions: heads [default: 4, or fewer that fit]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    heads: Option<usize>,
    /// attentions: blocks behind each other [default: 1]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    layers: Option<usize>,
    /// bottleneck, resampler: their tokens [default: 4]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    latents: Option<usize>,
    /// Passes over rows [default: 40, attentions 15]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    epochs: Option<u32>,
    /// Rows of a training step [default: 64 or all]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    batch_size: Option<usize>,
    /// Falls to 0 [default: 0.001, attentions 0.003]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    lr: Option<f64>,
    /// AdamW's decay, on weights only [default: 0.1]
    #[arg(long, alias = "wd", value_name = "X", allow_negative_numbers = true)]
    weight_decay: Option<f64>,
    /// Part dropped [default: 0.5, attentions 0.3]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    dropout: Option<f64>,
    /// Part of the rows that lose a modality [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    modality_dropout: Option<f64>,
    /// By feature (the default), or by modality
    #[arg(long, value_name = "WHAT", hide_possible_values = true)]
    scaling: Option<ScalingName>,
    /// mean, vote, product: of each [default: equal]
    #[arg(long, value_name = "X,Y,…", value_delimiter = ',', allow_hyphen_values = true)]
    pub(crate) weights: Option<Vec<f64>>,
    /// product: count the class frequencies once only
    #[arg(long)]
    pub(crate) prior: bool,
    /// The same seed gives the same result [default: 0]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) seed: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum ScalingName {
    Feature,
    Modality,
}

/// Every fusion, in the order of the table.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub(crate) enum Name {
    Mean,
    LearnedMean,
    Max,
    Vote,
    Product,
    Stacking,
    Greedy,
    Concat,
    Gmu,
    Tensor,
    Lowrank,
    Pooling,
    Deepset,
    CrossAttention,
    CoAttention,
    GatedCrossAttention,
    Merged,
    Bottleneck,
    Resampler,
}

impl Name {
    /// What the command line calls it.
    pub(crate) fn word(self) -> String {
        self.to_possible_value().map_or(String::new(), |value| value.get_name().into())
    }
}

impl RecipeArgs {
    /// How a fusion is trained on so many rows.
    pub(crate) fn recipe(&self, kind: FusionKind, train: usize) -> FusionRecipe {
        let base = FusionRecipe::of(kind);
        FusionRecipe {
            dim: self.dim.unwrap_or(base.dim),
            epochs: self.epochs.unwrap_or(base.epochs),
            // A batch that nobody asked for is no more than there are rows.
            batch_size: self.batch_size.unwrap_or(base.batch_size.min(train)),
            learning_rate: self.lr.unwrap_or(base.learning_rate),
            weight_decay: self.weight_decay.unwrap_or(base.weight_decay),
            dropout: self.dropout.unwrap_or(base.dropout),
            modality_dropout: self.modality_dropout.unwrap_or(base.modality_dropout),
            scaling: self.scaling.map_or(base.scaling, |name| match name {
                ScalingName::Feature => Scaling::Feature,
                ScalingName::Modality => Scaling::Modality,
            }),
            seed: self.seed.unwrap_or(base.seed),
            ..base
        }
    }

    /// What a name stands for.
    pub(crate) fn way(&self, name: Name) -> Way {
        // Heads that nobody asked for fit any width.
        let dim = self.dim.unwrap_or(FusionRecipe::default().dim);
        let fitting = (1..=4).rev().find(|heads| dim.is_multiple_of(*heads)).unwrap_or(1);
        let (heads, layers) = (self.heads.unwrap_or(fitting), self.layers.unwrap_or(1));
        let latents = self.latents.unwrap_or(4);
        match name {
            Name::Mean => Way::Mean(self.weights.clone()),
            Name::LearnedMean => Way::LearnedMean,
            Name::Max => Way::Maximum,
            Name::Vote => Way::Vote(self.weights.clone()),
            Name::Product => Way::Product { weights: self.weights.clone(), prior: self.prior },
            Name::Stacking => Way::Stacking,
            Name::Greedy => Way::Greedy,
            Name::Concat => Way::Trained(FusionKind::Concat),
            Name::Gmu => Way::Trained(FusionKind::Gated),
            Name::Tensor => Way::Trained(FusionKind::Tensor { inner: self.inner.unwrap_or(32) }),
            Name::Lowrank => Way::Trained(FusionKind::LowRank { rank: self.rank.unwrap_or(4) }),
            Name::Pooling => Way::Trained(FusionKind::Pooling),
            Name::Deepset => Way::Trained(FusionKind::DeepSet { hidden: self.hidden.unwrap_or(128) }),
            Name::CrossAttention => Way::Trained(FusionKind::CrossAttention { heads, layers }),
            Name::CoAttention => Way::Trained(FusionKind::CoAttention { heads, layers }),
            Name::GatedCrossAttention => Way::Trained(FusionKind::GatedCrossAttention { heads, layers }),
            Name::Merged => Way::Trained(FusionKind::Merged { heads, layers }),
            Name::Bottleneck => Way::Trained(FusionKind::Bottleneck { heads, layers, latents }),
            Name::Resampler => Way::Trained(FusionKind::Resampler { heads, layers, latents }),
        }
    }

    /// Every fusion that is asked for, in the order of the table; none is named where all are that can take so many modalities.
    pub(crate) fn names(&self, name: Option<Name>, task: Task, modalities: usize) -> Vec<Name> {
        let of_two = [Name::CrossAttention, Name::CoAttention, Name::GatedCrossAttention];
        let is_asked = |own: &Name| match name {
            Some(name) => name == *own,
            None => {
                (task == Task::Class || matches!(self.way(*own), Way::Trained(_)))
                    && (modalities == 2 || !of_two.contains(own))
            }
        };
        Name::value_variants().iter().copied().filter(is_asked).collect()
    }

    /// Refuses flags of other fusions than the one that is asked for, and fusions of another task.
    pub(crate) fn check(&self, name: Option<Name>, task: Task) -> Result<(), Failure> {
        if task == Task::Regression {
            let late = name.filter(|name| !matches!(self.way(*name), Way::Trained(_)));
            let late = late.map(|name| format!("--fusion {}", name.word()));
            let weights = self.weights.as_ref().map(|_| "--weights".to_string());
            let prior = self.prior.then(|| "--prior".to_string());
            if let Some(flag) = late.or(weights).or(prior) {
                return Err(Failure::new(format!("{flag} is for --task class")));
            }
        }
        let Some(name) = name else { return Ok(()) };
        let trained = matches!(self.way(name), Way::Trained(_));
        let attends = matches!(self.way(name), Way::Trained(kind) if kind.is_of_tokens());
        let has_latents = [Name::Bottleneck, Name::Resampler].contains(&name);
        let weighed = [Name::Mean, Name::Vote, Name::Product].contains(&name);
        let others = [
            (self.weights.is_some() && !weighed, "--weights is for --fusion mean, vote, product"),
            (self.prior && name != Name::Product, "--prior is for --fusion product"),
            (self.inner.is_some() && name != Name::Tensor, "--inner is for --fusion tensor"),
            (self.rank.is_some() && name != Name::Lowrank, "--rank is for --fusion lowrank"),
            (self.hidden.is_some() && name != Name::Deepset, "--hidden is for --fusion deepset"),
            (self.heads.is_some() && !attends, "--heads is for fusions by attention"),
            (self.layers.is_some() && !attends, "--layers is for fusions by attention"),
            (self.latents.is_some() && !has_latents, "--latents is for --fusion bottleneck, resampler"),
            (self.dim.is_some() && !trained, "--dim is for fusions that train"),
            (self.epochs.is_some() && !trained, "--epochs is for fusions that train"),
            (self.batch_size.is_some() && !trained, "--batch-size is for fusions that train"),
            (self.lr.is_some() && !trained, "--lr is for fusions that train"),
            (self.weight_decay.is_some() && !trained, "--weight-decay is for fusions that train"),
            (self.dropout.is_some() && !trained, "--dropout is for fusions that train"),
            (self.modality_dropout.is_some() && !trained, "--modality-dropout is for fusions that train"),
            (self.scaling.is_some() && !trained, "--scaling is for fusions that train"),
        ];
        match others.iter().find(|(given, _)| *given) {
            Some((_, words)) => Err(Failure::new(format!("{words}, got --fusion {}", name.word()))),
            None => Ok(()),
        }
    }

    /// Refuses weights that are not one a modality.
    pub(crate) fn check_weights(&self, modalities: usize) -> Result<(), Failure> {
        let Some(weights) = &self.weights else { return Ok(()) };
        let fits = weights.len() == modalities && weights.iter().all(|w| *w >= 0. && w.is_finite());
        if fits && weights.iter().any(|w| *w > 0.) {
            return Ok(());
        }
        let got: Vec<_> = weights.iter().map(ToString::to_string).collect();
        let expected =
            format!("{modalities} finite numbers of at least 0, one for each modality and not all 0");
        Err(Failure::new(format!("--weights: expected {expected}, got {}", got.join(","))))
    }
}
