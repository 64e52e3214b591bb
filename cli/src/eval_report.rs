//! What `eval` found, as a table and as JSON.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crossmodal::Device;
use crossmodal::align::{Correct, Matching, Retrieval, matching};
use crossmodal::evaluate::{
    CacheModel, Classification, Knn, Labelled, Probe, alignment, cache_model, knn, linear_probe,
    modality_gap, uniformity, zero_shot,
};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};

use crate::eval::Task;
use crate::eval_inputs::{Classed, Inputs};
use crate::failure::Failure;
use crate::{scores, table, words};

/// A classifier's scores.
struct Classified {
    /// The task's name for people and in JSON.
    names: [&'static str; 2],
    /// The side that was classified.
    side: &'static str,
    scores: Classification,
    /// What was chosen or given.
    settings: Vec<(&'static str, Value)>,
}

/// How the embeddings lie.
struct Geometry {
    alignment: f64,
    uniformity: [f64; 2],
    gap: f64,
}

/// Everything that was found.
pub(crate) struct Report {
    names: [String; 2],
    rows: [usize; 2],
    /// Row i belongs to row i, and there are no ids.
    is_of_pairs: bool,
    pub(crate) matching: Option<Matching>,
    classified: Vec<Classified>,
    geometry: Option<Geometry>,
}

impl Classed {
    fn labelled(&self) -> Labelled<'_> {
        Labelled { features: &self.features, labels: &self.labels }
    }
}

impl Report {
    /// Does the tasks. `names` are the data's and the model's.
    pub(crate) fn new(
        inputs: &Inputs,
        tasks: &[Task],
        options: &Knn,
        device: &Device,
        names: [String; 2],
    ) -> Result<Report, Failure> {
        let bar = progress(inputs.left.rows);
        let rows = [inputs.left.rows, inputs.right.as_ref().map_or(0, |right| right.rows)];
        let is_of_pairs = inputs.correct() == Correct::Pairs;
        let mut report =
            Report { names, rows, is_of_pairs, matching: None, classified: vec![], geometry: None };
        for task in tasks {
            bar.set_message(format!("{task:?}").to_lowercase());
            let done = report.task(inputs, *task, options, device, &bar);
            done.inspect_err(|_| bar.finish_and_clear())?;
        }
        bar.finish_and_clear();
        Ok(report)
    }

    fn task(
        &mut self,
        inputs: &Inputs,
        task: Task,
        options: &Knn,
        device: &Device,
        bar: &ProgressBar,
    ) -> Result<(), Failure> {
        match (task, &inputs.right) {
            (Task::Retrieval, Some(right)) => {
                let progress = |rows: usize| bar.inc(rows as u64);
                self.matching = Some(matching(&inputs.left, right, &inputs.correct(), &progress)?);
            }
            (Task::Geometry, Some(right)) => {
                self.geometry = Some(Geometry {
                    alignment: alignment(&inputs.left, right, &inputs.correct(), 2.)?,
                    uniformity: [uniformity(&inputs.left, 2.)?, uniformity(right, 2.)?],
                    gap: modality_gap(&inputs.left, right)?,
                });
            }
            _ => self.classified.extend(classified(inputs, task, options, device)?),
        }
        Ok(())
    }

    /// The scores in percent, and a record for each task as CLIP_benchmark writes it.
    pub(crate) fn json(&self) -> Map<String, Value> {
        let mut map = self.matching.as_ref().map(|m| scores::to_json(&m.retrieval())).unwrap_or_default();
        map.insert("rows".into(), json!(self.rows[0]));
        if self.rows[1] > 0 {
            map.insert("right_rows".into(), json!(self.rows[1]));
        }
        map.insert("results".into(), self.records().into_iter().map(|(_, record)| record).collect());
        map
    }

    /// Each task's record with the end of its file's name.
    fn records(&self) -> Vec<(String, Value)> {
        let record = |task: &str, metrics: Value| {
            let [dataset, model] = &self.names;
            json!({"dataset": dataset, "model": model, "pretrained": "", "task": task, "metrics": metrics})
        };
        let mut records = vec![];
        if let Some(matching) = &self.matching {
            let metrics = retrieval_metrics(matching);
            records.push(("zeroshot_retrieval".to_string(), record("zeroshot_retrieval", metrics)));
        }
        for Classified { names: [_, task], side, scores, settings } in &self.classified {
            let mut metrics = json!({
                "acc1": scores.top_1 / 100.,
                // Of fewer than five classes it says nothing.
                "acc5": (scores.classes >= 5).then_some(scores.top_5 / 100.),
                "mean_per_class_recall": scores.mean_per_class / 100.,
            });
            settings.iter().for_each(|(name, value)| metrics[*name] = value.clone());
            let mut record = record(task, metrics);
            record["modality"] = json!(side);
            records.push((format!("{task}_{side}"), record));
        }
        if let Some(Geometry { alignment, uniformity: [left, right], gap }) = self.geometry {
            let metrics = json!({
                "alignment": alignment, "left_uniformity": left, "right_uniformity": right, "modality_gap": gap,
            });
            records.push(("geometry".to_string(), record("geometry", metrics)));
        }
        records
    }

    /// A file for each record.
    pub(crate) fn files(&self, folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
        let plain = |text: &str| -> String {
            text.chars().map(|c| if c.is_alphanumeric() || "-._".contains(c) { c } else { '_' }).collect()
        };
        let [dataset, model] = self.names.each_ref().map(|name| plain(name));
        let file = |(task, record): (String, Value)| {
            (folder.join(format!("{dataset}_{model}_{task}.json")), format!("{record:#}\n").into_bytes())
        };
        self.records().into_iter().map(file).collect()
    }

    /// For people.
    pub(crate) fn table(&self) -> String {
        let mut sections = vec![];
        if let Some(matching) = &self.matching {
            let [left, right] = self.rows;
            let found = |ranks: &[Option<u32>]| ranks.iter().flatten().count();
            let (l, r) = (found(&matching.left_to_right), found(&matching.right_to_left));
            let retrieval = matching.retrieval();
            sections.push(if self.is_of_pairs {
                format!("{}\n\n{}", words::count(left, "pair"), scores::table(&retrieval, left))
            } else {
                let scores = scores::table_of_ids(&retrieval);
                format!(
                    "{left} left and {right} right rows, {l} and {r} of them with a correct item\n\n{scores}"
                )
            });
        }
        if !self.classified.is_empty() {
            let head = ["", "", "top-1 %", "top-5 %", "per class %", "classes", ""];
            let row = |c: &Classified| {
                let numbers = [c.scores.top_1, c.scores.top_5, c.scores.mean_per_class];
                let mut row = vec![c.names[0].to_string(), c.side.to_string()];
                row.extend(numbers.map(|number| format!("{number:.1}")));
                // A whole number without the point that it has in JSON.
                let plain = |value: &Value| value.as_f64().map_or(value.to_string(), |v| v.to_string());
                let settings = c.settings.iter().map(|(name, value)| format!("{name} {}", plain(value)));
                row.extend([c.scores.classes.to_string(), settings.collect::<Vec<_>>().join(", ")]);
                row
            };
            let rows =
                std::iter::once(head.map(String::from).to_vec()).chain(self.classified.iter().map(row));
            sections.push(table::columns(2, &rows.collect::<Vec<_>>()));
        }
        if let Some(Geometry { alignment, uniformity: [left, right], gap }) = self.geometry {
            let row = |name: &str, value: f64| vec![name.to_string(), format!("{value:.3}")];
            let rows = [
                row("alignment (mean squared distance of pairs, 0 is best)", alignment),
                row("uniformity, left (lower is more even)", left),
                row("uniformity, right", right),
                row("modality gap (distance of the centroids)", gap),
            ];
            sections.push(table::columns(1, &rows));
        }
        sections.join("\n")
    }
}

/// What one task makes of each side that it classifies.
fn classified(
    inputs: &Inputs,
    task: Task,
    options: &Knn,
    device: &Device,
) -> Result<Vec<Classified>, Failure> {
    let mut found = vec![];
    if let (Task::Zeroshot, Some(prompts), Some(labels)) = (task, &inputs.prompts, &inputs.labels) {
        let scores = zero_shot(&Labelled { features: &inputs.left, labels }, &prompts.labelled())?;
        let settings = vec![("prompts", json!(prompts.labels.len()))];
        let names = ["zero-shot", "zeroshot_classification"];
        found.push(Classified { names, side: "left", scores, settings });
    }
    for parts in &inputs.parts {
        let [train, validation, test] = [&parts.train, &parts.validation, &parts.test].map(Classed::labelled);
        let (names, scores, settings) = match (task, &inputs.prompts) {
            (Task::Cache, Some(prompts)) if parts.side == "left" => {
                let options = CacheModel::default();
                let cache = cache_model(&train, &validation, &test, &prompts.labelled(), &options)?;
                let settings = vec![("alpha", json!(cache.alpha)), ("beta", json!(cache.beta))];
                (["cache model", "cache_model"], cache.test, settings)
            }
            (Task::Knn, _) => {
                let settings = vec![("neighbours", json!(options.neighbours))];
                (["k-NN", "knn"], knn(&train, &test, options)?, settings)
            }
            (Task::Probe, _) => {
                let probe = linear_probe(device, &train, &validation, &test, &Probe::default())?;
                (["linear probe", "linear_probe"], probe.test, vec![("l2", json!(probe.l2))])
            }
            _ => continue,
        };
        found.push(Classified { names, side: parts.side, scores, settings });
    }
    Ok(found)
}

/// Fractions of 1. In CLIP_benchmark images are retrieved by texts, which are the right rows here.
fn retrieval_metrics(matching: &Matching) -> Value {
    let Retrieval { left_to_right, right_to_left } = matching.retrieval();
    let mut metrics = Map::new();
    for (name, scores) in [("image", right_to_left), ("text", left_to_right)] {
        let recalls = [(1, scores.recall_at_1), (5, scores.recall_at_5), (10, scores.recall_at_10)];
        for (k, recall) in recalls {
            metrics.insert(format!("{name}_retrieval_recall@{k}"), json!(recall / 100.));
        }
        metrics.insert(format!("{name}_retrieval_median_rank"), json!(scores.median_rank));
        metrics.insert(format!("{name}_retrieval_mean_rank"), json!(scores.mean_rank));
    }
    Value::Object(metrics)
}

/// A bar over the rows of retrieval that ticks through the other tasks; hidden where standard error is no terminal.
fn progress(rows: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {bar:12} {pos}/{len} rows, {msg}");
    let bar =
        ProgressBar::new(rows as u64).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}
