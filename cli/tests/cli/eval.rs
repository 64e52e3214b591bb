//! eval beyond the scores of pairs.

use std::collections::BTreeMap;

use crossmodal::dtype::HostData;
use crossmodal::io::{Array, write_npy, write_safetensors};
use serde_json::Value;

use crate::{Place, ROWS, contents, names};

const PLOTS: [&str; 3] = ["heat_map.svg", "ranks.svg", "similarities.svg"];

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Integers as a tensor `name` of `NAME.safetensors`.
fn integers(place: &Place, name: &str, values: &[u32]) {
    let array = Array { shape: vec![values.len()], data: HostData::U32(values.to_vec()) };
    let arrays = [(name.to_string(), array)].into();
    write_safetensors(&place.path(&format!("{name}.safetensors")), &arrays, &BTreeMap::new()).unwrap();
}

/// Rows of length one in the plane, at these angles in degrees.
fn angles(place: &Place, name: &str, degrees: &[f32]) {
    let values: Vec<f32> =
        degrees.iter().flat_map(|d| [d.to_radians().cos(), d.to_radians().sin()]).collect();
    write_npy(&place.path(name), degrees.len(), 2, &values).unwrap();
}

/// Two pictures, five captions: the first is nearest to a caption of the other; the last caption has no picture.
fn captions() -> Place {
    let place = Place::new();
    angles(&place, "images.npy", &[0., 90.]);
    angles(&place, "captions.npy", &[20., 80., 10., 70., 180.]);
    integers(&place, "images", &[7, 8]);
    integers(&place, "captions", &[7, 7, 8, 8, 9]);
    place
}

const CAPTIONS: &str = "eval --left images.npy --right captions.npy \
    --left-ids images.safetensors --right-ids captions.safetensors";

/// A record of one task.
fn record<'a>(results: &'a Value, task: &str) -> &'a Value {
    let mut found = results["results"].as_array().unwrap().iter().filter(|record| record["task"] == task);
    let record = found.next().unwrap_or_else(|| panic!("no {task} in {results:#}"));
    assert!(["dataset", "model", "pretrained"].iter().all(|key| record[key].is_string()), "{record:#}");
    record
}

#[test]
fn several_items_may_be_correct() {
    let place = captions();
    let found = json(&place.succeed(&format!("{CAPTIONS} --json --dataset toy --model m")));
    // Picture 0: captions at 10 (the other's), 20 (its own). Picture 1: 80 (the other's), 70 (its own).
    assert_eq!((&found["left_to_right_R@1"], &found["left_to_right_R@5"]), (&0.0.into(), &100.0.into()));
    assert_eq!(found["left_to_right_mean_rank"], 2.);
    // Captions at 20 and 70 find their picture first, those at 80 and 10 second; the last one does not count.
    assert_eq!((&found["right_to_left_R@1"], &found["right_to_left_mean_rank"]), (&50.0.into(), &1.5.into()));
    assert_eq!((&found["rows"], &found["right_rows"]), (&2.into(), &5.into()));
    let record = record(&found, "zeroshot_retrieval");
    assert_eq!((&record["dataset"], &record["model"]), (&"toy".into(), &"m".into()));
    let metrics = &record["metrics"];
    assert_eq!(metrics["image_retrieval_recall@1"], 0.5);
    assert_eq!(
        (&metrics["text_retrieval_recall@1"], &metrics["text_retrieval_recall@5"]),
        (&0.0.into(), &1.0.into())
    );
    let table = place.succeed(CAPTIONS);
    assert!(table.contains("2 left and 5 right rows, 2 and 4 of them with a correct item"), "{table}");
    assert!(!table.contains("chance") && table.contains("modality gap"), "{table}");

    integers(&place, "captions", &[1, 2, 3, 4, 5]);
    place.refuse(CAPTIONS, &["right ids", "an id that a left row has", "none"]);
    integers(&place, "captions", &[1, 2]);
    place.refuse(CAPTIONS, &["captions.safetensors", "5 rows", "got 2"]);
    place.refuse("eval --left images.npy --right captions.npy", &["captions.npy", "2 rows", "got 5"]);
}

#[test]
fn prompts_classify() {
    let place = Place::new();
    angles(&place, "images.npy", &[5., 85., 60.]);
    angles(&place, "prompts.npy", &[-10., 10., 90.]);
    integers(&place, "labels", &[3, 4, 3]);
    integers(&place, "classes", &[3, 3, 4]);
    let line = "eval --left images.npy --labels labels.safetensors \
        --prompts prompts.npy --prompt-labels classes.safetensors";
    let found = json(&place.succeed(&format!("{line} --json")));
    let metrics = &record(&found, "zeroshot_classification")["metrics"];
    assert!((metrics["acc1"].as_f64().unwrap() - 2. / 3.).abs() < 1e-9);
    // Two classes: top-5 says nothing.
    assert_eq!((&metrics["mean_per_class_recall"], &metrics["acc5"]), (&0.75.into(), &Value::Null));
    assert!(place.succeed(line).contains("zero-shot"));
    integers(&place, "labels", &[3, 4, 5]);
    place.refuse(line, &["class 5 of row 2", "prompt"]);
    place.refuse("eval --left images.npy --prompts prompts.npy", &["prompt-labels"]);
    place.refuse(
        "eval --left images.npy --prompts prompts.npy --prompt-labels classes.safetensors",
        &["--prompts needs --labels"],
    );
}

/// Two classes at 0 and 90 degrees; a third, whose prompt points to 60 though its rows lie at 100, is taken for the second.
fn misnamed() -> (Place, String) {
    let place = Place::new();
    angles(&place, "images.npy", &[1., 91., 101., 2., 89., 99., 0., 90., 100., 3., 88., 102.]);
    integers(&place, "labels", &[3, 5, 7, 3, 5, 7, 3, 5, 7, 3, 5, 7]);
    integers(&place, "split", &[0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2]);
    angles(&place, "prompts.npy", &[0., 90., 60.]);
    integers(&place, "classes", &[3, 5, 7]);
    let line = "eval --left images.npy --labels labels.safetensors --split split.safetensors \
        --prompts prompts.npy --prompt-labels classes.safetensors";
    (place, line.into())
}

#[test]
fn training_rows_help_prompts() {
    let (place, line) = misnamed();
    let found = json(&place.succeed(&format!("{line} --json")));
    let tasks: Vec<_> =
        found["results"].as_array().unwrap().iter().map(|r| r["task"].as_str().unwrap()).collect();
    assert_eq!(tasks, ["zeroshot_classification", "cache_model", "knn", "linear_probe"]);
    let of = |task: &str| record(&found, task)["metrics"].clone();
    assert!((of("zeroshot_classification")["acc1"].as_f64().unwrap() - 2. / 3.).abs() < 1e-9);
    let cache = record(&found, "cache_model");
    assert_eq!((&cache["metrics"]["acc1"], &cache["modality"]), (&1.0.into(), &"left".into()));
    assert_eq!(
        (&cache["metrics"]["mean_per_class_recall"], &cache["metrics"]["acc5"]),
        (&1.0.into(), &Value::Null)
    );
    let (alpha, beta) = (&cache["metrics"]["alpha"], &cache["metrics"]["beta"]);
    assert!(alpha.as_f64() > Some(0.) && beta.as_f64() > Some(0.), "{cache:#}");

    let table = place.succeed(&line);
    let row = table.lines().find(|row| row.starts_with("cache model   left")).unwrap();
    assert!(
        row.ends_with(&format!("alpha {}, beta {}", alpha.as_f64().unwrap(), beta.as_f64().unwrap())),
        "{table}"
    );
    place.succeed(&format!("{line} --tasks cache --out o --dataset d --model m"));
    assert_eq!(names(&place.path("o")), ["d_m_cache_model_left.json"]);

    for (flags, word) in [
        ("", "--prompts FILE"),
        ("--prompts prompts.npy --prompt-labels classes.safetensors", "--labels FILE"),
        (
            "--prompts prompts.npy --prompt-labels classes.safetensors --labels labels.safetensors",
            "--split FILE",
        ),
    ] {
        place.refuse(&format!("eval --left images.npy --tasks cache {flags}"), &["--tasks cache", word]);
    }
    // A training row of a class without a prompt is nothing to zero-shot, which scores the test rows.
    integers(&place, "labels", &[3, 5, 9, 3, 5, 7, 3, 5, 7, 3, 5, 7]);
    place.refuse(&line, &["--labels labels.safetensors", "class 9 of row 2", "prompt"]);
    place.succeed(&format!("{line} --tasks zeroshot"));
}

/// The made-up data with the class of each row, which both sides show in one more column.
fn classed() -> (Place, &'static str) {
    let place = Place::new();
    let labels: Vec<u32> = (0..ROWS as u32).map(|row| row * 5 % 7 % 3).collect();
    let side = |columns: usize, from: f32| -> Vec<f32> {
        let row = |&label: &u32| (0..columns).map(move |c| if c == label as usize { 1. } else { from });
        labels.iter().flat_map(row).collect()
    };
    write_npy(&place.path("a.npy"), ROWS, 4, &side(4, 0.1)).unwrap();
    write_npy(&place.path("b.npy"), ROWS, 3, &side(3, 0.2)).unwrap();
    integers(&place, "labels", &labels);
    (place, "--labels labels.safetensors --split pair.safetensors#split --device cpu")
}

#[test]
fn neighbours_and_a_probe_read_off_classes() {
    let (place, flags) = classed();
    let found = json(&place.succeed(&format!("eval --left a.npy {flags} --json")));
    assert!(found["results"].as_array().unwrap().len() == 2 && found["left_to_right_R@1"].is_null());
    // Sides of different widths have no similarity, but both have classes.
    let line = format!("eval --left a.npy --right b.npy {flags}");
    place.refuse(&line, &["b.npy", "4 columns", "got 3"]);
    let found = json(&place.succeed(&format!("{line} --tasks probe,knn --neighbours 3 --json")));
    for (task, setting) in [("knn", "neighbours"), ("linear_probe", "l2")] {
        let all = found["results"].as_array().unwrap().iter().filter(|record| record["task"] == task);
        let sides: Vec<_> = all
            .map(|record| {
                assert_eq!(record["metrics"]["acc1"], 1., "{record:#}");
                assert!(record["metrics"][setting].as_f64() > Some(0.));
                record["modality"].as_str().unwrap()
            })
            .collect();
        assert_eq!(sides, ["left", "right"]);
    }
    let table = place.succeed(&format!("{line} --tasks knn,probe"));
    assert!(table.contains("linear probe  right") && table.contains("k-NN          left"), "{table}");
    for (flags, words) in [
        ("--tasks knn", ["--tasks knn", "--labels FILE"]),
        ("--tasks retrieval", ["--tasks retrieval", "--right FILE"]),
        ("", ["nothing to score", "--right FILE"]),
        ("--tasks knn --labels labels.safetensors", ["--tasks knn", "--split FILE"]),
        ("--neighbours 0 --right a.npy", ["--neighbours", "got 0"]),
        ("--tasks probes", ["probes", "probe"]),
    ] {
        place.refuse(&format!("eval --left a.npy {flags}"), &words);
    }
}

#[test]
fn a_split_scores_the_test_rows() {
    let place = Place::new();
    let line = "eval --left left.npy --right left.npy --split pair.safetensors#split --json";
    assert_eq!(json(&place.succeed(line))["rows"], ROWS / 6);
    // Of the captions only those of the test pictures stay.
    angles(&place, "images.npy", &[0., 10., 20., 30., 40., 90.]);
    angles(&place, "captions.npy", &[0., 1., 91., 92.]);
    integers(&place, "images", &[0, 1, 2, 3, 4, 5]);
    integers(&place, "captions", &[0, 4, 5, 5]);
    integers(&place, "split", &[0, 0, 1, 1, 2, 2]);
    let found = json(&place.succeed(&format!("{CAPTIONS} --split split.safetensors --json")));
    assert_eq!((&found["rows"], &found["right_rows"]), (&2.into(), &3.into()));
    assert_eq!(found["right_to_left_mean_rank"], 1.);
}

#[test]
fn plots_are_whole_and_spare_other_files() {
    let place = captions();
    std::fs::create_dir(place.path("plots")).unwrap();
    std::fs::write(place.path("plots/mine.svg"), "mine").unwrap();
    place.succeed(&format!("{CAPTIONS} --plot plots"));
    let drawn = contents(&place.path("plots"));
    assert_eq!(drawn["mine.svg"], b"mine");
    for name in PLOTS {
        let svg = String::from_utf8(drawn[name].clone()).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{name}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{name}: {svg}");
    }
    let text = String::from_utf8(drawn["similarities.svg"].clone()).unwrap();
    assert!(text.contains("4 positive and 6 negative pairs"), "{text}");
    assert!(!String::from_utf8(drawn["ranks.svg"].clone()).unwrap().contains("chance"));

    // What is there stays as it is, unless --force says so; and nothing is written beside it.
    std::fs::remove_file(place.path("plots/heat_map.svg")).unwrap();
    std::fs::write(place.path("plots/ranks.svg"), "old").unwrap();
    let before = contents(&place.path("plots"));
    place.refuse(&format!("{CAPTIONS} --plot plots"), &["plots/", "--force"]);
    assert!(contents(&place.path("plots")) == before);
    place.succeed(&format!("{CAPTIONS} --plot plots --force"));
    assert!(contents(&place.path("plots")) == drawn);

    place.refuse(&format!("{CAPTIONS} --plot images.npy"), &["images.npy"]);
    place.refuse(&format!("{CAPTIONS} --plot new --run plots"), &["--run plots", "log.jsonl"]);
    place.refuse(&format!("{CAPTIONS} --tasks geometry --plot new"), &["--plot", "retrieval"]);
    assert!(!place.path("new").exists());
}

#[test]
fn a_run_is_drawn() {
    let place = Place::new();
    place.succeed(&place.align("--out run"));
    place.succeed("eval --left run/left.npy --right run/right.npy --plot run/plots --run run");
    let mut all = PLOTS.to_vec();
    all.extend(["loss.svg", "recall.svg"]);
    all.sort();
    assert_eq!(names(&place.path("run/plots")), all);
    let loss = String::from_utf8(place.bytes("run/plots/loss.svg")).unwrap();
    assert!(loss.contains("4 epochs") && loss.contains("best on validation"), "{loss}");
}

#[test]
fn a_pair_alone_is_drawn() {
    let place = Place::new();
    angles(&place, "a.npy", &[30.]);
    let table = place.succeed("eval --left a.npy --right a.npy --plot p");
    assert!(table.contains("1 pair\n"), "{table}");
    for name in PLOTS {
        let svg = String::from_utf8(place.bytes(&format!("p/{name}"))).unwrap();
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{name}: {svg}");
    }
}

#[test]
fn each_task_has_a_file() {
    let place = captions();
    place.succeed(&format!("{CAPTIONS} --out o --dataset a/b --model m"));
    assert_eq!(names(&place.path("o")), ["a_b_m_geometry.json", "a_b_m_zeroshot_retrieval.json"]);
    let record = place.json("o/a_b_m_zeroshot_retrieval.json");
    assert_eq!((&record["dataset"], &record["task"]), (&"a/b".into(), &"zeroshot_retrieval".into()));
    let metrics = &place.json("o/a_b_m_geometry.json")["metrics"];
    // Squared distances are 2 - 2 cos: of 20, 80, 80 and 20 degrees.
    let distance = |degrees: f64| 2. - 2. * degrees.to_radians().cos();
    let want = (distance(20.) + distance(80.)) / 2.;
    assert!((metrics["alignment"].as_f64().unwrap() - want).abs() < 1e-6);
    assert!((metrics["left_uniformity"].as_f64().unwrap() + 4.).abs() < 1e-6); // -2 · 2
    place.refuse(&format!("{CAPTIONS} --out o --dataset a/b --model m"), &["--force"]);
}
