//! Names of classes: from a file, from the labels' own file; shown, written, stored.

use std::collections::BTreeMap;

use crossmodal::dtype::HostData;
use crossmodal::io::{Array, read_metadata, write_safetensors};

use crate::fuse::{LABELLED, labelled};
use crate::{Place, names};

/// Labels with this metadata under `categories`.
fn categories(place: &Place, labels: &[u32], text: &str) {
    let array = Array { shape: vec![labels.len()], data: HostData::U32(labels.to_vec()) };
    let arrays = [("label".to_string(), array)].into();
    let metadata = BTreeMap::from([("categories".to_string(), text.to_string())]);
    write_safetensors(&place.path("label.safetensors"), &arrays, &metadata).unwrap();
}

/// The names of the classes in the metrics of a run.
fn written(place: &Place, run: &str) -> Vec<Option<String>> {
    let metrics = place.json(&format!("{run}/metrics.json"));
    let classes = metrics["fusions"][0]["classes"].as_array().unwrap().clone();
    classes.iter().map(|class| class["name"].as_str().map(String::from)).collect()
}

#[test]
fn classes_are_called_by_their_names() {
    let place = labelled();
    std::fs::write(place.path("names.txt"), "cats & <dogs>\r\n  birds\nfish and all that swims\nmore\n")
        .unwrap();
    for fusion in ["mean", "gmu"] {
        place.succeed(&format!("{LABELLED} --fusion {fusion} --class-names names.txt --out {fusion}"));
        let want = ["cats & <dogs>", "birds", "fish and all that swims"].map(|name| Some(name.to_string()));
        assert_eq!(written(&place, fusion), want);
        let metrics = place.json(&format!("{fusion}/metrics.json"));
        assert_eq!(metrics["fusions"][0]["classes"][2]["class"], 2);
        let picture = String::from_utf8(place.bytes(&format!("{fusion}/confusion.svg"))).unwrap();
        for name in ["cats &amp; &lt;dogs&gt;", "birds", "fish and all that s…"] {
            assert_eq!(picture.matches(&format!(">{name}</text>")).count(), 2, "{name} on both axes");
        }
        let line =
            format!("predict --model {fusion}/fusion.safetensors --modality image=left.npy --device cpu");
        let said = place.succeed(&format!("{line} --out {fusion}.npy"));
        assert!(said.contains("the classes cats & <dogs>,"), "{said}");
        assert!(said.contains(" birds,\nfish and all that swims") && said.lines().count() == 2, "{said}");
        let metadata = read_metadata(&place.path(&format!("{fusion}/fusion.safetensors"))).unwrap();
        assert_eq!(metadata["class_names"], "[\"cats & <dogs>\",\"birds\",\"fish and all that swims\"]");
    }
    // Without names: numbers.
    place.succeed(&format!("{LABELLED} --fusion mean --out plain"));
    assert_eq!(written(&place, "plain"), [None, None, None]);
    let picture = String::from_utf8(place.bytes("plain/confusion.svg")).unwrap();
    assert!(picture.matches(">2</text>").count() == 2, "on both axes");
    assert!(!read_metadata(&place.path("plain/fusion.safetensors")).unwrap().contains_key("class_names"));
}

#[test]
fn names_of_the_labels_own_file_are_taken() {
    let place = labelled();
    let labels: Vec<u32> =
        crate::fuse::integers(&place, "label.safetensors").iter().map(|v| *v as u32).collect();
    let run = |text: &str, flags: &str| {
        categories(&place, &labels, text);
        place.succeed(&format!("{LABELLED} --fusion mean {flags} --out run --force"));
        written(&place, "run")
    };
    let some = |names: [&str; 3]| names.map(|name| Some(name.to_string()));
    assert_eq!(run(r#"["a", "b", "c", "d"]"#, ""), some(["a", "b", "c"]));
    std::fs::write(place.path("names.txt"), "x\ny\nz").unwrap();
    assert_eq!(run(r#"["a", "b", "c"]"#, "--class-names names.txt"), some(["x", "y", "z"]));
    // What names no classes, or not all of them, is something else.
    for text in [r#"["a", "b"]"#, r#"["a", "", "c"]"#, "a b c", r#"{"a": 1}"#, "[1, 2, 3]"] {
        assert_eq!(run(text, ""), [None, None, None], "{text}");
    }
    // Labels that are no numbers of lines.
    let other = labels.iter().map(|label| label + 1).collect::<Vec<_>>();
    categories(&place, &other, r#"["a", "b", "c", "d"]"#);
    place.succeed(&format!("{LABELLED} --fusion mean --out run --force"));
    assert_eq!(written(&place, "run"), some(["b", "c", "d"]));
}

#[test]
fn classes_without_a_name_are_refused() {
    let place = labelled();
    let line = format!("{LABELLED} --class-names names.txt --out run");
    place.refuse(&line, &["--class-names names.txt: no such file"]);
    std::fs::write(place.path("names.txt"), "a\nb\n").unwrap();
    place.refuse(&line, &["--class-names names.txt: expected a name for class 2", "class 0, got 2 lines"]);
    std::fs::write(place.path("names.txt"), "a\n \nc\n").unwrap();
    place.refuse(&line, &["expected a name for class 1", "got an empty line"]);
    std::fs::write(place.path("names.txt"), [0xffu8, 0xfe]).unwrap();
    place.refuse(&line, &["--class-names names.txt: expected text in UTF-8"]);
    assert!(!place.path("run").exists());
    // Its own inputs a run does not write over.
    place.succeed(&format!("{LABELLED} --fusion mean --out run"));
    let before = names(&place.path("run"));
    place.refuse(
        &format!("{LABELLED} --fusion mean --class-names run/confusion.svg --out run --force"),
        &["run/confusion.svg", "an input cannot be a file of the output folder"],
    );
    assert_eq!(names(&place.path("run")), before);
}
