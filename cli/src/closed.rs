//! `align` with heads that a formula gives.

use std::process::ExitCode;
use std::time::Instant;

use crossmodal::Device;
use crossmodal::align::{ClosedForm, Data, Recipe, closed_form, retrieval};
use crossmodal::io::{write_atomically, write_npy};
use serde_json::json;

use crate::failure::{Failure, Outcome};
use crate::folder::{HEADS, JOURNAL, LEFT, METRICS, Plan, RIGHT};
use crate::inputs::Inputs;
use crate::journal::Journal;
use crate::lock::Lock;
use crate::{metrics, output, words};

/// Fits, scores and writes. `log.jsonl` has a line for each strength of regularisation that was tried.
pub(crate) fn run(
    kind: ClosedForm,
    plan: Plan,
    lock: Option<Lock>,
    inputs: &Inputs,
    data: &Data,
    recipe: &Recipe,
) -> Outcome {
    plan.probe()?;
    let start = Instant::now();
    let fit =
        closed_form(data, kind, recipe.scaling, recipe.dim).map_err(|error| words::flags(error, inputs))?;
    let (heads, test) = (&fit.heads, &data.split.test);
    let left = heads.left.project(&Device::Cpu, &data.left.select(test)?)?;
    let right = heads.right.project(&Device::Cpu, &data.right.select(test)?)?;
    let scores = retrieval(&left, &right)?;
    let seconds = start.elapsed().as_secs_f64();
    let output = plan.open(lock)?;
    let line = |(strength, scores): &(f64, crossmodal::align::Retrieval)| {
        let (there, back) = (scores.left_to_right, scores.right_to_left);
        let line = json!({
            "strength": strength,
            "validation_left_to_right_R@1": there.recall_at_1,
            "validation_left_to_right_R@10": there.recall_at_10,
            "validation_right_to_left_R@1": back.recall_at_1,
            "validation_right_to_left_R@10": back.recall_at_10,
            "best": *strength == fit.strength,
        });
        format!("{line}\n")
    };
    let log: String = fit.tried.iter().map(line).collect();
    write_atomically(&output.file(JOURNAL), log.as_bytes())?;
    heads.save(&output.file(HEADS), &inputs.left.to_string(), &inputs.right.to_string())?;
    write_npy(&output.file(LEFT), left.rows, left.cols, &left.values)?;
    write_npy(&output.file(RIGHT), right.rows, right.cols, &right.values)?;
    let journal = Journal::new(output.file(JOURNAL));
    let recipe = &Recipe { dim: heads.left.dim, epochs: 0, ..*recipe };
    let run = metrics::Run { inputs, data, recipe, device: &Device::Cpu, journal: &journal, best_epoch: 0 };
    let metrics = run.closed(&scores, kind, fit.strength, seconds);
    write_atomically(&output.file(METRICS), format!("{metrics:#}\n").as_bytes())?;
    output.publish()?;
    let summary = metrics::summary(&metrics, &output.folder);
    output::print(&summary.ok_or_else(|| Failure::new("the scores are not finite numbers"))?)?;
    Ok(ExitCode::SUCCESS)
}
