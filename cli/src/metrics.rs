//! `metrics.json`: what came of a run of `align`.

use std::path::Path;

use crossmodal::Device;
use crossmodal::align::{ClosedForm, Data, Recipe, Retrieval};
use serde_json::{Value, json};

use crate::folder::{CHECKPOINT, HEADS, JOURNAL, LEFT, METRICS, RIGHT};
use crate::inputs::Inputs;
use crate::journal::Journal;
use crate::{scores, table};

/// What a run was.
pub(crate) struct Run<'a> {
    pub(crate) inputs: &'a Inputs,
    pub(crate) data: &'a Data,
    pub(crate) recipe: &'a Recipe,
    pub(crate) device: &'a Device,
    pub(crate) journal: &'a Journal,
    pub(crate) best_epoch: u32,
}

impl Run<'_> {
    /// The content of `metrics.json`.
    pub(crate) fn metrics(&self, test: &Retrieval) -> Value {
        let (recipe, split) = (self.recipe, &self.data.split);
        let (seconds, seconds_per_epoch) = self.journal.times();
        let about = json!({
            "device": self.device.name(),
            "seed": recipe.seed,
            "epochs": recipe.epochs,
            "best_epoch": self.best_epoch,
            "seconds": seconds,
            "seconds_per_epoch": seconds_per_epoch,
            "left": self.inputs.left.to_string(),
            "right": self.inputs.right.to_string(),
            "views": self.inputs.views.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "split": self.inputs.split_name(),
            "labels": self.inputs.labels.as_ref().map(ToString::to_string),
            "train_rows": split.train.len(),
            "validation_rows": split.validation.len(),
            "test_rows": split.test.len(),
            "dim": recipe.dim,
            "batch_size": recipe.batch_size,
            "learning_rate": recipe.learning_rate,
            "weight_decay": recipe.weight_decay,
            "temperature": recipe.temperature,
            "loss": recipe.objective.to_string(),
            "head": recipe.head.to_string(),
            "freeze": recipe.freeze.map(|side| side.to_string()),
            "scaling": recipe.scaling.to_string(),
            "dropout": recipe.dropout,
            "accum": recipe.accum,
            "version": env!("CARGO_PKG_VERSION"),
        });
        let mut map = scores::to_json(test);
        map.extend(about.as_object().cloned().unwrap_or_default());
        Value::Object(map)
    }
}

impl Run<'_> {
    /// The same for heads that a formula gave: what is about training is left out.
    pub(crate) fn closed(&self, test: &Retrieval, kind: ClosedForm, strength: f64, seconds: f64) -> Value {
        let mut metrics = self.metrics(test);
        if let Some(map) = metrics.as_object_mut() {
            let training = [
                "epochs",
                "best_epoch",
                "seconds_per_epoch",
                "batch_size",
                "learning_rate",
                "weight_decay",
                "temperature",
                "loss",
                "freeze",
                "dropout",
                "accum",
                "labels",
                "views",
            ];
            training.iter().for_each(|key| drop(map.shift_remove(*key)));
            map.insert("head".into(), json!(kind.to_string()));
            map.insert("strength".into(), json!(strength));
            map.insert("seconds".into(), json!(seconds));
        }
        metrics
    }
}

/// The metrics that a finished run left in its folder.
pub(crate) fn read(folder: &Path) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(folder.join(METRICS)).ok()?).ok()
}

/// What the user sees at the end; none if something is missing from the metrics.
pub(crate) fn summary(metrics: &Value, folder: &Path) -> Option<String> {
    let text = |key: &str| metrics.get(key)?.as_str();
    let number = |key: &str| metrics.get(key)?.as_f64();
    let rows = number("test_rows")?;
    let heads = match number("strength") {
        Some(strength) => {
            format!("{} heads, strength {} (best on validation)", text("head")?, table::digits(strength))
        }
        None => {
            format!("heads of epoch {} of {} (best on validation)", number("best_epoch")?, number("epochs")?)
        }
    };
    let mut time = table::seconds(number("seconds")?);
    if let Some(epoch) = number("seconds_per_epoch") {
        time += &format!("; {} to train an epoch", table::seconds(epoch));
    }
    let checkpoint = if number("strength").is_some() { String::new() } else { format!(", {CHECKPOINT}") };
    Some(format!(
        "left   {}\nright  {}\nsplit  {}\n\n\
         Retrieval among {rows} test rows, {heads}:\n\n{}\n\
         device  {}\ntime    {time}\nfiles   {}: {HEADS}, {METRICS}, {JOURNAL},\n        {LEFT}, {RIGHT}{checkpoint}\n",
        text("left")?,
        text("right")?,
        text("split")?,
        scores::table(&scores::from_json(metrics)?, rows as usize),
        text("device")?,
        folder.display(),
    ))
}
