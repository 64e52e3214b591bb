//! Every trained fusion of pictures and words on the emoji features, the category told: accuracy, the mean of seeds 0 to 2.
//!
//! `CROSSMODAL_DEVICE=cpu cargo run --release --example fusion`

use crossmodal::align::{Modality, Split};
use crossmodal::fusion::{FusionData, FusionKind, FusionRecipe, FusionTrainer, Target};
use crossmodal::io::{Source, read_features, read_integers};
use crossmodal::{Device, Result};

fn main() -> Result<()> {
    let stored = |tensor: &str| Source::parse(&format!("data/emoji.safetensors#{tensor}"));
    let modality = |name: &str, tensor: &str| Ok(Modality::new(name, read_features(&stored(tensor))?));
    let split = Split::from_labels(&read_integers(&stored("split"))?)?;
    let target = Target::of_labels(&read_integers(&stored("label"))?);
    let both = vec![modality("image", "image_twemoji")?, modality("text", "text")?];
    let device = Device::best()?;
    let kinds = [
        FusionKind::Concat,
        FusionKind::Gated,
        FusionKind::Tensor { inner: 32 },
        FusionKind::LowRank { rank: 4 },
        FusionKind::Pooling,
        FusionKind::DeepSet { hidden: 128 },
    ];
    let of_one = both.iter().map(|own| (own.name.clone(), vec![own.clone()], FusionKind::Concat));
    let of_both = kinds.iter().map(|kind| (kind.to_string(), both.clone(), *kind));
    for (name, modalities, kind) in of_one.chain(of_both) {
        let data = FusionData::new(modalities, target.clone(), split.clone())?;
        let mut sums = [0.; 3];
        for seed in 0..3 {
            let recipe = FusionRecipe { kind, seed, ..FusionRecipe::default() };
            let mut trainer = FusionTrainer::new(&device, &data, &recipe)?;
            let mut best = 0f64;
            while !trainer.is_done() {
                best = best.max(trainer.epoch()?.validation);
            }
            let test = trainer.test(&trainer.best()?, &split.test)?;
            let own = [best, test.accuracy, test.macro_f1];
            sums.iter_mut().zip(own).for_each(|(sum, score)| *sum += score / 3.);
        }
        #[allow(clippy::print_stdout, reason = "an example prints")]
        {
            println!("| {name} | {:.1} | {:.1} | {:.1} |", sums[0], sums[1], sums[2]);
        }
    }
    Ok(())
}
