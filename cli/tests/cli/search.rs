//! search: a corpus of 12 rows of 2 that turn by 30 degrees, and queries between them.

use crossmodal::io::write_npy;
use serde_json::{Value, json};

use crate::{Place, names};

/// A place with `corpus.npy`, `queries.npy` (row 3's direction; the zero vector) and `names.txt`.
fn place() -> Place {
    let place = Place::new();
    let turn = |row: usize| f64::to_radians(30. * row as f64).sin_cos();
    let corpus =
        (0..12).flat_map(|row| [turn(row).1 as f32, turn(row).0 as f32].map(|v| v * (row + 1) as f32));
    write_npy(&place.path("corpus.npy"), 12, 2, &corpus.collect::<Vec<_>>()).unwrap();
    write_npy(&place.path("queries.npy"), 2, 2, &[0., 5., 0., 0.]).unwrap();
    let names: Vec<_> = (0..12).map(|row| format!("row \"{row}\"")).collect();
    std::fs::write(place.path("names.txt"), names.join("\r\n") + "\n").unwrap();
    place
}

const SEARCH: &str = "search --corpus corpus.npy --queries queries.npy --device cpu";

fn jsonl(place: &Place, name: &str) -> Vec<Value> {
    let text = String::from_utf8(place.bytes(name)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

#[test]
fn lines_have_rows_scores_and_names() {
    let place = place();
    let said = place.succeed(&format!("{SEARCH} -k 3 --out hits.jsonl --names names.txt"));
    assert_eq!(said, "hits.jsonl: 2 queries, 3 of 12 rows for each\n");
    let lines = jsonl(&place, "hits.jsonl");
    assert_eq!(lines.len(), 2);
    let rows = |line: &Value| -> Vec<u64> {
        line["results"].as_array().unwrap().iter().map(|hit| hit["row"].as_u64().unwrap()).collect()
    };
    assert_eq!((&lines[0]["query"], rows(&lines[0])), (&json!(0), vec![3, 2, 4]));
    assert_eq!(lines[0]["results"][0], json!({"row": 3, "score": 1.0, "name": "row \"3\""}));
    let second = lines[0]["results"][1]["score"].as_f64().unwrap();
    assert!((second - 0.75f64.sqrt()).abs() < 1e-7, "{second}");
    // Nothing is similar to the zero vector: all tie.
    assert_eq!((&lines[1]["query"], rows(&lines[1])), (&json!(1), vec![0, 1, 2]));
    assert_eq!(lines[1]["results"][2]["score"], 0.0);

    place.succeed(&format!("{SEARCH} -k 2 --out all.jsonl --inner-product"));
    let lines = jsonl(&place, "all.jsonl");
    // Five times (row + 1) times the sine: 20 at row 3, 5 · 5 · 0.87 at row 4.
    assert_eq!(rows(&lines[0]), [4, 3]);
    assert_eq!(lines[0]["results"][1], json!({"row": 3, "score": 20.0}));
}

#[test]
fn arrays_hold_rows_and_scores() {
    let place = place();
    place.succeed(&format!("{SEARCH} -k 99 --out hits.npy"));
    let (rows, scores) = (place.bytes("hits.npy"), place.bytes("hits.scores.npy"));
    for (bytes, descr) in [(&rows, "'<u4'"), (&scores, "'<f4'")] {
        let head = String::from_utf8_lossy(&bytes[..bytes.len() - 4 * 24]).into_owned();
        assert!(head.contains(descr) && head.contains("'shape': (2, 12)"), "{head}");
    }
    let last =
        |bytes: &[u8], i: usize| <[u8; 4]>::try_from(&bytes[bytes.len() - 4 * (24 - i)..][..4]).unwrap();
    assert_eq!([0, 1, 2].map(|i| u32::from_le_bytes(last(&rows, i))), [3, 2, 4]);
    assert_eq!(f32::from_le_bytes(last(&scores, 0)), 1.);
    assert_eq!(
        (12..24).map(|i| u32::from_le_bytes(last(&rows, i))).collect::<Vec<_>>(),
        (0..12).collect::<Vec<_>>()
    );

    place.refuse(&format!("{SEARCH} --out hits.npy"), &["hits.npy", "--force"]);
    std::fs::remove_file(place.path("hits.npy")).unwrap();
    place.refuse(&format!("{SEARCH} --out hits.npy"), &["hits.scores.npy", "--force"]);
    place.succeed(&format!("{SEARCH} -k 1 --out hits.npy --force"));
    assert!(place.bytes("hits.scores.npy").len() < scores.len());
}

#[test]
fn the_table_fits_a_terminal() {
    let place = place();
    let text = place.succeed(&format!("{SEARCH} --names names.txt"));
    let head = "query  rank  row      score  name\n    0     1    3   1.000000  row \"3\"\n";
    assert!(text.starts_with(head) && text.lines().count() == 21, "{text}");
    // Long names, huge scores, more of everything than is shown.
    let long: Vec<_> = (0..12).map(|row| format!("{row}\u{1b}[31m {}", "wide ".repeat(30))).collect();
    std::fs::write(place.path("names.txt"), long.join("\n")).unwrap();
    write_npy(&place.path("queries.npy"), 7, 2, &[-3e29; 14]).unwrap();
    let text = place.succeed(&format!("{SEARCH} --inner-product -k 11 --names names.txt"));
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert!(!text.contains('\u{1b}') && text.contains("5 of 7 queries, 10 of 11 results: --out"), "{text}");
    assert!(names(place.folder.path()).iter().all(|name| !name.contains("hits")), "nothing is written");
}

#[test]
fn a_small_scratch_and_a_tensor_give_the_same() {
    let place = place();
    let search = "search --corpus pair.safetensors#right --queries pair.safetensors#right -k 60";
    for (scratch, out) in [("1", "a.jsonl"), ("0", "b.jsonl")] {
        place.succeed(&format!("{search} --scratch {scratch} --out {out} --device cpu"));
    }
    assert!(place.bytes("a.jsonl") == place.bytes("b.jsonl"));
    let lines = jsonl(&place, "a.jsonl");
    assert_eq!(lines.len(), 60);
    assert!(lines.iter().all(|line| line["results"][0]["score"].as_f64() >= Some(0.999999)));
}

#[test]
fn bad_input_is_found_before_anything_is_written() {
    let place = place();
    write_npy(&place.path("narrow.npy"), 2, 3, &[1.; 6]).unwrap();
    let mut values = [0.5; 24];
    values[15] = f32::NAN;
    write_npy(&place.path("nan.npy"), 12, 2, &values).unwrap();
    std::fs::write(place.path("short.txt"), "a\nb\n").unwrap();
    std::fs::write(place.path("latin.txt"), b"caf\xe9\n").unwrap();
    let before = names(place.folder.path());
    let corpus = "--corpus corpus.npy";
    let queries = "--queries queries.npy";
    for (flags, words) in [
        (format!("{corpus} {queries} -k 0"), &["-k: expected 1 to 1024, got 0"][..]),
        (format!("{corpus} {queries} -k 1025"), &["-k: expected 1 to 1024, got 1025"]),
        (format!("{corpus} --queries narrow.npy"), &["narrow.npy", "expected 2 columns", "got 3"]),
        (format!("{corpus} --queries gone.npy"), &["gone.npy", "no such file"]),
        (format!("--corpus gone.npy {queries}"), &["gone.npy", "no such file"]),
        (format!("--corpus nan.npy {queries}"), &["nan.npy: row 7, column 1", "NaN"]),
        (format!("{corpus} --queries nan.npy"), &["nan.npy: row 7, column 1", "NaN"]),
        (format!("{corpus} {queries} --names short.txt"), &["short.txt", "expected 12 lines", "got 2"]),
        (format!("{corpus} {queries} --names gone.txt"), &["gone.txt", "no such file"]),
        (format!("{corpus} {queries} --names latin.txt"), &["latin.txt", "UTF-8"]),
        (format!("{corpus} {queries} --names names.txt"), &["--names", ".jsonl", "hits.npy"]),
        (format!("{corpus} {queries} --device voodoo"), &["voodoo", "there are", "cpu"]),
    ] {
        let out = if words[0].ends_with(".txt") { "hits.jsonl" } else { "hits.npy" };
        place.refuse(&format!("search --out {out} {flags}"), words);
    }
    for (out, words) in [
        ("hits.csv", &["hits.csv", ".jsonl or .npy"][..]),
        ("no/hits.npy", &["no/hits.npy", "no such folder"]),
        ("./corpus.npy --force", &["--out", "another file"]),
    ] {
        place.refuse(&format!("{SEARCH} --out {out}"), words);
    }
    place.refuse("search --corpus corpus.npy", &["--queries"]);
    assert_eq!(names(place.folder.path()), before);
}
