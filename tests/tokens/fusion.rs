//! Fusions of tokens: each against its formula, finite differences, and what is missing.

use crate::plain::Plain;
use crate::setup::{ATTENDING, BATCH, KINDS, Kind, LENGTHS, PRESENT, Setup, WIDTHS, setups};
use crate::shared;
use crate::trial::{Trial, close, sample};
use crossmodal::fusion::{BottleneckFusion, CrossAttention, Presence, TokenBatch};
use crossmodal::nn::{NormPlace, Parameters, generator};
use crossmodal::ops::{AttentionWeights, Mask};
use crossmodal::{DType, Device, Tensor};

#[test]
fn each_is_its_formula() {
    for setup in setups() {
        let trial = setup.trial();
        let plain = Plain::new(&trial.parameters);
        let got = trial.run(&Device::Cpu, DType::F64).results;
        let mut want = vec![vec![]; got.len()];
        for b in 0..BATCH {
            let x: Vec<_> = trial.inputs.iter().map(|x| sample(x, b)).collect();
            let there =
                |m: usize| (0..LENGTHS[m]).map(|i| setup.is_there(m, b * LENGTHS[m] + i)).collect::<Vec<_>>();
            let there: Vec<_> = (0..x.len()).map(there).collect();
            for (want, own) in want.iter_mut().zip(setup.formula(&plain, &x, &there)) {
                want.extend(own.concat());
            }
        }
        close(&got.concat(), &want.concat(), 1e-11, &format!("{setup:?}"));
    }
}

#[test]
fn gradients_agree_with_finite_differences_and_on_every_device() {
    for setup in setups() {
        setup.trial().check(&format!("{setup:?}"));
    }
    for kind in KINDS {
        let setup = Setup { kind, norm: NormPlace::Before, gaps: true, dropout: 0.3 };
        setup.trial().check(&format!("{setup:?}"));
    }
}

#[test]
fn what_is_missing_leaves_no_trace() {
    for setup in setups().into_iter().filter(|setup| setup.gaps) {
        let what = format!("{setup:?}");
        setup.trial().leaves_no_trace(&|m, token| !setup.is_there(m, token), &what);
    }
}

/// Whatever the attention over the other modality is, a sample without that one is the same, to the bit.
#[test]
fn over_a_missing_modality_attention_adds_exactly_nothing() {
    for device in [Device::Cpu, shared::gpu()] {
        for setup in setups().into_iter().filter(|setup| setup.gaps && ATTENDING.contains(&setup.kind)) {
            let mut trial = setup.trial();
            let before = trial.run(&device, DType::F32).results;
            for parameter in trial.parameters.iter_mut() {
                if ["f.attention.", "f.0.attention.", "f.1.attention."]
                    .iter()
                    .any(|own| parameter.name.starts_with(own))
                {
                    let (shape, count) = (parameter.value.shape().to_vec(), parameter.value.len());
                    parameter.value =
                        Tensor::from_f64(&Device::Cpu, &shape, DType::F64, vec![0.3; count]).unwrap();
                }
            }
            let after = trial.run(&device, DType::F32).results;
            for (m, (before, after)) in before.iter().zip(&after).enumerate() {
                let size = LENGTHS[m] * WIDTHS[m];
                for (b, (before, after)) in before.chunks(size).zip(after.chunks(size)).enumerate() {
                    let both = PRESENT[m][b] && PRESENT[1 - m][b];
                    assert_eq!(before != after, both, "{setup:?} on {}: {m} of sample {b}", device.name());
                    assert_eq!(before.iter().any(|v| *v != 0.), PRESENT[m][b], "{setup:?}: {before:?}");
                }
            }
        }
    }
}

#[test]
fn weights_of_cross_attention_are_those_of_its_formula() {
    let setup = Setup { kind: Kind::Cross, norm: NormPlace::Before, gaps: true, dropout: 0. };
    let mut parameters = Parameters::default();
    let options = setup.options(6, 0);
    let made =
        CrossAttention::new(&Device::Cpu, &mut parameters, "f", 4, &options, &mut generator(0, 0)).unwrap();
    let presence = setup.presence();
    let trial = Trial::new(parameters, &[&[BATCH, 3, 6], &[BATCH, 2, 4]], |tape, bound, x| {
        let batch = TokenBatch { tokens: x, masks: &[], presence: &presence };
        let seen = made.forward_with_weights(tape, bound, &batch, None, AttentionWeights::PerHead).unwrap();
        vec![seen.weights.unwrap()]
    });
    let plain = Plain::new(&trial.parameters);
    let mut want = vec![];
    // The others lack the queries' tokens: what those look at means nothing.
    for (b, there) in PRESENT[1][..2].iter().enumerate() {
        let [x, c] = [0, 1].map(|m| sample(&trial.inputs[m], b));
        let (x, c) = (plain.norm("f.attention_norm", &x), plain.norm("f.context_norm", &c));
        let own = plain.attention("f.attention", (2, 1), [&x, &c, &c], &|_, _| *there);
        want.extend(own.1.concat().concat());
    }
    for device in [Device::Cpu, shared::gpu()] {
        let got = trial.run(&device, DType::F32).results.concat();
        close(&got[..want.len()], &want, 1e-5, &format!("weights on {}", device.name()));
    }
}

/// What only a modality that a sample lacks goes through leaves it the same, to the bit, and moves every other.
#[test]
fn weights_of_a_missing_modality_change_nothing() {
    let kinds = [
        (Kind::Merged, "f.1."),
        (Kind::Bottleneck, "f.1."),
        (Kind::Bottleneck, "f.layers.0.1."),
        (Kind::Resampler, "f.1."),
    ];
    for device in [Device::Cpu, shared::gpu()] {
        for (kind, own) in kinds {
            let mut trial = Setup { kind, norm: NormPlace::Before, gaps: true, dropout: 0. }.trial();
            let before = trial.run(&device, DType::F32).results;
            for parameter in trial.parameters.iter_mut().filter(|p| p.name.starts_with(own)) {
                let (shape, values) =
                    (parameter.value.shape().to_vec(), parameter.value.to_f64_vec().unwrap());
                let values = values.iter().map(|v| 0.5 - v).collect();
                parameter.value = Tensor::from_f64(&Device::Cpu, &shape, DType::F64, values).unwrap();
            }
            let after = trial.run(&device, DType::F32).results;
            for (m, (before, after)) in before.iter().zip(&after).enumerate() {
                let size = before.len() / BATCH;
                for (b, (before, after)) in before.chunks(size).zip(after.chunks(size)).enumerate() {
                    // A resampler's result is no modality's.
                    let own = PRESENT.get(m).filter(|_| kind != Kind::Resampler);
                    let moved = PRESENT[1][b] && own.is_none_or(|of| of[b]);
                    assert_eq!(before != after, moved, "{kind:?} on {}: {m} of sample {b}", device.name());
                }
            }
        }
    }
}

/// A modality of which a sample has only padding is one that it lacks.
#[test]
fn a_modality_of_padding_alone_is_missing() {
    for setup in setups().into_iter().filter(|setup| !setup.gaps) {
        let mut parameters = Parameters::default();
        let fusion = setup.fusion(&mut parameters);
        let shapes: Vec<_> = (0..setup.modalities()).map(|m| [BATCH, LENGTHS[m], WIDTHS[m]]).collect();
        let shapes: Vec<_> = shapes.iter().map(|shape| &shape[..]).collect();
        let there: Vec<_> = (0..BATCH * LENGTHS[1]).map(|token| PRESENT[1][token / LENGTHS[1]]).collect();
        let mask = Mask::keep(&[BATCH, LENGTHS[1]], &there);
        let (masks, all) = ([None, Some(&mask), None], Presence::all(BATCH, shapes.len()));
        let mut of = vec![None; shapes.len()];
        of[1] = Some(PRESENT[1][..].into());
        let lacking = Presence::new(BATCH, of).unwrap();
        let both = Trial::new(parameters, &shapes, |tape, bound, x| {
            let padded = TokenBatch { tokens: x, masks: &masks[..x.len()], presence: &all };
            let lacking = TokenBatch { tokens: x, masks: &[], presence: &lacking };
            [fusion(tape, bound, &padded), fusion(tape, bound, &lacking)].concat()
        });
        for device in [Device::Cpu, shared::gpu()] {
            let got = both.run(&device, DType::F32).results;
            let (padded, lacking) = got.split_at(got.len() / 2);
            assert_eq!(padded, lacking, "{setup:?} on {}", device.name());
        }
    }
}

/// What one modality tells another takes two layers: into the bottleneck and out of it.
#[test]
fn modalities_meet_in_the_bottleneck_alone() {
    for layers in [1, 2] {
        let mut parameters = Parameters::default();
        let options = setups()[0].options(6, 0);
        let (sizes, mut random) = ((2, layers), generator(0, 0));
        let made = BottleneckFusion::new(
            &Device::Cpu,
            &mut parameters,
            "f",
            &WIDTHS[..2],
            sizes,
            &options,
            &mut random,
        );
        let (made, presence) = (made.unwrap(), Presence::all(BATCH, 2));
        let trial = Trial::new(parameters, &[&[BATCH, 3, 6], &[BATCH, 2, 4]], |tape, bound, x| {
            let batch = TokenBatch { tokens: x, masks: &[], presence: &presence };
            vec![made.forward(tape, bound, &batch, None).unwrap().tokens.swap_remove(0)]
        });
        for device in [Device::Cpu, shared::gpu()] {
            let of_other = &trial.run(&device, DType::F32).of_inputs[1];
            let moves = of_other.iter().filter(|v| **v != 0.).count();
            assert_eq!(moves, if layers == 1 { 0 } else { of_other.len() }, "on {}", device.name());
        }
    }
}
