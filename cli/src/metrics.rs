//! `metrics.json`: what came of a run of `align`.

use std::path::Path;

use crossmodal::Device;
use crossmodal::align::{ClosedForm, Data, Recipe, Tried, pairs};
use serde_json::{Map, Value, json};

use crate::folder::{CHECKPOINT, HEADS, JOURNAL, METRICS, embeddings};
use crate::inputs::{Input, Inputs};
use crate::journal::Journal;
use crate::scores::PairScores;
use crate::{scores, table, words};

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
    pub(crate) fn metrics(&self, test: &[PairScores]) -> Value {
        let (recipe, split) = (self.recipe, &self.data.split);
        let (seconds, seconds_per_epoch) = self.journal.times();
        let sources = |input: &Input| {
            let sources = input.sources.iter().map(ToString::to_string).collect::<Vec<_>>();
            (input.name.clone(), json!(sources))
        };
        let frozen = recipe.freeze.and_then(|side| self.inputs.modalities.get(side));
        let about = json!({
            "device": self.device.name(),
            "seed": recipe.seed,
            "epochs": recipe.epochs,
            "best_epoch": self.best_epoch,
            "seconds": seconds,
            "seconds_per_epoch": seconds_per_epoch,
            "modalities": Map::from_iter(self.inputs.modalities.iter().map(sources)),
            "split": self.inputs.split_name(),
            "labels": self.inputs.labels.as_ref().map(ToString::to_string),
            "lengths": crate::inputs::by_name_json(&self.inputs.lengths),
            "train_rows": split.train.len(),
            "validation_rows": split.validation.len(),
            "test_rows": split.test.len(),
            "dim": recipe.dim,
            "batch_size": recipe.batch_size,
            "learning_rate": recipe.learning_rate,
            "warmup_steps": recipe.warmup_steps,
            "grad_clip_norm": recipe.grad_clip_norm,
            "weight_decay": recipe.weight_decay,
            "temperature": recipe.temperature,
            "loss": recipe.objective.to_string(),
            "head": recipe.head.to_string(),
            "freeze": frozen.map(|input| &input.name),
            "scaling": recipe.scaling.to_string(),
            "dropout": recipe.dropout,
            "accum": recipe.accum,
            "version": env!("CARGO_PKG_VERSION"),
        });
        let mut map = Map::new();
        for PairScores { names: (left, right), scores } in test {
            map.extend(scores::pair_to_json((left, right), scores));
        }
        map.extend(about.as_object().cloned().unwrap_or_default());
        Value::Object(map)
    }
}

impl Run<'_> {
    /// The same for heads that a formula gave: what is about training is left out.
    pub(crate) fn closed(&self, test: &[PairScores], kind: ClosedForm, best: &Tried, seconds: f64) -> Value {
        let mut metrics = self.metrics(test);
        if let Some(map) = metrics.as_object_mut() {
            let training = [
                "epochs",
                "best_epoch",
                "seconds_per_epoch",
                "batch_size",
                "learning_rate",
                "warmup_steps",
                "grad_clip_norm",
                "weight_decay",
                "temperature",
                "loss",
                "freeze",
                "dropout",
                "accum",
                "labels",
            ];
            training.iter().for_each(|key| drop(map.shift_remove(*key)));
            map.insert("head".into(), json!(kind.to_string()));
            map.insert("strength".into(), json!(best.strength));
            if let Some((alpha, beta)) = best.cache {
                map.insert("alpha".into(), json!(alpha));
                map.insert("beta".into(), json!(beta));
            }
            map.insert("seconds".into(), json!(seconds));
        }
        metrics
    }
}

/// The metrics that a finished run left in its folder.
pub(crate) fn read(folder: &Path) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(folder.join(METRICS)).ok()?).ok()
}

/// The modalities of a finished run.
pub(crate) fn names(metrics: &Value) -> Option<Vec<String>> {
    Some(metrics.get("modalities")?.as_object()?.keys().cloned().collect())
}

/// What the user sees at the end; none if something is missing from the metrics.
pub(crate) fn summary(metrics: &Value, folder: &Path) -> Option<String> {
    let text = |key: &str| metrics.get(key)?.as_str();
    let number = |key: &str| metrics.get(key)?.as_f64();
    let rows = number("test_rows")?;
    let heads = match number("strength") {
        Some(strength) => {
            let cache = match (number("alpha"), number("beta")) {
                (Some(alpha), Some(beta)) => {
                    format!(", α {}, β {}", table::digits(alpha), table::digits(beta))
                }
                _ => String::new(),
            };
            let strength = table::digits(strength);
            format!("{} heads, strength {strength}{cache} (best on validation)", text("head")?)
        }
        None => {
            format!("heads of epoch {} of {} (best on validation)", number("best_epoch")?, number("epochs")?)
        }
    };
    let mut time = table::seconds(number("seconds")?);
    if let Some(epoch) = number("seconds_per_epoch") {
        time += &format!("; {} to train an epoch", table::seconds(epoch));
    }
    let names = names(metrics)?;
    let width = names.iter().map(|name| name.len()).max().unwrap_or(0).max("device".len());
    let mut lines = String::new();
    for name in &names {
        for source in metrics["modalities"][name].as_array()? {
            lines += &format!("{name:width$}  {}\n", source.as_str()?);
        }
    }
    let pair = |(i, j): (usize, usize)| {
        let (left, right) = (&names[i], &names[j]);
        let scores = scores::pair_from_json((left, right), metrics)?;
        Some(PairScores { names: (left.clone(), right.clone()), scores })
    };
    let pairs = pairs(names.len()).map(pair).collect::<Option<Vec<_>>>()?;
    let checkpoint = number("strength").is_none().then(|| CHECKPOINT.to_string());
    let files = [HEADS, METRICS, JOURNAL].map(String::from).into_iter();
    let files: Vec<_> = files.chain(names.iter().map(|name| embeddings(name))).chain(checkpoint).collect();
    let files = words::wrapped(
        &format!("{}: {}", folder.display(), files.join(", ")),
        80usize.saturating_sub(width + 2),
    );
    let title = words::wrapped(&format!("Retrieval among {rows} test rows, {heads}:"), 80).join("\n");
    Some(format!(
        "{lines}{:width$}  {}\n\n{title}\n\n{}\n\
         {:width$}  {}\n{:width$}  {time}\n{:width$}  {}\n",
        "split",
        text("split")?,
        scores::table_of_pairs(&pairs, rows as usize),
        "device",
        text("device")?,
        "time",
        "files",
        files.join(&format!("\n{:width$}  ", "")),
    ))
}
