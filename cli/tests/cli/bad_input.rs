//! Bad input: one line, exit status 2, and nothing written.

use std::collections::BTreeMap;

use crossmodal::dtype::HostData;
use crossmodal::io::{Array, write_npy, write_safetensors};

use crate::{INPUTS, Place, ROWS, names};

/// Runs `align` on other inputs; nothing may come of it.
fn refuse(place: &Place, inputs: &str, words: &[&str]) {
    let before = names(place.folder.path());
    place.refuse(&place.align("--out run").replace(INPUTS, inputs), words);
    assert_eq!(names(place.folder.path()), before, "{inputs}");
}

/// Writes `left`'s values with one of them replaced.
fn spoil(place: &Place, name: &str, row: usize, value: f32) {
    let mut values = vec![0.5; ROWS * 6];
    values[row * 6 + 2] = value;
    write_npy(&place.path(name), ROWS, 6, &values).unwrap();
}

#[test]
fn files_and_tensors_that_are_not_there() {
    let place = Place::new();
    refuse(&place, "--left gone.npy --right left.npy", &["gone.npy", "no such file"]);
    refuse(&place, "--left left.npy --right gone.safetensors#x", &["gone.safetensors", "no such file"]);
    refuse(&place, "--left left.npy --right pair.safetensors#x", &["pair.safetensors", "\"x\"", "right"]);
    refuse(&place, "--left left.npy --right pair.safetensors", &["pair.safetensors", "right"]);
    refuse(&place, "--left left.npy --right pair.safetensors#right --split gone.npy", &["gone.npy"]);
    refuse(&place, "--left . --right left.npy", &["folder"]);
}

#[test]
fn one_side_only() {
    let place = Place::new();
    refuse(&place, "--left left.npy", &["--left", "--right is missing"]);
    refuse(&place, "--right left.npy", &["--right", "--left is missing"]);
}

#[test]
fn rows_that_do_not_match() {
    let place = Place::new();
    write_npy(&place.path("short.npy"), 59, 6, &[0.5; 59 * 6]).unwrap();
    refuse(&place, "--left left.npy --right short.npy", &["short.npy", "60", "59"]);
    let split = Array { shape: vec![59], data: HostData::U32(vec![0; 59]) };
    write_safetensors(&place.path("split.safetensors"), &[("s".into(), split)].into(), &BTreeMap::new())
        .unwrap();
    refuse(
        &place,
        "--left left.npy --right left.npy --split split.safetensors#s",
        &["split.safetensors#s", "60", "59"],
    );
}

#[test]
fn features_that_are_not_finite_are_named_by_their_row() {
    let place = Place::new();
    for (name, value, word) in [("nan.npy", f32::NAN, "NaN"), ("inf.npy", f32::NEG_INFINITY, "inf")] {
        spoil(&place, name, 17, value);
        refuse(&place, &format!("--left {name} --right left.npy"), &[name, "row 17", word]);
        refuse(&place, &format!("--left left.npy --right {name}"), &[name, "row 17"]);
    }
}

#[test]
fn splits_with_an_empty_part_or_another_label() {
    let place = Place::new();
    // The labels are dealt out in turn.
    let cases = [
        ("train", [1, 2, 1, 2], "train"),
        ("validation", [0, 2, 0, 2], "validation"),
        ("test", [0, 1, 0, 1], "test"),
        ("label", [0, 1, 2, 3], "row 3"),
    ];
    let arrays = cases.iter().map(|(name, labels, _)| {
        let data = HostData::U32(labels.iter().copied().cycle().take(ROWS).collect());
        (name.to_string(), Array { shape: vec![ROWS], data })
    });
    write_safetensors(&place.path("splits.safetensors"), &arrays.collect(), &BTreeMap::new()).unwrap();
    for (name, _, word) in cases {
        let source = format!("splits.safetensors#{name}");
        refuse(&place, &format!("--left left.npy --right left.npy --split {source}"), &[&source, word]);
    }
    write_npy(&place.path("few.npy"), 5, 2, &[0.5; 10]).unwrap();
    refuse(&place, "--left few.npy --right few.npy", &["rows", "5"]);
}

#[test]
fn recipes_that_cannot_be() {
    let place = Place::new();
    let good = place.align("--out run --lr 0.1 --temperature 0.1");
    for (from, to, words) in [
        ("--batch-size 8", "--batch-size 1", ["--batch-size", "at least 2", "1"]),
        ("--batch-size 8", "--batch-size 41", ["--batch-size", "40 training rows", "41"]),
        ("--dim 4", "--dim 0", ["--dim", "at least 1", "0"]),
        ("--epochs 4", "--epochs 0", ["--epochs", "at least 1", "0"]),
        ("--lr 0.1", "--lr nan", ["--lr", "finite", "NaN"]),
        ("--temperature 0.1", "--temperature 0", ["--temperature", "0.01 to 1", "0"]),
    ] {
        place.refuse(&good.replace(from, to), &words);
        assert!(!place.path("run").exists());
    }
    for (flag, words) in [
        ("--lr -1", ["--lr", "above 0", "-1"]),
        ("--lr=-1", ["--lr", "above 0", "-1"]),
        ("--lr=-inf", ["--lr", "finite", "-inf"]),
        ("--weight-decay -1", ["--weight-decay", "at least 0", "-1"]),
        ("--temperature 1e-300", ["--temperature", "0.01 to 1", "got 1e-300"]),
        ("--temperature -1", ["--temperature", "0.01 to 1", "-1"]),
    ] {
        place.refuse(&place.align(&format!("--out run {flag}")), &words);
    }
    assert!(!place.path("run").exists());
}

#[test]
fn more_dimensions_than_there_can_be() {
    let place = Place::new();
    let before = names(place.folder.path());
    for dim in ["18446744073709551615", "200000000"] {
        for out in ["", "--out run"] {
            let line = place.align(out).replace("--dim 4", &format!("--dim {dim}"));
            place.refuse(&line, &["dim", dim]);
            assert_eq!(names(place.folder.path()), before, "{dim}");
        }
    }
}

#[test]
fn command_lines_that_make_no_sense() {
    let place = Place::new();
    for (line, words) in [
        ("align --epochs many", ["'many'", "--epochs"]),
        ("align --epoch 3", ["unexpected", "similar argument exists: '--epochs'"]),
        ("align --seed -1", ["'-1'", "--seed"]),
        ("align --epochs -1", ["'-1'", "--epochs"]),
        ("align --batch-size -1", ["'-1'", "--batch-size"]),
        ("align --resume --force --out run", ["--resume", "--force"]),
        ("align --lr --dim 4", ["--lr", "value"]),
        ("align --out", ["--out", "value"]),
        ("aline", ["unrecognized", "'aline'"]),
        ("project --out z.npy --left left.npy", ["not provided", "--heads"]),
        ("eval", ["not provided", "--left"]),
        ("verify --json --json", ["--json", "multiple times"]),
    ] {
        place.refuse(line, &words);
    }
    // What is asked for is no error.
    for line in ["--help", "align --help", "--version"] {
        assert!(place.succeed(line).contains("crossmodal"), "{line}");
    }
    let output = place.run("");
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && text.contains("Usage: crossmodal"), "{text}");
}

#[test]
fn devices_that_are_not_there() {
    let place = Place::new();
    let line = place.align("--out run").replace("--device cpu", "");
    place.refuse(&format!("{line} --device voodoo"), &["voodoo", "there are: cpu"]);
    place.refuse(&format!("{line} --device 99"), &["99", "there are: cpu"]);
    let output = place.command(&line).env("CROSSMODAL_DEVICE", "voodoo").output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && text.contains("CROSSMODAL_DEVICE: device 'voodoo'"), "{text}");
    assert!(!place.path("run").exists());
    // What is given counts more than the variable.
    let output =
        place.command(&place.align("--out run")).env("CROSSMODAL_DEVICE", "voodoo").output().unwrap();
    assert!(output.status.success());
}

#[test]
fn folders_that_are_taken() {
    let place = Place::new();
    std::fs::create_dir(place.path("full")).unwrap();
    std::fs::write(place.path("full/a.txt"), "x").unwrap();
    place.refuse(&place.align("--out full"), &["full", "not empty", "--resume", "--force"]);
    place.refuse(&place.align("--out full --resume"), &["full", "no run to resume"]);
    place.refuse(&place.align("--out gone --resume"), &["gone", "no run to resume"]);
    place.refuse(&place.align("--resume"), &["--resume needs --out"]);
    place.refuse(&place.align("--force"), &["--force needs --out"]);
    for force in ["", "--force"] {
        place.refuse(&place.align(&format!("--out left.npy {force}")), &["left.npy", "got a file"]);
    }
    assert_eq!(names(&place.path("full")), ["a.txt"]);
    assert!(!place.path("gone").exists() && !place.path("runs").exists());
    std::fs::create_dir(place.path("empty")).unwrap();
    place.succeed(&place.align("--out empty --stop-after 1"));
}

#[test]
fn a_run_that_is_another() {
    let place = Place::new();
    place.succeed(&place.align("--out run --stop-after 2"));
    let (checkpoint, journal) = (place.bytes("run/checkpoint.safetensors"), place.bytes("run/log.jsonl"));
    for (from, to) in
        [("--dim 4", "--dim 3"), ("--epochs 4", "--epochs 5"), ("left.npy", "pair.safetensors#right")]
    {
        let line = place.align("--out run --resume").replace(from, to);
        place.refuse(&line, &["run/checkpoint.safetensors"]);
    }
    place.refuse(&place.align("--out run --resume --seed 5"), &["run/checkpoint.safetensors", "seed"]);
    assert!(
        checkpoint == place.bytes("run/checkpoint.safetensors") && journal == place.bytes("run/log.jsonl")
    );
}

#[test]
fn inputs_in_the_folder_to_be_replaced() {
    let place = Place::new();
    place.succeed(&place.align("--out run"));
    let line =
        "align --left run/left.npy --right run/right.npy --device cpu --batch-size 2 --out ./run --force";
    place.refuse(line, &["run/left.npy", "output folder"]);
    assert!(place.path("run/left.npy").exists());
}
