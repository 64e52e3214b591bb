//! `crossmodal fuse`: several modalities into one decision.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;
use crossmodal::align::Scaling;
use crossmodal::fusion::{FusionData, FusionKind, FusionRecipe, Target};
use crossmodal::io::{Source, write_atomically};
use indicatif::{ProgressBar, ProgressStyle};

use crate::device::DeviceArgs;
use crate::failure::{Failure, Outcome};
use crate::folder::{self, METRICS, Plan};
use crate::fuse_report::{self, Run};
use crate::fuse_ways::{Fused, Way, single, way};
use crate::inputs::{self, Inputs};
use crate::{output, words};

/// What stands below the flags in the help.
const MORE: &str = "\
FILE is .npy or .safetensors#TENSOR; row i of all of them is one sample.
Without any --modality it takes the emoji data in the folder data: pictures and
words, their category.

Fusions that train: concat, gmu, tensor, lowrank, pooling, deepset.
Fusions of logistic regressions, one a modality: mean, learned-mean, max, vote,
product, stacking, greedy.";

/// Trains a fusion of modalities that tells a class
#[derive(clap::Args)]
#[command(after_help = MORE)]
pub(crate) struct Args {
    /// Features of a modality by its name; again: more
    #[arg(long, value_name = "NAME=FILE", value_parser = inputs::named())]
    modality: Vec<(String, Source)>,
    /// The class of each row, any integers
    #[arg(long, value_name = "FILE", value_parser = inputs::source())]
    labels: Option<Source>,
    /// 0 train, 1 validation, 2 test [default: 80/10/10]
    #[arg(long, value_name = "FILE", value_parser = inputs::source())]
    split: Option<Source>,
    /// See below [default: gmu]
    #[arg(long, value_name = "FUSION", hide_possible_values = true, conflicts_with = "all")]
    fusion: Option<Name>,
    /// Every fusion and each modality alone, as one table
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    device: DeviceArgs,
    /// The folder to write [default: runs/fuse-1, …]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    recipe: RecipeArgs,
}

/// How fusions train.
#[derive(clap::Args)]
struct RecipeArgs {
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
    /// Passes over the training rows [default: 40]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    epochs: Option<u32>,
    /// Rows of a training step [default: 64 or all]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    batch_size: Option<usize>,
    /// Learning rate; falls to 0 [default: 0.001]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    lr: Option<f64>,
    /// AdamW's decay, on weights only [default: 0.1]
    #[arg(long, alias = "wd", value_name = "X", allow_negative_numbers = true)]
    weight_decay: Option<f64>,
    /// Part of the features dropped [default: 0.5]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    dropout: Option<f64>,
    /// Part of the rows that lose a modality [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    modality_dropout: Option<f64>,
    /// By feature (the default), or by modality
    #[arg(long, value_name = "WHAT", hide_possible_values = true)]
    scaling: Option<ScalingName>,
    /// The same seed gives the same result [default: 0]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    seed: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum ScalingName {
    Feature,
    Modality,
}

/// Every fusion, in the order of the table.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Name {
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
}

impl RecipeArgs {
    fn recipe(&self, train: usize) -> FusionRecipe {
        let base = FusionRecipe::default();
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

    fn way(&self, name: Name) -> Way {
        match name {
            Name::Mean => Way::Mean,
            Name::LearnedMean => Way::LearnedMean,
            Name::Max => Way::Maximum,
            Name::Vote => Way::Vote,
            Name::Product => Way::Product,
            Name::Stacking => Way::Stacking,
            Name::Greedy => Way::Greedy,
            Name::Concat => Way::Trained(FusionKind::Concat),
            Name::Gmu => Way::Trained(FusionKind::Gated),
            Name::Tensor => Way::Trained(FusionKind::Tensor { inner: self.inner.unwrap_or(32) }),
            Name::Lowrank => Way::Trained(FusionKind::LowRank { rank: self.rank.unwrap_or(4) }),
            Name::Pooling => Way::Trained(FusionKind::Pooling),
            Name::Deepset => Way::Trained(FusionKind::DeepSet { hidden: self.hidden.unwrap_or(128) }),
        }
    }

    /// Refuses flags of other fusions than the one that is asked for.
    fn check(&self, name: Option<Name>) -> Result<(), Failure> {
        let Some(name) = name else { return Ok(()) };
        let trained = matches!(self.way(name), Way::Trained(_));
        let others = [
            (self.inner.is_some() && name != Name::Tensor, "--inner is for --fusion tensor"),
            (self.rank.is_some() && name != Name::Lowrank, "--rank is for --fusion lowrank"),
            (self.hidden.is_some() && name != Name::Deepset, "--hidden is for --fusion deepset"),
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
            Some((_, words)) => {
                let name = name.to_possible_value().map_or(String::new(), |v| v.get_name().into());
                Err(Failure::new(format!("{words}, got --fusion {name}")))
            }
            None => Ok(()),
        }
    }
}

/// A bar over the fusions, hidden where standard error is no terminal. It ticks, so that a long one is seen to run.
fn progress(count: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {bar:12} {pos}/{len} fusions, {elapsed}, {msg}");
    let bar = ProgressBar::new(count as u64);
    let bar = bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// Runs the verb. Everything is read, checked and trained before anything is written.
pub(crate) fn run(args: &Args) -> Outcome {
    let name = if args.all { None } else { Some(args.fusion.unwrap_or(Name::Gmu)) };
    args.recipe.check(name)?;
    if let Some(out) = &args.out
        && !folder::is_free(out)?
    {
        return Err(Failure::new(format!("--out {}: the folder is not empty", out.display())));
    }
    let plan = Plan::new(args.out.as_deref(), false, false)?;
    let inputs = if args.modality.is_empty() && args.labels.is_none() {
        Inputs::emoji_classes(args.split.clone())?
    } else {
        Inputs::new(args.modality.clone(), [args.split.clone(), args.labels.clone()], None)?
    };
    if inputs.labels.is_none() {
        return Err(Failure::new("--labels FILE is missing: the class of each row"));
    }
    let read = inputs.read(args.recipe.seed.unwrap_or(0))?;
    let recipe = args.recipe.recipe(read.split.train.len());
    let target = Target::of_labels(&read.classes.unwrap_or_default());
    let said = |error| words::flags(error, &inputs);
    let data = FusionData::new(read.modalities, target, read.split).map_err(said)?;
    let device = args.device.open()?;
    plan.probe()?;
    let (mut all, mut experts) = (vec![], None);
    let alone = if args.all { data.modalities.len() } else { 0 };
    let names: Vec<_> =
        Name::value_variants().iter().filter(|own| name.is_none_or(|name| name == **own)).collect();
    let bar = progress(alone + names.len());
    for m in 0..alone {
        bar.set_message(format!("{} alone", data.modalities[m].name));
        all.push(single(&device, &data, m).map_err(said)?);
        bar.inc(1);
    }
    for name in names {
        let value: String = name.to_possible_value().map_or(String::new(), |v| v.get_name().into());
        bar.set_message(value.clone());
        let fused = way(&device, &data, &recipe, &args.recipe.way(*name), &mut experts).map_err(said)?;
        all.push(Fused { name: value, ..fused });
        bar.inc(1);
    }
    bar.finish_and_clear();
    let run = Run { inputs: &inputs, data: &data, recipe: &recipe, device: &device, all: &all };
    let output = plan.open_as("fuse", vec![])?;
    let metrics = run.metrics();
    run.write(&output)?;
    write_atomically(&output.file(METRICS), format!("{metrics:#}\n").as_bytes())?;
    output::print(&fuse_report::summary(&run, &output.folder))?;
    Ok(ExitCode::SUCCESS)
}
