//! `crossmodal align`: the main job.

use std::path::PathBuf;
use std::process::ExitCode;

use crossmodal::align::{Checkpoint, Data, Recipe, Trainer};
use crossmodal::io::Source;

use crate::device::DeviceArgs;
use crate::failure::Outcome;
use crate::folder::{Plan, has_results};
use crate::inputs::{self, Inputs};
use crate::job::{Job, progress};
use crate::{metrics, output, words};

/// What stands below the flags in the help.
const MORE: &str = "\
FILE is .npy, or .safetensors with #TENSOR, of f64, f32, f16 or bf16; the split
of any integers. With neither --left nor --right it takes the emoji data in the
folder data: pictures left, words right.";

/// Trains two heads that bring the features of two modalities together
#[derive(clap::Args)]
#[command(after_help = MORE)]
pub(crate) struct Args {
    /// Features of one modality
    #[arg(long, value_name = "FILE#TENSOR", value_parser = inputs::source())]
    left: Option<Source>,
    /// Features of the other, row by row their partners
    #[arg(long, value_name = "FILE#TENSOR", value_parser = inputs::source())]
    right: Option<Source>,
    /// 0 train, 1 validation, 2 test [default: 80/10/10]
    #[arg(long, value_name = "FILE#TENSOR", value_parser = inputs::source())]
    split: Option<Source>,
    #[command(flatten)]
    recipe: RecipeArgs,
    #[command(flatten)]
    device: DeviceArgs,
    /// The folder to write to [default: runs/align-1, …]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Continue the run in the folder
    #[arg(long, conflicts_with = "force")]
    resume: bool,
    /// Replace the run in the folder
    #[arg(long)]
    force: bool,
    /// Stop once this many epochs are done, as if interrupted: for tests
    #[arg(long, value_name = "N", hide = true, value_parser = clap::value_parser!(u32).range(1..))]
    stop_after: Option<u32>,
}

/// How to train. What is not given is as the run to be resumed has it, or by default.
#[derive(clap::Args)]
struct RecipeArgs {
    #[arg(long, value_name = "N", help = or("Width of the shared space", Recipe::default().dim))]
    dim: Option<usize>,
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    #[arg(help = or("Passes over the training rows", Recipe::default().epochs))]
    epochs: Option<u32>,
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    #[arg(help = or("Pairs of a training step", "256 or all"))]
    batch_size: Option<usize>,
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    #[arg(help = or("Learning rate at first; falls to 0", Recipe::default().learning_rate))]
    lr: Option<f64>,
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    #[arg(help = or("AdamW's decay, on weights only", Recipe::default().weight_decay))]
    weight_decay: Option<f64>,
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    #[arg(help = or("Temperature at first; learned", Recipe::default().temperature))]
    temperature: Option<f64>,
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    #[arg(help = or("The same seed gives the same result", Recipe::default().seed))]
    seed: Option<u64>,
}

/// The help of a flag that has a default.
fn or(help: &str, default: impl std::fmt::Display) -> String {
    format!("{help} [default: {default}]")
}

impl RecipeArgs {
    /// What is given, over a recipe. Its batch size, if the user is not bound to it, is no more than there are rows.
    fn over(&self, base: Recipe) -> Recipe {
        Recipe {
            dim: self.dim.unwrap_or(base.dim),
            epochs: self.epochs.unwrap_or(base.epochs),
            batch_size: self.batch_size.unwrap_or(base.batch_size),
            learning_rate: self.lr.unwrap_or(base.learning_rate),
            weight_decay: self.weight_decay.unwrap_or(base.weight_decay),
            temperature: self.temperature.unwrap_or(base.temperature),
            seed: self.seed.unwrap_or(base.seed),
        }
    }
}

/// A new run's recipe where nothing is given.
fn default_for(data: &Data) -> Recipe {
    let recipe = Recipe::default();
    Recipe { batch_size: recipe.batch_size.min(data.split.train.len()), ..recipe }
}

/// Runs the verb. Everything is read and checked, and the first epoch has succeeded, before anything is written or
/// removed.
pub(crate) fn run(args: &Args) -> Outcome {
    let plan = Plan::new(args.out.as_deref(), args.resume, args.force)?;
    let lock = plan.lock()?;
    let checkpoint = plan.checkpoint();
    let about = checkpoint.as_deref().map(Checkpoint::read).transpose()?;
    let notes = about.as_ref().map(|about| &about.notes);
    let inputs = Inputs::new([&args.left, &args.right, &args.split].map(Option::clone), notes)?;
    plan.spare(&inputs)?;
    let seed = args.recipe.over(about.as_ref().map_or_else(Recipe::default, |about| about.recipe)).seed;
    let data = inputs.read(seed)?;
    let recipe = args.recipe.over(about.map_or_else(|| default_for(&data), |about| about.recipe));
    let device = args.device.open()?;
    let trainer = match &checkpoint {
        Some(checkpoint) => Trainer::resume(&device, &data, &recipe, checkpoint),
        None => Trainer::new(&device, &data, &recipe),
    };
    let mut trainer = trainer.map_err(|error| words::flags(error, &inputs))?;
    plan.probe()?;
    let bar = progress(&recipe, trainer.epochs_done());
    let first = if trainer.epochs_done() == 0 { Some(trainer.epoch()) } else { None };
    let first = first.transpose().inspect_err(|_| bar.finish_and_clear());
    let first = first.map_err(|error| words::flags(error, &inputs))?;
    let output = plan.open(lock)?;
    if trainer.is_done() && first.is_none() && has_results(&output.work) {
        // The checkpoint of the last epoch may be all that there was time for.
        let summary = |metrics| metrics::summary(&metrics, &output.folder);
        if let Some(summary) = metrics::read(&output.work).and_then(summary) {
            bar.finish_and_clear();
            output.publish()?;
            output::note(&format!("{}: this run is finished", output.folder.display()));
            output::print(&summary)?;
            return Ok(ExitCode::SUCCESS);
        }
    }
    let job = Job { inputs, data, recipe, device, output, bar };
    job.train(trainer, first, args.stop_after.unwrap_or(u32::MAX))?;
    Ok(ExitCode::SUCCESS)
}
