//! The folders that fuse writes to: replaced as those of align are.

use crate::fuse::{LABELLED, labelled};
use crate::{contents, names};

const LATE: [&str; 3] = ["confusion.svg", "fusion.safetensors", "metrics.json"];
const TRAINED: [&str; 4] = ["confusion.svg", "fusion.safetensors", "log.jsonl", "metrics.json"];

#[test]
fn force_replaces_the_run_and_nothing_else() {
    let place = labelled();
    let gmu = format!("{LABELLED} --epochs 2 --dim 4");
    place.succeed(&format!("{gmu} --out run"));
    let run = place.path("run");
    // Files of others, one with the name that align would give a modality's embeddings.
    for name in ["notes.txt", "image.npy", "heads.safetensors"] {
        std::fs::write(run.join(name), "mine").unwrap();
    }
    let others = |names: &[&str]| {
        let mut all: Vec<_> = names.iter().chain(&["notes.txt", "image.npy", "heads.safetensors"]).collect();
        all.sort();
        all.into_iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let before = contents(&run);
    place.refuse(&format!("{gmu} --out run"), &["run: the output folder is not empty; --force replaces"]);
    // Nothing goes before the inputs are known to be good, or while the new one fails.
    place.refuse(&format!("{gmu} --out run --force --dropout 2"), &["--dropout"]);
    place.refuse(&format!("{LABELLED} --epochs 2 --lr 1e30 --out run --force"), &["finite"]);
    assert!(contents(&run) == before);
    place.succeed(&format!("{gmu} --seed 9 --out run --force"));
    assert_eq!(names(&run), others(&TRAINED));
    place.succeed(&format!("{gmu} --seed 9 --out fresh"));
    for name in ["fusion.safetensors", "confusion.svg"] {
        assert!(place.bytes(&format!("run/{name}")) == place.bytes(&format!("fresh/{name}")), "{name}");
        assert!(place.bytes(&format!("run/{name}")) != before[name] || name == "confusion.svg");
    }
    assert_eq!(place.json("run/metrics.json")["seed"], 9);
    // A late fusion has no epochs: those of the old one go with it.
    place.succeed(&format!("{LABELLED} --fusion mean --out run --force"));
    assert_eq!(names(&run), others(&LATE));
    assert!(
        ["notes.txt", "image.npy", "heads.safetensors"].iter().all(|name| contents(&run)[*name] == b"mine")
    );
}

#[test]
fn force_needs_a_run_of_fuse() {
    let place = labelled();
    place.refuse(&format!("{LABELLED} --fusion mean --force"), &["--force needs --out DIR"]);
    // A folder that is not there yet needs no force, and minds none.
    place.succeed(&format!("{LABELLED} --fusion mean --out run --force"));
    assert_eq!(names(&place.path("run")), LATE);
    // Either of two files shows that there was one.
    for name in ["metrics.json", "fusion.safetensors"] {
        let folder = place.path(&format!("from-{name}"));
        std::fs::create_dir(&folder).unwrap();
        std::fs::copy(place.path("run").join(name), folder.join(name)).unwrap();
        place.succeed(&format!("{LABELLED} --fusion mean --out from-{name} --force"));
        assert_eq!(names(&folder), LATE);
    }
    place.succeed(&place.align("--out aligned"));
    std::fs::create_dir(place.path("mine")).unwrap();
    std::fs::write(place.path("mine/confusion.svg"), "mine").unwrap();
    std::fs::write(place.path("mine/metrics.json"), "{\"best\": \"gmu\"}").unwrap();
    std::fs::copy(place.path("pair.safetensors"), place.path("mine/fusion.safetensors")).unwrap();
    for folder in ["aligned", "mine"] {
        let before = contents(&place.path(folder));
        let line = format!("{LABELLED} --fusion mean --out {folder} --force");
        place.refuse(&line, &[folder, "has no run of fuse that --force could replace"]);
        assert!(contents(&place.path(folder)) == before);
    }
    place.refuse(
        &place.align("--out run --force"),
        &["run", "has no run of align that --force could replace"],
    );
    assert_eq!(names(&place.path("run")), LATE);
}

#[test]
fn what_is_in_the_way_is_found_first() {
    let place = labelled();
    place.succeed(&format!("{LABELLED} --fusion mean --out run"));
    let force = format!("{LABELLED} --fusion mean --out run --force");
    let lock = std::fs::File::options().append(true).open(place.path("run/.lock")).unwrap();
    lock.try_lock().unwrap();
    place.refuse(&force, &["run", "another run is writing"]);
    drop(lock);
    // An input that would be written over.
    std::fs::copy(place.path("pair.safetensors"), place.path("run/fusion.safetensors")).unwrap();
    place.refuse(
        &force.replacen("text=pair", "text=run/fusion", 1),
        &["run/fusion.safetensors", "an input cannot be a file of the output folder"],
    );
    std::fs::remove_file(place.path("run/confusion.svg")).unwrap();
    std::fs::create_dir(place.path("run/confusion.svg")).unwrap();
    place.refuse(&force, &["run/confusion.svg", "got a folder"]);
    std::fs::remove_dir(place.path("run/confusion.svg")).unwrap();
    // What a run that was killed on its way into place left is cleared.
    std::fs::create_dir(place.path("run/unfinished")).unwrap();
    std::fs::rename(place.path("run/metrics.json"), place.path("run/unfinished/metrics.json")).unwrap();
    place.succeed(&force);
    assert_eq!(names(&place.path("run")), LATE);
}
