//! A run of `align` from its first epoch to its results.

use std::fmt::Write;
use std::process::ExitCode;
use std::time::Duration;

use crossmodal::Device;
use crossmodal::align::{Data, EpochReport, Recipe, Trainer};
use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use crate::failure::{Failure, Outcome};
use crate::folder::{CHECKPOINT, JOURNAL, Output};
use crate::inputs::Inputs;
use crate::journal::Journal;
use crate::results::Results;
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
            return self.finish(&trainer, &journal);
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

    /// Writes the results and shows them.
    fn finish(&self, trainer: &Trainer, journal: &Journal) -> Outcome {
        let (inputs, data, recipe, device) = (&self.inputs, &self.data, &self.recipe, &self.device);
        let heads = trainer.best()?;
        let best_epoch = heads.epoch;
        let results = Results::new(heads, data, inputs, device)?;
        let run = metrics::Run { inputs, data, recipe, device, journal, best_epoch };
        results.finish(&self.output, &run.metrics(&results.scores()?))
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
