//! Every fusion of pictures and words on the emoji features, the category told: accuracy on the validation and the test rows and macro-F1,
//! the mean of seeds 0 to 2; and the fusion that each seed's validation rows choose.
//!
//! `CROSSMODAL_DEVICE=cpu cargo run --release --example fusion`

use crossmodal::align::{Modality, Split};
use crossmodal::evaluate::Probe;
use crossmodal::fusion::{
    Ballots, ClassScores, Experts, FusionData, FusionKind, FusionRecipe, FusionTrainer, LateRule, Presence,
    Target, greedy_selection,
};
use crossmodal::io::{Features, Source, read_features, read_integers};
use crossmodal::{Device, Result};

/// Accuracy on the validation rows, accuracy and macro-F1 on the test rows.
type Scores = [f64; 3];

/// Every fusion with its scores.
type Table = Vec<(String, Scores)>;

#[allow(clippy::print_stdout, reason = "an example prints")]
fn row(name: &str, scores: Scores) {
    println!("| {name} | {:.1} | {:.1} | {:.1} |", scores[0], scores[1], scores[2]);
}

fn numbers(data: &FusionData, rows: &[u32]) -> Vec<u32> {
    let Target::Classes { numbers, .. } = &data.target else { return vec![] };
    rows.iter().map(|&row| numbers[row as usize]).collect()
}

fn scored(p: &Features, labels: &[u32]) -> Result<ClassScores> {
    let all = Presence::all(p.rows, 1);
    let found = Ballots { experts: &[&p.values], classes: p.cols, presence: &all }.soft(&[1.])?;
    ClassScores::new(&found, labels, p.cols)
}

fn trained(device: &Device, data: &FusionData, recipe: &FusionRecipe) -> Result<Scores> {
    let mut trainer = FusionTrainer::new(device, data, recipe)?;
    let mut best = 0f64;
    while !trainer.is_done() {
        best = best.max(trainer.epoch()?.validation);
    }
    let test = trainer.test(&trainer.best()?, &data.split.test)?;
    Ok([best, test.accuracy, test.macro_f1])
}

/// Every late fusion of logistic regressions, and each of these by itself.
fn late(device: &Device, data: &FusionData, seed: u64) -> Result<Table> {
    let Split { train, validation, test } = &data.split;
    let experts = Experts::fit(device, data, &Probe::default())?;
    let of_validation = experts.probabilities(device, data, validation)?;
    let of_test = experts.probabilities(device, data, test)?;
    let unseen = experts.out_of_fold(device, data, 5, seed)?;
    let labels = [train, validation, test].map(|rows| numbers(data, rows));
    let presence = [data.presence(train)?, data.presence(validation)?, data.presence(test)?];
    let mut prior = vec![1.; experts.labels.len()];
    labels[0].iter().for_each(|&label| prior[label as usize] += 1.);
    let sum: f64 = prior.iter().sum();
    prior.iter_mut().for_each(|p| *p /= sum);
    let slices: Vec<&[f32]> = of_validation.iter().map(|own| &own.values[..]).collect();
    let chosen = greedy_selection(&slices, experts.labels.len(), &labels[1], 20, &presence[1])?;
    let equal = || vec![1.; experts.experts.len()];
    let stacking = LateRule::stacking(
        device,
        (&unseen, &labels[0], &presence[0]),
        (&of_validation, &labels[1], &presence[1]),
    )?;
    let rules = [
        ("mean", LateRule::Mean(equal())),
        ("mean, learned weights", LateRule::learned_mean(&unseen, &labels[0], &presence[0])?),
        ("maximum", LateRule::Maximum),
        ("hard vote", LateRule::HardVote(equal())),
        ("product", LateRule::Product { weights: equal(), prior: None }),
        ("product over the prior", LateRule::Product { weights: equal(), prior: Some(prior) }),
        ("stacking", stacking),
        ("greedy ensemble", LateRule::Mean(chosen)),
    ];
    let mut all = vec![];
    for (m, modality) in data.modalities.iter().enumerate() {
        let test = scored(&of_test[m], &labels[2])?;
        let own = [scored(&of_validation[m], &labels[1])?.accuracy, test.accuracy, test.macro_f1];
        all.push((format!("{} alone, logistic regression", modality.name), own));
    }
    for (name, rule) in rules {
        let validation = scored(&rule.combine(device, &of_validation, &presence[1])?, &labels[1])?;
        let test = scored(&rule.combine(device, &of_test, &presence[2])?, &labels[2])?;
        all.push((format!("late: {name}"), [validation.accuracy, test.accuracy, test.macro_f1]));
    }
    Ok(all)
}

fn main() -> Result<()> {
    let stored = |tensor: &str| Source::parse(&format!("data/emoji.safetensors#{tensor}"));
    let modality = |name: &str, tensor: &str| Ok(Modality::new(name, read_features(&stored(tensor))?));
    let split = Split::from_labels(&read_integers(&stored("split"))?)?;
    let target = Target::of_labels(&read_integers(&stored("label"))?);
    let both = vec![modality("image", "image_twemoji")?, modality("text", "text")?];
    let data = FusionData::new(both, target, split)?;
    let device = Device::best()?;
    let kinds = [
        FusionKind::Concat,
        FusionKind::Gated,
        FusionKind::Tensor { inner: 32 },
        FusionKind::LowRank { rank: 4 },
        FusionKind::Pooling,
        FusionKind::DeepSet { hidden: 128 },
        FusionKind::CrossAttention { heads: 4, layers: 1 },
        FusionKind::CoAttention { heads: 4, layers: 1 },
        FusionKind::GatedCrossAttention { heads: 4, layers: 1 },
        FusionKind::Merged { heads: 4, layers: 1 },
        FusionKind::Bottleneck { heads: 4, layers: 1, latents: 4 },
        FusionKind::Resampler { heads: 4, layers: 1, latents: 4 },
    ];
    let mut of_seeds: Vec<Table> = vec![];
    for seed in 0..3 {
        let mut all = late(&device, &data, seed)?;
        for kind in kinds {
            let recipe = FusionRecipe { seed, ..FusionRecipe::of(kind) };
            let when = if kind.is_of_tokens() { "intermediate" } else { "early" };
            all.push((format!("{when}: {kind}"), trained(&device, &data, &recipe)?));
        }
        of_seeds.push(all);
    }
    let mean = |all: Vec<Scores>| {
        [0, 1, 2].map(|at| all.iter().map(|scores| scores[at]).sum::<f64>() / all.len() as f64)
    };
    for (at, (name, _)) in of_seeds[0].iter().enumerate() {
        row(name, mean(of_seeds.iter().map(|all| all[at].1).collect()));
    }
    // Of equals on the validation rows the first.
    let better = |best: Scores, own: &(String, Scores)| if own.1[0] > best[0] { own.1 } else { best };
    let chosen = of_seeds.iter().map(|all| all.iter().fold([f64::MIN; 3], better));
    row("chosen on the validation rows", mean(chosen.collect()));
    Ok(())
}
