//! The main job from the library: five seeds on the emoji features, on the device that `CROSSMODAL_DEVICE` names.
//!
//! `CROSSMODAL_DEVICE=cpu cargo run --release --example seeds`

use crossmodal::align::{Data, Recipe, Split, Trainer, retrieval};
use crossmodal::io::{Source, read_features, read_integers};
use crossmodal::{Device, Result};

fn main() -> Result<()> {
    let stored = |tensor: &str| Source::parse(&format!("data/emoji.safetensors#{tensor}"));
    let split = Split::from_labels(&read_integers(&stored("split"))?)?;
    let data = Data::new(read_features(&stored("image_twemoji"))?, read_features(&stored("text"))?, split)?;
    let device = Device::best()?;
    let mut sum = [0.; 4];
    for seed in 0..5 {
        let mut trainer = Trainer::new(&device, &data, &Recipe { seed, ..Recipe::default() })?;
        let mut seconds = vec![];
        while !trainer.is_done() {
            seconds.push(trainer.epoch()?.train_seconds);
        }
        seconds.sort_by(f64::total_cmp);
        let heads = trainer.best()?;
        let test = |name: &str| heads.of(name)?.project(&device, &data.of(name)?.select(&data.split.test)?);
        let scores = retrieval(&test("left")?, &test("right")?)?;
        let (l, r) = (scores.left_to_right, scores.right_to_left);
        let row = [l.recall_at_1, l.recall_at_10, r.recall_at_1, r.recall_at_10];
        let epoch = 1e3 * seconds[seconds.len() / 2];
        #[allow(clippy::print_stdout, reason = "an example prints")]
        {
            println!(
                "seed {seed}: R@1, R@10 left to right, right to left {row:.1?}, epoch {} best, {epoch:.1} ms",
                heads.epoch
            );
        }
        sum.iter_mut().zip(row).for_each(|(sum, v)| *sum += v);
    }
    #[allow(clippy::print_stdout, reason = "an example prints")]
    {
        println!("mean of {}: {:.1?}", device.name(), sum.map(|v| v / 5.));
    }
    Ok(())
}
