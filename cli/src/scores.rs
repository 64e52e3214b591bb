//! Retrieval scores as a table and as JSON.

use crossmodal::align::{Retrieval, Scores};
use serde_json::{Map, Value, json};

use crate::table;

/// A direction's name for people and in JSON's keys.
const DIRECTIONS: [(&str, &str); 2] =
    [("left to right", "left_to_right"), ("right to left", "right_to_left")];

/// The scores by key: `left_to_right_R@1`, …
pub(crate) fn to_json(retrieval: &Retrieval) -> Map<String, Value> {
    let mut map = Map::new();
    for ((_, key), scores) in DIRECTIONS.iter().zip([&retrieval.left_to_right, &retrieval.right_to_left]) {
        map.insert(format!("{key}_R@1"), json!(scores.recall_at_1));
        map.insert(format!("{key}_R@5"), json!(scores.recall_at_5));
        map.insert(format!("{key}_R@10"), json!(scores.recall_at_10));
        map.insert(format!("{key}_median_rank"), json!(scores.median_rank));
        map.insert(format!("{key}_mean_rank"), json!(scores.mean_rank));
    }
    map
}

/// What [`to_json`] wrote; none if something is missing.
pub(crate) fn from_json(map: &Value) -> Option<Retrieval> {
    let scores = |key: &str| {
        let number = |name: &str| map.get(format!("{key}_{name}"))?.as_f64();
        Some(Scores {
            recall_at_1: number("R@1")?,
            recall_at_5: number("R@5")?,
            recall_at_10: number("R@10")?,
            median_rank: number("median_rank")?,
            mean_rank: number("mean_rank")?,
        })
    };
    let [left_to_right, right_to_left] = DIRECTIONS.map(|(_, key)| scores(key));
    Some(Retrieval { left_to_right: left_to_right?, right_to_left: right_to_left? })
}

/// The scores of `rows` pairs, beside those of chance.
pub(crate) fn table(retrieval: &Retrieval, rows: usize) -> String {
    let n = rows as f64;
    let recall = |k: f64| 100. * k.min(n) / n;
    let middle = (n + 1.) / 2.;
    lines(retrieval, Some([recall(1.), recall(5.), recall(10.), middle, middle]))
}

/// The scores where queries have several correct items or none: what chance would give depends on how many.
pub(crate) fn table_of_ids(retrieval: &Retrieval) -> String {
    lines(retrieval, None)
}

fn lines(retrieval: &Retrieval, chance: Option<[f64; 5]>) -> String {
    let numbers = |s: &Scores| [s.recall_at_1, s.recall_at_5, s.recall_at_10, s.median_rank, s.mean_rank];
    let head = ["", "R@1 %", "R@5 %", "R@10 %", "median rank", "mean rank"].map(String::from).to_vec();
    let row = |name: &str, numbers: [f64; 5]| {
        std::iter::once(name.to_string()).chain(numbers.map(|number| format!("{number:.1}"))).collect()
    };
    let [there, back] = DIRECTIONS.map(|(name, _)| name);
    let rows =
        [head, row(there, numbers(&retrieval.left_to_right)), row(back, numbers(&retrieval.right_to_left))];
    let chance = chance.map(|chance| row("chance", chance));
    table::columns(1, &rows.into_iter().chain(chance).collect::<Vec<_>>())
}
