//! What a run of `fuse` leaves behind and shows.

use std::fmt::Write;
use std::path::Path;

use crossmodal::Device;
use crossmodal::fusion::{ClassScore, FusionData, FusionRecipe, FusionReport, Target};
use crossmodal::io::write_atomically;
use serde_json::{Map, Value, json};

use crate::failure::Failure;
use crate::folder::{JOURNAL, METRICS, Output};
use crate::fuse_recipe::RecipeArgs;
use crate::fuse_ways::Fused;
use crate::inputs::Inputs;
use crate::{fuse_plots, table, words};

/// The best fusion.
pub(crate) const MODEL: &str = "fusion.safetensors";
/// The picture of what was taken for what.
pub(crate) const CONFUSION: &str = "confusion.svg";

/// What a run was.
pub(crate) struct Run<'a> {
    pub(crate) inputs: &'a Inputs,
    pub(crate) data: &'a FusionData,
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

    /// The content of `metrics.json`.
    pub(crate) fn metrics(&self) -> Value {
        let (best, recipe, split) = (self.best(), self.recipe, &self.data.split);
        let scores = |fused: &Fused| {
            let class = |(at, score): (usize, &ClassScore)| {
                let mut class = Map::from_iter([("class".to_string(), json!(self.labels()[at]))]);
                class.extend(self.class_names.get(at).map(|name| ("name".to_string(), json!(name))));
                let ClassScore { precision, recall, f1, support } = score;
                let scores = json!({ "precision": precision, "recall": recall, "f1": f1, "rows": support });
                class.extend(scores.as_object().cloned().unwrap_or_default());
                class
            };
            json!({
                "fusion": fused.name,
                "validation_accuracy": fused.validation,
                "test_accuracy": fused.test.accuracy,
                "test_macro_f1": fused.test.macro_f1,
                "classes": fused.test.classes.iter().enumerate().map(class).collect::<Vec<_>>(),
                "confusion": fused.test.confusion,
            })
        };
        let sources = self.inputs.modalities.iter();
        let sources = sources.map(|input| (input.name.clone(), json!(input.sources[0].to_string())));
        json!({
            "best": best.name,
            "accuracy": best.test.accuracy,
            "macro_f1": best.test.macro_f1,
            "fusions": self.all.iter().map(scores).collect::<Vec<_>>(),
            "device": self.device.name(),
            "modalities": Map::from_iter(sources),
            "labels": self.inputs.labels.as_ref().map(ToString::to_string),
            "split": self.inputs.split_name(),
            "train_rows": split.train.len(),
            "validation_rows": split.validation.len(),
            "test_rows": split.test.len(),
            "weights": self.flags.weights,
            "prior": self.flags.prior,
            "dim": recipe.dim,
            "epochs": recipe.epochs,
            "batch_size": recipe.batch_size,
            "learning_rate": recipe.learning_rate,
            "weight_decay": recipe.weight_decay,
            "dropout": recipe.dropout,
            "modality_dropout": recipe.modality_dropout,
            "scaling": recipe.scaling.to_string(),
            "seed": recipe.seed,
            "version": env!("CARGO_PKG_VERSION"),
        })
    }

    /// Writes the picture, the best fusion, and its epochs where it has trained.
    pub(crate) fn write(&self, output: &Output) -> Result<(), Failure> {
        let best = self.best();
        let names = match self.class_names {
            [] => self.labels().iter().map(ToString::to_string).collect(),
            names => names.to_vec(),
        };
        let picture = fuse_plots::confusion(&best.test, &best.name, &names);
        write_atomically(&output.file(CONFUSION), picture.as_bytes())?;
        let mut model = best.model.clone();
        for input in &self.inputs.modalities {
            model.set_source(&input.name, &input.sources[0].to_string());
        }
        model.set_class_names(self.class_names);
        model.save(&output.file(MODEL))?;
        if best.log.is_empty() {
            return Ok(());
        }
        let line = |report: &FusionReport| {
            let line = json!({
                "epoch": report.epoch,
                "loss": report.loss,
                "validation_accuracy": report.validation,
                "best": report.is_best,
                "seconds": report.seconds,
            });
            format!("{line}\n")
        };
        let lines: String = best.log.iter().map(line).collect();
        Ok(write_atomically(&output.file(JOURNAL), lines.as_bytes())?)
    }
}

/// What the user sees at the end.
pub(crate) fn summary(run: &Run<'_>, folder: &Path) -> String {
    let (mut text, best) = (String::new(), run.best());
    let width =
        run.inputs.modalities.iter().map(|input| input.name.len()).max().unwrap_or(0).max("device".len());
    let mut line = |name: &str, value: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:width$}  {value}");
    };
    for input in &run.inputs.modalities {
        line(&input.name, input.sources[0].to_string());
    }
    line("labels", run.inputs.labels.as_ref().map_or(String::new(), ToString::to_string));
    line("split", run.inputs.split_name());
    let split = &run.data.split;
    let head = ["", "validation %", "test %", "macro-F1 %", ""].map(String::from).to_vec();
    let row = |fused: &Fused| {
        let numbers = [fused.validation, fused.test.accuracy, fused.test.macro_f1];
        let best = if run.all.len() > 1 && fused.name == best.name { "best on validation" } else { "" };
        let cells = numbers.iter().map(|number| format!("{number:.1}"));
        std::iter::once(fused.name.clone()).chain(cells).chain([best.to_string()]).collect()
    };
    let rows: Vec<_> = std::iter::once(head).chain(run.all.iter().map(row)).collect();
    let journal = (!best.log.is_empty()).then_some(JOURNAL);
    let files: Vec<_> = [MODEL, METRICS, CONFUSION].into_iter().chain(journal).collect();
    let title =
        format!("Accuracy on {} validation and {} test rows:", split.validation.len(), split.test.len());
    let files = format!("{}: {}", folder.display(), files.join(", "));
    let files = words::wrapped(&files, 80usize.saturating_sub(width + 2)).join(&format!("\n{:width$}  ", ""));
    let (table, device) = (table::columns(1, &rows), run.device.name());
    format!("{text}\n{title}\n\n{table}\n{:width$}  {device}\n{:width$}  {files}\n", "device", "files")
}
