//! `crossmodal fuse`: several modalities into one decision.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use crossmodal::fusion::{FusionKind, FusionReport};
use crossmodal::io::write_atomically;
use indicatif::{ProgressBar, ProgressStyle};

use crate::device::DeviceArgs;
use crate::failure::Outcome;
use crate::folder::{METRICS, Plan};
use crate::fuse_data::DataArgs;
use crate::fuse_recipe::{Name, RecipeArgs};
use crate::fuse_report::{self, Run};
use crate::fuse_ways::{Fused, Way, single, trained, way};
use crate::runs::Verb;
use crate::{output, words};

/// What stands below the flags in the help.
const MORE: &str = "\
FILE is .npy or .safetensors#TENSOR, [rows, columns] or [rows, tokens, columns];
row i of all of them is one sample. --lengths says how many tokens of a row are
there, from the first.
Without any --modality it takes the emoji data in the folder data: pictures and
words, their category.

Names of classes that a .safetensors of labels has in its metadata (categories,
a list as JSON) are taken where no --class-names are given.
What stands in the file of a modality where --present says that it is missing,
any finite numbers, leaves no trace. A row may lack all of them: it trains what
is told where nothing is known.
--task regression tells a number by a fusion that trains; a modality alone is
then a concat of one.

Fusions that train: concat, gmu, tensor, lowrank, pooling, deepset take vectors,
of tokens their mean; cross-attention, co-attention, gated-cross-attention (of
two modalities, the first looks at the second), merged, bottleneck, resampler
take tokens, a vector as one.
Fusions of logistic regressions, one a modality, of tokens of their mean: mean,
learned-mean, max, vote, product, stacking, greedy.";

/// Trains a fusion of modalities that tells a class or a number
#[derive(clap::Args)]
#[command(after_help = MORE)]
pub(crate) struct Args {
    #[command(flatten)]
    data: DataArgs,
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
    let task = args.data.task();
    args.recipe.check(name, task)?;
    let plan = Plan::new(Verb::Fuse, args.out.as_deref(), false, args.force)?;
    let lock = plan.lock()?;
    let inputs = args.data.inputs()?;
    plan.spare(&inputs)?;
    args.recipe.check_weights(inputs.modalities.len())?;
    let seed = args.recipe.seed.unwrap_or(0);
    let data = args.data.read(&inputs, seed)?;
    let class_names = args.data.names(&inputs, &data)?;
    let recipe = |kind| args.recipe.recipe(kind, data.split.train.len());
    let said = |error| words::flags(error, &inputs);
    let device = args.device.open()?;
    plan.probe()?;
    let (mut all, mut experts) = (vec![], None);
    let alone = if args.all { data.modalities.len() } else { 0 };
    let names = args.recipe.names(name, task, data.modalities.len());
    // Before anything is trained that would be lost.
    for name in &names {
        if let Way::Trained(kind) = args.recipe.way(*name) {
            kind.check(data.modalities.len(), recipe(kind).dim).map_err(said)?;
        }
    }
    let bar = progress(alone + names.len());
    for m in 0..alone {
        bar.set_message(format!("{} alone", data.modalities[m].name));
        all.push(single(&device, &data, &recipe(FusionKind::Concat), m).map_err(said)?);
        bar.inc(1);
    }
    for name in names {
        bar.set_message(name.word());
        let fused = match args.recipe.way(name) {
            Way::Trained(kind) => {
                let (recipe, word) = (recipe(kind), name.word());
                let tell = |report: &FusionReport| {
                    let (epoch, score) = (report.epoch, report.validation);
                    bar.set_message(format!(
                        "{word}, epoch {epoch}/{}, validation {score:.1} %",
                        recipe.epochs
                    ));
                };
                trained(&device, &data, &recipe, &tell)
            }
            late => way(&device, &data, seed, &late, &mut experts),
        };
        let fused = fused.map_err(said)?;
        all.push(Fused { name: name.word(), ..fused });
        bar.inc(1);
    }
    bar.finish_and_clear();
    let run = Run {
        inputs: &inputs,
        data: &data,
        present: &args.data.present,
        lengths: &args.data.lengths,
        class_names: &class_names,
        recipe: &recipe(FusionKind::Concat),
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
