//! Training with every loss and head: the same on every device, in parts, and after an interruption.
#![cfg(feature = "io")]

#[path = "../common/mod.rs"]
mod common;
mod refused;
mod setups;
mod values;

use crossmodal::Device;
use crossmodal::align::{Heads, Objective, Recipe, Trainer};
use setups::{data, recipe, setups, trained};

#[test]
fn a_loss_falls_and_heads_are_saved_whole() {
    let folder = tempfile::tempdir().unwrap();
    for (name, data, recipe) in setups() {
        let recipe = Recipe { epochs: 12, learning_rate: 0.01, ..recipe };
        let mut trainer = Trainer::new(&Device::Cpu, &data, &recipe).unwrap();
        let (first, mut last) = (trainer.epoch().unwrap(), None);
        while !trainer.is_done() {
            last = Some(trainer.epoch().unwrap());
        }
        // A queue makes the loss harder as it fills, and triplets are harder the better the others are.
        let grows = name.contains("queue=40 enqueue_first=false") || name.contains("triplet");
        assert!(
            grows || last.unwrap().loss < first.loss,
            "{name}: {} and then {}",
            first.loss,
            last.unwrap().loss
        );
        let heads = trainer.heads().unwrap();
        let path = folder.path().join("heads.safetensors");
        heads.save(&path).unwrap();
        let loaded = Heads::load(&path).unwrap();
        assert!(loaded == heads, "{name}");
        let project = |heads: &Heads| -> Vec<_> {
            let all = heads.heads.iter().zip(&data.modalities);
            all.map(|(head, own)| head.project(&Device::Cpu, &own.features).unwrap()).collect()
        };
        assert!(project(&loaded) == project(&heads), "{name}");
    }
}

/// Two steps, of which the second sees what the first did.
#[test]
fn every_device_trains_alike() {
    let gpu = common::gpu();
    for (name, data, recipe) in setups() {
        let ((cpu_losses, cpu), (gpu_losses, gpu)) =
            (trained(&Device::Cpu, &data, &recipe, 2), trained(&gpu, &data, &recipe, 2));
        for (a, b) in cpu_losses.iter().zip(&gpu_losses) {
            assert!((a - b).abs() <= 2e-4 * (1. + a.abs()), "{name}: losses of {a} and {b}");
        }
        // Adam turns the sign of a gradient that is 0 but for rounding into a whole step: a weight in a hundred may differ.
        let mut differences: Vec<_> = cpu.iter().zip(&gpu).map(|(a, b)| (a - b).abs()).collect();
        differences.sort_by(f32::total_cmp);
        let at = differences.len() * 97 / 100;
        assert!(differences[at] < 2e-5, "{name}: weights differ by {}", differences[at]);
    }
}

/// A step of AdamW is no shorter with a shorter gradient, but one of a gradient that is almost nothing beside its epsilon is.
#[test]
fn gradients_are_clipped_together_and_the_rate_rises() {
    let data = data([12, 9]);
    let plain = Recipe { dropout: 0., ..recipe() };
    let weights = |recipe: Recipe| trained(&Device::Cpu, &data, &recipe, 1).1;
    let at = |recipe: Recipe| {
        let start = weights(Recipe { learning_rate: 1e-12, ..recipe });
        weights(recipe).iter().zip(start).map(|(a, b)| f64::from((a - b).abs())).fold(0., f64::max)
    };
    let whole = at(plain);
    assert!((at(Recipe { grad_clip_norm: Some(1e9), ..plain }) - whole).abs() < 1e-9 && whole > 9e-4);
    assert!(at(Recipe { grad_clip_norm: Some(1e-9), ..plain }) < 0.2 * whole);
    assert!((at(Recipe { warmup_steps: 4, ..plain }) - whole / 4.).abs() < 1e-6);
}

/// The gradient in parts is that of the whole batch, the scale of the loss included: the first step's weights tell, and SGD
/// would tell more, but Adam's first step is the sign of the gradient, so the loss of the second is compared too.
#[test]
fn a_batch_in_parts_is_the_whole_batch() {
    for device in [Device::Cpu, common::gpu()] {
        for (name, data, recipe) in setups() {
            let (losses, weights) = trained(&device, &data, &recipe, 3);
            // Parts of 16, of 6, 6 and 4, and of one row each.
            for accum in [1, 3, 16] {
                let (own_losses, own) = trained(&device, &data, &Recipe { accum, ..recipe }, 3);
                for (a, b) in losses.iter().zip(&own_losses) {
                    assert!(
                        (a - b).abs() <= 1e-4 * (1. + a.abs()),
                        "{name} in {accum} parts: losses of {a} and {b}"
                    );
                }
                let mut differences: Vec<_> = weights.iter().zip(&own).map(|(a, b)| (a - b).abs()).collect();
                differences.sort_by(f32::total_cmp);
                let at = differences.len() * 97 / 100;
                assert!(
                    differences[at] < 2e-5,
                    "{name} in {accum} parts: weights differ by {}",
                    differences[at]
                );
            }
        }
    }
}

#[test]
fn an_interrupted_run_continues_with_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    for (name, data, recipe) in setups() {
        let mut whole = Trainer::new(&Device::Cpu, &data, &recipe).unwrap();
        whole.epoch().unwrap();
        whole.save_checkpoint(&path, &Default::default()).unwrap();
        let mut again = Trainer::resume(&Device::Cpu, &data, &recipe, &path).unwrap();
        while !whole.is_done() {
            assert_eq!(whole.epoch().unwrap().loss, again.epoch().unwrap().loss, "{name}");
        }
        assert!(whole.heads().unwrap() == again.heads().unwrap(), "{name}");
        assert!(whole.best().unwrap() == again.best().unwrap(), "{name}");
    }
    let (_, data, recipe) = setups().remove(3);
    let other = Recipe { objective: Objective::Siglip, ..recipe };
    let message = Trainer::resume(&Device::Cpu, &data, &other, &path).err().unwrap().to_string();
    assert!(message.contains("is of another run") && message.contains("loss is"), "{message}");
}
