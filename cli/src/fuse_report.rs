//! What a run of `fuse` leaves behind and shows.

use std::fmt::Write;
use std::path::Path;

use crossmodal::Device;
use crossmodal::fusion::{ClassScore, FusionData, FusionRecipe, FusionReport, Target};
use crossmodal::io::{Source, write_atomically};
use serde_json::{Map, Value, json};

use crate::failure::Failure;
use crate::folder::{JOURNAL, METRICS, Output};
use crate::fuse_recipe::RecipeArgs;
use crate::fuse_ways::{Fused, Scores};
use crate::inputs::{Inputs, by_name_json};
use crate::{fuse_plots, table, words};

/// The best fusion.
pub(crate) const MODEL: &str = "fusion.safetensors";
/// The picture of what was taken for what.
pub(crate) const CONFUSION: &str = "confusion.svg";
/// The picture of numbers told and true.
pub(crate) const SCATTER: &str = "scatter.svg";

/// What a run was.
pub(crate) struct Run<'a> {
    pub(crate) inputs: &'a Inputs,
    pub(crate) data: &'a FusionData,
    /// Where it is said which modalities are there.
    pub(crate) present: &'a [(String, Source)],
    pub(crate) lengths: &'a [(String, Source)],
    /// One a class; none where nobody has said so.
    pub(crate) class_names: &'a [String],
    pub(crate) recipe: &'a FusionRecipe,
    pub(crate) flags: &'a RecipeArgs,
    pub(crate) device: &'a Device,
    pub(crate) all: &'a [Fused],
}

impl Run<'_> {
    /// The fusion that does best on the validation rows, of equals the first.
    fn best(&self) -> &Fused {
        let better = |best: &'_ Fused, own: &'_ Fused| own.validation > best.validation;
        let first = &self.all[0];
        self.all.iter().fold(first, |best, own| if better(best, own) { own } else { best })
    }

    fn labels(&self) -> &[i64] {
        match &self.data.target {
            Target::Classes { labels, .. } => labels,
            Target::Values(_) => &[],
        }
    }

    /// The scores of one fusion as JSON.
    fn scores(&self, fused: &Fused) -> Value {
        let class = |(at, score): (usize, &ClassScore)| {
            let mut class = Map::from_iter([("class".to_string(), json!(self.labels()[at]))]);
            class.extend(self.class_names.get(at).map(|name| ("name".to_string(), json!(name))));
            let ClassScore { precision, recall, f1, support } = score;
            let scores = json!({ "precision": precision, "recall": recall, "f1": f1, "rows": support });
            class.extend(scores.as_object().cloned().unwrap_or_default());
            class
        };
        let mut scores = match &fused.test {
            Scores::Classes(test) => json!({
                "fusion": fused.name,
                "validation_accuracy": fused.validation,
                "test_accuracy": test.accuracy,
                "test_macro_f1": test.macro_f1,
                "classes": test.classes.iter().enumerate().map(class).collect::<Vec<_>>(),
                "confusion": test.confusion,
            }),
            Scores::Values(test, _) => json!({
                "fusion": fused.name,
                "validation_r2": fused.validation,
                "test_r2": test.r2,
                "test_rmse": test.rmse,
                "test_mae": test.mae,
            }),
        };
        if let (Some(recipe), Some(scores)) = (&fused.recipe, scores.as_object_mut()) {
            let own = [
                ("kind", json!(recipe.kind.to_string())),
                ("epochs", json!(recipe.epochs)),
                ("learning_rate", json!(recipe.learning_rate)),
                ("dropout", json!(recipe.dropout)),
            ];
            scores.extend(own.map(|(name, value)| (name.to_string(), value)));
        }
        scores
    }

    /// The content of `metrics.json`.
    pub(crate) fn metrics(&self) -> Value {
        let (best, recipe, split) = (self.best(), self.recipe, &self.data.split);
        let mut metrics = match &best.test {
            Scores::Classes(test) => json!({
                "best": best.name,
                "task": "class",
                "accuracy": test.accuracy,
                "macro_f1": test.macro_f1,
            }),
            Scores::Values(test, _) => json!({
                "best": best.name,
                "task": "regression",
                "r2": test.r2,
                "rmse": test.rmse,
                "mae": test.mae,
            }),
        };
        let sources = self.inputs.modalities.iter();
        let sources = sources.map(|input| (input.name.clone(), json!(input.sources[0].to_string())));
        let about = json!({
            "fusions": self.all.iter().map(|fused| self.scores(fused)).collect::<Vec<_>>(),
            "device": self.device.name(),
            "modalities": Map::from_iter(sources),
            "present": by_name_json(self.present),
            "lengths": by_name_json(self.lengths),
            "labels": self.inputs.labels.as_ref().map(ToString::to_string),
            "split": self.inputs.split_name(),
            "train_rows": split.train.len(),
            "validation_rows": split.validation.len(),
            "test_rows": split.test.len(),
            "weights": self.flags.weights,
            "prior": self.flags.prior,
            "dim": recipe.dim,
            "batch_size": recipe.batch_size,
            "weight_decay": recipe.weight_decay,
            "modality_dropout": recipe.modality_dropout,
            "scaling": recipe.scaling.to_string(),
            "seed": recipe.seed,
            "version": env!("CARGO_PKG_VERSION"),
        });
        if let (Some(map), Some(about)) = (metrics.as_object_mut(), about.as_object()) {
            map.extend(about.clone());
        }
        metrics
    }

    /// The picture's name and content.
    fn picture(&self) -> (&'static str, String) {
        let best = self.best();
        match (&best.test, &self.data.target) {
            (Scores::Values(scores, told), Target::Values(values)) => {
                let values: Vec<_> = self.data.split.test.iter().map(|&row| values[row as usize]).collect();
                (SCATTER, fuse_plots::scatter(scores, told, &values, &best.name))
            }
            (Scores::Classes(scores), _) => {
                let names = match self.class_names {
                    [] => self.labels().iter().map(ToString::to_string).collect(),
                    names => names.to_vec(),
                };
                (CONFUSION, fuse_plots::confusion(scores, &best.name, &names))
            }
            (Scores::Values(..), Target::Classes { .. }) => unreachable!("the scores are of the target"),
        }
    }

    /// Writes the picture, the best fusion, and its epochs where it has trained.
    pub(crate) fn write(&self, output: &Output) -> Result<(), Failure> {
        let best = self.best();
        let (name, picture) = self.picture();
        write_atomically(&output.file(name), picture.as_bytes())?;
        let mut model = best.model.clone();
        for input in &self.inputs.modalities {
            model.set_source(&input.name, &input.sources[0].to_string());
        }
        model.set_class_names(self.class_names);
        model.save(&output.file(MODEL))?;
        if best.log.is_empty() {
            return Ok(());
        }
        let score = match best.test {
            Scores::Classes(_) => "validation_accuracy",
            Scores::Values(..) => "validation_r2",
        };
        let line = |report: &FusionReport| {
            let line = json!({
                "epoch": report.epoch,
                "loss": report.loss,
                score: report.validation,
                "best": report.is_best,
                "seconds": report.seconds,
            });
            format!("{line}\n")
        };
        let lines: String = best.log.iter().map(line).collect();
        Ok(write_atomically(&output.file(JOURNAL), lines.as_bytes())?)
    }
}

impl Run<'_> {
    /// Every fusion in a line.
    fn table(&self) -> String {
        let best = self.best();
        let row = |fused: &Fused| {
            let percent =
                |value: f64| if value > -1e4 { format!("{value:.1}") } else { format!("{value:.0e}") };
            let cells = match &fused.test {
                Scores::Classes(test) => {
                    [fused.validation, test.accuracy, test.macro_f1].map(percent).to_vec()
                }
                Scores::Values(test, _) => {
                    let digits = |v: f64| if v < 1e5 { table::digits(v) } else { format!("{v:.1e}") };
                    let errors = [test.rmse, test.mae].map(digits);
                    [&[fused.validation, test.r2].map(percent)[..], &errors].concat()
                }
            };
            let best = if self.all.len() > 1 && fused.name == best.name { "best on validation" } else { "" };
            std::iter::once(fused.name.clone()).chain(cells).chain([best.to_string()]).collect()
        };
        let head: &[&str] = match best.test {
            Scores::Classes(_) => &["", "validation %", "test %", "macro-F1 %", ""],
            Scores::Values(..) => &["", "validation %", "test %", "RMSE", "MAE", ""],
        };
        let head = head.iter().map(ToString::to_string).collect();
        let rows: Vec<_> = std::iter::once(head).chain(self.all.iter().map(row)).collect();
        table::columns(1, &rows)
    }
}

/// What the user sees at the end.
pub(crate) fn summary(run: &Run<'_>, folder: &Path) -> String {
    let (mut text, best) = (String::new(), run.best());
    let names = run.inputs.modalities.iter().map(|input| input.name.len());
    let present = run.present.iter().chain(run.lengths).map(|_| "present".len());
    let width = names.chain(present).max().unwrap_or(0).max("device".len());
    let mut line = |name: &str, value: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:width$}  {value}");
    };
    for input in &run.inputs.modalities {
        line(&input.name, input.sources[0].to_string());
    }
    for (name, source) in run.lengths {
        line("lengths", format!("{name}={source}"));
    }
    for (name, source) in run.present {
        line("present", format!("{name}={source}"));
    }
    line("labels", run.inputs.labels.as_ref().map_or(String::new(), ToString::to_string));
    line("split", run.inputs.split_name());
    let split = &run.data.split;
    let journal = (!best.log.is_empty()).then_some(JOURNAL);
    let files: Vec<_> = [MODEL, METRICS, run.picture().0].into_iter().chain(journal).collect();
    let score = if run.labels().is_empty() { "R²" } else { "Accuracy" };
    let title =
        format!("{score} on {} validation and {} test rows:", split.validation.len(), split.test.len());
    let files = format!("{}: {}", folder.display(), files.join(", "));
    let files = words::wrapped(&files, 80usize.saturating_sub(width + 2)).join(&format!("\n{:width$}  ", ""));
    let (table, device) = (run.table(), run.device.name());
    format!("{text}\n{title}\n\n{table}\n{:width$}  {device}\n{:width$}  {files}\n", "device", "files")
}
