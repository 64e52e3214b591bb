//! `crossmodal align`: the main job.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crossmodal::Device;
use crossmodal::align::{Data, EpochReport, Recipe, Trainer, retrieval};
use crossmodal::io::{Source, write_atomically, write_npy};
use indicatif::{ProgressBar, ProgressStyle};

use crate::device::DeviceArgs;
use crate::failure::{Failure, Outcome};
use crate::folder::{CHECKPOINT, HEADS, JOURNAL, LEFT, METRICS, Plan, RIGHT, has_results};
use crate::inputs::{self, Inputs};
use crate::journal::Journal;
use crate::{metrics, output};

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

/// How to train.
#[derive(clap::Args)]
struct RecipeArgs {
    /// Width of the shared space
    #[arg(long, value_name = "N", default_value_t = Recipe::default().dim)]
    dim: usize,
    /// Passes over the training rows
    #[arg(long, value_name = "N", default_value_t = Recipe::default().epochs)]
    epochs: u32,
    /// Pairs of a training step
    #[arg(long, value_name = "N", default_value_t = Recipe::default().batch_size)]
    batch_size: usize,
    /// Learning rate at first; falls to 0
    #[arg(long, value_name = "X", allow_negative_numbers = true, default_value_t = Recipe::default().learning_rate)]
    lr: f64,
    /// AdamW's decay, on weights only
    #[arg(long, value_name = "X", allow_negative_numbers = true, default_value_t = Recipe::default().weight_decay)]
    weight_decay: f64,
    /// Temperature at first; learned
    #[arg(long, value_name = "X", allow_negative_numbers = true, default_value_t = Recipe::default().temperature)]
    temperature: f64,
    /// The same seed gives the same result
    #[arg(long, value_name = "N", default_value_t = Recipe::default().seed)]
    seed: u64,
}

impl RecipeArgs {
    fn recipe(&self) -> Recipe {
        Recipe {
            dim: self.dim,
            epochs: self.epochs,
            batch_size: self.batch_size,
            learning_rate: self.lr,
            weight_decay: self.weight_decay,
            temperature: self.temperature,
            seed: self.seed,
        }
    }
}

/// Runs the verb. Everything is read and checked, and the first epoch has succeeded, before anything is written or
/// removed.
pub(crate) fn run(args: &Args) -> Outcome {
    let inputs = Inputs::new(args.left.clone(), args.right.clone(), args.split.clone())?;
    let plan = Plan::new(args.out.as_deref(), args.resume, args.force)?;
    plan.spare(&inputs)?;
    let recipe = args.recipe.recipe();
    let data = inputs.read(recipe.seed)?;
    let device = args.device.open()?;
    let mut trainer = match plan.checkpoint() {
        Some(checkpoint) => Trainer::resume(&device, &data, &recipe, &checkpoint)?,
        None => Trainer::new(&device, &data, &recipe)?,
    };
    plan.probe()?;
    let bar = progress(&recipe, trainer.epochs_done());
    let first = if trainer.epochs_done() == 0 { Some(trainer.epoch()?) } else { None };
    let folder = plan.open()?;
    if trainer.is_done() && first.is_none() && has_results(&folder) {
        // The checkpoint of the last epoch may be all that there was time for.
        if let Some(summary) = metrics::read(&folder).and_then(|metrics| metrics::summary(&metrics, &folder))
        {
            output::note(&format!("{}: this run is finished", folder.display()));
            output::print(&summary)?;
            return Ok(ExitCode::SUCCESS);
        }
    }
    let job = Job { inputs, data, recipe, device, folder, bar };
    job.train(trainer, first, args.stop_after.unwrap_or(u32::MAX))?;
    Ok(ExitCode::SUCCESS)
}

/// A run with all that it needs.
struct Job {
    inputs: Inputs,
    data: Data,
    recipe: Recipe,
    device: Device,
    folder: PathBuf,
    bar: ProgressBar,
}

impl Job {
    /// Trains what is left to train, and finishes. A new run has its first epoch behind it.
    fn train(
        &self,
        mut trainer: Trainer,
        first: Option<EpochReport>,
        stop_after: u32,
    ) -> Result<(), Failure> {
        let path = self.file(JOURNAL);
        let mut journal = match first {
            Some(_) => Journal::new(path),
            None => Journal::open(path, trainer.epochs_done())?,
        };
        if let Some(report) = first {
            self.record(&trainer, &mut journal, &report)?;
        }
        while !trainer.is_done() && trainer.epochs_done() < stop_after {
            let report = trainer.epoch()?;
            self.record(&trainer, &mut journal, &report)?;
        }
        self.bar.finish_and_clear();
        if trainer.is_done() {
            return self.finish(&trainer, &journal);
        }
        let (folder, done) = (self.folder.display(), trainer.epochs_done());
        output::note(&format!("{folder}: stopped after {done} epochs; --resume continues"));
        Ok(())
    }

    /// Writes down an epoch.
    fn record(&self, trainer: &Trainer, journal: &mut Journal, report: &EpochReport) -> Result<(), Failure> {
        // In this order a kill between the two is seen by the next journal.
        journal.append(report)?;
        trainer.save_checkpoint(&self.file(CHECKPOINT))?;
        self.bar.set_message(message(report));
        self.bar.inc(1);
        Ok(())
    }

    /// Writes the results, the metrics last, and shows them.
    fn finish(&self, trainer: &Trainer, journal: &Journal) -> Result<(), Failure> {
        let heads = trainer.best()?;
        let (inputs, data, test) = (&self.inputs, &self.data, &self.data.split.test);
        heads.save(&self.file(HEADS), &inputs.left.to_string(), &inputs.right.to_string())?;
        let left = heads.left.project(&self.device, &data.left.select(test)?)?;
        let right = heads.right.project(&self.device, &data.right.select(test)?)?;
        write_npy(&self.file(LEFT), left.rows, left.cols, &left.values)?;
        write_npy(&self.file(RIGHT), right.rows, right.cols, &right.values)?;
        let (recipe, device, best_epoch) = (&self.recipe, &self.device, heads.epoch);
        let run = metrics::Run { inputs, data, recipe, device, journal, best_epoch };
        let metrics = run.metrics(&retrieval(&left, &right)?);
        write_atomically(&self.file(METRICS), format!("{metrics:#}\n").as_bytes())?;
        let summary = metrics::summary(&metrics, &self.folder);
        output::print(&summary.ok_or_else(|| Failure::new("the scores are not finite numbers"))?)
    }

    fn file(&self, name: &str) -> PathBuf {
        Path::new(&self.folder).join(name)
    }
}

/// A bar over the epochs, hidden where standard error is no terminal.
fn progress(recipe: &Recipe, done: u32) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:12} {pos}/{len} epochs, {per_sec}, {eta} left, {msg}");
    let bar = ProgressBar::new(u64::from(recipe.epochs)).with_position(u64::from(done));
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn message(report: &EpochReport) -> String {
    let recall =
        (report.validation.left_to_right.recall_at_10 + report.validation.right_to_left.recall_at_10) / 2.;
    format!("loss {:.3}, R@10 {recall:.1} %", report.loss)
}
