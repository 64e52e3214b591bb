//! The flags that say how `align` trains.

use clap::ValueEnum;
use crossmodal::align::{ClosedForm, Data, HeadKind, Objective, Recipe, Scaling};
use crossmodal::losses::Distance;

use crate::failure::Failure;

/// How to train. What is not given is as the run to be resumed has it, or by default.
#[derive(clap::Args)]
pub(crate) struct RecipeArgs {
    #[arg(long, value_name = "N", help = or("Width of the shared space", Recipe::default().dim))]
    dim: Option<usize>,
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    #[arg(help = or("Passes over the training rows", Recipe::default().epochs))]
    epochs: Option<u32>,
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    #[arg(help = or("Pairs of a training step", "256 or all"))]
    batch_size: Option<usize>,
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    #[arg(help = or("Learning rate; falls to 0", Recipe::default().learning_rate))]
    lr: Option<f64>,
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    #[arg(help = or("Steps in which it rises first", Recipe::default().warmup_steps))]
    warmup: Option<u32>,
    /// Most that all gradients together measure
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    grad_clip_norm: Option<f64>,
    #[arg(long, alias = "wd", value_name = "X", allow_negative_numbers = true)]
    #[arg(help = or("AdamW's decay, on weights only", Recipe::default().weight_decay))]
    weight_decay: Option<f64>,
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    #[arg(help = or("Temperature at first; learned", "0.07"))]
    temperature: Option<f64>,
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    #[arg(help = or("The same seed gives the same result", Recipe::default().seed))]
    seed: Option<u64>,
    /// By feature, or by modality (the default)
    #[arg(long, value_name = "WHAT", hide_possible_values = true)]
    scaling: Option<ScalingName>,
    /// Part of the features dropped [default: 0.5]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    dropout: Option<f64>,
    /// Parts of a batch in turn in memory [default: 1]
    #[arg(long, alias = "accum-freq", value_name = "N", allow_negative_numbers = true)]
    accum: Option<usize>,
    #[command(flatten, next_help_heading = "Heads")]
    heads: HeadArgs,
    #[command(flatten, next_help_heading = "Loss")]
    loss: LossArgs,
}

#[derive(clap::Args)]
struct HeadArgs {
    /// See below [default: linear]
    #[arg(long, value_name = "HEAD", hide_possible_values = true)]
    head: Option<HeadName>,
    /// mlp, residual: inner width [default: 512]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    hidden: Option<usize>,
    /// residual: part of what is learned [default: 0.2]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    residual_ratio: Option<f64>,
    /// Modality whose features are the shared space
    #[arg(long, value_name = "NAME")]
    freeze: Option<String>,
}

#[derive(clap::Args)]
struct LossArgs {
    /// See below [default: infonce]
    #[arg(long, value_name = "LOSS", hide_possible_values = true)]
    loss: Option<LossName>,
    /// infonce: label smoothing [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    smoothing: Option<f64>,
    /// infonce: no positive in the denominator
    #[arg(long)]
    decoupled: bool,
    /// infonce: weight of hard negatives [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    hard_negatives: Option<f64>,
    /// infonce: earlier rows as negatives [default: 0]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    queue: Option<usize>,
    /// infonce: queue them before the loss, after [after]
    #[arg(long, value_name = "WHEN", hide_possible_values = true)]
    enqueue: Option<EnqueueName>,
    /// triplet: how much farther it is [default: 0.2]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    margin: Option<f64>,
    /// triplet: cosine (the default), euclidean, squared
    #[arg(long, value_name = "NAME", hide_possible_values = true)]
    distance: Option<DistanceName>,
    /// triplet: batch-hard (the default), semi-hard
    #[arg(long, value_name = "NAME", hide_possible_values = true)]
    mining: Option<MiningName>,
    /// triplet: softplus in the place of the hinge
    #[arg(long)]
    softplus: bool,
    /// triplet: distances from the positive count too
    #[arg(long)]
    swap: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum HeadName {
    Linear,
    Mlp,
    Residual,
    Ridge,
    Procrustes,
    Cca,
    Cache,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum ScalingName {
    Feature,
    Modality,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum EnqueueName {
    After,
    Before,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum LossName {
    Infonce,
    Siglip,
    Supcon,
    Triplet,
    Cosine,
    Vicreg,
    Barlow,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum DistanceName {
    Cosine,
    Euclidean,
    Squared,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum MiningName {
    BatchHard,
    SemiHard,
}

/// The help of a flag that has a default.
fn or(help: &str, default: impl std::fmt::Display) -> String {
    format!("{help} [default: {default}]")
}

impl RecipeArgs {
    /// The seed that is given, or that of a recipe.
    pub(crate) fn seed(&self, base: Option<&Recipe>) -> u64 {
        self.seed.unwrap_or(base.map_or(Recipe::default().seed, |recipe| recipe.seed))
    }

    /// The formula that is asked for in the place of training.
    pub(crate) fn closed_form(&self) -> Result<Option<ClosedForm>, Failure> {
        let kind = match self.heads.head {
            Some(HeadName::Ridge) => ClosedForm::Ridge,
            Some(HeadName::Procrustes) => ClosedForm::Procrustes,
            Some(HeadName::Cca) => ClosedForm::Cca,
            Some(HeadName::Cache) => ClosedForm::Cache,
            _ => return Ok(None),
        };
        let trained = "heads that are trained";
        let fixed = kind == ClosedForm::Ridge && self.dim.is_some();
        let loss = &self.loss;
        let others = [
            (fixed, "--dim", "heads whose space is not that of the right features"),
            (self.epochs.is_some(), "--epochs", trained),
            (self.batch_size.is_some(), "--batch-size", trained),
            (self.lr.is_some(), "--lr", trained),
            (self.warmup.is_some(), "--warmup", trained),
            (self.grad_clip_norm.is_some(), "--grad-clip-norm", trained),
            (self.weight_decay.is_some(), "--weight-decay", trained),
            (self.temperature.is_some(), "--temperature", trained),
            (self.dropout.is_some(), "--dropout", trained),
            (self.accum.is_some(), "--accum", trained),
            (self.heads.hidden.is_some(), "--hidden", trained),
            (self.heads.residual_ratio.is_some(), "--residual-ratio", trained),
            (self.heads.freeze.is_some(), "--freeze", trained),
            (loss.loss.is_some(), "--loss", trained),
            (loss.smoothing.is_some(), "--smoothing", trained),
            (loss.decoupled, "--decoupled", trained),
            (loss.hard_negatives.is_some(), "--hard-negatives", trained),
            (loss.queue.is_some(), "--queue", trained),
            (loss.enqueue.is_some(), "--enqueue", trained),
            (loss.margin.is_some(), "--margin", trained),
            (loss.distance.is_some(), "--distance", trained),
            (loss.mining.is_some(), "--mining", trained),
            (loss.softplus, "--softplus", trained),
            (loss.swap, "--swap", trained),
        ];
        refuse_others(&others, &format!("--head {kind}"))?;
        Ok(Some(kind))
    }

    /// What is given, over the recipe of the run to be resumed, or over the defaults for some data.
    pub(crate) fn recipe(&self, resumed: Option<Recipe>, data: &Data) -> Result<Recipe, Failure> {
        let base = resumed.unwrap_or_default();
        let objective = self.loss.objective(base.objective)?;
        let softmax = !matches!(
            objective,
            Objective::Triplet { .. } | Objective::Cosine | Objective::VicReg | Objective::BarlowTwins
        );
        let pairs_only = matches!(objective, Objective::Cosine | Objective::VicReg | Objective::BarlowTwins);
        let others = [
            (self.temperature.is_some() && !softmax, "--temperature", "--loss infonce, siglip and supcon"),
            (data.classes.is_some() && pairs_only, "--labels", "losses that tell rows apart"),
        ];
        refuse_others(&others, &format!("--loss {}", objective.name()))?;
        let freeze = self.heads.frozen(data)?.or(base.freeze);
        let width_of = |side: usize| data.modalities.get(side).map(|own| own.features.cols);
        let width = freeze.and_then(width_of);
        let head = self.heads.kind(base.head)?;
        let own_width = width_of(0).filter(|_| matches!(head, HeadKind::Residual { .. }));
        let new = resumed.is_none();
        Ok(Recipe {
            // The space of features that go in as they are is theirs.
            dim: self.dim.or(width).or(own_width.filter(|_| new)).unwrap_or(base.dim),
            epochs: self.epochs.unwrap_or(base.epochs),
            // A batch that nobody asked for is no more than there are rows.
            batch_size: self.batch_size.unwrap_or(if new {
                base.batch_size.min(data.split.train.len())
            } else {
                base.batch_size
            }),
            learning_rate: self.lr.unwrap_or(base.learning_rate),
            warmup_steps: self.warmup.unwrap_or(base.warmup_steps),
            grad_clip_norm: self.grad_clip_norm.or(base.grad_clip_norm),
            weight_decay: self.weight_decay.unwrap_or(base.weight_decay),
            temperature: self.temperature.unwrap_or(match objective {
                Objective::Siglip if new => 0.1,
                _ => base.temperature,
            }),
            seed: self.seed.unwrap_or(base.seed),
            objective,
            head,
            freeze,
            scaling: self.scaling.map_or(base.scaling, |name| match name {
                ScalingName::Feature => Scaling::Feature,
                ScalingName::Modality => Scaling::Modality,
            }),
            dropout: self.dropout.unwrap_or(base.dropout),
            accum: self.accum.unwrap_or(base.accum),
        })
    }
}

/// Refuses flags of another head or loss than the one there is.
fn refuse_others(others: &[(bool, &str, &str)], chosen: &str) -> Result<(), Failure> {
    match others.iter().find(|(given, ..)| *given) {
        Some((_, flag, what)) => Err(Failure::new(format!("{flag} is for {what}, got {chosen}"))),
        None => Ok(()),
    }
}

impl HeadArgs {
    /// The number of the modality to be frozen.
    fn frozen(&self, data: &Data) -> Result<Option<usize>, Failure> {
        let Some(name) = &self.freeze else { return Ok(None) };
        let names: Vec<_> = data.modalities.iter().map(|own| own.name.as_str()).collect();
        let at = names.iter().position(|own| own == name);
        let expected = names.join(", ");
        at.map(Some)
            .ok_or_else(|| Failure::new(format!("--freeze: expected a modality ({expected}), got {name}")))
    }

    fn kind(&self, base: HeadKind) -> Result<HeadKind, Failure> {
        let own = match base {
            HeadKind::Linear => HeadName::Linear,
            HeadKind::Mlp { .. } => HeadName::Mlp,
            HeadKind::Residual { .. } => HeadName::Residual,
        };
        let (mut hidden, mut ratio) = (512, 0.2);
        match base {
            HeadKind::Linear => {}
            HeadKind::Mlp { hidden: own } => hidden = own,
            HeadKind::Residual { hidden: own, ratio: own_ratio } => (hidden, ratio) = (own, own_ratio),
        }
        let (hidden, ratio) = (self.hidden.unwrap_or(hidden), self.residual_ratio.unwrap_or(ratio));
        let of_residual = (self.residual_ratio.is_some(), "--residual-ratio", "--head residual");
        let of_hidden = (self.hidden.is_some(), "--hidden", "--head mlp and residual");
        match self.head.unwrap_or(own) {
            HeadName::Linear => {
                refuse_others(&[of_residual, of_hidden], "--head linear")?;
                Ok(HeadKind::Linear)
            }
            HeadName::Mlp => {
                refuse_others(&[of_residual], "--head mlp")?;
                Ok(HeadKind::Mlp { hidden })
            }
            HeadName::Residual => Ok(HeadKind::Residual { hidden, ratio }),
            // They are not trained: nothing asks for the layers of their heads.
            HeadName::Ridge | HeadName::Procrustes | HeadName::Cca | HeadName::Cache => Ok(HeadKind::Linear),
        }
    }
}

impl LossArgs {
    /// What is given, over the loss of the run to be resumed if it is the same.
    fn objective(&self, base: Objective) -> Result<Objective, Failure> {
        let own = match base {
            Objective::InfoNce { .. } => LossName::Infonce,
            Objective::Siglip => LossName::Siglip,
            Objective::SupCon => LossName::Supcon,
            Objective::Triplet { .. } => LossName::Triplet,
            Objective::Cosine => LossName::Cosine,
            Objective::VicReg => LossName::Vicreg,
            Objective::BarlowTwins => LossName::Barlow,
        };
        let name = self.loss.unwrap_or(own);
        let chosen =
            format!("--loss {}", name.to_possible_value().map_or_else(String::new, |v| v.get_name().into()));
        let (infonce, triplet) = ("--loss infonce", "--loss triplet");
        if name != LossName::Infonce {
            let others = [
                (self.smoothing.is_some(), "--smoothing", infonce),
                (self.decoupled, "--decoupled", infonce),
                (self.hard_negatives.is_some(), "--hard-negatives", infonce),
                (self.queue.is_some(), "--queue", infonce),
                (self.enqueue.is_some(), "--enqueue", infonce),
            ];
            refuse_others(&others, &chosen)?;
        }
        if name != LossName::Triplet {
            let others = [
                (self.margin.is_some(), "--margin", triplet),
                (self.distance.is_some(), "--distance", triplet),
                (self.mining.is_some(), "--mining", triplet),
                (self.softplus, "--softplus", triplet),
                (self.swap, "--swap", triplet),
            ];
            refuse_others(&others, &chosen)?;
        }
        Ok(match name {
            LossName::Infonce => self.infonce(base),
            LossName::Triplet => self.triplet(base),
            LossName::Siglip => Objective::Siglip,
            LossName::Supcon => Objective::SupCon,
            LossName::Cosine => Objective::Cosine,
            LossName::Vicreg => Objective::VicReg,
            LossName::Barlow => Objective::BarlowTwins,
        })
    }

    fn infonce(&self, base: Objective) -> Objective {
        let base = if matches!(base, Objective::InfoNce { .. }) { base } else { Objective::default() };
        let Objective::InfoNce { smoothing, decoupled, hard_negatives, queue, enqueue_first } = base else {
            return base;
        };
        Objective::InfoNce {
            smoothing: self.smoothing.unwrap_or(smoothing),
            decoupled: self.decoupled || decoupled,
            hard_negatives: self.hard_negatives.unwrap_or(hard_negatives),
            queue: self.queue.unwrap_or(queue),
            enqueue_first: self.enqueue.map_or(enqueue_first, |when| when == EnqueueName::Before),
        }
    }

    fn triplet(&self, base: Objective) -> Objective {
        let default = Objective::Triplet {
            distance: Distance::Cosine,
            margin: 0.2,
            softplus: false,
            swap: false,
            semi_hard: false,
        };
        let base = if matches!(base, Objective::Triplet { .. }) { base } else { default };
        let Objective::Triplet { distance, margin, softplus, swap, semi_hard } = base else { return base };
        Objective::Triplet {
            distance: self.distance.map_or(distance, |name| match name {
                DistanceName::Cosine => Distance::Cosine,
                DistanceName::Euclidean => Distance::Euclidean,
                DistanceName::Squared => Distance::SquaredEuclidean,
            }),
            margin: self.margin.unwrap_or(margin),
            softplus: self.softplus || softplus,
            swap: self.swap || swap,
            semi_hard: self.mining.map_or(semi_hard, |mining| mining == MiningName::SemiHard),
        }
    }
}
