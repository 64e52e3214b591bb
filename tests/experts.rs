//! Experts of one modality each are better together, by every rule.
#![cfg(feature = "io")]

mod common;
#[path = "common/fusing.rs"]
mod fusing;

use crossmodal::Device;
use crossmodal::align::{Modality, Split};
use crossmodal::evaluate::Probe;
use crossmodal::fusion::{Ballots, ClassScores, Experts, FusionData, LateRule, Presence, Target};
use crossmodal::io::Features;
use fusing::features;

const ROWS: usize = 240;

/// Which of four classes a row is of can be told by the sign of one column in each modality together.
fn data() -> FusionData {
    let (image, text) = (features(ROWS, 5, 0), features(ROWS, 3, 5000));
    let class =
        |row: usize| 2 * i64::from(image.values[row * 5] > 0.) + i64::from(text.values[row * 3 + 1] > 0.);
    let labels: Vec<i64> = (0..ROWS).map(class).collect();
    let parts: Vec<i64> = (0..ROWS).map(|row| [0, 0, 1, 2][row % 4]).collect();
    let split = Split::from_labels(&parts).unwrap();
    let modalities = vec![Modality::new("image", image), Modality::new("text", text)];
    FusionData::new(modalities, Target::of_labels(&labels), split).unwrap()
}

/// Late fusion of what logistic regressions say, with a modality missing from a third of the rows, NaN in its place.
#[test]
fn experts_are_better_together() {
    let device = Device::Cpu;
    let mut data = data();
    let present: Vec<bool> = (0..ROWS).map(|row| row % 3 != 0).collect();
    for row in (0..ROWS).filter(|row| !present[*row]) {
        data.modalities[1].features.values[row * 3..][..3].fill(f32::NAN);
    }
    let data = data.with_presence("text", present).unwrap();
    let Target::Classes { numbers, labels } = &data.target else { panic!("classes") };
    let Split { train, validation, test } = &data.split;
    let of = |rows: &[u32]| rows.iter().map(|&row| numbers[row as usize]).collect::<Vec<_>>();
    let experts = Experts::fit(&device, &data, &Probe::default()).unwrap();
    assert_eq!(&experts.labels, labels);
    let unseen = experts.out_of_fold(&device, &data, 4, 0).unwrap();
    assert!(unseen == experts.out_of_fold(&device, &data, 4, 0).unwrap());
    let of_train = experts.probabilities(&device, &data, train).unwrap();
    assert!(unseen[0].values != of_train[0].values, "no row is told by who has seen it");
    let of_validation = experts.probabilities(&device, &data, validation).unwrap();
    let of_test = experts.probabilities(&device, &data, test).unwrap();
    let presence = |rows: &[u32]| data.presence(rows).unwrap();
    let learned = LateRule::learned_mean(&unseen, &of(train), &presence(train)).unwrap();
    let stacking = LateRule::stacking(
        &device,
        (&unseen, &of(train), &presence(train)),
        (&of_validation, &of(validation), &presence(validation)),
    )
    .unwrap();
    let accuracy = |p: &Features| {
        let all = Presence::all(p.rows, 1);
        let ballots = Ballots { experts: &[&p.values], classes: 4, presence: &all };
        ClassScores::new(&ballots.soft(&[1.]).unwrap(), &of(test), 4).unwrap().accuracy
    };
    let alone = accuracy(&of_test[0]);
    let product = LateRule::Product { weights: vec![1., 1.], prior: None };
    let over_prior = LateRule::Product { weights: vec![1., 1.], prior: Some(vec![0.25; 4]) };
    for rule in [
        LateRule::Mean(vec![1., 1.]),
        learned,
        LateRule::Maximum,
        product,
        over_prior,
        stacking,
        LateRule::HardVote(vec![1., 0.9]),
    ] {
        for device in [Device::Cpu, common::gpu()] {
            let fused = rule.combine(&device, &of_test, &presence(test)).unwrap();
            assert!(fused.values.iter().all(|v| (0. ..=1.0001).contains(v)), "{rule:?}");
            let together = accuracy(&fused);
            let votes = matches!(rule, LateRule::HardVote(_));
            assert!(together > alone || votes && together >= alone, "{rule:?}: {together}, {alone}");
        }
    }
    let said = |error: crossmodal::Error| error.to_string();
    assert!(
        said(experts.out_of_fold(&device, &data, 1, 0).unwrap_err()).contains("folds: expected 2 to 120")
    );
    let short = LateRule::Maximum.combine(&device, &of_test[..1], &presence(test)).unwrap_err();
    assert!(said(short).contains("expected 2 of 60 rows and the same classes, got 60 x 4"));
    let labels = LateRule::learned_mean(&unseen, &[9; 120], &presence(train)).unwrap_err();
    assert!(said(labels).contains("labels: expected classes below 4, got 9"));
}
