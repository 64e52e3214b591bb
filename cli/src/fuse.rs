//! `crossmodal fuse`: several modalities into one decision.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;
use crossmodal::fusion::{FusionData, Target};
use crossmodal::io::{Source, write_atomically};
use indicatif::{ProgressBar, ProgressStyle};

use crate::device::DeviceArgs;
use crate::failure::{Failure, Outcome};
use crate::folder::{METRICS, Plan};
use crate::fuse_recipe::{Name, RecipeArgs};
use crate::fuse_report::{self, Run};
use crate::fuse_ways::{Fused, single, way};
use crate::inputs::{self, Inputs};
use crate::runs::Verb;
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
    /// Replace the run in the folder
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    recipe: RecipeArgs,
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
    let plan = Plan::new(Verb::Fuse, args.out.as_deref(), false, args.force)?;
    let lock = plan.lock()?;
    let inputs = if args.modality.is_empty() && args.labels.is_none() {
        Inputs::emoji_classes(args.split.clone())?
    } else {
        Inputs::new(args.modality.clone(), [args.split.clone(), args.labels.clone()], None)?
    };
    if inputs.labels.is_none() {
        return Err(Failure::new("--labels FILE is missing: the class of each row"));
    }
    plan.spare(&inputs)?;
    args.recipe.check_weights(inputs.modalities.len())?;
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
        bar.set_message(name.word());
        let fused = way(&device, &data, &recipe, &args.recipe.way(*name), &mut experts).map_err(said)?;
        all.push(Fused { name: name.word(), ..fused });
        bar.inc(1);
    }
    bar.finish_and_clear();
    let run = Run {
        inputs: &inputs,
        data: &data,
        recipe: &recipe,
        flags: &args.recipe,
        device: &device,
        all: &all,
    };
    let output = plan.open(lock, &inputs)?;
    let metrics = run.metrics();
    run.write(&output)?;
    write_atomically(&output.file(METRICS), format!("{metrics:#}\n").as_bytes())?;
    output.publish()?;
    output::print(&fuse_report::summary(&run, &output.folder))?;
    Ok(ExitCode::SUCCESS)
}
