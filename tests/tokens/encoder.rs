//! The transformer's encoder.

use crate::plain::Plain;
use crate::shared;
use crate::trial::{Trial, close, sample};
use crossmodal::nn::{
    Bound, Dropout, DropoutStep, Encoder, EncoderLayer, EncoderOptions, NormPlace, Parameters, generator,
};
use crossmodal::ops::Mask;
use crossmodal::optim::AdamW;
use crossmodal::{DType, Device, Tensor, autograd::Tape, autograd::Var};

const SHAPE: [usize; 3] = [3, 4, 6];
/// The second sample has one token, the last has none.
const KEPT: [bool; 12] = [true, true, false, true, false, true, false, false, false, false, false, false];
const STEP: DropoutStep = DropoutStep { seed: 1, step: 2, first_row: 0 };

fn mask() -> Mask {
    Mask::keep(&SHAPE[..2], &KEPT)
}

fn options(norm: NormPlace) -> EncoderOptions {
    EncoderOptions { norm, kv_heads: 1, hidden: 5, ..EncoderOptions::new(6, 2) }
}

fn encoder(options: &EncoderOptions, layers: usize) -> (Encoder, Parameters) {
    let mut parameters = Parameters::default();
    let made = Encoder::new(&Device::Cpu, &mut parameters, "e", layers, options, &mut generator(0, 0));
    (made.unwrap(), parameters)
}

fn trial(
    options: &EncoderOptions,
    layers: usize,
    mask: Option<Mask>,
    step: Option<DropoutStep>,
) -> Trial<'static> {
    let (encoder, parameters) = encoder(options, layers);
    Trial::new(parameters, &[&SHAPE], move |tape, bound, x| {
        vec![encoder.forward(tape, bound, x[0], mask.as_ref(), step.as_ref()).unwrap()]
    })
}

#[test]
fn it_is_its_formula() {
    for norm in [NormPlace::Before, NormPlace::After] {
        for (mask, kept) in [(None, [true; 12]), (Some(mask()), KEPT)] {
            let trial = trial(&options(norm), 2, mask, None);
            let plain = Plain::new(&trial.parameters);
            let got = &trial.run(&Device::Cpu, DType::F64).results[0];
            for b in 0..SHAPE[0] {
                let kept = &kept[b * SHAPE[1]..][..SHAPE[1]];
                let mut y = sample(&trial.inputs[0], b);
                for name in ["e.0", "e.1"] {
                    y = plain.encoder_layer(name, norm, &y, kept);
                }
                if norm == NormPlace::Before {
                    y = plain.norm("e.norm", &y);
                }
                let own = &got[b * SHAPE[1] * SHAPE[2]..][..SHAPE[1] * SHAPE[2]];
                close(own, &Plain::kept(y, kept).concat(), 1e-11, &format!("{norm:?}, sample {b}"));
            }
        }
    }
}

#[test]
fn gradients_agree_with_finite_differences_and_on_every_device() {
    for norm in [NormPlace::Before, NormPlace::After] {
        trial(&options(norm), 2, None, None).check(&format!("{norm:?}"));
        trial(&options(norm), 1, Some(mask()), None).check(&format!("{norm:?}, masked"));
        let options = EncoderOptions { dropout: 0.3, ..options(norm) };
        trial(&options, 2, Some(mask()), Some(STEP)).check(&format!("{norm:?}, dropout"));
    }
}

#[test]
fn masked_tokens_leave_no_trace() {
    for norm in [NormPlace::Before, NormPlace::After] {
        for mask in [mask(), Mask::drop(&SHAPE[..2], &KEPT.map(|kept| !kept))] {
            let trial = trial(&options(norm), 2, Some(mask), None);
            trial.leaves_no_trace(&|_, token| !KEPT[token], &format!("{norm:?}"));
            let y = &trial.run(&shared::gpu(), DType::F32).results[0];
            for (token, kept) in y.chunks(SHAPE[2]).zip(KEPT) {
                assert_eq!(token.iter().any(|v| *v != 0.), kept, "{norm:?}: {token:?}");
            }
        }
    }
    let mut parameters = Parameters::default();
    let options = options(NormPlace::After);
    let made = EncoderLayer::new(&Device::Cpu, &mut parameters, "l", &options, &mut generator(0, 0)).unwrap();
    let alone = Trial::new(parameters, &[&SHAPE], |tape, bound, x| {
        vec![made.forward(tape, bound, x[0], Some(&mask()), None).unwrap()]
    });
    alone.leaves_no_trace(&|_, token| !KEPT[token], "a layer alone");
}

/// With biases of 1 the attention and the MLP of zero weights add 1 each, or what dropout makes of it: which elements shows.
#[test]
fn what_the_attention_and_the_mlp_add_is_dropped_by_numbers_of_their_own() {
    for device in [Device::Cpu, shared::gpu()] {
        let options = EncoderOptions { dropout: 0.5, first_dropout: 7, ..options(NormPlace::Before) };
        let mut parameters = Parameters::default();
        let made = EncoderLayer::new(&device, &mut parameters, "l", &options, &mut generator(0, 0)).unwrap();
        for parameter in parameters.iter_mut() {
            let ends =
                ["attention.output.bias", "mlp.1.bias"].iter().any(|end| parameter.name.ends_with(end));
            let values = vec![if ends { 1f32 } else { 0. }; parameter.value.len()];
            parameter.value = Tensor::from_vec(&device, parameter.value.shape(), values).unwrap();
        }
        let run = |step: Option<&DropoutStep>, rows: usize| {
            let tape = Tape::no_grad();
            let x = tape.leaf(&Tensor::zeros(&device, &[rows, 4, 6], DType::F32).unwrap());
            let y = made.forward(&tape, &parameters.on(&tape), &x, None, step).unwrap();
            y.value().to_vec::<f32>().unwrap()
        };
        assert_eq!(run(None, 3), [2.; 72]);
        let tape = Tape::no_grad();
        let ones = tape.leaf(&Tensor::from_slice(&device, &[3, 4, 6], &[1f32; 72]).unwrap());
        let [a, b] = [7, 8].map(|layer| {
            let dropped = Dropout { p: 0.5, layer }.forward(&tape, &ones, Some(&STEP)).unwrap();
            dropped.value().to_vec::<f32>().unwrap()
        });
        let want: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
        assert_eq!(run(Some(&STEP), 3), want, "{}", device.name());
        let parts = [run(Some(&STEP), 1), run(Some(&DropoutStep { first_row: 1, ..STEP }), 2)].concat();
        assert_eq!(parts, want, "in two parts");
    }
    // Layers of an encoder are numbered on.
    let (made, _) =
        encoder(&EncoderOptions { dropout: 0.5, first_dropout: 3, ..options(NormPlace::After) }, 2);
    let debug = format!("{made:?}");
    for layer in 3..=6 {
        assert_eq!(debug.matches(&format!("Dropout {{ p: 0.5, layer: {layer} }}")).count(), 1, "{debug}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let sound = options(NormPlace::Before);
    let refused = |layers: usize, options: EncoderOptions| {
        let (mut parameters, mut random) = (Parameters::default(), generator(0, 0));
        let made = Encoder::new(&Device::Cpu, &mut parameters, "e", layers, &options, &mut random);
        assert!(parameters.is_empty(), "nothing is left of what was refused");
        made.unwrap_err().to_string()
    };
    assert!(refused(0, sound).contains("layers: expected at least one, got 0"));
    assert!(
        refused(1, EncoderOptions { width: 0, ..sound }).contains("sizes: expected at least one feature")
    );
    assert!(
        refused(1, EncoderOptions { hidden: 0, ..sound }).contains("sizes: expected at least one feature")
    );
    assert!(refused(1, EncoderOptions { heads: 4, ..sound }).contains("heads: expected a divisor"));
    for dropout in [1., -0.1, f64::NAN] {
        assert!(
            refused(1, EncoderOptions { dropout, ..sound })
                .contains("dropout: expected p of 0 to less than 1")
        );
    }
    let (encoder, parameters) = encoder(&sound, 1);
    let tape = Tape::no_grad();
    let forward = |shape: &[usize], mask: Option<Mask>| {
        let x = tape.leaf(&Tensor::zeros(&Device::Cpu, shape, DType::F32).unwrap());
        encoder.forward(&tape, &parameters.on(&tape), &x, mask.as_ref(), None).unwrap_err().to_string()
    };
    for shape in [&[4, 6][..], &[3, 4, 5], &[1, 3, 4, 6]] {
        let message = forward(shape, None);
        assert!(
            message.contains("Encoder: x: expected three axes: batch, length, a width of 6"),
            "{message}"
        );
    }
    let message = forward(&SHAPE, Some(Mask::keep(&[4, 3], &[true; 12])));
    assert!(
        message.contains("key_mask: expected shape [3, 4], an element for each token, got shape [4, 3]"),
        "{message}"
    );
}

#[test]
fn it_learns() {
    for device in [Device::Cpu, shared::gpu()] {
        for norm in [NormPlace::Before, NormPlace::After] {
            let mut parameters = Parameters::default();
            let made =
                Encoder::new(&device, &mut parameters, "e", 2, &options(norm), &mut generator(0, 0)).unwrap();
            let target: Vec<f32> = (0..72).map(|i| (i * 37 % 19) as f32 / 9. - 1.).collect();
            let target = Tensor::from_vec(&device, &SHAPE, target).unwrap();
            let error = |tape: &Tape, bound: &Bound| -> Var {
                let y = made.forward(tape, bound, &tape.constant(&target), None, None).unwrap();
                crate::trial::squared_error(tape, &y, &target)
            };
            let value = |parameters: &Parameters| {
                let tape = Tape::no_grad();
                error(&tape, &parameters.on(&tape)).value().item().unwrap()
            };
            let (first, mut optimiser) = (value(&parameters), AdamW::new(&parameters).unwrap());
            for _ in 0..40 {
                let tape = Tape::new();
                let bound = parameters.on(&tape);
                let gradients = bound.gradients(&tape.backward(&error(&tape, &bound)).unwrap());
                optimiser.step(&mut parameters, &gradients, 0.01).unwrap();
            }
            let last = value(&parameters);
            assert!(last < 0.3 * first, "{norm:?} on {}: from {first} to {last}", device.name());
        }
    }
}
