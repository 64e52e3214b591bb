//! Retrieval scores as a table and as JSON.

use crossmodal::align::{Retrieval, Scores};
use serde_json::{Map, Value, json};

use crate::table;

/// The two sides of an evaluation.
const SIDES: (&str, &str) = ("left", "right");

/// How well the modalities of a pair find each other.
pub(crate) struct PairScores {
    pub(crate) names: (String, String),
    pub(crate) scores: Retrieval,
}

/// The scores of two sides by key: `left_to_right_R@1`, …
pub(crate) fn to_json(retrieval: &Retrieval) -> Map<String, Value> {
    pair_to_json(SIDES, retrieval)
}

/// The scores of a pair by key: `image_to_text_R@1`, …
pub(crate) fn pair_to_json((left, right): (&str, &str), retrieval: &Retrieval) -> Map<String, Value> {
    let mut map = Map::new();
    let ways = [(left, right, &retrieval.left_to_right), (right, left, &retrieval.right_to_left)];
    for (from, to, scores) in ways {
        map.insert(format!("{from}_to_{to}_R@1"), json!(scores.recall_at_1));
        map.insert(format!("{from}_to_{to}_R@5"), json!(scores.recall_at_5));
        map.insert(format!("{from}_to_{to}_R@10"), json!(scores.recall_at_10));
        map.insert(format!("{from}_to_{to}_median_rank"), json!(scores.median_rank));
        map.insert(format!("{from}_to_{to}_mean_rank"), json!(scores.mean_rank));
    }
    map
}

/// What [`pair_to_json`] wrote; none if something is missing.
pub(crate) fn pair_from_json((left, right): (&str, &str), map: &Value) -> Option<Retrieval> {
    let scores = |from: &str, to: &str| {
        let number = |name: &str| map.get(format!("{from}_to_{to}_{name}"))?.as_f64();
        Some(Scores {
            recall_at_1: number("R@1")?,
            recall_at_5: number("R@5")?,
            recall_at_10: number("R@10")?,
            median_rank: number("median_rank")?,
            mean_rank: number("mean_rank")?,
        })
    };
    Some(Retrieval { left_to_right: scores(left, right)?, right_to_left: scores(right, left)? })
}

/// The scores of `rows` pairs, beside those of chance.
pub(crate) fn table(retrieval: &Retrieval, rows: usize) -> String {
    lines(&[(SIDES, retrieval)], Some(chance(rows)))
}

/// The scores of several pairs of modalities.
pub(crate) fn table_of_pairs(pairs: &[PairScores], rows: usize) -> String {
    let all: Vec<_> = pairs
        .iter()
        .map(|PairScores { names: (left, right), scores }| ((left.as_str(), right.as_str()), scores))
        .collect();
    lines(&all, Some(chance(rows)))
}

fn chance(rows: usize) -> [f64; 5] {
    let n = rows as f64;
    let recall = |k: f64| 100. * k.min(n) / n;
    let middle = (n + 1.) / 2.;
    [recall(1.), recall(5.), recall(10.), middle, middle]
}

/// The scores where queries have several correct items or none: what chance would give depends on how many.
pub(crate) fn table_of_ids(retrieval: &Retrieval) -> String {
    lines(&[(SIDES, retrieval)], None)
}

fn lines(pairs: &[((&str, &str), &Retrieval)], chance: Option<[f64; 5]>) -> String {
    let numbers = |s: &Scores| [s.recall_at_1, s.recall_at_5, s.recall_at_10, s.median_rank, s.mean_rank];
    let head = ["", "R@1 %", "R@5 %", "R@10 %", "median rank", "mean rank"].map(String::from).to_vec();
    let row = |name: String, numbers: [f64; 5]| {
        std::iter::once(name).chain(numbers.map(|number| format!("{number:.1}"))).collect()
    };
    let ways = |((left, right), scores): &((&str, &str), &Retrieval)| {
        [
            row(format!("{left} to {right}"), numbers(&scores.left_to_right)),
            row(format!("{right} to {left}"), numbers(&scores.right_to_left)),
        ]
    };
    let chance = chance.map(|chance| row("chance".to_string(), chance));
    let rows: Vec<_> = std::iter::once(head).chain(pairs.iter().flat_map(ways)).chain(chance).collect();
    table::columns(1, &rows)
}
