//! Fusions of tokens: trained, applied, and seen at work.

use crossmodal::io::{Source, read_features, read_tokens, write_npy, write_npy_array};

use crate::attend::lengths;
use crate::{Place, ROWS, names};

const WORDS: usize = 3;
const PATCHES: usize = 4;

/// Words 4 wide, of which 1 to 3 are there, and patches 6 wide.
fn place() -> Place {
    let place = Place::new();
    let value = |i: usize, shift: f32| ((i as f32 + shift) * 0.7).sin();
    let tokens = |name: &str, length: usize, width: usize, shift: f32| {
        let values: Vec<f32> = (0..ROWS * length * width).map(|i| value(i, shift)).collect();
        write_npy_array(&place.path(name), &[ROWS, length, width], &values).unwrap();
    };
    tokens("words.npy", WORDS, 4, 0.);
    tokens("patches.npy", PATCHES, 6, 0.5);
    lengths(&place.path("length.npy"), &(0..ROWS).map(|row| 1 + row % WORDS).collect::<Vec<_>>());
    place
}

const INPUTS: &str = "fuse --modality text=words.npy --modality image=patches.npy --lengths text=length.npy \
                      --labels pair.safetensors#split --device cpu";
const RECIPE: &str = "--epochs 2 --dim 8 --heads 2 --batch-size 16";
const GIVEN: &str = "--modality text=words.npy --modality image=patches.npy --lengths text=length.npy";

#[test]
fn every_fusion_takes_tokens() {
    let place = place();
    let table = place.succeed(&format!("{INPUTS} --epochs 1 --dim 8 --heads 2 --all --out all"));
    let ways = "cross-attention co-attention gated-cross-attention merged bottleneck resampler concat deepset product";
    for name in ["image alone", "text alone"].into_iter().chain(ways.split(' ')) {
        assert!(table.contains(name), "{name} is not in {table}");
    }
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    let metrics = place.json("all/metrics.json");
    assert_eq!(metrics["fusions"].as_array().unwrap().len(), 2 + 7 + 12);
    assert_eq!(metrics["lengths"]["text"], "length.npy");
}

#[test]
fn a_fusion_of_tokens_is_applied() {
    let place = place();
    for (name, more) in [
        ("merged", RECIPE),
        ("concat", "--epochs 2 --dim 8 --batch-size 16"),
        ("product", ""),
        ("resampler", "--epochs 2 --dim 8 --heads 2 --layers 2 --latents 3 --batch-size 16"),
    ] {
        place.succeed(&format!("{INPUTS} --fusion {name} {more} --out {name}"));
        let line = format!("predict --model {name}/fusion.safetensors --device cpu");
        let of = |flags: &str, out: &str| {
            place.succeed(&format!("{line} {flags} --out {out}"));
            let file = place.path(out).display().to_string();
            let p = read_features(&Source::parse(&file)).unwrap();
            assert_eq!((p.rows, p.cols), (ROWS, 3));
            assert!(p.values.chunks(3).all(|row| (row.iter().sum::<f32>() - 1.).abs() < 1e-5), "{name}");
            p.values
        };
        let whole = of(GIVEN, &format!("{name}-whole.npy"));
        let all = of(&GIVEN.replace("--lengths text=length.npy", ""), &format!("{name}-all.npy"));
        let text = of("--modality text=words.npy --lengths text=length.npy", &format!("{name}-text.npy"));
        for row in 0..ROWS {
            let own = |of: &[f32]| of[row * 3..][..3].to_vec();
            // Where every word is there, nothing needs to say so.
            assert_eq!(own(&whole) == own(&all), row % WORDS == WORDS - 1, "{name}, row {row}");
            assert!(own(&whole) != own(&text), "{name}, row {row}");
        }
        place.refuse(
            &format!("{line} --modality text=patches.npy --out z.npy"),
            &["patches.npy: expected 4 columns", "modality text", "got 6"],
        );
    }
    // The same seed gives the same bytes.
    place.succeed(&format!("{INPUTS} --fusion merged {RECIPE} --out again"));
    assert!(place.bytes("again/fusion.safetensors") == place.bytes("merged/fusion.safetensors"));
}

/// A fusion of vectors takes the mean of tokens; one of tokens takes those of rows that have one at most.
#[test]
fn vectors_and_tokens_stand_for_each_other() {
    let place = place();
    let (means, _) = words(&place);
    write_npy(&place.path("means.npy"), ROWS, 4, &means).unwrap();
    let of_means =
        INPUTS.replace("text=words.npy", "text=means.npy").replace("--lengths text=length.npy", "");
    for fusion in ["gmu", "merged", "mean"] {
        let recipe = if fusion == "mean" { "" } else { "--epochs 1 --dim 8 --batch-size 16" };
        place.succeed(&format!("{of_means} --fusion {fusion} {recipe} --out {fusion}"));
        let of = |given: &str, out: &str| {
            let line = format!("predict --model {fusion}/fusion.safetensors --device cpu --modality {given}");
            place.succeed(&format!("{line} --out {fusion}-{out}.npy"));
            place.bytes(&format!("{fusion}-{out}.npy"))
        };
        let tokens = of("text=words.npy --lengths text=length.npy", "tokens");
        assert!(tokens == of("text=means.npy", "means"), "{fusion}");
    }
    // The sequences of a batch may be one token long, and that may be missing.
    place.succeed(&format!("{INPUTS} --fusion merged {RECIPE} --out tokens"));
    let first: Vec<f32> = (0..ROWS * 4).map(|i| (i as f32 * 0.3).cos()).collect();
    write_npy_array(&place.path("one.npy"), &[ROWS, 1, 4], &first).unwrap();
    lengths(&place.path("some.npy"), &(0..ROWS).map(|row| row % 2).collect::<Vec<_>>());
    let line = "predict --model tokens/fusion.safetensors --device cpu --modality image=patches.npy";
    place.succeed(&format!("{line} --out image.npy"));
    place.succeed(&format!("{line} --modality text=one.npy --lengths text=some.npy --out one-p.npy"));
    let read =
        |name: &str| read_features(&Source::parse(&place.path(name).display().to_string())).unwrap().values;
    let (image, both) = (read("image.npy"), read("one-p.npy"));
    for row in 0..ROWS {
        assert_eq!(image[row * 3..][..3] == both[row * 3..][..3], row % 2 == 0, "row {row}");
    }
    // A width that four heads do not divide.
    place.succeed(&format!("{INPUTS} --fusion merged --epochs 1 --dim 6 --out six"));
    assert_eq!(place.json("six/metrics.json")["fusions"][0]["kind"], "merged 3 1");
    place.refuse(
        "attend --model gmu/fusion.safetensors --query text=words.npy --key image=patches.npy --device cpu",
        &["words.npy: expected a vector a row", "modality text", "got 3 tokens"],
    );
    place.refuse(
        "attend --model mean/fusion.safetensors --query text=means.npy --key image=patches.npy --device cpu",
        &["--model mean/fusion.safetensors", "got a late fusion"],
    );
}

#[test]
fn lengths_that_do_not_fit_are_refused() {
    let place = place();
    lengths(&place.path("short.npy"), &[1, 2]);
    lengths(&place.path("long.npy"), &[4; ROWS]);
    lengths(&place.path("none.npy"), &[0; ROWS]);
    let of = |lengths: &str| INPUTS.replace("text=length.npy", lengths);
    for (line, words) in [
        (of("image=short.npy"), ["short.npy: expected 60 rows", "got 2"]),
        (of("text=long.npy"), ["--lengths text=long.npy: expected 0 to 3", "got 4 in row 0"]),
        (
            of("text=none.npy"),
            ["--modality text=words.npy: expected to be there in at least one of the training rows", "none"],
        ),
        (of("sound=length.npy"), ["--lengths sound=length.npy: expected one that has tokens", "text, image"]),
        (format!("{INPUTS} --lengths text=length.npy"), ["--lengths text=length.npy", "given twice"]),
        (
            of("left=length.npy").replace("text=words.npy", "left=left.npy"),
            ["--lengths left=length.npy: expected one that has tokens", "image"],
        ),
        (
            format!("{INPUTS} --fusion merged --dim 8 --heads 3"),
            ["--heads: expected a divisor of the width 8", "got 3"],
        ),
        (format!("{INPUTS} --fusion merged --layers 0"), ["--layers: expected 1 to", "got 0"]),
        // Found before anything is trained.
        (
            format!("{INPUTS} --all --dim 8 --heads 3"),
            ["--heads: expected a divisor of the width 8", "got 3"],
        ),
        (format!("{INPUTS} --all --rank 0"), ["--rank: expected 1 to", "got 0"]),
        (format!("{INPUTS} --fusion deepset --hidden 0"), ["--hidden: expected 1 to", "got 0"]),
        (format!("{INPUTS} --heads 2"), ["--heads is for fusions by attention", "got --fusion gmu"]),
        (
            format!("{INPUTS} --fusion merged --latents 2"),
            ["--latents is for --fusion bottleneck, resampler", "merged"],
        ),
        (
            format!("{INPUTS} --modality sound=left.npy --fusion co-attention"),
            ["--fusion: expected two modalities", "got 3"],
        ),
    ] {
        place.refuse(&line, &words);
    }
}

#[test]
fn what_a_trained_fusion_looks_at_is_drawn() {
    let place = place();
    for name in ["cross-attention", "co-attention", "gated-cross-attention", "merged", "bottleneck"] {
        place.succeed(&format!("{INPUTS} --fusion {name} {RECIPE} --out {name}"));
    }
    place.succeed(&format!("{INPUTS} --fusion gmu --epochs 2 --dim 8 --batch-size 16 --out gmu"));
    let line = |fusion: &str, query: &str, key: &str| {
        format!(
            "attend --model {fusion}/fusion.safetensors --query {query} --key {key} --device cpu --rows 1,2"
        )
    };
    let (text, image) = ("text=words.npy --query-lengths length.npy", "image=patches.npy --key-grid 2x2");
    let maps = |folder: &str| {
        let bytes = place.bytes(&format!("{folder}/attention.npy"));
        let start = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        let header = String::from_utf8_lossy(&bytes[10..start]).to_string();
        assert!(header.contains("'shape': (2, 2, 3, 4),"), "{header}");
        let values = bytes[start..].as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes));
        values.collect::<Vec<f32>>()
    };
    for (i, name) in ["cross-attention", "co-attention", "gated-cross-attention", "merged"].iter().enumerate()
    {
        let (name, out) = (*name, format!("m{i}"));
        let said = place.succeed(&format!("{} --out {out}", line(name, text, image)));
        assert!(said.contains(&format!("{name}/fusion.safetensors")), "{said}");
        assert!(said.lines().all(|line| line.chars().count() <= 80), "{said}");
        for (i, seen) in maps(&out).chunks(PATCHES).enumerate() {
            // Row 1 has two words, row 2 three.
            let is_there = i % WORDS < 2 + i / (2 * WORDS);
            let sum: f32 = seen.iter().sum();
            match (is_there, name) {
                (false, _) => assert!(seen.iter().all(|p| *p == 0.), "{name}: {seen:?}"),
                // Some of it goes to the other words.
                (true, "merged") => assert!(sum > 0.05 && sum < 0.95, "{name}: {seen:?}"),
                (true, _) => assert!((sum - 1.).abs() < 1e-5, "{name}: {seen:?}"),
            }
        }
        let about = place.json(&format!("{out}/attention.json"));
        let picture = String::from_utf8(place.bytes(&format!("{out}/row-1.svg"))).unwrap();
        let words = ["Evenly", "The rest"];
        assert!(picture.contains(words[usize::from(name == "merged")]), "{picture}");
        assert!(!picture.contains(words[usize::from(name != "merged")]), "{picture}");
        assert_eq!(about["layer"], "last");
        // Entropies are of what goes to these keys.
        let entropy = about["maps"][0]["entropy"][0].as_f64().unwrap();
        assert!(entropy > 0. && entropy <= (PATCHES as f64).ln() + 1e-6, "{name}: {entropy}");
        assert_eq!(about["fusion"].as_str().unwrap().split(' ').next(), Some(name));
        let pictures = names(&place.path(&out)).iter().filter(|name| name.ends_with(".svg")).count();
        assert_eq!(pictures, 2 * 3);
    }
    place.succeed(&format!("{} --out other", line("co-attention", "image=patches.npy", "text=words.npy")));
    let of_two = line("cross-attention", "image=patches.npy", "text=words.npy");
    for (line, words) in [
        (of_two, ["expected a fusion in which image looks at text", "got cross-attention of text, image"]),
        (line("bottleneck", text, image), ["in which text looks at image", "got bottleneck"]),
        (line("gmu", text, image), ["in which text looks at image", "got gmu"]),
        (line("merged", "words.npy", image), ["--query words.npy: expected NAME=FILE", "--model"]),
        (line("merged", "sound=words.npy", image), ["--query sound", "one of text, image"]),
        (line("merged", text, "text=words.npy"), ["--key text", "another modality"]),
        (line("merged", text, "image=words.npy"), ["words.npy: expected 6 columns", "modality image"]),
        (line("nothing", text, image), ["--model nothing/fusion.safetensors", "no such file"]),
        (format!("{} --heads 2", line("merged", text, image)), ["--heads", "--model"]),
    ] {
        place.refuse(&line, &words);
    }
}

/// The mean of the words that are there, and all words one behind the other.
fn words(place: &Place) -> (Vec<f32>, Vec<f32>) {
    let tokens = read_tokens(&Source::parse(&place.path("words.npy").display().to_string())).unwrap();
    let mut means = vec![];
    for (row, sample) in tokens.values.chunks(WORDS * 4).enumerate() {
        let count = 1 + row % WORDS;
        let sum = |column: usize| (0..count).map(|token| f64::from(sample[token * 4 + column])).sum::<f64>();
        means.extend((0..4).map(|column| (sum(column) / count as f64) as f32));
    }
    (means, tokens.values)
}

#[test]
fn tokens_are_aligned_by_their_mean_and_projected_one_by_one() {
    let place = place();
    let (means, all) = words(&place);
    write_npy(&place.path("means.npy"), ROWS, 4, &means).unwrap();
    write_npy(&place.path("flat.npy"), ROWS * WORDS, 4, &all).unwrap();
    let line = |text: &str| {
        format!("align --modality text={text} --modality image=left.npy --dim 3 --epochs 2 --device cpu")
    };
    place.succeed(&format!("{} --lengths text=length.npy --out tokens", line("words.npy")));
    place.succeed(&format!("{} --out means", line("means.npy")));
    assert!(place.bytes("tokens/text.npy") == place.bytes("means/text.npy"));
    assert_eq!(place.json("tokens/metrics.json")["lengths"]["text"], "length.npy");
    // A run of tokens goes on by itself.
    let more = "--lengths text=length.npy --out stopped";
    place.succeed(&format!("{} {more} --stop-after 1", line("words.npy")));
    place.succeed("align --resume --out stopped --device cpu");
    assert!(place.bytes("stopped/text.npy") == place.bytes("tokens/text.npy"));

    let project = |text: &str, out: &str| {
        let line = "project --heads tokens/heads.safetensors --device cpu";
        place.succeed(&format!("{line} --modality text={text} --out {out}"))
    };
    let said = project("words.npy", "words-3.npy");
    assert!(said.contains("60 rows of 3 tokens of 3 features"), "{said}");
    project("flat.npy", "flat-3.npy");
    let read = |name: &str| read_tokens(&Source::parse(&place.path(name).display().to_string())).unwrap();
    let (one, other) = (read("words-3.npy"), read("flat-3.npy"));
    assert_eq!((one.rows, one.length, one.width), (ROWS, WORDS, 3));
    assert_eq!(one.values, other.values);
    for (flags, words) in [
        ("--lengths sound=length.npy", ["--lengths sound=length.npy", "one of text, image"]),
        ("--lengths image=length.npy", ["--lengths image=length.npy", "tokens"]),
        ("--lengths text=none.npy", ["--lengths text=none.npy: expected at least 1", "got 0 in row 0"]),
    ] {
        lengths(&place.path("none.npy"), &[0; ROWS]);
        place.refuse(&format!("{} {flags}", line("words.npy")), &words);
    }
}
