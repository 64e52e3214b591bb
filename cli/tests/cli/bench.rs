//! bench: the table, its files, growth.

use serde_json::Value;

use crate::Place;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn an_operation_is_timed_beside_the_devices_limits() {
    let place = Place::new();
    let report = json(&place.succeed("bench --op log_sum_exp --shape 512, --device cpu --json"));
    assert_eq!(report["device"], "cpu");
    for key in ["copy_bytes_per_second", "product_flops_per_second"] {
        assert!(report["limits"][key].as_f64() > Some(0.), "{key}");
    }
    let cases = report["cases"].as_array().unwrap();
    assert!(cases.iter().all(|case| case["case"].as_str().unwrap().contains("512,")));
    let first = &cases[0];
    assert_eq!((&first["op"], &first["case"]), (&"log_sum_exp".into(), &"[512, 512]".into()));
    for key in ["first_seconds", "median_seconds", "bytes_per_second", "flops_per_second"] {
        assert!(first[key].as_f64() > Some(0.), "{key}");
    }
    assert!(first["runs"].as_u64() >= Some(1));
    let (of_copy, bytes) = (&first["percent_of_copy"], &first["bytes_per_second"]);
    let copy = report["limits"]["copy_bytes_per_second"].as_f64().unwrap();
    let percent = 100. * bytes.as_f64().unwrap() / copy;
    assert!((of_copy.as_f64().unwrap() - percent).abs() < 1e-6);
}

#[test]
fn the_table_fits_a_terminal_and_goes_into_a_file() {
    let place = Place::new();
    let bench = "bench --op concat --op matmul --shape 4 --seconds 1e-3 --device cpu";
    let text = place.succeed(&format!("{bench} --results out/r.md"));
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    for part in ["the CPU path", "copy ", "GFLOP/s", "\nmatmul\n  square 64 ", "left out: "] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    let written = String::from_utf8(place.bytes("out/r.md")).unwrap();
    for part in ["# crossmodal 0.", "- machine: ", "- best copy: ", "| matmul | square 64 | "] {
        assert!(written.contains(part), "no {part:?} in {written}");
    }
    place.refuse(&format!("{bench} --results out/r.md"), &["out/r.md", "--force"]);
    place.succeed(&format!("{bench} --results out/r.md --force"));
    place.succeed(&format!("{bench} --results r.json --json"));
    assert!(place.json("r.json")["date"].as_str().unwrap().starts_with("20"));
    place.refuse("bench --shape nothing", &["--shape", "'nothing'"]);
    for wrong in ["--results r.txt", "--seconds 0", "--growth --op softmax"] {
        assert_eq!(place.run(&format!("bench {wrong}")).status.code(), Some(2), "{wrong}");
    }
}

#[test]
fn growth_has_exponents() {
    let place = Place::new();
    let report = json(&place.succeed("bench --growth --seconds 1e-3 --device cpu --json"));
    let growth = report["growth"].as_array().unwrap();
    assert_eq!(growth.len(), 3);
    for one in growth {
        assert!(one["time_exponent"].as_f64() > Some(0.), "{one}");
        assert_eq!((one["sizes"].as_array().unwrap().len(), &one["memory_exponent"]), (5, &Value::Null));
    }
}
