//! Gates of gated cross-attention while they are shut.

use crate::setup::{BATCH, Kind, LENGTHS, Setup, WIDTHS};
use crate::shared;
use crate::trial::Trial;
use crossmodal::nn::NormPlace;
use crossmodal::{DType, Device, Tensor};

const IS_GATE: fn(&str) -> bool = |name| name.ends_with("_gate");

/// Inner weights are any numbers, gates are 0.
fn shut(gaps: bool, dropout: f64) -> (Setup, Trial<'static>) {
    let setup = Setup { kind: Kind::Gated, norm: NormPlace::Before, gaps, dropout };
    let mut trial = setup.trial();
    for gate in trial.parameters.iter_mut().filter(|p| IS_GATE(&p.name)) {
        gate.value = Tensor::scalar(&Device::Cpu, 0f64).unwrap();
    }
    (setup, trial)
}

#[test]
fn shut_gates_are_the_identity_and_only_they_have_a_gradient() {
    for (gaps, dropout) in [(false, 0.), (true, 0.), (true, 0.3)] {
        let (setup, trial) = shut(gaps, dropout);
        let rounded = |v: &f64| f64::from(*v as f32);
        for device in [Device::Cpu, shared::gpu()] {
            let what = format!("{setup:?} on {}", device.name());
            let got = trial.run(&device, DType::F32);
            let x = trial.inputs[0].1.chunks(WIDTHS[0]).enumerate().flat_map(|(token, x)| {
                let there = setup.is_there(0, token);
                x.iter().map(move |v| if there { rounded(v) } else { 0. })
            });
            assert_eq!(got.results[0], x.collect::<Vec<_>>(), "{what}");
            assert!(got.of_inputs[1].iter().all(|v| *v == 0.), "{what}: of the media");
            // The upstream gradient as it is: what the block gets, x gets.
            for token in 0..BATCH * LENGTHS[0] {
                let own = &got.of_inputs[0][token * WIDTHS[0]..][..WIDTHS[0]];
                assert_eq!(own.iter().all(|v| *v != 0.), setup.is_there(0, token), "{what}: {own:?}");
            }
            for (parameter, gradient) in trial.parameters.iter().zip(&got.of_parameters) {
                let zero = gradient.iter().all(|v| *v == 0.);
                assert_eq!(zero, !IS_GATE(&parameter.name), "{what}: {}: {gradient:?}", parameter.name);
            }
        }
    }
}

#[test]
fn gradients_at_shut_gates_agree_with_finite_differences() {
    shut(true, 0.).1.check("shut gates");
}
