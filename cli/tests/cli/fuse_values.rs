//! Numbers in the place of classes: --task regression.

use std::collections::BTreeMap;

use crossmodal::dtype::HostData;
use crossmodal::io::{Array, write_npy, write_safetensors};

use crate::fuse::{integers, values};
use crate::{Place, names};

/// The number of each row: a sum over both modalities.
fn numbered() -> (Place, Vec<f32>) {
    let place = Place::new();
    let (left, right) = (values(&place, "left.npy"), values(&place, "pair.safetensors#right"));
    let of: Vec<f32> = (0..60).map(|row| 60. + 20. * left[row * 6] - 7. * right[row * 5 + 1]).collect();
    write_npy(&place.path("y.npy"), 60, 1, &of).unwrap();
    (place, of)
}

const INPUTS: &str = "fuse --task regression --modality image=left.npy --modality text=pair.safetensors#right \
                      --split pair.safetensors#split --device cpu --dim 16 --lr 0.02 --dropout 0";
const BOTH: &str = "--modality image=left.npy --modality text=pair.safetensors#right --device cpu";

#[test]
fn a_number_is_told() {
    let (place, y) = numbered();
    let table = place.succeed(&format!("{INPUTS} --labels y.npy --out run"));
    for word in ["R² on 10 validation and 10 test rows", "validation %", "RMSE", "MAE", "scatter.svg", "gmu"]
    {
        assert!(table.contains(word), "{word}: {table}");
    }
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    assert_eq!(names(&place.path("run")), ["fusion.safetensors", "log.jsonl", "metrics.json", "scatter.svg"]);
    let metrics = place.json("run/metrics.json");
    assert_eq!((&metrics["task"], &metrics["best"]), (&"regression".into(), &"gmu".into()));
    let of = |key: &str| metrics[key].as_f64().unwrap();
    assert!(of("r2") > 60., "{metrics:#}");
    let own = &metrics["fusions"][0];
    assert_eq!((&own["test_r2"], &own["test_rmse"]), (&metrics["r2"], &metrics["rmse"]));
    // The scores are those of what predict tells.
    let said = place.succeed(&format!("predict --model run/fusion.safetensors {BOTH} --out told.npy"));
    assert!(said.contains("60 rows, values"), "{said}");
    let (told, split) = (values(&place, "told.npy"), integers(&place, "pair.safetensors#split"));
    let test: Vec<usize> = (0..60).filter(|&row| split[row] == 2).collect();
    let mean = |f: &dyn Fn(usize) -> f64| test.iter().map(|&row| f(row)).sum::<f64>() / test.len() as f64;
    let error = |row: usize| f64::from(told[row]) - f64::from(y[row]);
    let (squares, mae) = (mean(&|row| error(row).powi(2)), mean(&|row| error(row).abs()));
    let middle = mean(&|row| f64::from(y[row]));
    let variance = mean(&|row| (f64::from(y[row]) - middle).powi(2));
    for (key, want) in [("rmse", squares.sqrt()), ("mae", mae), ("r2", 100. * (1. - squares / variance))] {
        assert!((of(key) - want).abs() < 1e-6 * want.abs(), "{key}: {} instead of {want}", of(key));
    }
    let log = String::from_utf8(place.bytes("run/log.jsonl")).unwrap();
    let line: serde_json::Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    assert!(line["validation_r2"].is_f64() && line["validation_accuracy"].is_null());
    let picture = String::from_utf8(place.bytes("run/scatter.svg")).unwrap();
    assert_eq!(picture.matches("<circle ").count(), 10);
    assert!(picture.contains(">told</text>") && picture.contains(">true</text>"));
    // A run of the other task makes way for this one, with its picture.
    place.succeed(
        "fuse --modality image=left.npy --modality text=pair.safetensors#right --fusion mean \
                   --labels pair.safetensors#split --device cpu --out class",
    );
    assert!(names(&place.path("class")).contains(&"confusion.svg".to_string()));
    place.succeed(&format!("{INPUTS} --labels y.npy --epochs 1 --out class --force"));
    assert!(!names(&place.path("class")).contains(&"confusion.svg".to_string()));
}

#[test]
fn numbers_of_any_type_are_read() {
    let (place, y) = numbered();
    let whole: Vec<f32> = y.iter().map(|v| v.round()).collect();
    assert!(whole.iter().all(|v| *v > 0.));
    let integers = whole.iter().map(|v| *v as u32).collect();
    let arrays = [
        (
            "f64",
            Array { shape: vec![60], data: HostData::F64(whole.iter().map(|v| f64::from(*v)).collect()) },
        ),
        ("u32", Array { shape: vec![60, 1], data: HostData::U32(integers) }),
    ];
    let arrays = arrays.map(|(name, array)| (name.to_string(), array)).into();
    write_safetensors(&place.path("y.safetensors"), &arrays, &BTreeMap::new()).unwrap();
    write_npy(&place.path("whole.npy"), 60, 1, &whole).unwrap();
    let model = |source: &str| {
        place.succeed(&format!("{INPUTS} --epochs 1 --labels {source} --out run --force"));
        place.bytes("run/fusion.safetensors")
    };
    let first = model("whole.npy");
    assert!(first == model("y.safetensors#f64") && first == model("y.safetensors#u32"));
}

#[test]
fn all_fusions_that_train_tell_numbers() {
    let (place, _) = numbered();
    let table = place.succeed(&format!("{INPUTS} --labels y.npy --epochs 2 --all --out all"));
    let fusions = place.json("all/metrics.json")["fusions"].as_array().unwrap().clone();
    let told: Vec<_> = fusions.iter().map(|own| own["fusion"].as_str().unwrap()).collect();
    let vectors = ["image alone", "text alone", "concat", "gmu", "tensor", "lowrank", "pooling", "deepset"];
    let tokens =
        ["cross-attention", "co-attention", "gated-cross-attention", "merged", "bottleneck", "resampler"];
    assert_eq!(told, [&vectors[..], &tokens[..]].concat());
    assert!(table.contains("best on validation"), "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    let best = fusions.iter().map(|own| own["validation_r2"].as_f64().unwrap()).fold(f64::MIN, f64::max);
    let metrics = place.json("all/metrics.json");
    let own = fusions.iter().find(|own| own["fusion"] == metrics["best"]).unwrap();
    assert_eq!((own["validation_r2"].as_f64(), &own["test_mae"]), (Some(best), &metrics["mae"]));
}

#[test]
fn what_is_no_number_to_tell_is_refused() {
    let (place, mut y) = numbered();
    let split = integers(&place, "pair.safetensors#split");
    for (part, name) in [(0, "training"), (1, "validation"), (2, "test")] {
        let own: Vec<f32> = (0..60).map(|row| if split[row] == part { 2.5 } else { y[row] }).collect();
        write_npy(&place.path("same.npy"), 60, 1, &own).unwrap();
        let expected = format!("expected numbers that differ among the {name} rows, got 2.5 alone");
        place.refuse(&format!("{INPUTS} --labels same.npy --out none"), &["--labels same.npy", &expected]);
    }
    write_npy(&place.path("short.npy"), 59, 1, &y[..59]).unwrap();
    y[3] = f32::NAN;
    write_npy(&place.path("nan.npy"), 60, 1, &y).unwrap();
    for (flags, words) in [
        ("--labels short.npy", ["short.npy: expected 60 rows", "got 59"]),
        ("--labels nan.npy", ["nan.npy: row 3", "finite number, got NaN"]),
        ("--labels left.npy", ["left.npy: expected shape [n] or [n, 1]", "got [60, 6]"]),
        ("", ["--labels FILE is missing", "the number of each row"]),
        ("--labels y.npy --class-names y.npy", ["--class-names is for", "--task class"]),
        ("--labels y.npy --fusion mean", ["--fusion mean is for", "--task class"]),
        ("--labels y.npy --all --prior", ["--prior is for", "--task class"]),
        ("--labels y.npy --weights 1,1", ["--weights is for", "--task class"]),
        ("--labels y.npy --task guess", ["'guess'", "--task"]),
    ] {
        let line = if flags.contains("--task") {
            INPUTS.replacen("--task regression", "", 1)
        } else {
            INPUTS.into()
        };
        place.refuse(&format!("{line} {flags} --out none"), &words);
    }
    place.refuse("fuse --task regression", &["--task regression", "expected --modality and --labels"]);
    assert!(!place.path("none").exists());
}
