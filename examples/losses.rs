//! Every loss and every head on the emoji features: test scores, the mean of seeds 0 to 4, as a table.
//!
//! `CROSSMODAL_DEVICE=cpu cargo run --release --example losses`

use crossmodal::align::{ClosedForm, Data, HeadKind, Heads, Modality, Objective, Recipe, Scaling, Split};
use crossmodal::align::{Trainer, closed_form, retrieval};
use crossmodal::io::{Source, read_features, read_integers};
use crossmodal::losses::Distance;
use crossmodal::{Device, Result};

/// R@1 and R@10, left to right and right to left.
fn scores(device: &Device, data: &Data, heads: &Heads) -> Result<[f64; 4]> {
    let test = |side: usize| {
        heads.heads[side].project(device, &data.modalities[side].features.select(&data.split.test)?)
    };
    let scores = retrieval(&test(0)?, &test(1)?)?;
    let (l, r) = (scores.left_to_right, scores.right_to_left);
    Ok([l.recall_at_1, l.recall_at_10, r.recall_at_1, r.recall_at_10])
}

#[allow(clippy::print_stdout, reason = "an example prints")]
fn row(name: &str, scores: [f64; 4]) {
    println!("| {name} | {:.1} | {:.1} | {:.1} | {:.1} |", scores[0], scores[1], scores[2], scores[3]);
}

fn recipes() -> Vec<(&'static str, Recipe)> {
    let plain = Recipe::default();
    let of = |objective| Recipe { objective, ..plain };
    let infonce = |smoothing, decoupled, hard_negatives| {
        of(Objective::InfoNce { smoothing, decoupled, hard_negatives, queue: 0, enqueue_first: false })
    };
    let queued = |enqueue_first| {
        let (smoothing, decoupled, hard_negatives, queue) = (0., false, 0., 1024);
        of(Objective::InfoNce { smoothing, decoupled, hard_negatives, queue, enqueue_first })
    };
    let triplet = |semi_hard| {
        let distance = Distance::Cosine;
        of(Objective::Triplet { distance, margin: 0.2, softplus: false, swap: false, semi_hard })
    };
    let adapter = HeadKind::Residual { hidden: 96, ratio: 0.2 };
    vec![
        ("InfoNCE, linear heads: the default", plain),
        (
            "... features scaled one by one, no dropout",
            Recipe { scaling: Scaling::Feature, dropout: 0., ..plain },
        ),
        ("... label smoothing 0.1", infonce(0.1, false, 0.)),
        ("... decoupled", infonce(0., true, 0.)),
        ("... hard negatives, weight 1", infonce(0., false, 1.)),
        ("... a queue of 1024", queued(false)),
        ("... a queue of 1024, filled before the loss", queued(true)),
        ("SigLIP", Recipe { temperature: 0.1, ..of(Objective::Siglip) }),
        ("SupCon, a pair a class", of(Objective::SupCon)),
        ("triplet, batch-hard, margin 0.2", triplet(false)),
        ("triplet, semi-hard, margin 0.2", triplet(true)),
        ("cosine", of(Objective::Cosine)),
        ("VICReg", of(Objective::VicReg)),
        ("Barlow Twins", of(Objective::BarlowTwins)),
        ("InfoNCE, heads of two layers (512)", Recipe { head: HeadKind::Mlp { hidden: 512 }, ..plain }),
        ("InfoNCE, the text as it is", Recipe { freeze: Some(1), dim: 384, ..plain }),
        ("InfoNCE, an adapter on CCA's space", Recipe { head: adapter, ..plain }),
    ]
}

fn main() -> Result<()> {
    let stored = |tensor: &str| Source::parse(&format!("data/emoji.safetensors#{tensor}"));
    let features = |tensor: &str| read_features(&stored(tensor));
    let split = Split::from_labels(&read_integers(&stored("split"))?)?;
    let data = Data::new(features("image_twemoji")?, features("text")?, split.clone())?;
    let both = data.clone().with_views("left", vec![features("image_noto")?])?;
    let of_three = ["image_twemoji", "text", "image_noto"];
    let of_three = of_three.map(|name| Ok(Modality::new(name, features(name)?)));
    let of_three = Data::of_modalities(of_three.into_iter().collect::<Result<_>>()?, split.clone())?;
    let device = Device::best()?;
    let mean = |data: &Data, recipe: Recipe| -> Result<[f64; 4]> {
        let mut sums = [0.; 4];
        for seed in 0..5 {
            let mut trainer = Trainer::new(&device, data, &Recipe { seed, ..recipe })?;
            while !trainer.is_done() {
                trainer.epoch()?;
            }
            let own = scores(&device, data, &trainer.best()?)?;
            sums.iter_mut().zip(own).for_each(|(sum, score)| *sum += score / 5.);
        }
        Ok(sums)
    };
    for kind in [ClosedForm::Ridge, ClosedForm::Procrustes, ClosedForm::Cca, ClosedForm::Cache] {
        let fit = closed_form(&data, kind, Scaling::Modality, 256)?;
        let name = match kind {
            ClosedForm::Cache => "CCA's space with a cache of the training pairs, no training".to_string(),
            _ => format!("{kind}, no training"),
        };
        row(&name, scores(&device, &data, &fit.heads)?);
    }
    // What an adapter needs is a space that both sides are in: that of CCA.
    let cca = closed_form(&data, ClosedForm::Cca, Scaling::Modality, 256)?.heads;
    let project = |name: &str| cca.of(name)?.project(&device, data.of(name)?);
    let shared = Data::new(project("left")?, project("right")?, split)?;
    for (name, recipe) in recipes() {
        let adapts = matches!(recipe.head, HeadKind::Residual { .. });
        row(name, mean(if adapts { &shared } else { &data }, recipe)?);
    }
    row("InfoNCE, both styles of pictures as views of one modality", mean(&both, Recipe::default())?);
    row("InfoNCE, both styles and the text as three modalities", mean(&of_three, Recipe::default())?);
    Ok(())
}
