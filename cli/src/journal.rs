//! `log.jsonl`: a line for each epoch.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use crossmodal::align::EpochReport;
use crossmodal::io::write_atomically;
use serde_json::{Value, json};

use crate::failure::Failure;

/// The epochs so far, in the file and here.
pub(crate) struct Journal {
    path: PathBuf,
    epochs: Vec<Value>,
}

impl Journal {
    /// The journal of a run without an epoch. Its first epoch takes the place of what is in the file.
    pub(crate) fn new(path: PathBuf) -> Journal {
        Journal { path, epochs: vec![] }
    }

    /// The journal of a run whose checkpoint has `done` epochs. Later ones, and a line that was cut short, are dropped:
    /// they are trained again.
    pub(crate) fn open(path: PathBuf, done: u32) -> Result<Journal, Failure> {
        let mut epochs = read(&path);
        epochs.retain(|epoch| number(epoch).is_some_and(|number| number <= u64::from(done)));
        let kept: String = epochs.iter().map(|epoch| format!("{epoch}\n")).collect();
        write_atomically(&path, kept.as_bytes())?;
        Ok(Journal { path, epochs })
    }

    /// Adds an epoch.
    pub(crate) fn append(&mut self, report: &EpochReport) -> Result<(), Failure> {
        let (there, back) = (report.validation.left_to_right, report.validation.right_to_left);
        let epoch = json!({
            "epoch": report.epoch,
            "loss": report.loss,
            "scale": report.scale,
            "learning_rate": report.learning_rate,
            "validation_left_to_right_R@1": there.recall_at_1,
            "validation_left_to_right_R@10": there.recall_at_10,
            "validation_right_to_left_R@1": back.recall_at_1,
            "validation_right_to_left_R@10": back.recall_at_10,
            "best": report.is_best,
            "train_seconds": report.train_seconds,
            "seconds": report.seconds,
        });
        let line = format!("{epoch}\n");
        if self.epochs.is_empty() {
            write_atomically(&self.path, line.as_bytes())?;
        } else {
            let file = OpenOptions::new().append(true).create(true).open(&self.path);
            file.and_then(|mut file| file.write_all(line.as_bytes()))
                .map_err(|error| Failure::new(format!("{}: cannot write: {error}", self.path.display())))?;
        }
        self.epochs.push(epoch);
        Ok(())
    }

    /// Seconds of all epochs with their validation, and the median of an epoch's training alone.
    pub(crate) fn times(&self) -> (f64, f64) {
        let numbers =
            |key: &str| self.epochs.iter().filter_map(|epoch| epoch[key].as_f64()).collect::<Vec<_>>();
        let mut training = numbers("train_seconds");
        training.sort_by(f64::total_cmp);
        // Folded from 0, since the sum of nothing is -0.
        (
            numbers("seconds").iter().fold(0., |sum, v| sum + v),
            training.get(training.len() / 2).copied().unwrap_or(0.),
        )
    }
}

/// Whether a file is the journal of a run with an epoch, or of heads by a formula.
pub(crate) fn has_epochs(path: &Path) -> bool {
    read(path).iter().any(|epoch| {
        epoch["strength"].is_number() || (number(epoch).is_some() && epoch["train_seconds"].is_number())
    })
}

/// The lines of a journal that are whole.
pub(crate) fn read(path: &Path) -> Vec<Value> {
    let text = std::fs::read(path).unwrap_or_default();
    text.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

fn number(epoch: &Value) -> Option<u64> {
    epoch["epoch"].as_u64()
}
