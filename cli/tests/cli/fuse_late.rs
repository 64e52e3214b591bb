//! Late fusions: applied by predict, with weights, over the prior.

use crate::fuse::{LABELLED, integers, labelled, values};

#[test]
fn late_fusions_are_applied_too() {
    let place = labelled();
    let split = integers(&place, "pair.safetensors#split");
    let labels = integers(&place, "label.safetensors");
    for name in ["mean", "learned-mean", "max", "vote", "product", "stacking", "greedy"] {
        place.succeed(&format!("{LABELLED} --fusion {name} --out {name}"));
        let both = "--modality text=pair.safetensors#right --modality image=left.npy";
        let line = format!("predict --model {name}/fusion.safetensors --device cpu");
        let said = place.succeed(&format!("{line} {both} --out {name}.npy"));
        assert!(said.contains("60 rows, probabilities of the classes 0, 1, 2"), "{said}");
        let p = values(&place, &format!("{name}.npy"));
        let sums = p.chunks(3).all(|row| (row.iter().sum::<f32>() - 1.).abs() < 1e-5);
        assert_eq!((p.len(), sums), (180, name != "max"), "{name}");
        // What is told of the test rows is what the run has scored.
        let largest = |row: &[f32]| (0..3).fold(0, |best, at| if row[at] > row[best] { at } else { best });
        let test: Vec<_> = (0..60).filter(|&row| split[row] == 2).collect();
        let is_right = |row: &usize| largest(&p[row * 3..][..3]) as i64 == labels[*row];
        let right = test.iter().filter(|row| is_right(row)).count();
        let accuracy = place.json(&format!("{name}/metrics.json"))["accuracy"].as_f64().unwrap();
        assert!((accuracy - 100. * right as f64 / test.len() as f64).abs() < 1e-9, "{name}: {accuracy}");
        assert!(accuracy >= 50., "{name}: {accuracy}");
        // Without the words: something else, unless the pictures alone decide.
        place.succeed(&format!("{line} --modality image=left.npy --out {name}-image.npy"));
        let image = values(&place, &format!("{name}-image.npy"));
        assert!(image != p || ["vote", "greedy", "learned-mean"].contains(&name), "{name}");
    }
    place.refuse(
        "predict --model mean/fusion.safetensors --modality sound=left.npy --out z.npy",
        &["--modality sound", "one of image, text"],
    );
    place.refuse(
        "predict --model mean/fusion.safetensors --modality text=left.npy --out z.npy",
        &["left.npy: expected 5 columns", "modality text"],
    );
    std::fs::write(place.path("cut.safetensors"), &place.bytes("mean/fusion.safetensors")[..1200]).unwrap();
    place.refuse(
        "predict --model cut.safetensors --modality image=left.npy --out z.npy",
        &["--model", "cut.safetensors", "fusion.safetensors of a run of fuse"],
    );
    assert!(!place.path("z.npy").exists());
}

#[test]
fn weights_say_who_counts() {
    let place = labelled();
    let both = "--modality image=left.npy --modality text=pair.safetensors#right";
    let told = |flags: &str, given: &str| {
        let out = flags.replace(' ', "").trim_start_matches('-').to_string();
        place.succeed(&format!("{LABELLED} {flags} --out {out} --force"));
        place.succeed(&format!(
            "predict --model {out}/fusion.safetensors {given} --device cpu --out {out}.npy --force"
        ));
        (values(&place, &format!("{out}.npy")), place.json(&format!("{out}/metrics.json")))
    };
    for name in ["mean", "vote", "product"] {
        let image = told(&format!("--fusion {name}"), "--modality image=left.npy").0;
        let (alone, metrics) = told(&format!("--fusion {name} --weights 2,0"), both);
        let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);
        // A product is of squares then.
        assert_eq!(close(&alone, &image), name != "product", "{name}");
        assert_eq!(metrics["weights"], serde_json::json!([2.0, 0.0]));
        let (equal, metrics) = told(&format!("--fusion {name}"), both);
        assert!(metrics["weights"].is_null());
        assert!(equal == told(&format!("--fusion {name} --weights 1,1"), both).0, "{name}");
        assert!(close(&told(&format!("--fusion {name} --weights 1,0"), both).0, &image), "{name}");
    }
    // In a table of all they are for those that take them.
    place.succeed(&format!("{LABELLED} --all --epochs 1 --weights 1,0 --prior --out all"));
    let all = place.json("all/metrics.json");
    let of = |name: &str| {
        let own = all["fusions"].as_array().unwrap().iter().find(|own| own["fusion"] == name).unwrap();
        own["confusion"].clone()
    };
    assert!(of("mean") == of("image alone") && of("vote") == of("image alone"));
    for (flags, words) in [
        (
            "--fusion mean --weights 1",
            ["--weights: expected 2 finite numbers", "one for each modality", "got 1"],
        ),
        ("--fusion mean --weights 1,2,3", ["--weights: expected 2", "not all 0", "got 1,2,3"]),
        ("--fusion vote --weights 0,0", ["--weights", "not all 0", "got 0,0"]),
        ("--fusion vote --weights -1,2", ["--weights", "at least 0", "got -1,2"]),
        ("--fusion product --weights 1,inf", ["--weights", "finite", "got 1,inf"]),
        ("--fusion product --weights 1,NaN", ["--weights", "finite", "got 1,NaN"]),
        ("--fusion product --weights 1,x", ["--weights", "'x'", "invalid"]),
        ("--weights 1,1", ["--weights is for --fusion mean, vote, product", "got", "--fusion gmu"]),
        ("--fusion max --weights 1,1", ["--weights is for", "got", "--fusion max"]),
        ("--fusion mean --prior", ["--prior is for --fusion product", "got", "--fusion mean"]),
    ] {
        place.refuse(&format!("{LABELLED} {flags} --out none"), &words);
    }
    assert!(!place.path("none").exists());
}

#[test]
fn a_product_over_the_prior_counts_it_once() {
    let place = labelled();
    let told = |flags: &str| {
        let out = flags.replace(' ', "");
        place.succeed(&format!("{LABELLED} --fusion product {flags} --out run{out}"));
        let both = "--modality image=left.npy --modality text=pair.safetensors#right --device cpu";
        place.succeed(&format!("predict --model run{out}/fusion.safetensors {both} --out run{out}.npy"));
        values(&place, &format!("run{out}.npy"))
    };
    let (split, labels) = (integers(&place, "pair.safetensors#split"), integers(&place, "label.safetensors"));
    let count = |class: i64| (0..60).filter(|&row| split[row] == 0 && labels[row] == class).count();
    let prior = [0, 1, 2].map(|class| (1 + count(class)) as f64 / 43.);
    assert!(prior.iter().all(|p| *p > 0.05) && (prior.iter().sum::<f64>() - 1.).abs() < 0.2, "{prior:?}");
    // Both experts have seen it: it is divided out once.
    let (plain, over) = (told(""), told("--prior"));
    for (p, q) in plain.chunks(3).zip(over.chunks(3)) {
        let raw = [0, 1, 2].map(|class| f64::from(p[class]) / prior[class]);
        for (q, raw_q) in q.iter().zip(raw) {
            let want = raw_q / raw.iter().sum::<f64>();
            assert!((f64::from(*q) - want).abs() < 1e-5, "{q} instead of {want}");
        }
    }
    assert_eq!(place.json("run--prior/metrics.json")["prior"], true);
    assert_eq!(place.json("run/metrics.json")["prior"], false);
}
