//! `crossmodal align`: the main job.

use std::path::PathBuf;
use std::process::ExitCode;

use crossmodal::align::{Checkpoint, Trainer};
use crossmodal::io::Source;

use crate::device::DeviceArgs;
use crate::failure::{Failure, Outcome};
use crate::folder::Plan;
use crate::inputs::{self, Inputs};
use crate::job::{Job, progress};
use crate::recipe::RecipeArgs;
use crate::runs::Verb;
use crate::{closed, interrupt, metrics, output, words};

/// What stands below the flags in the help.
const MORE: &str = "\
FILE is .npy or .safetensors#TENSOR, of f64, f32, f16 or bf16; the split and the
labels of any integers. --left FILE is --modality left=FILE; of more than two
modalities the losses of all pairs are summed, and a name given again is a
further view. Of tokens, [rows, tokens, columns], it aligns the mean of those
that --lengths says are there. Without any modality it takes the emoji data in
the folder data: pictures left, words right.

Losses: infonce, siglip, supcon, triplet, cosine, vicreg, barlow.
Heads: linear, mlp, residual (trained); ridge, procrustes, cca, cache (by a\nformula, of two modalities, on the CPU).";

/// Trains heads that bring two or more modalities' features together
#[derive(clap::Args)]
#[command(after_help = MORE)]
pub(crate) struct Args {
    /// Features of one modality; again: further views
    #[arg(long, value_name = "FILE", value_parser = inputs::source())]
    left: Vec<Source>,
    /// Features of the other, row by row their partners
    #[arg(long, value_name = "FILE", value_parser = inputs::source())]
    right: Vec<Source>,
    /// Features of any modality by its name; again: more
    #[arg(long, value_name = "NAME=FILE", value_parser = inputs::named())]
    modality: Vec<(String, Source)>,
    /// 0 train, 1 validation, 2 test [default: 80/10/10]
    #[arg(long, value_name = "FILE", value_parser = inputs::source())]
    split: Option<Source>,
    /// How many tokens of each row are there; again: more
    #[arg(long, value_name = "NAME=FILE", value_parser = inputs::named())]
    lengths: Vec<(String, Source)>,
    /// Classes: rows of one are positives
    #[arg(long, value_name = "FILE", value_parser = inputs::source())]
    labels: Option<Source>,
    #[command(flatten)]
    device: DeviceArgs,
    /// The folder to write [default: runs/align-1, …]
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
    #[command(flatten)]
    recipe: RecipeArgs,
}

impl Args {
    /// Every modality that is named, in the order left, right, others.
    fn named(&self) -> Vec<(String, Source)> {
        let of = |name: &str, sources: &[Source]| {
            sources.iter().map(|source| (name.to_string(), source.clone())).collect::<Vec<_>>()
        };
        [of("left", &self.left), of("right", &self.right), self.modality.clone()].concat()
    }
}

/// Runs the verb. Everything is read and checked, and the first epoch has succeeded, before anything is written or
/// removed.
pub(crate) fn run(args: &Args) -> Outcome {
    let formula = args.recipe.closed_form()?;
    let trained_only = [(args.resume, "--resume"), (args.labels.is_some(), "--labels")];
    if let Some((_, flag)) = trained_only.iter().find(|(given, _)| formula.is_some() && *given) {
        return Err(Failure::new(format!("{flag} is for heads that are trained")));
    }
    let plan = Plan::new(Verb::Align, args.out.as_deref(), args.resume, args.force)?;
    let lock = plan.lock()?;
    let checkpoint = plan.checkpoint();
    let about = checkpoint.as_deref().map(Checkpoint::read).transpose()?;
    let notes = about.as_ref().map(|about| &about.notes);
    let mut inputs = Inputs::new(args.named(), [args.split.clone(), args.labels.clone()], notes)?;
    // What is named again makes what the run to be resumed had of it void.
    let again: Vec<_> = args.named().into_iter().chain(args.lengths.clone()).map(|(name, _)| name).collect();
    inputs.lengths.retain(|(name, _)| !again.contains(name));
    inputs.lengths.extend(args.lengths.iter().cloned());
    plan.spare(&inputs)?;
    let resumed = about.as_ref().map(|about| about.recipe);
    let data = inputs.read(args.recipe.seed(resumed.as_ref()))?;
    let recipe = args.recipe.recipe(resumed, &data)?;
    if let Some(kind) = formula {
        return closed::run(kind, plan, lock, &inputs, &data, &recipe);
    }
    let device = args.device.open()?;
    let trainer = match &checkpoint {
        Some(checkpoint) => Trainer::resume(&device, &data, &recipe, checkpoint),
        None => Trainer::new(&device, &data, &recipe),
    };
    let mut trainer = trainer.map_err(|error| words::flags(error, &inputs))?;
    plan.probe()?;
    interrupt::listen();
    let bar = progress(&recipe, trainer.epochs_done());
    let first = if trainer.epochs_done() == 0 { Some(trainer.epoch()) } else { None };
    let first = first.transpose().inspect_err(|_| bar.finish_and_clear());
    let first = first.map_err(|error| words::flags(error, &inputs))?;
    let output = plan.open(lock, &inputs)?;
    if trainer.is_done() && first.is_none() && output.has_results() {
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
    job.train(trainer, first, args.stop_after.unwrap_or(u32::MAX))
}
