//! What people look at: `eval --plot`.

use std::path::Path;

use crossmodal::align::{BINS, Correct, Matching};
use crossmodal::io::Features;
use serde_json::Value;

use crate::eval_inputs::Inputs;
use crate::failure::Failure;
use crate::folder::JOURNAL;
use crate::journal;
use crate::svg::{Axis, BLUE, Chart, GREY, ORANGE};
use crate::words;

/// Rows and columns of a heat map: each is an item, so that what belongs together stays visible among many.
const CELLS: usize = 192;

/// A file's name and its content.
type Plot = (&'static str, String);

/// The names of both directions, with their colours and dashes.
const DIRECTIONS: [(&str, &str, &str); 2] = [("left to right", BLUE, ""), ("right to left", ORANGE, "8 4")];

/// The heat map, the histogram and the ranks.
pub(crate) fn draw(inputs: &Inputs, matching: &Matching) -> Result<Vec<Plot>, Failure> {
    let Some(right) = &inputs.right else { return Ok(vec![]) };
    Ok(vec![
        ("heat_map.svg", heat_map(inputs, right)?),
        ("similarities.svg", similarities(matching)),
        ("ranks.svg", ranks(matching, inputs.correct() == Correct::Pairs)),
    ])
}

fn axis(title: &str, from: f64, to: f64) -> Axis {
    Axis { title: title.into(), from, to, is_log: false, is_whole: false, names: vec![] }
}

/// Left rows and their first correct item, evenly spaced and sorted by class where there are classes.
fn heat_map(inputs: &Inputs, right: &Features) -> Result<String, Failure> {
    let left = &inputs.left;
    let first = |row: usize| match inputs.correct() {
        Correct::Pairs => Some(row),
        Correct::Ids { left, right } => right.iter().position(|id| *id == left[row]),
    };
    let mut order: Vec<usize> = (0..left.rows).collect();
    if let Some(labels) = &inputs.labels {
        order.sort_by_key(|&row| labels[row]);
    }
    let count = left.rows.min(CELLS);
    let spaced = (0..count).map(|cell| order[cell * left.rows / count]);
    let pairs: Vec<_> = spaced.filter_map(|row| Some((row as u32, first(row)? as u32))).collect();
    let (rows, cols): (Vec<_>, Vec<_>) = pairs.iter().copied().unzip();
    let cells = crossmodal::align::cosines(&left.select(&rows)?, &right.select(&cols)?)?;
    let sorted = if inputs.labels.is_some() { ", sorted by class" } else { "" };
    let about = format!(
        "{} of {} left rows{sorted}; column i is the correct item of row i, on the diagonal",
        pairs.len(),
        left.rows
    );
    let last = pairs.len() as f64;
    // Rows are counted from the top, and cells are square.
    let (x, y) = (axis("right item", 0., last), axis("left item", last, 0.));
    let mut chart = Chart::new("Similarities", &about, x, y, 304.);
    chart.cells(
        &cells.values.chunks(pairs.len()).map(<[f32]>::to_vec).collect::<Vec<_>>(),
        "cosine similarity",
    );
    Ok(chart.finish())
}

/// Positive against negative similarities, each as a share of its own.
fn similarities(matching: &Matching) -> String {
    let sides = [&matching.positives, &matching.negatives];
    let totals = sides.map(|counts| counts.iter().sum::<u64>());
    let share = |side: usize, bin: usize| 100. * sides[side][bin] as f64 / totals[side].max(1) as f64;
    let used: Vec<_> = (0..BINS).filter(|&bin| sides[0][bin] + sides[1][bin] > 0).collect();
    let (first, last) = (used[0], used[used.len() - 1] + 1);
    // Fewer, wider bars where the similarities are spread out.
    let each = (last - first).div_ceil(50);
    let bins: Vec<_> = (first..last).step_by(each).map(|bin| bin..(bin + each).min(BINS)).collect();
    let last = bins.last().map_or(last, |bins| bins.end);
    let bars = [0, 1].map(|side| {
        bins.iter().map(|bins| bins.clone().map(|bin| share(side, bin)).sum::<f64>()).collect::<Vec<_>>()
    });
    let place = |bin: usize| bin as f64 * 2. / BINS as f64 - 1.;
    let top = bars.iter().flatten().fold(0., |top: f64, v| top.max(*v)) * 1.05;
    let about = format!("{} positive and {} negative pairs", totals[0], totals[1]);
    let width = each as f64 * 2. / BINS as f64;
    let y = axis(&format!("share of the pairs of its kind in {width:.2} (%)"), 0., top);
    let x = axis("cosine similarity", place(first), place(last));
    let mut chart = Chart::new("Positive and negative similarities", &about, x, y, 32.);
    for (side, colour, dashes) in [(1, ORANGE, "8 4"), (0, BLUE, "")] {
        let mut points = vec![(place(first), 0.)];
        for (bins, &bar) in bins.iter().zip(&bars[side]) {
            points.extend([(place(bins.start), bar), (place(bins.end), bar)]);
        }
        points.push((place(last), 0.));
        chart.line(&points, colour, dashes, true);
    }
    chart.legend(&[("positive (correct items)", BLUE, ""), ("negative (all others)", ORANGE, "8 4")]);
    chart.finish()
}

/// How many queries find a correct item among the first k, for every k.
fn ranks(matching: &Matching, is_of_pairs: bool) -> String {
    let sides = [&matching.left_to_right, &matching.right_to_left];
    let galleries = [matching.right_to_left.len(), matching.left_to_right.len()];
    let most = galleries[0].max(galleries[1]).max(2) as f64;
    let queries = sides.map(|ranks| ranks.iter().flatten().count());
    let x = Axis {
        title: "k, items looked at".into(),
        from: 1.,
        to: most,
        is_log: true,
        is_whole: true,
        names: vec![],
    };
    let y = axis("R@k, queries with a correct item among the first k (%)", 0., 100.);
    let about = format!("{} queries left to right, {} right to left", queries[0], queries[1]);
    let mut chart = Chart::new("Ranks of the best correct item", &about, x, y, 32.);
    let mut names = DIRECTIONS.to_vec();
    if is_of_pairs {
        let at = |step: u32| most.powf(f64::from(step) / 100.);
        let chance: Vec<_> = (0..=100).map(|step| (at(step), 100. * at(step) / most)).collect();
        chart.line(&chance, GREY, "2 4", false);
        names.push(("chance", GREY, "2 4"));
    }
    for ((ranks, gallery), (_, colour, dashes)) in sides.into_iter().zip(galleries).zip(DIRECTIONS) {
        let mut ranks: Vec<u32> = ranks.iter().copied().flatten().collect();
        ranks.sort_unstable();
        let count = ranks.len() as f64;
        let mut points = vec![(1., 0.)];
        let mut found = 0;
        for same in ranks.chunk_by(|a, b| a == b) {
            let rank = f64::from(same[0]);
            points.push((rank, 100. * f64::from(found) / count));
            found += same.len() as u32;
            points.push((rank, 100. * f64::from(found) / count));
        }
        points.push((gallery.max(1) as f64, 100.));
        chart.line(&points, colour, dashes, false);
    }
    chart.legend(&names);
    chart.finish()
}

/// The loss and the recall of every epoch of a run of align.
pub(crate) fn training(run: &Path) -> Result<Vec<Plot>, Failure> {
    let path = run.join(JOURNAL);
    let epochs = journal::read(&path);
    let series = |key: &str| -> Vec<(f64, f64)> {
        epochs.iter().filter_map(|epoch| Some((epoch["epoch"].as_f64()?, epoch[key].as_f64()?))).collect()
    };
    let loss = series("loss");
    if loss.is_empty() {
        return Err(Failure::new(format!(
            "--run {}: expected a run of align that trained, with {JOURNAL}: heads by a formula have no curves",
            run.display()
        )));
    }
    let last = loss.iter().fold(1., |last: f64, point| last.max(point.0));
    let epoch = || Axis { is_whole: true, ..axis("epoch", 1., last) };
    let best = epochs.iter().rev().find(|epoch| epoch["best"] == Value::Bool(true));
    let best = best.and_then(|epoch| epoch["epoch"].as_f64());
    let top = loss.iter().fold(0., |top: f64, point| top.max(point.1)) * 1.05;
    let marked = best.map_or(String::new(), |epoch| format!("; dotted: epoch {epoch}, best on validation"));
    let about = words::count(loss.len(), "epoch") + &marked;
    let mut chart =
        Chart::new("Training loss", &about, epoch(), axis("loss, mean of the epoch (nats)", 0., top), 32.);
    chart.line(&loss, BLUE, "", false);
    best.into_iter().for_each(|epoch| chart.mark(epoch));
    let loss_plot = chart.finish();

    let names = [
        ("left to right R@10", "validation_left_to_right_R@10", BLUE, ""),
        ("right to left R@10", "validation_right_to_left_R@10", ORANGE, "8 4"),
        ("left to right R@1", "validation_left_to_right_R@1", BLUE, "2 3"),
        ("right to left R@1", "validation_right_to_left_R@1", ORANGE, "2 3"),
    ];
    let lines = names.map(|(_, key, colour, dashes)| (series(key), colour, dashes));
    let top = lines.iter().flat_map(|line| &line.0).fold(1., |top: f64, point| top.max(point.1)) * 1.05;
    let y = axis("recall on the validation rows (%)", 0., top.min(100.));
    let mut chart = Chart::new("Validation recall", &about, epoch(), y, 32.);
    lines.iter().for_each(|(points, colour, dashes)| chart.line(points, colour, dashes, false));
    best.into_iter().for_each(|epoch| chart.mark(epoch));
    chart.legend(&names.map(|(name, _, colour, dashes)| (name, colour, dashes)));
    Ok(vec![("loss.svg", loss_plot), ("recall.svg", chart.finish())])
}
