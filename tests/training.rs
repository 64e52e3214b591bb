//! Optimisers and recipes: one step by hand, and what they refuse.
#![cfg(feature = "io")]

use crossmodal::align::{Data, Modality, Recipe, Split, Trainer};
use crossmodal::io::Features;
use crossmodal::nn::{Linear, Parameters, generator};
use crossmodal::optim::{AdamW, CosineSchedule, Sgd, clamp_log_scale, load_checkpoint, save_checkpoint};
use crossmodal::{Device, Tensor};
use std::collections::BTreeMap;

fn one(value: f64) -> (Parameters, crossmodal::nn::ParameterId) {
    let mut parameters = Parameters::default();
    let id = parameters.add("w", Tensor::scalar(&Device::Cpu, value).unwrap(), true).unwrap();
    (parameters, id)
}

fn gradient(value: f64) -> Vec<Option<Tensor>> {
    vec![Some(Tensor::scalar(&Device::Cpu, value).unwrap())]
}

/// Two steps written out, with an ε that shows.
#[test]
fn adamw_by_hand() {
    let (mut parameters, id) = one(1.);
    let mut optimiser = AdamW::new(&parameters).unwrap();
    (optimiser.eps, optimiser.weight_decay) = (0.1, 0.5);
    let (mut w, mut m, mut v) = (1f64, 0f64, 0f64);
    for (t, g) in [(1, 0.3), (2, -0.2)] {
        optimiser.step(&mut parameters, &gradient(g), 0.01).unwrap();
        m = 0.9 * m + 0.1 * g;
        v = 0.999 * v + 0.001 * g * g;
        let ratio = (m / (1. - 0.9f64.powi(t))) / ((v / (1. - 0.999f64.powi(t))).sqrt() + 0.1);
        w = w * (1. - 0.01 * 0.5) - 0.01 * ratio;
        assert!((parameters.get(id).value.item().unwrap() - w).abs() < 1e-15);
    }
    // A parameter that does not decay, and one without a gradient.
    parameters.get_mut(id).decays = false;
    let before = parameters.get(id).value.item().unwrap();
    optimiser.step(&mut parameters, &[None], 0.01).unwrap();
    assert_eq!(parameters.get(id).value.item().unwrap(), before);
}

#[test]
fn sgd_by_hand() {
    let (mut parameters, id) = one(1.);
    let mut optimiser = Sgd::new(&parameters).unwrap();
    (optimiser.momentum, optimiser.weight_decay) = (0.9, 0.1);
    let (mut w, mut v) = (1f64, 0f64);
    for g in [0.5, -0.25, 0.125] {
        optimiser.step(&mut parameters, &gradient(g), 0.1).unwrap();
        v = 0.9 * v + g + 0.1 * w;
        w -= 0.1 * v;
        assert!((parameters.get(id).value.item().unwrap() - w).abs() < 1e-15);
    }
}

/// Steps of the numbers `steps`, with gradients that depend on the step.
fn train(sgd: &mut Sgd, parameters: &mut Parameters, steps: std::ops::Range<u32>) {
    for step in steps {
        let gradients = parameters.iter().map(|parameter| {
            let values = (0..parameter.value.len()).map(|i| (f64::from(step) + i as f64).sin() as f32);
            Some(Tensor::from_vec(&Device::Cpu, parameter.value.shape(), values.collect()).unwrap())
        });
        let gradients: Vec<_> = gradients.collect();
        sgd.step(parameters, &gradients, 0.1).unwrap();
    }
}

#[test]
fn sgd_resumed_from_a_checkpoint_is_sgd_uninterrupted() {
    let model = || {
        let mut parameters = Parameters::default();
        let weight = Tensor::from_slice(&Device::Cpu, &[3], &[0.5f32, -1.5, 2.]).unwrap();
        parameters.add("weight", weight, true).unwrap();
        parameters.add("bias", Tensor::scalar(&Device::Cpu, 0.25f32).unwrap(), false).unwrap();
        let mut sgd = Sgd::new(&parameters).unwrap();
        (sgd.momentum, sgd.weight_decay) = (0.9, 0.1);
        (parameters, sgd)
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sgd.safetensors");
    let (mut whole, mut sgd) = model();
    train(&mut sgd, &mut whole, 0..3);
    save_checkpoint(&path, &whole, &sgd, BTreeMap::new(), BTreeMap::new()).unwrap();
    train(&mut sgd, &mut whole, 3..6);

    let (mut resumed, mut sgd) = model();
    let mut adamw = AdamW::new(&resumed).unwrap();
    let refused = load_checkpoint(&path, &mut resumed, &mut adamw).unwrap_err().to_string();
    assert!(refused.ends_with("has no tensor first_moment.weight"), "{refused}");
    load_checkpoint(&path, &mut resumed, &mut sgd).unwrap();
    assert_eq!(sgd.steps, 3);
    train(&mut sgd, &mut resumed, 3..6);
    for (resumed, whole) in resumed.iter().zip(whole.iter()) {
        let bits = |tensor: &Tensor| tensor.to_vec::<f32>().unwrap().into_iter().map(f32::to_bits).collect();
        let (resumed, whole): (Vec<u32>, Vec<u32>) = (bits(&resumed.value), bits(&whole.value));
        assert_eq!(resumed, whole);
    }
}

#[test]
fn the_log_scale_is_clamped_after_the_step() {
    for (value, want) in [(-1., 0.), (2., 2.), (9., 100f64.ln())] {
        let (mut parameters, id) = one(value);
        clamp_log_scale(&mut parameters, id).unwrap();
        assert!((parameters.get(id).value.item().unwrap() - want).abs() < 1e-15);
    }
}

#[test]
fn the_schedule_ends_at_zero() {
    let schedule = CosineSchedule { base: 2., warmup_steps: 4, total_steps: 8 };
    assert_eq!(schedule.at(0), 0.5);
    assert_eq!(schedule.at(4), 2.);
    assert!((schedule.at(6) - 1.).abs() < 1e-15);
    assert_eq!((schedule.at(8), schedule.at(u32::MAX)), (0., 0.));
}

#[test]
fn a_model_that_grew_is_refused_before_anything_moves() {
    let (mut parameters, id) = one(1.);
    let (mut adamw, mut sgd) = (AdamW::new(&parameters).unwrap(), Sgd::new(&parameters).unwrap());
    let wrong = vec![Some(Tensor::from_slice(&Device::Cpu, &[2], &[1f64, 2.]).unwrap())];
    for result in [adamw.step(&mut parameters, &wrong, 0.1), sgd.step(&mut parameters, &wrong, 0.1)] {
        let message = result.unwrap_err().to_string();
        assert!(message.contains("expected f64 [] for w, got f64 [2]"), "{message}");
    }
    assert_eq!((adamw.steps, parameters.get(id).value.item().unwrap()), (0, 1.));
    parameters.add("later", Tensor::scalar(&Device::Cpu, 1f64).unwrap(), true).unwrap();
    let two = [gradient(1.), gradient(1.)].concat();
    assert!(adamw.step(&mut parameters, &two, 0.1).unwrap_err().to_string().contains("the 1 of the model"));
    assert!(sgd.step(&mut parameters, &two, 0.1).is_err());
    assert!(
        parameters.add("w", Tensor::scalar(&Device::Cpu, 1f64).unwrap(), true).is_err(),
        "the name is taken"
    );
}

fn data() -> Data {
    let side =
        |cols: usize| Features { rows: 40, cols, values: (0..40 * cols).map(|i| (i as f32).sin()).collect() };
    Data::new(side(3), side(2), Split::random(40, 0).unwrap()).unwrap()
}

#[test]
fn recipes_that_cannot_train_are_refused() {
    let good = Recipe { dim: 4, epochs: 1, batch_size: 8, ..Recipe::default() };
    assert!(Trainer::new(&Device::Cpu, &data(), &good).is_ok());
    for (recipe, words) in [
        (Recipe { batch_size: 1, ..good }, "batch size: expected at least 2"),
        (Recipe { batch_size: 33, ..good }, "at most the 32 training rows, got 33"),
        (Recipe { dim: 0, ..good }, "at least 1"),
        (Recipe { dim: usize::MAX, ..good }, "dim: expected at most 65536"),
        (Recipe { epochs: 0, ..good }, "at least 1"),
        (
            Recipe { learning_rate: f64::NAN, ..good },
            "learning rate: expected a finite number above 0, got NaN",
        ),
        (Recipe { learning_rate: -1., ..good }, "learning rate"),
        (Recipe { weight_decay: -1., ..good }, "weight decay"),
        (Recipe { temperature: 0., ..good }, "temperature: expected 0.01 to 1, got 0"),
    ] {
        let message = Trainer::new(&Device::Cpu, &data(), &recipe).err().expect(words).to_string();
        assert!(message.contains(words), "{message:?} does not say {words:?}");
    }
    let mut odd = data();
    // Constant in the training rows, huge elsewhere: standardised it would be infinite.
    let test = odd.split.test[0] as usize;
    let left = &mut odd.modalities[0].features.values;
    left.iter_mut().step_by(3).for_each(|v| *v = 0.);
    left[test * 3] = 3e38;
    let message = Trainer::new(&Device::Cpu, &odd, &good).err().unwrap().to_string();
    assert!(
        message.contains("modality left: ") && message.contains(&format!("row {test}, column 0")),
        "{message}"
    );
    let mut random = generator(0, 0);
    let too_large = Linear::new(&Device::Cpu, &mut Parameters::default(), "l", (usize::MAX, 2), &mut random);
    assert!(too_large.unwrap_err().to_string().contains("fewer than 2^32 weights"));
}

#[test]
fn data_that_does_not_pair_is_refused() {
    let side = |rows: usize| Features { rows, cols: 1, values: vec![1.; rows] };
    let split = || Split::random(40, 0).unwrap();
    let refused = |left, right, split| Data::new(left, right, split).unwrap_err().to_string();
    assert!(refused(side(40), side(39), split()).contains("expected 40 rows as left has, got 39 rows"));
    assert!(refused(side(20), side(20), split()).contains("rows below 20"));
    let short = Features { rows: 40, cols: 2, values: vec![1.; 79] };
    assert!(refused(side(40), short, split()).contains("40 x 2 values"));
    let of = |names: &[&str]| {
        let own = names.iter().map(|name| Modality::new(*name, side(40))).collect();
        Data::of_modalities(own, split()).unwrap_err().to_string()
    };
    assert!(of(&["a"]).contains("modalities: expected at least two, got 1"));
    assert!(of(&["a", "b", "a"]).contains("modality a: expected a name of its own, whatever the case"));
    assert!(
        of(&["a", "b.c"])
            .contains("modality b.c: expected a name of 1 to 64 letters, digits, _ and -, got 'b.c'")
    );
    let data = Data::new(side(40), side(40), split()).unwrap();
    assert!(data.clone().with_views("right", vec![side(39)]).unwrap_err().to_string().contains("40 rows"));
    let wide = Features { rows: 40, cols: 2, values: vec![1.; 80] };
    assert!(
        data.clone().with_views("right", vec![wide]).unwrap_err().to_string().contains("one width, 1, got 2")
    );
    assert!(data.with_views("top", vec![]).unwrap_err().to_string().contains("one of left, right, got top"));
    assert!(Split::random(19, 0).is_err());
    assert!(Split::from_labels(&[0, 0, 1, 1, 2, 3]).unwrap_err().to_string().contains("3 in row 5"));
    assert!(Split::from_labels(&[0, 0, 1, 1, 2]).unwrap_err().to_string().contains("two test rows"));
}
