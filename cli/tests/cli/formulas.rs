//! Heads that a formula gives.

use crossmodal::align::Heads;
use crossmodal::io::write_npy;

use crate::{FILES, Place, names};

#[test]
fn heads_by_a_formula_need_no_training() {
    let place = Place::new();
    let line = |more: &str| format!("align {} {more}", crate::INPUTS);
    for head in ["ridge", "procrustes", "cca", "cache"] {
        // Ridge's space is that of the right features.
        let dim = if head == "ridge" { "" } else { "--dim 3" };
        let table = place.succeed(&line(&format!("--head {head} {dim} --out {head}")));
        assert!(table.contains(&format!("{head} heads, strength")), "{table}");
        assert_eq!(
            names(&place.path(head)),
            ["heads.safetensors", "left.npy", "log.jsonl", "metrics.json", "right.npy"]
        );
        let metrics = place.json(&format!("{head}/metrics.json"));
        assert_eq!((&metrics["head"], metrics["strength"].is_number()), (&head.into(), true));
        let heads = Heads::load(&place.path(&format!("{head}/heads.safetensors"))).unwrap();
        assert_eq!(heads.heads[0].dim, if head == "ridge" { 5 } else { 3 });
        assert_eq!(metrics["alpha"].is_number() && metrics["beta"].is_number(), head == "cache");
        place.succeed(&format!("project --heads {head}/heads.safetensors --left left.npy --out {head}.npy"));
    }
    // Further views count too.
    let other: Vec<f32> = (0..360).map(|i| (i as f32 * 0.37).sin()).collect();
    write_npy(&place.path("other.npy"), 60, 6, &other).unwrap();
    place.succeed(&line("--head cca --dim 3 --left other.npy --out views"));
    assert!(place.bytes("views/heads.safetensors") != place.bytes("cca/heads.safetensors"));
    place.succeed(&line("--head cca --dim 3 --left left.npy --out twice"));
    let weights = |run: &str| {
        let heads = Heads::load(&place.path(&format!("{run}/heads.safetensors"))).unwrap();
        heads.heads[0].layers[0].weight.clone()
    };
    // The same view again changes nothing but the rounding.
    let close = weights("twice").iter().zip(weights("cca")).all(|(a, b)| (a - b).abs() < 1e-4);
    assert!(close, "a view twice");
    // In the place of a run that was trained, and the other way round: nothing of the old one stays.
    place.succeed(&place.align("--out run"));
    place.succeed(&line("--head cca --out run --force"));
    assert!(!place.path("run/checkpoint.safetensors").exists() && !place.path("run/unfinished").exists());
    place.succeed(&place.align("--out run --force"));
    assert_eq!(names(&place.path("run")), FILES);
    for (flags, words) in [
        ("--head cca --epochs 3", ["--epochs is for heads that are trained", "--head cca"]),
        ("--head cache --queue 512", ["--queue is for heads that are trained", "--head cache"]),
        ("--head ridge --loss siglip", ["--loss is for heads that are trained", "--head ridge"]),
        ("--head cca --modality c=left.npy", ["--modality: expected two for heads by cca", "got 3"]),
        ("--head cca --dim 0", ["--dim: expected at least 1", "got 0"]),
        ("--head cca --out run --resume", ["--resume is for heads", "trained"]),
        ("--head cca --labels pair.safetensors#split", ["--labels is for heads", "trained"]),
    ] {
        place.refuse(&line(flags), &words);
    }
}
