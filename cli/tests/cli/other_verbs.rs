//! project, eval, devices, verify, bench.

use std::process::Stdio;

use crossmodal::io::{Source, read_features, write_npy};
use serde_json::Value;

use crate::Place;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn project_applies_a_head() {
    let place = Place::new();
    place.succeed(&place.align("--out run"));
    let project = "project --heads run/heads.safetensors";
    place.succeed(&format!("{project} --right pair.safetensors#right --out z.npy"));
    let z = read_features(&Source::parse(&place.path("z.npy").display().to_string())).unwrap();
    assert_eq!((z.rows, z.cols), (60, 4));
    assert!(z.values.chunks(4).all(|row| (row.iter().map(|v| v * v).sum::<f32>() - 1.).abs() < 1e-5));

    let before = place.bytes("z.npy");
    place.refuse(&format!("{project} --left left.npy --out z.npy"), &["z.npy", "--force"]);
    assert!(place.bytes("z.npy") == before);
    place.succeed(&format!("{project} --left left.npy --out z.npy --force"));
    assert!(place.bytes("z.npy") != before);

    let before = place.bytes("left.npy");
    place.refuse(&format!("{project} --left left.npy --out ./left.npy --force"), &["--out", "another file"]);
    assert!(place.bytes("left.npy") == before);

    for (flags, words) in [
        ("--left pair.safetensors#right --out y.npy", ["6 columns", "left head of run/heads", "got 5"]),
        ("--left left.npy --out y.txt", ["y.txt", "ends in", ".npy"]),
        ("--left left.npy --out no/y.npy", ["no/y.npy", "cannot write", "folder"]),
        ("--left left.npy --out y.npy --device voodoo", ["voodoo", "there are", "cpu"]),
    ] {
        place.refuse(&format!("{project} {flags}"), &words);
    }
    place.refuse("project --heads left.npy --left left.npy --out y.npy", &["left.npy"]);
    place.refuse(
        "project --heads pair.safetensors --left left.npy --out y.npy",
        &["pair.safetensors", "heads"],
    );
    assert!(!place.path("y.npy").exists());
    assert_eq!(place.run(&format!("{project} --out y.npy")).status.code(), Some(2));
}

#[test]
fn eval_scores_known_embeddings() {
    let place = Place::new();
    // Rows of the identity; the right side has rows 0 and 1 swapped, so each of them is found second.
    let mut rows = vec![0.; 16];
    (0..4).for_each(|i| rows[i * 4 + i] = 1.);
    write_npy(&place.path("a.npy"), 4, 4, &rows).unwrap();
    let scores = json(&place.succeed("eval --left a.npy --right a.npy --json"));
    for direction in ["left_to_right", "right_to_left"] {
        assert_eq!(scores[format!("{direction}_R@1")], 100.);
        assert_eq!(scores[format!("{direction}_mean_rank")], 1.);
    }
    rows.swap(0, 4);
    rows.swap(1, 5);
    write_npy(&place.path("b.npy"), 4, 4, &rows).unwrap();
    let scores = json(&place.succeed("eval --left a.npy --right b.npy --json"));
    assert_eq!((&scores["left_to_right_R@1"], &scores["left_to_right_R@5"]), (&50.0.into(), &100.0.into()));
    // Row 0 ties with rows 2 and 3 behind row 1, and its index is the lowest; so does row 1.
    assert_eq!(scores["left_to_right_mean_rank"], 1.5);
    assert_eq!(scores["rows"], 4);
    let table = place.succeed("eval --left a.npy --right b.npy");
    assert!(table.contains("4 pairs") && table.contains("right to left"), "{table}");

    write_npy(&place.path("short.npy"), 3, 4, &[1.; 12]).unwrap();
    write_npy(&place.path("narrow.npy"), 4, 3, &[1.; 12]).unwrap();
    place.refuse("eval --left a.npy --right short.npy", &["short.npy", "4", "3"]);
    place.refuse("eval --left a.npy --right narrow.npy", &["narrow.npy", "4 columns", "got 3"]);
    place.refuse("eval --left a.npy --right gone.npy", &["gone.npy", "no such file"]);
}

#[test]
fn devices_lists_the_cpu_and_what_auto_takes() {
    let place = Place::new();
    let text = place.succeed("devices");
    assert!(text.contains("the CPU path") && text.contains("\nauto is "), "{text}");
    assert!(text.contains("CROSSMODAL_DEVICE is not set"), "{text}");
    let all = json(&place.succeed("devices --json"));
    assert!(all["cpu"]["threads"].as_u64() >= Some(1));
    assert!(all["auto"]["why"].is_string());
    for adapter in all["adapters"].as_array().unwrap() {
        assert!(text.contains(adapter["name"].as_str().unwrap()), "{text}");
        assert!(adapter["max_binding"].as_u64() > Some(0));
    }
    let output = place.command("devices").env("CROSSMODAL_DEVICE", "cpu").output().unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().contains("CROSSMODAL_DEVICE=cpu"));
}

#[test]
fn verify_checks_an_operation() {
    let place = Place::new();
    let text = place.succeed("verify --op softmax --device cpu");
    assert!(text.contains("softmax") && text.contains("all as they must be"), "{text}");
    let verdicts = json(&place.succeed("verify --op softmax --op transpose --device cpu --json"));
    let verdicts = verdicts.as_array().unwrap();
    assert!(
        verdicts.iter().all(|verdict| verdict["passed"] == true && verdict["ratio"].as_f64() <= Some(1.))
    );
    assert!(["softmax", "transpose"].iter().all(|op| verdicts.iter().any(|verdict| verdict["op"] == **op)));
    for verb in ["verify", "bench"] {
        place.refuse(&format!("{verb} --op sofmax"), &["'sofmax'", "softmax", "transpose"]);
    }
}

#[test]
fn a_closed_pipe_ends_it_quietly() {
    let place = Place::new();
    let mut child = place
        .command("verify --op softmax --op transpose --device cpu")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn help_fits_a_terminal() {
    let place = Place::new();
    let verbs = "align project fuse predict attend eval search devices verify tune bench";
    for verb in std::iter::once("").chain(verbs.split(' ')) {
        let text = place.succeed(&format!("{verb} --help"));
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(!text.contains("--stop-after"));
    }
    assert!(place.succeed("--version").starts_with("crossmodal "));
}

#[test]
fn tune_is_for_gpus() {
    Place::new().refuse("tune --device cpu", &["expected a GPU", "CPU path"]);
}
