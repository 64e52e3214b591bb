//! `align` with heads that a formula gives.

use std::time::Instant;

use crossmodal::Device;
use crossmodal::align::{ClosedForm, Data, Recipe, Tried, closed_form};
use crossmodal::io::write_atomically;
use serde_json::json;

use crate::failure::Outcome;
use crate::folder::{JOURNAL, Plan};
use crate::inputs::Inputs;
use crate::journal::Journal;
use crate::lock::Lock;
use crate::results::Results;
use crate::{metrics, words};

/// Fits, scores and writes. `log.jsonl` has a line for everything that was tried.
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
    let best = &fit.tried[fit.best];
    let results = Results::new(fit.heads.clone(), data, inputs, &Device::Cpu)?;
    let scores = results.scores()?;
    let seconds = start.elapsed().as_secs_f64();
    let output = plan.open(lock, inputs)?;
    let line = |(i, tried): (usize, &Tried)| {
        let (there, back) = (tried.validation.left_to_right, tried.validation.right_to_left);
        let mut line = json!({
            "strength": tried.strength,
            "validation_left_to_right_R@1": there.recall_at_1,
            "validation_left_to_right_R@10": there.recall_at_10,
            "validation_right_to_left_R@1": back.recall_at_1,
            "validation_right_to_left_R@10": back.recall_at_10,
            "best": i == fit.best,
        });
        if let Some((alpha, beta)) = tried.cache {
            line["alpha"] = json!(alpha);
            line["beta"] = json!(beta);
        }
        format!("{line}\n")
    };
    let log: String = fit.tried.iter().enumerate().map(line).collect();
    write_atomically(&output.file(JOURNAL), log.as_bytes())?;
    let journal = Journal::new(output.file(JOURNAL));
    let recipe = &Recipe { dim: fit.heads.heads[0].dim, epochs: 0, ..*recipe };
    let run = metrics::Run { inputs, data, recipe, device: &Device::Cpu, journal: &journal, best_epoch: 0 };
    results.finish(&output, &run.closed(&scores, kind, best, seconds))
}
