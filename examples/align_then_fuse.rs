//! The two steps: bring pictures and words into one space, then tell the category from both together.
//!
//! `CROSSMODAL_DEVICE=cpu cargo run --release --example align_then_fuse`

use crossmodal::align::{Data, Modality, Recipe, Split, Trainer, retrieval};
use crossmodal::fusion::{FusionData, FusionKind, FusionRecipe, FusionTrainer, Target};
use crossmodal::io::{Source, read_features, read_integers};
use crossmodal::{Device, Result};

#[allow(clippy::print_stdout, reason = "an example prints")]
fn main() -> Result<()> {
    let stored = |tensor: &str| Source::parse(&format!("data/emoji.safetensors#{tensor}"));
    let modality = |name: &str, tensor: &str| Ok(Modality::new(name, read_features(&stored(tensor))?));
    let modalities = vec![modality("image", "image_twemoji")?, modality("text", "text")?];
    let split = Split::from_labels(&read_integers(&stored("split"))?)?;
    let target = Target::of_labels(&read_integers(&stored("label"))?);
    let device = Device::best()?;

    // Step 1: align. No categories are seen; row i of one belongs to row i of the other.
    let data = Data::of_modalities(modalities, split.clone())?;
    let mut trainer = Trainer::new(&device, &data, &Recipe::default())?;
    while !trainer.is_done() {
        trainer.epoch()?;
    }
    let heads = trainer.best()?;
    let project = |own: &Modality| {
        Ok(Modality::new(own.name.clone(), heads.of(&own.name)?.project(&device, &own.features)?))
    };
    let aligned = data.modalities.iter().map(project).collect::<Result<Vec<_>>>()?;
    let test = |m: usize| aligned[m].features.select(&split.test);
    let found = retrieval(&test(0)?, &test(1)?)?;
    println!("aligned: R@10 {:.1} %", found.mean_recall_at_10());

    // Step 2: fuse what is aligned, and for comparison what is not.
    for (name, modalities) in [("aligned", aligned), ("not aligned", data.modalities)] {
        let data = FusionData::new(modalities, target.clone(), split.clone())?;
        let recipe = FusionRecipe { kind: FusionKind::Gated, ..FusionRecipe::default() };
        let mut trainer = FusionTrainer::new(&device, &data, &recipe)?;
        while !trainer.is_done() {
            trainer.epoch()?;
        }
        let scores = trainer.test(&trainer.best()?, &split.test)?;
        println!("fused, {name}: {:.1} % of the categories", scores.accuracy);
    }
    Ok(())
}
