//! Modalities that are missing in some rows: --present of fuse and predict.

use std::collections::BTreeMap;

use crossmodal::dtype::HostData;
use crossmodal::io::{Array, write_npy, write_safetensors};

use crate::Place;
use crate::fuse::{LABELLED, integers, labelled, values};

/// Where a modality is there, as `NAME.safetensors`.
fn present(place: &Place, name: &str, is_there: impl Fn(usize) -> bool) {
    let values = (0..60).map(|row| u32::from(is_there(row))).collect();
    numbers(place, name, values);
}

fn numbers(place: &Place, name: &str, values: Vec<u32>) {
    let array = Array { shape: vec![values.len()], data: HostData::U32(values) };
    let arrays = [("present".to_string(), array)].into();
    write_safetensors(&place.path(&format!("{name}.safetensors")), &arrays, &BTreeMap::new()).unwrap();
}

const BOTH: &str = "--modality image=left.npy --modality text=right.npy";

/// Features with other numbers where they are missing.
fn odd(place: &Place, name: &str, from: &str, cols: usize, is_there: impl Fn(usize) -> bool) {
    let mut all = values(place, from);
    (0..60)
        .filter(|&row| !is_there(row))
        .for_each(|row| all[row * cols..][..cols].fill(-1e4 * (row + 1) as f32));
    write_npy(&place.path(name), 60, cols, &all).unwrap();
}

#[test]
fn what_stands_in_the_place_of_a_missing_modality_leaves_no_trace() {
    let place = labelled();
    // One row in nine has neither.
    present(&place, "a", |row| row % 3 != 0);
    present(&place, "b", |row| row / 3 % 3 != 1);
    let line =
        LABELLED.replace("image=left.npy", "image=LEFT").replace("text=pair.safetensors#right", "text=RIGHT");
    let given = "--present image=a.safetensors --present text=b.safetensors";
    write_npy(&place.path("right.npy"), 60, 5, &values(&place, "pair.safetensors#right")).unwrap();
    odd(&place, "odd-left.npy", "left.npy", 6, |row| row % 3 != 0);
    odd(&place, "odd-right.npy", "right.npy", 5, |row| row / 3 % 3 != 1);
    for flags in ["--fusion gmu --epochs 2", "--fusion mean", "--fusion stacking", "--all --epochs 1"] {
        let run = |prefix: &str| {
            let line = line.replace("LEFT", &format!("{prefix}left.npy"));
            let line = line.replace("RIGHT", &format!("{prefix}right.npy"));
            let table = place.succeed(&format!("{line} {given} {flags} --out run{prefix} --force"));
            assert!(table.contains("present  image=a.safetensors"), "{table}");
            assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
            let both =
                BOTH.replace("left", &format!("{prefix}left")).replace("right", &format!("{prefix}right"));
            let told = format!(
                "predict --model run{prefix}/fusion.safetensors --device cpu {both} {given} --out p.npy --force"
            );
            // Where a modality alone is best the other is none of its own.
            if flags.starts_with("--all") {
                return (place.json(&format!("run{prefix}/metrics.json"))["fusions"].clone(), vec![]);
            }
            place.succeed(&told);
            (place.json(&format!("run{prefix}/metrics.json"))["fusions"].clone(), values(&place, "p.npy"))
        };
        let (scores, told) = run("");
        let (odd_scores, odd_told) = run("odd-");
        assert!(scores == odd_scores && told == odd_told, "{flags}");
        assert_eq!(place.json("run/metrics.json")["present"]["text"], "b.safetensors");
        // Rows without any: what is told of all of them is the same.
        let none = (0..60).filter(|row| row % 3 == 0 && row / 3 % 3 == 1).collect::<Vec<usize>>();
        assert!(none.len() > 3);
        for row in none.iter().filter(|_| !told.is_empty()) {
            assert_eq!(told[row * 3..][..3], told[none[0] * 3..][..3], "{flags}");
        }
    }
}

#[test]
fn predict_takes_a_modality_away_row_by_row() {
    let place = labelled();
    write_npy(&place.path("right.npy"), 60, 5, &values(&place, "pair.safetensors#right")).unwrap();
    present(&place, "half", |row| row >= 30);
    present(&place, "all", |_| true);
    present(&place, "none", |_| false);
    for fusion in ["gmu --epochs 2", "product"] {
        place.succeed(&format!("{LABELLED} --fusion {fusion} --out run --force"));
        let told = |flags: &str| {
            place.succeed(&format!(
                "predict --model run/fusion.safetensors --device cpu {flags} --out p.npy --force"
            ));
            values(&place, "p.npy")
        };
        let (both, image) = (told(BOTH), told("--modality image=left.npy"));
        assert!(both != image);
        let half = told(&format!("{BOTH} --present text=half.safetensors"));
        assert_eq!((&half[..90], &half[90..]), (&image[..90], &both[90..]), "{fusion}");
        assert!(told(&format!("{BOTH} --present text=all.safetensors")) == both);
        assert!(told(&format!("{BOTH} --present text=none.safetensors")) == image);
    }
}

#[test]
fn a_presence_that_does_not_fit_is_refused() {
    let place = labelled();
    let split = integers(&place, "pair.safetensors#split");
    present(&place, "all", |_| true);
    present(&place, "untrained", |row| split[row] != 0);
    present(&place, "unvalidated", |row| split[row] != 1);
    numbers(&place, "two", (0..60).map(|row| u32::from(row == 7) * 2).collect());
    numbers(&place, "short", vec![1; 59]);
    place.succeed(&format!("{LABELLED} --fusion mean --out run"));
    let both = "--present text=two.safetensors";
    for (flags, words) in [
        (both, ["--present text=two.safetensors: expected 0 or 1", "got 2 in row 7"]),
        ("--present text=short.safetensors", ["short.safetensors: expected 60 rows", "got 59"]),
        (
            "--present sound=all.safetensors",
            ["--present sound=all.safetensors", "expected one of image, text"],
        ),
        (
            "--present text=all.safetensors --present text=all.safetensors",
            ["--present text=all.safetensors", "it is given twice"],
        ),
        ("--present text=left.npy", ["left.npy", "expected integers"]),
        ("--present text", ["--present", "expected NAME=FILE"]),
    ] {
        place.refuse(&format!("{LABELLED} {flags} --out none"), &words);
        let modalities = "--modality image=left.npy --modality text=pair.safetensors#right --device cpu";
        place.refuse(
            &format!("predict --model run/fusion.safetensors {modalities} {flags} --out z.npy"),
            &words,
        );
    }
    place.refuse(
        &format!("{LABELLED} --present text=untrained.safetensors --out none"),
        &["expected to be there in at least one of the training rows", "none"],
    );
    // What trains does without it among the validation rows; a regression of it does not.
    place.succeed(&format!("{LABELLED} --epochs 1 --present text=unvalidated.safetensors --out trained"));
    place.refuse(
        &format!("{LABELLED} --fusion mean --present text=unvalidated.safetensors --out none"),
        &["expected to be there in some of the training rows", "of the validation rows"],
    );
    // A modality without features cannot be there.
    place.refuse(
        "predict --model run/fusion.safetensors --modality image=left.npy --present text=all.safetensors --out z.npy",
        &["--present text=all.safetensors", "expected one of image"],
    );
    assert!(!place.path("none").exists() && !place.path("z.npy").exists());
}
