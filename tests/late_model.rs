//! A late fusion with its experts: applied with modalities missing, and given back by its file bit for bit.
#![cfg(feature = "io")]

mod common;
#[path = "common/fusing.rs"]
mod fusing;

use crossmodal::Device;
use crossmodal::align::{Modality, Split};
use crossmodal::dtype::HostData;
use crossmodal::evaluate::Probe;
use crossmodal::fusion::{
    Experts, FusionData, FusionModel, LateModel, LateRule, Presence, Target, greedy_selection,
};
use crossmodal::io::{Array, Features, read_metadata, read_safetensors, write_safetensors};

const ROWS: usize = 120;

fn features(cols: usize, first: usize) -> Features {
    fusing::features(ROWS, cols, first)
}

/// Three classes with labels of their own, the last of which no row with a text has.
fn data() -> FusionData {
    let (image, text) = (features(4, 0), features(3, 5000));
    let label = |row: usize| match (image.values[row * 4] > 0., text.values[row * 3 + 1] > 0.) {
        (true, true) => -7,
        (true, false) => 4,
        _ => 9_000_000_000,
    };
    let labels: Vec<i64> = (0..ROWS).map(label).collect();
    let present: Vec<bool> = labels.iter().map(|label| *label < 10).collect();
    let modalities = vec![Modality::new("image", image), Modality::new("text", text)];
    let data = FusionData::new(modalities, Target::of_labels(&labels), Split::random(ROWS, 0).unwrap());
    data.unwrap().with_presence("text", present).unwrap()
}

fn experts(device: &Device, data: &FusionData) -> Experts {
    Experts::fit(device, data, &Probe { l2: vec![0.1], ..Probe::default() }).unwrap()
}

/// Every rule, those that learn with what they have learned.
fn rules(device: &Device, data: &FusionData, experts: &Experts) -> Vec<(&'static str, LateRule)> {
    let Target::Classes { numbers, .. } = &data.target else { panic!("classes") };
    let Split { train, validation, .. } = &data.split;
    let of = |rows: &[u32]| rows.iter().map(|&row| numbers[row as usize]).collect::<Vec<_>>();
    let unseen = experts.out_of_fold(device, data, 3, 0).unwrap();
    let held = experts.probabilities(device, data, validation).unwrap();
    let presence = |rows: &[u32]| data.presence(rows).unwrap();
    let slices: Vec<&[f32]> = held.iter().map(|own| &own.values[..]).collect();
    let stacking = LateRule::stacking(
        device,
        (&unseen, &of(train), &presence(train)),
        (&held, &of(validation), &presence(validation)),
    );
    let weights = || vec![1. / 3., 0.1 + 0.2];
    vec![
        ("mean", LateRule::Mean(weights())),
        ("learned", LateRule::learned_mean(&unseen, &of(train), &presence(train)).unwrap()),
        ("maximum", LateRule::Maximum),
        ("vote", LateRule::HardVote(weights())),
        ("product", LateRule::Product { weights: weights(), prior: None }),
        ("over the prior", LateRule::Product { weights: weights(), prior: Some(vec![0.1, 0.2, 0.7]) }),
        ("stacking", stacking.unwrap()),
        (
            "greedy",
            LateRule::Mean(greedy_selection(&slices, 3, &of(validation), 5, &presence(validation)).unwrap()),
        ),
    ]
}

#[test]
fn a_saved_late_fusion_tells_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fusion.safetensors");
    let data = data();
    let (image, text) = (&data.modalities[0].features, &data.modalities[1].features);
    let all: Vec<u32> = (0..ROWS as u32).collect();
    for device in [Device::Cpu, common::gpu()] {
        let experts = experts(&device, &data);
        assert_eq!(experts.experts[1].classes, [-7, 4], "a class that one expert has not seen");
        for (name, rule) in rules(&device, &data, &experts) {
            let mut model = LateModel::new(&device, &data.modalities, experts.clone(), rule).unwrap();
            model.sources[1] = "text = of.npy".into();
            model.class_names = ["a, \"b\"", "é", ""].map(String::from).to_vec();
            model.save(&path).unwrap();
            let loaded = LateModel::load(&device, &path).unwrap();
            assert_eq!((&loaded.names, &loaded.sources), (&model.names, &model.sources));
            assert_eq!(loaded.class_names, model.class_names);
            assert!(loaded.experts == model.experts && loaded.rule == model.rule, "{name}");
            for features in [[Some(image), Some(text)], [Some(image), None], [None, Some(text)]] {
                let told = model.predict(&features).unwrap();
                assert_eq!((told.rows, told.cols), (ROWS, 3));
                assert!(told.values.iter().all(|v| (0. ..=1.0001).contains(v)), "{name}");
                assert!(loaded.predict(&features).unwrap() == told, "{name} on {}", device.name());
            }
            // It is what the experts say of the rows, combined.
            let said = experts.probabilities(&device, &data, &all).unwrap();
            let presence = data.presence(&all).unwrap();
            let want = model.rule.combine(&device, &said, &presence).unwrap();
            assert!(loaded.predict_with(&[Some(image), Some(text)], &presence).unwrap() == want, "{name}");
        }
    }
}

#[test]
fn what_is_missing_leaves_no_trace() {
    let data = data();
    let experts = experts(&Device::Cpu, &data);
    let (image, text) = (&data.modalities[0].features, &data.modalities[1].features);
    let mut odd = text.clone();
    (0..ROWS / 2).for_each(|row| odd.values[row * 3] = f32::NAN);
    let some: Vec<bool> = (0..ROWS).map(|row| row >= ROWS / 2).collect();
    for (name, rule) in rules(&Device::Cpu, &data, &experts) {
        let model = LateModel::new(&Device::Cpu, &data.modalities, experts.clone(), rule).unwrap();
        let presence = Presence::new(ROWS, vec![None, Some(some.clone().into())]).unwrap();
        let got = model.predict_with(&[Some(image), Some(&odd)], &presence).unwrap();
        let (alone, both) = (model.predict(&[Some(image), None]), model.predict(&[Some(image), Some(text)]));
        let half = ROWS / 2 * 3;
        assert_eq!(got.values[..half], alone.unwrap().values[..half], "{name}");
        assert_eq!(got.values[half..], both.unwrap().values[half..], "{name}");
        // None is missing, whatever the presence says.
        let all = model.predict_with(&[Some(image), None], &Presence::all(ROWS, 2)).unwrap();
        assert!(all == model.predict(&[Some(image), None]).unwrap(), "{name}");
        // Without any: finite, and the same for every row.
        let none: std::sync::Arc<[bool]> = vec![false; ROWS].into();
        let nothing = Presence::new(ROWS, vec![Some(none.clone()), Some(none)]).unwrap();
        let told = model.predict_with(&[Some(image), Some(text)], &nothing).unwrap();
        assert!(told.values.iter().all(|v| v.is_finite()), "{name}");
        assert!(told.values.chunks(3).all(|row| row == &told.values[..3]), "{name}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let data = data();
    let experts = experts(&Device::Cpu, &data);
    let (image, text) = (&data.modalities[0].features, &data.modalities[1].features);
    let said = |error: crossmodal::Error| error.to_string();
    let new = |rule| LateModel::new(&Device::Cpu, &data.modalities, experts.clone(), rule);
    let model = new(LateRule::Maximum).unwrap();
    assert_eq!(model.widths(), [4, 3]);
    assert!(said(model.predict(&[None, None]).unwrap_err()).contains("at least one modality"));
    assert!(said(model.predict(&[Some(image)]).unwrap_err()).contains("expected 2 modalities"));
    let swapped = model.predict(&[Some(text), None]).unwrap_err();
    assert!(said(swapped).contains("modality image: expected 120 x 4, got 120 x 3"));
    let short = model.predict_with(&[Some(image), None], &Presence::all(3, 2)).unwrap_err();
    assert!(said(short).contains("expected 3 x 4"));
    assert!(model.predict_with(&[Some(image), None], &Presence::all(ROWS, 1)).is_err());
    for (rule, words) in [
        (LateRule::Mean(vec![1.]), "weights: expected 2 finite numbers"),
        (LateRule::HardVote(vec![0., 0.]), "not all 0"),
        (LateRule::Product { weights: vec![1., f64::NAN], prior: None }, "weights: expected 2 finite"),
        (
            LateRule::Product { weights: vec![1., 1.], prior: Some(vec![0.5; 2]) },
            "prior: expected 3 positive",
        ),
        (LateRule::Stacking(experts.experts[0].clone()), "stacking: expected 2 x 3 inputs, got 4"),
    ] {
        let message = said(new(rule).unwrap_err());
        assert!(message.contains(words), "{message:?} does not say {words:?}");
    }
    let mut named = new(LateRule::Maximum).unwrap();
    named.class_names = vec!["a".into()];
    let folder = tempfile::tempdir().unwrap();
    let message = said(named.save(&folder.path().join("x.safetensors")).unwrap_err());
    assert!(message.contains("class names: expected 3, one a class, or none, got 1"), "{message}");
    let one = LateModel::new(&Device::Cpu, &data.modalities[..1], experts.clone(), LateRule::Maximum);
    assert!(said(one.unwrap_err()).contains("experts: expected 1, one a modality, got 2"));
    // An expert needs rows of its modality to be fitted and to be chosen on.
    let validation = data.split.validation.clone();
    let present = (0..ROWS as u32).map(|row| !validation.contains(&row)).collect();
    let without = data.clone().with_presence("text", present).unwrap();
    let message = said(Experts::fit(&Device::Cpu, &without, &Probe::default()).unwrap_err());
    assert!(
        message.contains("modality text: expected to be there in some of the training rows"),
        "{message}"
    );
}

/// A file with one thing changed.
type Change =
    fn(&mut std::collections::BTreeMap<String, Array>, &mut std::collections::BTreeMap<String, String>);

#[test]
fn a_file_that_is_not_whole_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fusion.safetensors");
    let data = data();
    let experts = experts(&Device::Cpu, &data);
    let f64s = |array: &mut Array, at: usize, value: f64| match &mut array.data {
        HostData::F64(values) => values[at] = value,
        _ => panic!("f64"),
    };
    let changes: [(&str, Change); 16] = [
        ("no format", |_, about| drop(about.remove("format"))),
        ("another format", |_, about| drop(about.insert("format".into(), "crossmodal fusion 1".into()))),
        ("no rule", |_, about| drop(about.remove("rule"))),
        ("another rule", |_, about| drop(about.insert("rule".into(), "glue".into()))),
        ("a modality more", |_, about| drop(about.insert("modalities".into(), "image text sound".into()))),
        ("no class", |_, about| drop(about.insert("classes".into(), "".into()))),
        ("classes out of order", |_, about| drop(about.insert("classes".into(), "4 -7 9".into()))),
        ("fewer classes", |_, about| drop(about.insert("classes".into(), "-7".into()))),
        ("fewer names", |_, about| drop(about.insert("class_names".into(), "[\"a\"]".into()))),
        ("names that are none", |_, about| drop(about.insert("class_names".into(), "a b c".into()))),
        ("no source", |_, about| drop(about.remove("text_source"))),
        ("no weights", |arrays, _| drop(arrays.remove("expert.text.weights"))),
        ("fewer weights", |arrays, _| {
            let array = arrays.get_mut("expert.text.weights").unwrap();
            array.shape[0] -= 1;
            let HostData::F64(values) = &mut array.data else { panic!("f64") };
            values.truncate(array.shape[0] * array.shape[1]);
        }),
        ("a deviation less", |arrays, _| {
            let array = Array { shape: vec![1], data: HostData::F64(vec![1.]) };
            arrays.insert("expert.image.deviation".into(), array);
        }),
        ("f32", |arrays, _| {
            let array = Array { shape: vec![3], data: HostData::F32(vec![0.; 3]) };
            arrays.insert("expert.text.mean".into(), array);
        }),
        ("classes twice", |arrays, _| {
            let array = Array { shape: vec![2], data: HostData::U32(vec![1, 1]) };
            arrays.insert("expert.text.classes".into(), array);
        }),
    ];
    for (name, rule) in rules(&Device::Cpu, &data, &experts) {
        LateModel::new(&Device::Cpu, &data.modalities, experts.clone(), rule).unwrap().save(&path).unwrap();
        let (arrays, about) = read_safetensors(&path).unwrap();
        assert_eq!(read_metadata(&path).unwrap(), about);
        assert_eq!(about["format"], "crossmodal late fusion 1");
        let refused = |arrays: &_, about: &_, what: &str| {
            write_safetensors(&path, arrays, about).unwrap();
            let message = LateModel::load(&Device::Cpu, &path).err().map(|error| error.to_string());
            let message = message.unwrap_or_else(|| panic!("{name}: {what} was loaded"));
            assert!(
                message.contains("is not a file of a trained, finite fusion"),
                "{name}, {what}: {message}"
            );
        };
        for (what, change) in changes {
            let (mut arrays, mut about) = (arrays.clone(), about.clone());
            change(&mut arrays, &mut about);
            refused(&arrays, &about, what);
        }
        // Every number is finite, every array of the rule is needed.
        for (key, array) in &arrays {
            let HostData::F64(values) = &array.data else { continue };
            let mut broken = arrays.clone();
            f64s(broken.get_mut(key).unwrap(), values.len() - 1, f64::NAN);
            refused(&broken, &about, key);
            if key.starts_with("rule") && key != "rule.prior" {
                broken.remove(key);
                refused(&broken, &about, key);
            }
        }
        // Neither is taken for the other.
        write_safetensors(&path, &arrays, &about).unwrap();
        assert!(LateModel::load(&Device::Cpu, &path).is_ok(), "{name}");
        assert!(FusionModel::load(&Device::Cpu, &path).is_err(), "{name}");
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 9]).unwrap();
        assert!(LateModel::load(&Device::Cpu, &path).is_err(), "{name}: cut short");
    }
}
