//! The folders that runs write to: taken, replaced, interrupted.

use std::process::Stdio;

use crate::{FILES, Place, contents, names};

#[test]
fn a_finished_run_says_so() {
    let place = Place::new();
    let first = place.succeed(&place.align("--out run"));
    let before = place.bytes("run/metrics.json");
    let output = place.run(&place.align("--out run --resume"));
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "run: this run is finished\n");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), first);
    assert!(place.bytes("run/metrics.json") == before);
    // Killed after the last epoch, before the results.
    std::fs::remove_file(place.path("run/metrics.json")).unwrap();
    std::fs::remove_file(place.path("run/heads.safetensors")).unwrap();
    assert_eq!(place.succeed(&place.align("--out run --resume")), first);
    assert!(place.bytes("run/metrics.json") == before);
}

#[test]
fn a_finished_run_writes_results_that_are_gone_again() {
    let place = Place::new();
    let first = place.succeed(&place.align("--out run"));
    for name in ["heads.safetensors", "left.npy", "right.npy"] {
        let (before, metrics) = (place.bytes(&format!("run/{name}")), place.bytes("run/metrics.json"));
        std::fs::remove_file(place.path("run").join(name)).unwrap();
        assert_eq!(place.succeed(&place.align("--out run --resume")), first);
        assert!(place.bytes(&format!("run/{name}")) == before, "{name}");
        assert!(place.bytes("run/metrics.json") == metrics, "{name}");
    }
}

#[test]
fn force_replaces_the_run_and_nothing_else() {
    let place = Place::new();
    place.succeed(&place.align("--out run"));
    std::fs::write(place.path("run/notes.txt"), "mine").unwrap();
    let old = place.bytes("run/heads.safetensors");
    // Nothing goes before the inputs are known to be good.
    place.refuse(
        &place.align("--out run --force --batch-size 1").replace("--batch-size 8", ""),
        &["--batch-size"],
    );
    assert!(place.bytes("run/heads.safetensors") == old);
    place.succeed(&place.align("--out run --force --seed 9"));
    assert!(place.bytes("run/heads.safetensors") != old);
    let mut all = FILES.map(String::from).to_vec();
    all.push("notes.txt".into());
    all.sort();
    assert_eq!(names(&place.path("run")), all);
    place.succeed(&place.align("--out fresh --seed 9"));
    for name in ["heads.safetensors", "left.npy", "right.npy", "checkpoint.safetensors"] {
        assert!(place.bytes(&format!("run/{name}")) == place.bytes(&format!("fresh/{name}")), "{name}");
    }
}

#[test]
fn force_keeps_the_run_until_the_new_one_is_finished() {
    let place = Place::new();
    place.succeed(&place.align("--out run"));
    let before = contents(&place.path("run"));
    place.refuse(&place.align("--out run --force --lr 1e30"), &["finite loss"]);
    assert!(contents(&place.path("run")) == before);
    // Epochs later.
    place.refuse(
        &place.align("--out run --force --lr 1e4"),
        &["finite", "learning rate", "unfinished keeps", "run is as it was"],
    );
    assert_eq!(names(&place.path("run/unfinished")), ["checkpoint.safetensors", "log.jsonl"]);
    // Interrupted, then once more, then continued.
    place.succeed(&place.align("--out run --force --seed 8 --stop-after 2"));
    place.succeed(&place.align("--out run --force --seed 9 --stop-after 1"));
    assert_eq!(place.epochs("run/unfinished"), [1]);
    for (name, bytes) in &before {
        assert!(place.bytes(&format!("run/{name}")) == *bytes, "{name}");
    }
    let table = place.succeed("align --out run --resume --device cpu");
    assert_eq!(names(&place.path("run")), FILES);
    assert_eq!(place.epochs("run"), [1, 2, 3, 4]);
    assert_eq!(place.json("run/metrics.json")["seed"], 9);
    assert_eq!(place.succeed("align --out run --resume --device cpu"), table);
}

#[test]
fn a_finished_run_killed_on_its_way_into_place_gets_there() {
    let place = Place::new();
    place.succeed(&place.align("--out run"));
    place.succeed(&place.align("--out other --seed 9"));
    let done = contents(&place.path("other"));
    for moved in [
        vec![],
        vec!["heads.safetensors"],
        vec!["heads.safetensors", "left.npy", "right.npy", "metrics.json"],
    ] {
        std::fs::create_dir(place.path("run/unfinished")).unwrap();
        for name in FILES {
            let to = if moved.contains(&name) { "run".into() } else { "run/unfinished".to_string() };
            std::fs::write(place.path(&to).join(name), &done[name]).unwrap();
        }
        place.succeed("align --out run --resume --device cpu");
        assert_eq!(names(&place.path("run")), FILES);
        for name in ["heads.safetensors", "left.npy", "right.npy", "checkpoint.safetensors", "log.jsonl"] {
            assert!(place.bytes(&format!("run/{name}")) == done[name], "{name}");
        }
        assert_eq!(place.json("run/metrics.json")["seed"], 9);
    }
}

#[test]
fn any_file_that_only_a_run_leaves_shows_that_there_was_one() {
    let place = Place::new();
    place.succeed(&place.align("--out run"));
    let before = contents(&place.path("run"));
    for name in ["checkpoint.safetensors", "log.jsonl", "metrics.json"] {
        let folder = place.path(&format!("from-{name}"));
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join(name), &before[name]).unwrap();
        place.succeed(&place.align(&format!("--out from-{name} --force")));
        assert_eq!(names(&folder), FILES);
    }
}

#[test]
fn one_run_at_a_time_writes_to_a_folder() {
    let place = Place::new();
    place.succeed(&place.align("--out run --stop-after 1"));
    let lock = std::fs::File::options().append(true).open(place.path("run/.lock")).unwrap();
    lock.try_lock().unwrap();
    for flags in ["--resume", "--force"] {
        place.refuse(&place.align(&format!("--out run {flags}")), &["run", "another run is writing"]);
    }
    drop(lock);
    place.succeed(&place.align("--out run --resume"));
}

#[test]
fn force_needs_a_run_to_replace() {
    let place = Place::new();
    std::fs::create_dir(place.path("mine")).unwrap();
    std::fs::write(place.path("mine/right.npy"), "mine").unwrap();
    std::fs::copy(place.path("left.npy"), place.path("mine/left.npy")).unwrap();
    // Files that have a run's names and nothing else of it.
    for (name, text) in [
        ("notes.txt", "mine"),
        ("log.jsonl", ""),
        ("log.jsonl", "{\"epoch\": 1}\n"),
        ("metrics.json", "{\"loss\": 1.0}"),
        ("checkpoint.safetensors", "mine"),
    ] {
        std::fs::write(place.path("mine").join(name), text).unwrap();
        let before = contents(&place.path("mine"));
        place.refuse(&place.align("--out mine --force"), &["mine", "no run", "--force"]);
        assert!(contents(&place.path("mine")) == before, "{name}");
    }
    std::fs::copy(place.path("pair.safetensors"), place.path("mine/checkpoint.safetensors")).unwrap();
    place.refuse(&place.align("--out mine --force"), &["mine", "no run", "--force"]);
}

#[test]
fn a_folder_in_a_files_place_is_found_before_anything_goes() {
    let place = Place::new();
    for name in FILES {
        let run = format!("run-{name}");
        place.succeed(&place.align(&format!("--out {run}")));
        std::fs::remove_file(place.path(&run).join(name)).unwrap();
        let before = contents(&place.path(&run));
        std::fs::create_dir(place.path(&run).join(name)).unwrap();
        place.refuse(&place.align(&format!("--out {run} --force")), &[&run, name, "got a folder"]);
        if name != "checkpoint.safetensors" {
            place.refuse(&place.align(&format!("--out {run} --resume")), &[&run, name, "got a folder"]);
        }
        std::fs::remove_dir(place.path(&run).join(name)).unwrap();
        assert!(contents(&place.path(&run)) == before, "{name}");
    }
}

#[test]
fn a_run_without_an_epoch_leaves_nothing() {
    let place = Place::new();
    let before = names(place.folder.path());
    for out in ["", "--out run", "--out some/where/run"] {
        place.refuse(&place.align(&format!("--lr 1e30 {out}")), &["finite loss", "learning rate"]);
        assert_eq!(names(place.folder.path()), before, "{out}");
    }
    // What is there stays.
    std::fs::create_dir_all(place.path("some/where")).unwrap();
    place.refuse(&place.align("--lr 1e30 --out some/where"), &["finite loss"]);
    place.refuse(&place.align("--lr 1e30 --out some/where/run"), &["finite loss"]);
    assert!(names(&place.path("some/where")).is_empty());
    // What earlier versions left of such a run is no run.
    std::fs::write(place.path("some/where/log.jsonl"), "").unwrap();
    place.succeed(&place.align("--out some/where"));
    assert_eq!(names(&place.path("some/where")), FILES);
    assert_eq!(place.epochs("some/where"), [1, 2, 3, 4]);
}

#[test]
fn runs_at_the_same_time_take_folders_of_their_own() {
    let place = Place::new();
    let line = place.align("--epochs 1").replace("--epochs 4", "");
    let start = |_| place.command(&line).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let runs: Vec<_> = (0..4).map(start).collect();
    for mut run in runs {
        assert!(run.wait().unwrap().success());
    }
    for n in 1..=4 {
        assert_eq!(names(&place.path(&format!("runs/align-{n}"))), FILES);
    }
}
