//! More modalities than two.

use crate::{FILES, Place, names};

#[test]
fn any_number_of_modalities_is_aligned() {
    let place = Place::new();
    let line = "align --modality image=left.npy --modality text=pair.safetensors#right --modality sound=left.npy \
                --split pair.safetensors#split --dim 4 --epochs 4 --batch-size 8 --device cpu";
    let table =
        place.succeed(&format!("{line} --freeze image --dim 6 --out run").replacen(" --dim 4", "", 1));
    for words in ["image to text", "text to image", "image to sound", "sound to text", "sound.npy"] {
        assert!(table.contains(words), "{table}");
    }
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    let files = ["checkpoint.safetensors", "heads.safetensors", "image.npy", "log.jsonl", "metrics.json"];
    assert_eq!(names(&place.path("run")), [&files[..], &["sound.npy", "text.npy"]].concat());
    let metrics = place.json("run/metrics.json");
    assert!(metrics["text_to_sound_R@10"].is_number() && metrics["freeze"] == "image");
    assert_eq!(metrics["modalities"]["text"][0], "pair.safetensors#right");
    place.succeed("project --heads run/heads.safetensors --modality sound=left.npy --out sound.npy");
    place.refuse(
        "project --heads run/heads.safetensors --modality smell=left.npy --out smell.npy",
        &["one of its heads (image, text, sound; --modality NAME=FILE)", "got smell"],
    );
    // A run that is resumed knows its modalities, and left and right are names as others are.
    let line = line.replace("--modality image=", "--left ");
    place.succeed(&format!("{line} --out whole"));
    place.succeed(&format!("{line} --out parts --stop-after 2"));
    place.succeed("align --out parts --resume --device cpu");
    assert!(place.bytes("whole/heads.safetensors") == place.bytes("parts/heads.safetensors"));
    // Other data are other data, though they are the same numbers one behind the other.
    let views = "align --left left.npy --left left.npy --right left.npy --dim 4 --epochs 4 --batch-size 8 --device cpu";
    place.succeed(&format!("{views} --out moved --stop-after 1"));
    place.refuse(
        "align --left left.npy --right left.npy --right left.npy --device cpu --out moved --resume",
        &["of another run", "the features, their split or their classes are others"],
    );
    // A file of somebody else's is not taken for one of the run's.
    std::fs::write(place.path("run/left.npy"), "mine").unwrap();
    place.refuse(&place.align("--out run --force"), &["left.npy", "not of the run", "in the way"]);
    std::fs::remove_file(place.path("run/left.npy")).unwrap();
    // Nor is any outside the folder, whatever an old file says.
    let metrics = String::from_utf8(place.bytes("run/metrics.json")).unwrap();
    std::fs::write(place.path("run/metrics.json"), metrics.replace("\"sound\"", "\"../left\"")).unwrap();
    // Nothing of a run stays when one of other modalities takes its place, though its metrics are gone.
    place.succeed(&place.align("--out run --force"));
    assert!(place.path("left.npy").exists());
    assert_eq!(names(&place.path("run")), FILES);
    place.succeed(&format!("{line} --out gone"));
    std::fs::remove_file(place.path("gone/metrics.json")).unwrap();
    place.succeed(&place.align("--out gone --force"));
    assert_eq!(names(&place.path("gone")), FILES);
    for (more, words) in [
        (
            "--modality text=left.npy",
            ["left.npy: expected 5 columns, as pair.safetensors#right has", "got 6"],
        ),
        ("--modality a.b=left.npy", ["--modality a.b=left.npy: expected a name of 1 to 64 letters", "'a.b'"]),
        ("--modality a_to_b=left.npy", ["--modality a_to_b: expected a name", "without _to_"]),
        ("--modality sixteen-letters-=left.npy", ["sixteen-letters-: expected a name", "at most 15"]),
        ("--modality TEXT=left.npy", ["--modality TEXT=left.npy: expected a name of its own", "TEXT twice"]),
        ("--modality left.npy", ["NAME=FILE", "--modality"]),
        ("--resume", ["--resume needs --out", "which run"]),
    ] {
        place.refuse(&format!("{line} {more}"), &words);
    }
    place.refuse("align --modality a=left.npy", &["--modality a is given", "another --modality is missing"]);
}
