//! What people look at after `fuse`.

use crossmodal::fusion::ClassScores;

use crate::svg::{Axis, Chart};

/// The most classes that are named at the axes; of more there is no room.
const MOST_NAMED: usize = 20;

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
