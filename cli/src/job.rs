//! A run of `align` from its first epoch to its results.

use std::fmt::Write;
use std::process::ExitCode;
use std::time::Duration;

use crossmodal::Device;
use crossmodal::align::{Data, EpochReport, Recipe, Trainer, retrieval};
use crossmodal::io::{write_atomically, write_npy};
use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use crate::failure::{Failure, Outcome};
use crate::folder::{CHECKPOINT, HEADS, JOURNAL, LEFT, METRICS, Output, RIGHT};
use crate::inputs::Inputs;
use crate::journal::Journal;
use crate::{interrupt, metrics, output, table, words};

/// A run with all that it needs.
pub(crate) struct Job {
    pub(crate) inputs: Inputs,
    pub(crate) data: Data,
    pub(crate) recipe: Recipe,
    pub(crate) device: Device,
    pub(crate) output: Output,
    pub(crate) bar: ProgressBar,
}

impl Job {
    /// Trains what is left to train, and finishes. A new run has its first epoch behind it.
    pub(crate) fn train(&self, mut trainer: Trainer, first: Option<EpochReport>, stop_after: u32) -> Outcome {
        let path = self.output.file(JOURNAL);
        let mut journal = match first {
            Some(_) => Journal::new(path),
            None => Journal::open(path, trainer.epochs_done())?,
        };
        let trained = self.epochs(&mut trainer, &mut journal, first, stop_after);
        self.bar.finish_and_clear();
        trained?;
        let (folder, done) = (self.output.folder.display(), trainer.epochs_done());
        if trainer.is_done() {
            self.finish(&trainer, &journal)?;
            return Ok(ExitCode::SUCCESS);
        }
        let epochs = words::count(done as usize, "epoch");
        output::note(&format!(
            "{folder}: stopped after {epochs}; to go on: crossmodal align --out {folder} --resume"
        ));
        Ok(if interrupt::asked() { ExitCode::from(interrupt::STATUS) } else { ExitCode::SUCCESS })
    }

    fn epochs(
        &self,
        trainer: &mut Trainer,
        journal: &mut Journal,
        first: Option<EpochReport>,
        stop_after: u32,
    ) -> Result<(), Failure> {
        if let Some(report) = first {
            self.record(trainer, journal, &report)?;
        }
        while !trainer.is_done() && trainer.epochs_done() < stop_after && !interrupt::asked() {
            let report = trainer.epoch().map_err(|error| self.kept(error, trainer.epochs_done()))?;
            self.record(trainer, journal, &report)?;
        }
        Ok(())
    }

    /// An error in training, with what is left of the run.
    fn kept(&self, error: crossmodal::Error, done: u32) -> Failure {
        let Output { folder, work, .. } = &self.output;
        let (epochs, work) = (words::count(done as usize, "epoch"), work.display());
        let error = words::flags(error, &self.inputs);
        let mut text = format!("{error}; {work} keeps the {epochs} before");
        if self.output.work != *folder {
            text += &format!(", {} is as it was", folder.display());
        }
        Failure::new(text)
    }

    /// Writes down an epoch.
    fn record(&self, trainer: &Trainer, journal: &mut Journal, report: &EpochReport) -> Result<(), Failure> {
        // In this order a kill between the two is seen by the next journal.
        journal.append(report)?;
        trainer.save_checkpoint(&self.output.file(CHECKPOINT), &self.inputs.notes())?;
        self.bar.set_position(report.epoch.into());
        self.bar.set_message(message(report));
        Ok(())
    }

    /// Writes the results, the metrics last, and shows them.
    fn finish(&self, trainer: &Trainer, journal: &Journal) -> Result<(), Failure> {
        let heads = trainer.best()?;
        let (inputs, data, test) = (&self.inputs, &self.data, &self.data.split.test);
        let file = |name| self.output.file(name);
        heads.save(&file(HEADS), &inputs.left.to_string(), &inputs.right.to_string())?;
        let left = heads.left.project(&self.device, &data.left.select(test)?)?;
        let right = heads.right.project(&self.device, &data.right.select(test)?)?;
        write_npy(&file(LEFT), left.rows, left.cols, &left.values)?;
        write_npy(&file(RIGHT), right.rows, right.cols, &right.values)?;
        let (recipe, device, best_epoch) = (&self.recipe, &self.device, heads.epoch);
        let run = metrics::Run { inputs, data, recipe, device, journal, best_epoch };
        let metrics = run.metrics(&retrieval(&left, &right)?);
        write_atomically(&file(METRICS), format!("{metrics:#}\n").as_bytes())?;
        self.output.publish()?;
        let summary = metrics::summary(&metrics, &self.output.folder);
        output::print(&summary.ok_or_else(|| Failure::new("the scores are not finite numbers"))?)
    }
}

/// A bar over the epochs, hidden where standard error is no terminal. It ticks, so that a long epoch is seen to run.
pub(crate) fn progress(recipe: &Recipe, done: u32) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{spinner} {bar:12} {pos}/{len} epochs, {rate}, {eta} left, {msg}");
    let rate = |state: &ProgressState, text: &mut dyn Write| {
        // There is nobody to tell that a bar could not be drawn.
        let _ = match state.per_sec() {
            rate if rate >= 1. || rate == 0. => write!(text, "{}/s", table::digits(rate)),
            rate => write!(text, "{} each", table::seconds(1. / rate)),
        };
    };
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar()).with_key("rate", rate);
    let bar = ProgressBar::new(recipe.epochs.into()).with_position(done.into());
    let bar = bar.with_style(style).with_message("training");
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

fn message(report: &EpochReport) -> String {
    let recall = report.validation.mean_recall_at_10();
    format!("loss {:.3}, R@10 {recall:.1} %", report.loss)
}
