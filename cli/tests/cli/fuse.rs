//! Fusions: one, all, and applied.

use std::collections::BTreeMap;

use crossmodal::dtype::HostData;
use crossmodal::io::{Array, Source, read_features, read_integers, write_safetensors};

use crate::{Place, names};

/// The split's numbers are the classes; the rows are split by the seed.
const INPUTS: &str = "fuse --modality image=left.npy --modality text=pair.safetensors#right \
                      --labels pair.safetensors#split --device cpu --epochs 3 --dim 8 --batch-size 16";

#[test]
fn a_fusion_is_trained_and_applied() {
    let place = Place::new();
    let table = place.succeed(INPUTS);
    assert!(table.contains("gmu") && table.contains("macro-F1"), "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    let files = ["confusion.svg", "fusion.safetensors", "log.jsonl", "metrics.json"];
    assert_eq!(names(&place.path("runs/fuse-1")), files);
    let metrics = place.json("runs/fuse-1/metrics.json");
    assert_eq!((&metrics["best"], &metrics["modalities"]["image"]), (&"gmu".into(), &"left.npy".into()));
    let own = &metrics["fusions"][0];
    let rows: u64 =
        own["classes"].as_array().unwrap().iter().map(|class| class["rows"].as_u64().unwrap()).sum();
    assert_eq!((rows, own["confusion"].as_array().unwrap().len()), (6, 3));
    assert_eq!(place.epochs("runs/fuse-1"), [1, 2, 3]);
    // The same seed gives the same bytes.
    place.succeed(INPUTS);
    let model = |n: u32| place.bytes(&format!("runs/fuse-{n}/fusion.safetensors"));
    assert!(model(1) == model(2));

    let line = "predict --model runs/fuse-1/fusion.safetensors --device cpu";
    let said = place.succeed(&format!("{line} --modality text=pair.safetensors#right --out text.npy"));
    assert!(said.contains("60 rows, probabilities of the classes 0, 1, 2"), "{said}");
    let p = read_features(&Source::parse(&place.path("text.npy").display().to_string())).unwrap();
    assert_eq!((p.rows, p.cols), (60, 3));
    assert!(p.values.chunks(3).all(|row| (row.iter().sum::<f32>() - 1.).abs() < 1e-5));
    place.succeed(&format!(
        "{line} --modality text=pair.safetensors#right --modality image=left.npy --out both.npy"
    ));
    assert!(place.bytes("both.npy") != place.bytes("text.npy"));
    for (flags, words) in [
        ("--modality sound=left.npy --out z.npy", ["--modality sound", "one of image, text"]),
        ("--modality text=left.npy --out z.npy", ["left.npy: expected 5 columns", "modality text"]),
        ("--modality text=left.npy --out text.npy", ["text.npy", "--force"]),
        ("--modality image=left.npy --modality image=left.npy --out z.npy", ["--modality image", "twice"]),
        ("--modality image=left.npy --out z.txt", ["--out z.txt", ".npy"]),
    ] {
        place.refuse(&format!("{line} {flags}"), &words);
    }
    place.refuse(
        "predict --model left.npy --modality image=left.npy --out z.npy",
        &["--model left.npy", "fusion.safetensors"],
    );
    assert!(!place.path("z.npy").exists());
}

#[test]
fn all_fusions_are_one_table() {
    let place = Place::new();
    let table = place.succeed(&format!("{INPUTS} --all --out all"));
    let ways = "mean learned-mean max vote product stacking greedy concat gmu tensor lowrank pooling deepset";
    for name in ["image alone", "text alone", "best on validation"].into_iter().chain(ways.split(' ')) {
        assert!(table.contains(name), "{name} is not in {table}");
    }
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    let metrics = place.json("all/metrics.json");
    let fusions = metrics["fusions"].as_array().unwrap();
    assert_eq!(fusions.len(), 21);
    let best = fusions.iter().map(|own| own["validation_accuracy"].as_f64().unwrap()).fold(0., f64::max);
    let own = fusions.iter().find(|own| own["fusion"] == metrics["best"]).unwrap();
    assert_eq!(own["validation_accuracy"].as_f64(), Some(best));
    assert_eq!(own["test_accuracy"], metrics["accuracy"]);
    // One by one they do as in the table.
    for name in ["product", "stacking", "lowrank"] {
        let line = if name == "lowrank" { INPUTS.to_string() } else { late() };
        place.succeed(&format!("{line} --fusion {name} --out {name}"));
        let of_all = fusions.iter().find(|own| own["fusion"] == name).unwrap();
        assert_eq!(&place.json(&format!("{name}/metrics.json"))["fusions"][0], of_all);
    }
    assert_eq!(names(&place.path("product")), ["confusion.svg", "fusion.safetensors", "metrics.json"]);
}

/// Classes that the features tell, and a split that has rows of each in every part.
pub(crate) fn labelled() -> Place {
    let place = Place::new();
    let left = values(&place, "left.npy");
    let class = |row: usize| u32::from(left[row * 6] > 0.) + u32::from(left[row * 6 + 1] > 0.3);
    let labels = (0..60).map(class).collect();
    let array = Array { shape: vec![60], data: HostData::U32(labels) };
    let arrays = [("label".to_string(), array)].into();
    write_safetensors(&place.path("label.safetensors"), &arrays, &BTreeMap::new()).unwrap();
    place
}

pub(crate) const LABELLED: &str = "fuse --modality image=left.npy --modality text=pair.safetensors#right \
                        --labels label.safetensors --split pair.safetensors#split --device cpu";

pub(crate) fn values(place: &Place, name: &str) -> Vec<f32> {
    read_features(&Source::parse(&place.path(name).display().to_string())).unwrap().values
}

pub(crate) fn integers(place: &Place, name: &str) -> Vec<i64> {
    read_integers(&Source::parse(&place.path(name).display().to_string())).unwrap()
}

/// Without the flags of training.
fn late() -> String {
    INPUTS.split(" --epochs").next().unwrap().to_string()
}

#[test]
fn what_cannot_be_fused_is_refused() {
    let place = Place::new();
    place.succeed(&format!("{} --fusion mean --out run", late()));
    for (line, words) in [
        (format!("{INPUTS} --out run"), ["run: the output folder is not empty", "--force replaces"]),
        (format!("{INPUTS} --fusion glue"), ["'glue'", "--fusion"]),
        (format!("{INPUTS} --fusion mean"), ["--dim is for fusions that train", "got --fusion mean"]),
        (format!("{INPUTS} --rank 3"), ["--rank is for --fusion lowrank", "got --fusion gmu"]),
        (format!("{INPUTS} --dropout 1"), ["--dropout: expected 0 to less than 1", "got 1.0"]),
        (format!("{INPUTS} --epochs 0").replacen(" --epochs 3", "", 1), ["--epochs: expected 1 to", "got 0"]),
        (
            format!("{INPUTS} --modality image=left.npy"),
            ["--modality image=left.npy: image is given twice", "image"],
        ),
        (format!("{INPUTS} --fusion tensor --inner 300"), ["--inner: expected at most 65536", "300"]),
        (INPUTS.replacen("--labels pair.safetensors#split", "", 1), ["--labels FILE", "missing"]),
        (
            INPUTS.replacen("--modality text=pair.safetensors#right", "", 1),
            ["--modality image is given", "another --modality"],
        ),
        (format!("{INPUTS} --fusion gmu --all"), ["--fusion", "--all"]),
    ] {
        place.refuse(&line, &words);
    }
}
