//! Training a fusion: it learns, with modalities missing too; the same on every device; the file gives the model back.
#![cfg(feature = "io")]

mod common;
#[path = "common/fusing.rs"]
mod fusing;

use crossmodal::Device;
use crossmodal::align::{Modality, Scaling, Split};
use crossmodal::fusion::{
    FusionData, FusionKind, FusionModel, FusionRecipe, FusionTrainer, Presence, Target, Told, ValueScores,
};
use crossmodal::io::Features;

const ROWS: usize = 240;

fn features(cols: usize, first: usize) -> Features {
    fusing::features(ROWS, cols, first)
}

/// Which of four classes a row is of can be told by the sign of one column in each modality together.
fn data() -> FusionData {
    let (image, text) = (features(5, 0), features(3, 5000));
    let class =
        |row: usize| 2 * i64::from(image.values[row * 5] > 0.) + i64::from(text.values[row * 3 + 1] > 0.);
    let labels: Vec<i64> = (0..ROWS).map(class).collect();
    let modalities = vec![Modality::new("image", image), Modality::new("text", text)];
    FusionData::new(modalities, Target::of_labels(&labels), Split::random(ROWS, 0).unwrap()).unwrap()
}

fn kinds() -> Vec<FusionKind> {
    vec![
        FusionKind::Concat,
        FusionKind::Gated,
        FusionKind::Tensor { inner: 4 },
        FusionKind::LowRank { rank: 2 },
        FusionKind::Pooling,
        FusionKind::DeepSet { hidden: 16 },
    ]
    .into_iter()
    .chain(kinds_of_tokens())
    .collect()
}

fn kinds_of_tokens() -> Vec<FusionKind> {
    vec![
        FusionKind::CrossAttention { heads: 2, layers: 2 },
        FusionKind::CoAttention { heads: 2, layers: 1 },
        FusionKind::Merged { heads: 2, layers: 1 },
        FusionKind::GatedCrossAttention { heads: 2, layers: 2 },
        FusionKind::Bottleneck { heads: 2, layers: 2, latents: 2 },
        FusionKind::Resampler { heads: 2, layers: 1, latents: 3 },
    ]
}

/// Those that are tried on a device: of tokens two elsewhere than on the CPU, since a software driver takes seconds for each. Their
/// forward and backward are all held to f64 there in tests/token_fusion.rs.
fn everywhere(device: &Device) -> Vec<FusionKind> {
    let few =
        [FusionKind::Merged { heads: 2, layers: 1 }, FusionKind::GatedCrossAttention { heads: 2, layers: 2 }];
    let tried =
        |kind: &FusionKind| !kind.is_of_tokens() || matches!(device, Device::Cpu) || few.contains(kind);
    kinds().into_iter().filter(tried).collect()
}

fn recipe(kind: FusionKind) -> FusionRecipe {
    FusionRecipe {
        kind,
        dim: 16,
        epochs: 40,
        batch_size: 32,
        learning_rate: 0.01,
        weight_decay: 0.01,
        dropout: 0.,
        ..FusionRecipe::default()
    }
}

fn trained(device: &Device, data: &FusionData, recipe: &FusionRecipe) -> (FusionModel, f64) {
    let mut trainer = FusionTrainer::new(device, data, recipe).unwrap();
    while !trainer.is_done() {
        trainer.epoch().unwrap();
    }
    let model = trainer.best().unwrap();
    let scores = trainer.test(&model, &data.split.test).unwrap();
    assert_eq!(scores.classes.iter().map(|class| class.support).sum::<usize>(), data.split.test.len());
    (model, scores.accuracy)
}

#[test]
fn every_fusion_learns_what_no_modality_tells_alone() {
    for kind in kinds() {
        let (_, accuracy) = trained(&Device::Cpu, &data(), &recipe(kind));
        // Of one modality half of it: two classes of four.
        assert!(accuracy >= 75., "{kind}: {accuracy} %");
    }
}

/// A third of the rows without each modality, NaN in their place.
#[test]
fn training_works_with_a_modality_missing_from_a_third_of_the_rows() {
    for kind in kinds() {
        let mut data = data();
        for (m, name) in ["image", "text"].iter().enumerate() {
            let present: Vec<bool> = (0..ROWS).map(|row| row % 3 != m).collect();
            let own = &mut data.modalities[m].features;
            let cols = own.cols;
            for row in (0..ROWS).filter(|&row| !present[row]) {
                own.values[row * cols..][..cols].fill(f32::NAN);
            }
            data = data.with_presence(name, present).unwrap();
        }
        let recipe = FusionRecipe { dropout: 0.1, ..recipe(kind) };
        let mut trainer = FusionTrainer::new(&Device::Cpu, &data, &recipe).unwrap();
        let first = trainer.epoch().unwrap();
        let mut last = first;
        while !trainer.is_done() {
            last = trainer.epoch().unwrap();
        }
        assert!(last.loss < 0.8 * first.loss, "{kind}: {} and then {}", first.loss, last.loss);
        // A third can be told whole, two thirds by half.
        let accuracy = trainer.test(&trainer.best().unwrap(), &data.split.test).unwrap().accuracy;
        assert!(accuracy > 40., "{kind}: {accuracy} %");
        let model = trainer.best().unwrap();
        let both = [Some(&data.modalities[0].features), Some(&data.modalities[1].features)];
        let all: Vec<u32> = (0..ROWS as u32).collect();
        let told = model.predict_with(&both, &data.presence(&all).unwrap()).unwrap();
        for row in told.values.chunks(4) {
            assert!((row.iter().sum::<f32>() - 1.).abs() < 1e-5, "{kind}: {row:?}");
        }
    }
}

#[test]
fn a_saved_fusion_tells_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fusion.safetensors");
    let data = data();
    let (image, text) = (&data.modalities[0].features, &data.modalities[1].features);
    for device in [Device::Cpu, common::gpu()] {
        for kind in everywhere(&device) {
            let recipe = FusionRecipe { epochs: 2, ..recipe(kind) };
            let (model, _) = trained(&device, &data, &recipe);
            model.save(&path).unwrap();
            let loaded = FusionModel::load(&device, &path).unwrap();
            assert_eq!((loaded.kind, loaded.epoch), (kind, model.epoch));
            assert_eq!(loaded.told, Told::Classes(vec![0, 1, 2, 3]));
            for features in [[Some(image), Some(text)], [Some(image), None], [None, Some(text)]] {
                let told = |model: &FusionModel| model.predict(&features).unwrap();
                assert!(told(&loaded) == told(&model), "{kind} on {}", device.name());
            }
        }
    }
    // Not a fusion, and one that was cut short.
    std::fs::write(&path, b"nothing").unwrap();
    assert!(FusionModel::load(&Device::Cpu, &path).is_err());
    let heads = crossmodal::io::write_safetensors(&path, &Default::default(), &Default::default());
    heads.unwrap();
    let message = FusionModel::load(&Device::Cpu, &path).unwrap_err().to_string();
    assert!(message.contains("is not a file of a trained, finite fusion"), "{message}");
}

/// The same seed gives the same bits; on another device the same but for rounding.
#[test]
fn training_is_the_same_every_time_and_everywhere() {
    let data = data();
    let image = &data.modalities[0].features;
    for kind in kinds() {
        let recipe = FusionRecipe { epochs: 1, dropout: 0.2, modality_dropout: 0.3, ..recipe(kind) };
        let told = |device: &Device, seed: u64| {
            let (model, _) = trained(device, &data, &FusionRecipe { seed, ..recipe });
            model.predict(&[Some(image), None]).unwrap().values
        };
        let first = told(&Device::Cpu, 0);
        assert!(first == told(&Device::Cpu, 0) && first != told(&Device::Cpu, 1), "{kind}");
        let gpu = common::gpu();
        if !everywhere(&gpu).contains(&kind) {
            continue;
        }
        let other = told(&gpu, 0);
        let worst = first.iter().zip(&other).map(|(a, b)| (a - b).abs()).fold(0., f32::max);
        // Adam's first steps are the signs of gradients: those that are 0 but for rounding differ.
        assert!(worst < 5e-3, "{kind}: {worst}");
    }
}

#[test]
fn a_value_is_told_too() {
    let (image, text) = (features(4, 9), features(2, 900));
    let value = |row: usize| 3. + 2. * image.values[row * 4] - text.values[row * 2 + 1];
    let target = Target::Values((0..ROWS).map(value).collect());
    let modalities = vec![Modality::new("image", image), Modality::new("text", text)];
    let data = FusionData::new(modalities, target, Split::random(ROWS, 1).unwrap()).unwrap();
    let recipe = FusionRecipe { scaling: Scaling::Modality, ..recipe(FusionKind::Concat) };
    let mut trainer = FusionTrainer::new(&Device::Cpu, &data, &recipe).unwrap();
    let mut best = f64::MIN;
    while !trainer.is_done() {
        best = best.max(trainer.epoch().unwrap().validation);
    }
    assert!(best > 95., "{best} % of the variance");
    let both = [Some(&data.modalities[0].features), Some(&data.modalities[1].features)];
    let told = trainer.best().unwrap().predict(&both).unwrap();
    let Target::Values(values) = &data.target else { panic!("values") };
    let error: f32 = told.values.iter().zip(values).map(|(a, b)| (a - b).abs()).sum::<f32>() / ROWS as f32;
    assert!(error < 0.3, "a mean error of {error}");
    assert!(trainer.test(&trainer.best().unwrap(), &data.split.test).is_err());
    let scores = ValueScores::new(&told.values, values).unwrap();
    assert!((scores.mae - f64::from(error)).abs() < 1e-4 && scores.r2 > 95., "{scores:?}");
    assert!(scores.rmse >= scores.mae);
    // Without a variance there is no part of it.
    let Target::Values(mut same) = data.target.clone() else { panic!("values") };
    data.split.validation.iter().for_each(|&row| same[row as usize] = 0.5);
    let same = FusionData { target: Target::Values(same), ..data };
    let message = FusionTrainer::new(&Device::Cpu, &same, &recipe).err().expect("refused").to_string();
    assert!(message.contains("target: expected values that differ among the validation rows"), "{message}");
    for (told, values) in [
        (vec![], vec![]),
        (vec![1.], vec![1., 2.]),
        (vec![f32::NAN, 1.], vec![1., 2.]),
        (vec![1., 2.], vec![3., 3.]),
    ] {
        assert!(ValueScores::new(&told, &values).is_err(), "{told:?}, {values:?}");
    }
    let worse = ValueScores::new(&[3., 1.], &[1., 3.]).unwrap();
    assert_eq!((worse.r2, worse.rmse, worse.mae), (-300., 2., 2.));
}

#[test]
fn names_of_classes_are_stored() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fusion.safetensors");
    let (mut model, _) =
        trained(&Device::Cpu, &data(), &FusionRecipe { epochs: 1, ..recipe(FusionKind::Gated) });
    model.save(&path).unwrap();
    assert!(FusionModel::load(&Device::Cpu, &path).unwrap().class_names.is_empty());
    model.class_names = ["a", "b & c", "\"", "é"].map(String::from).to_vec();
    model.save(&path).unwrap();
    assert_eq!(FusionModel::load(&Device::Cpu, &path).unwrap().class_names, model.class_names);
    model.class_names.pop();
    let message = model.save(&path).unwrap_err().to_string();
    assert!(message.contains("class names: expected 4, one a class, or none, got 3"), "{message}");
}

/// Numbers of any unit.
#[test]
fn a_value_is_told_in_any_unit() {
    let image = features(4, 9);
    let told = |unit: f32| {
        let values = (0..ROWS).map(|row| unit * (3. + 2. * image.values[row * 4])).collect();
        let modalities = vec![Modality::new("image", image.clone())];
        let split = Split::random(ROWS, 1).unwrap();
        let data = FusionData::new(modalities, Target::Values(values), split).unwrap();
        let recipe = FusionRecipe { epochs: 10, ..recipe(FusionKind::Concat) };
        let mut trainer = FusionTrainer::new(&Device::Cpu, &data, &recipe).unwrap();
        (0..10).map(|_| trainer.epoch().unwrap().validation).fold(f64::MIN, f64::max)
    };
    let one = told(1.);
    assert!(one > 50., "{one} % of the variance");
    for unit in [1e-12, 1e12] {
        assert!((told(unit) - one).abs() < 1., "{unit}: {} instead of {one}", told(unit));
    }
}

#[test]
fn files_that_promise_too_much_are_refused() {
    use crossmodal::io::{read_safetensors, write_safetensors};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fusion.safetensors");
    let few = FusionRecipe { epochs: 1, ..recipe(FusionKind::DeepSet { hidden: 8 }) };
    trained(&Device::Cpu, &data(), &few).0.save(&path).unwrap();
    let (arrays, metadata) = read_safetensors(&path).unwrap();
    let other = folder.path().join("other.safetensors");
    for (key, value) in [
        ("fusion", "deepset 100000000"),
        ("fusion", "merged 1 1000"),
        ("fusion", "merged 3 1"),
        ("dim", "4294967295"),
        ("dim", "8"),
        ("classes", "1 1 1 1"),
        ("classes", "3 2 1 0"),
        ("classes", "0 1 2"),
    ] {
        let mut metadata = metadata.clone();
        metadata.insert(key.into(), value.into());
        write_safetensors(&other, &arrays, &metadata).unwrap();
        let refused = FusionModel::load(&Device::Cpu, &other);
        assert!(refused.is_err(), "{key}: {value}");
    }
    for value in ["nan 1", "1 nan", "inf 1", "1 0", "1 -1", "1e308 1"] {
        let mut metadata = metadata.clone();
        metadata.remove("classes");
        metadata.insert("value".into(), value.into());
        write_safetensors(&other, &arrays, &metadata).unwrap();
        assert!(FusionModel::load(&Device::Cpu, &other).is_err(), "value: {value}");
    }
}

#[test]
fn what_cannot_be_trained_is_refused() {
    let good = recipe(FusionKind::Concat);
    let refused = |recipe: FusionRecipe| {
        FusionTrainer::new(&Device::Cpu, &data(), &recipe).err().expect("refused").to_string()
    };
    for (recipe, words) in [
        (FusionRecipe { dim: 0, ..good }, "dim: expected 1 to 65536, got 0"),
        (FusionRecipe { epochs: 0, ..good }, "epochs"),
        (FusionRecipe { batch_size: 193, ..good }, "batch size: expected 1 to 192, got 193"),
        (FusionRecipe { learning_rate: f64::NAN, ..good }, "learning rate"),
        (FusionRecipe { weight_decay: -1., ..good }, "weight decay"),
        (FusionRecipe { dropout: 1., ..good }, "dropout: expected 0 to less than 1, got 1.0"),
        (FusionRecipe { modality_dropout: 1., ..good }, "modality dropout"),
    ] {
        let message = refused(recipe);
        assert!(message.contains(words), "{message:?} does not say {words:?}");
    }
    let said = |error: crossmodal::Error| error.to_string();
    let one = || vec![Modality::new("x", features(2, 0))];
    let split = || Split::random(ROWS, 0).unwrap();
    let new = |target| FusionData::new(one(), target, split()).unwrap_err();
    assert!(said(new(Target::of_labels(&[0; 3]))).contains("target: expected 240, one a row, got 3"));
    assert!(said(new(Target::Values(vec![f32::NAN; ROWS]))).contains("finite numbers, got NaN in row 0"));
    let viewed = Modality { views: vec![features(2, 7)], ..one().remove(0) };
    let viewed = FusionData::new(vec![viewed], Target::of_labels(&[0; ROWS]), split());
    assert!(said(viewed.unwrap_err()).contains("modality x: expected one view"));
    let one_class = FusionData::new(one(), Target::of_labels(&[7; ROWS]), split()).unwrap();
    let message = said(FusionTrainer::new(&Device::Cpu, &one_class, &good).err().expect("refused"));
    assert!(message.contains("at least two classes, got 1"), "{message}");
    assert!(
        said(data().with_presence("sound", vec![]).unwrap_err()).contains("one of image, text, got sound")
    );
    assert!(said(data().with_presence("text", vec![true]).unwrap_err()).contains("240, one a row"));
    assert!(said(data().with_presence("text", vec![false; ROWS]).unwrap_err()).contains("training rows"));
    let (model, _) = trained(&Device::Cpu, &data(), &FusionRecipe { epochs: 1, ..good });
    assert!(said(model.predict(&[None, None]).unwrap_err()).contains("at least one modality"));
    assert!(said(model.predict(&[Some(&features(5, 0))]).unwrap_err()).contains("expected 2 modalities"));
    let narrow = model.predict(&[Some(&features(4, 0)), None]).unwrap_err();
    assert!(said(narrow).contains("modality image: expected 240 x 5 values, got 240 x 4 of 960 values"));
    let three = model.predict_with(&[Some(&features(5, 0)), None], &Presence::all(ROWS, 3)).unwrap_err();
    assert!(said(three).contains("presence: expected 2 modalities, got 3"));
    let short = model.predict_with(&[Some(&features(5, 0)), None], &Presence::all(3, 2)).unwrap_err();
    assert!(said(short).contains("expected 3 x 5"));
}
