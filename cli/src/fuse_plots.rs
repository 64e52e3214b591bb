//! What people look at after `fuse`.

use crossmodal::fusion::{ClassScores, ValueScores};

use crate::svg::{Axis, BLUE, Chart, GREY};
use crate::table;

/// The most classes that are named at the axes; of more there is no room.
const MOST_NAMED: usize = 20;

/// The most points of a picture: what a viewer shows at once.
const MOST_POINTS: usize = 2000;

/// Each class's test rows by what they were taken for, as a share.
pub(crate) fn confusion(scores: &ClassScores, fusion: &str, names: &[String]) -> String {
    let share = |row: &Vec<u32>| -> Vec<f32> {
        let sum = row.iter().sum::<u32>().max(1) as f32;
        row.iter().map(|count| *count as f32 / sum).collect()
    };
    let cells: Vec<_> = scores.confusion.iter().map(share).collect();
    let count = cells.len() as f64;
    let is_named = cells.len() <= MOST_NAMED;
    let axis = |title: &str, from, to| {
        let names = if is_named { names.to_vec() } else { vec![] };
        Axis { title: title.into(), from, to, is_log: false, is_whole: true, names }
    };
    let order = if is_named { "" } else { "; classes in order, by their places from 0" };
    let rows: usize = scores.classes.iter().map(|class| class.support).sum();
    let about = format!("{rows} test rows, {fusion}{order}");
    let (x, y) = (axis("taken for", 0., count), axis("class", count, 0.));
    let mut chart = Chart::new("Confusion", &about, x, y, 304.);
    chart.cells(&cells, "share of the class");
    chart.finish()
}

/// What is told of test rows against what is true of them.
pub(crate) fn scatter(scores: &ValueScores, told: &[f32], values: &[f32], fusion: &str) -> String {
    let count = told.len().min(MOST_POINTS);
    let spaced = (0..count).map(|i| i * told.len() / count);
    let points: Vec<_> = spaced.map(|row| (f64::from(values[row]), f64::from(told[row]))).collect();
    let all = || points.iter().flat_map(|(x, y)| [*x, *y]);
    let (low, high) = (all().fold(f64::INFINITY, f64::min), all().fold(f64::NEG_INFINITY, f64::max));
    let margin = 0.05 * (high - low);
    let (low, high) = (low - margin, high + margin);
    let axis = |title: &str| Axis {
        title: title.into(),
        from: low,
        to: high,
        is_log: false,
        is_whole: false,
        names: vec![],
    };
    let rows = if count < told.len() { format!("{count} of {}", told.len()) } else { count.to_string() };
    let about = format!(
        "{rows} test rows, {fusion}: R² {} %, MAE {}",
        table::digits(scores.r2),
        table::digits(scores.mae)
    );
    let mut chart = Chart::new("Told and true", &about, axis("true"), axis("told"), 304.);
    chart.line(&[(low, low), (high, high)], GREY, "6 4", false);
    chart.points(&points, BLUE);
    chart.finish()
}
