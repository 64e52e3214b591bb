//! Layers: what they start from, known values, finite differences in f64 through all of them, and every device against that.

mod common;

use crossmodal::autograd::{Tape, Var};
use crossmodal::nn::{
    Bound, Dropout, DropoutStep, Embedding, LayerNorm, Linear, Parameters, PositionalEmbedding, RmsNorm,
    generator,
};
use crossmodal::ops::binary::BINARY;
use crossmodal::ops::reduce::REDUCE;
use crossmodal::ops::{Binary, Indices, Reduce, ReduceOptions, cast};
use crossmodal::optim::AdamW;
use crossmodal::{DType, Device, Tensor};

const VOCABULARY: usize = 7;
const WIDTH: usize = 5;
const SHAPE: [usize; 2] = [3, 4];
const TOKENS: [u32; 12] = [0, 3, 3, 6, 1, 0, 2, 2, 5, 4, 4, 6];
const STEP: DropoutStep = DropoutStep { seed: 1, step: 2, first_row: 0 };

/// Every layer of this file, one behind the other.
struct Model {
    parameters: Parameters,
    tokens: Embedding,
    positions: PositionalEmbedding,
    waves: PositionalEmbedding,
    norm: LayerNorm,
    linear: Linear,
    rms: RmsNorm,
}

impl Model {
    fn new(device: &Device) -> Model {
        let (mut p, mut random) = (Parameters::default(), generator(0, 0));
        let sizes = (SHAPE[1] + 2, WIDTH);
        Model {
            tokens: Embedding::new(device, &mut p, "tokens", (VOCABULARY, WIDTH), &mut random).unwrap(),
            positions: PositionalEmbedding::learned(device, &mut p, "positions", sizes, &mut random).unwrap(),
            waves: PositionalEmbedding::sinusoidal(device, sizes).unwrap(),
            norm: LayerNorm::new(device, &mut p, "norm", WIDTH).unwrap(),
            linear: Linear::new(device, &mut p, "linear", (WIDTH, WIDTH), &mut random).unwrap(),
            rms: RmsNorm::new(device, &mut p, "rms", WIDTH).unwrap(),
            parameters: p,
        }
    }

    fn hidden(&self, tape: &Tape, bound: &Bound, step: Option<&DropoutStep>) -> Var {
        let place = self.parameters.iter().next().unwrap().value.device().clone();
        let tokens = Indices::new(&place, &TOKENS).unwrap();
        let x = self.tokens.forward(tape, bound, &tokens, &SHAPE).unwrap();
        let x = self.positions.forward(tape, bound, &x).unwrap();
        let x = self.waves.forward(tape, bound, &x).unwrap();
        let x = Dropout { p: 0.25, layer: 0 }.forward(tape, &x, step).unwrap();
        let x = self.norm.forward(tape, bound, &x).unwrap();
        let x = self.linear.forward(tape, bound, &x).unwrap();
        self.rms.forward(tape, bound, &x).unwrap()
    }

    /// The sum of the result times numbers that tell its elements apart, and its gradients.
    fn loss(&self, tape: &Tape, bound: &Bound) -> Var {
        let y = self.hidden(tape, bound, Some(&STEP));
        let (device, dtype) = (y.value().device().clone(), y.dtype());
        let weights = (0..y.value().len()).map(|i| (i * 37 % 19) as f64 / 9. - 1.).collect();
        let weights = Tensor::from_f64(&device, y.value().shape(), dtype, weights).unwrap();
        let product = tape.apply(&BINARY, Binary::Mul, &[&y, &tape.constant(&weights)]).unwrap();
        let flat = tape.reshape(&product, &[y.value().len()]).unwrap();
        let sum = ReduceOptions { kind: Reduce::Sum, axis: 0, keep_axis: false };
        tape.apply(&REDUCE, sum, &[&flat]).unwrap()
    }

    fn value(&self) -> f64 {
        let tape = Tape::no_grad();
        self.loss(&tape, &self.parameters.on(&tape)).value().item().unwrap()
    }

    fn gradients(&self) -> Vec<Vec<f64>> {
        let tape = Tape::new();
        let bound = self.parameters.on(&tape);
        let gradients = tape.backward(&self.loss(&tape, &bound)).unwrap();
        let gradients = bound.gradients(&gradients);
        gradients.into_iter().map(|g| g.expect("it depends on every layer").to_f64_vec().unwrap()).collect()
    }

    fn in_f64() -> Model {
        let mut model = Model::new(&Device::Cpu);
        let widen = |tensor: &Tensor| cast(tensor, DType::F64).unwrap();
        model.parameters.iter_mut().for_each(|parameter| parameter.value = widen(&parameter.value));
        model
    }
}

fn devices() -> [Device; 2] {
    [Device::Cpu, common::gpu()]
}

#[test]
fn gradients_agree_with_finite_differences_and_on_every_device() {
    let mut exact = Model::in_f64();
    let gradients = exact.gradients();
    let values: Vec<_> = exact.parameters.iter().map(|parameter| parameter.value.clone()).collect();
    for (i, (value, gradient)) in values.iter().zip(&gradients).enumerate() {
        for at in 0..gradient.len() {
            let mut shifted = |h: f64| {
                let mut values = value.to_f64_vec().unwrap();
                values[at] += h;
                let moved = Tensor::from_vec(&Device::Cpu, value.shape(), values).unwrap();
                exact.parameters.iter_mut().nth(i).unwrap().value = moved;
                exact.value()
            };
            let numeric = (shifted(1e-6) - shifted(-1e-6)) / 2e-6;
            let got = gradient[at];
            assert!(
                (numeric - got).abs() < 1e-7 * (1. + got.abs()),
                "{i}[{at}]: {got}, numerically {numeric}"
            );
        }
        exact.parameters.iter_mut().nth(i).unwrap().value = value.clone();
    }
    for device in devices() {
        let model = Model::new(&device);
        assert!((model.value() - exact.value()).abs() < 1e-4, "{}: {}", device.name(), model.value());
        for (i, (got, want)) in model.gradients().iter().zip(&gradients).enumerate() {
            for (got, want) in got.iter().zip(want) {
                let allowed = 1e-4 * (1. + want.abs());
                assert!((got - want).abs() < allowed, "{}, parameter {i}: {got}, want {want}", device.name());
            }
        }
        assert_eq!(model.gradients(), model.gradients(), "{}: other bits", device.name());
    }
}

#[test]
fn layers_start_from_what_the_papers_say() {
    for device in devices() {
        let model = Model::new(&device);
        let decays: Vec<_> = model.parameters.iter().map(|p| (p.name.as_str(), p.decays)).collect();
        let want = [
            ("tokens.weight", true),
            ("positions.weight", true),
            ("norm.weight", false),
            ("norm.bias", false),
            ("linear.weight", true),
            ("linear.bias", false),
            ("rms.weight", false),
        ];
        assert_eq!(decays, want);
        // What the bias and weight of a norm start from leaves its rows of mean square one.
        let tape = Tape::no_grad();
        let y = model.hidden(&tape, &model.parameters.on(&tape), None).value().to_f64_vec().unwrap();
        for row in y.chunks(WIDTH) {
            let square = row.iter().map(|v| v * v).sum::<f64>() / WIDTH as f64;
            assert!((square - 1.).abs() < 1e-3, "{}: {square}", device.name());
        }
    }
}

#[test]
fn a_table_of_tokens_is_normal_of_deviation_one_fiftieth() {
    let mut parameters = Parameters::default();
    let made = Embedding::new(&Device::Cpu, &mut parameters, "t", (400, 50), &mut generator(3, 1)).unwrap();
    let values = parameters.get(made.weight).value.to_f64_vec().unwrap();
    let moment = |power: i32| values.iter().map(|v| (v / 0.02).powi(power)).sum::<f64>() / 20_000.;
    let [mean, variance, skew, fourth] = [1, 2, 3, 4].map(moment);
    // Four deviations of each estimate: √(1, 2, 15, 96) / √20000.
    let found = [mean, variance - 1., skew, fourth - 3.];
    for (found, allowed) in found.iter().zip([0.03, 0.04, 0.11, 0.28]) {
        assert!(found.abs() < allowed, "{found:?}: {values:.3?}", values = &values[..5]);
    }
}

/// The table by complex turns, not by the formula that made it.
#[test]
fn waves_have_the_lengths_of_the_formula() {
    for device in devices() {
        for width in [1, 2, 5, 8] {
            let waves = PositionalEmbedding::sinusoidal(&device, (40, width)).unwrap();
            let PositionalEmbedding::Sinusoidal(table) = &waves else { panic!("a constant") };
            let values = table.to_f64_vec().unwrap();
            for column in 0..width {
                let step = (-((column / 2 * 2) as f64) / width as f64 * 1e4f64.ln()).exp();
                let (mut sin, mut cos) = (0f64, 1f64);
                for position in 0..40 {
                    let want = if column % 2 == 0 { sin } else { cos };
                    let got = values[position * width + column];
                    assert!(
                        (got - want).abs() < 1e-6,
                        "P[{position}, {column}] of {width}: {got}, not {want}"
                    );
                    (sin, cos) = (sin * step.cos() + cos * step.sin(), cos * step.cos() - sin * step.sin());
                }
            }
        }
    }
}

/// Rows behind the sequence have no part in it, and no gradient.
#[test]
fn sequences_may_be_shorter_than_the_table() {
    for device in devices() {
        let mut parameters = Parameters::default();
        let made = PositionalEmbedding::learned(&device, &mut parameters, "p", (5, 2), &mut generator(0, 0));
        let positions = made.unwrap();
        let table = parameters.iter().next().unwrap().value.to_f64_vec().unwrap();
        for length in [1, 3, 5] {
            let tape = Tape::new();
            let bound = parameters.on(&tape);
            let zeros = |shape: &[usize]| tape.constant(&Tensor::zeros(&device, shape, DType::F32).unwrap());
            let y = positions.forward(&tape, &bound, &zeros(&[3, length, 2])).unwrap();
            assert_eq!(y.value().to_f64_vec().unwrap(), table[..2 * length].repeat(3));
            let ones = Tensor::from_vec(&device, &[3, length, 2], vec![1f32; 6 * length]).unwrap();
            let gradients = bound.gradients(&tape.backward_from(&y, &ones).unwrap());
            let want: Vec<_> = (0..10).map(|i| if i < 2 * length { 3. } else { 0. }).collect();
            assert_eq!(gradients[0].as_ref().unwrap().to_f64_vec().unwrap(), want);
            for shape in [&[3, 6, 2][..], &[3, 5, 1], &[2], &[]] {
                let message = positions.forward(&tape, &bound, &zeros(shape)).unwrap_err().to_string();
                assert!(message.contains("at most 5 positions"), "{message}");
            }
        }
    }
}

#[test]
fn repeated_tokens_add_their_gradients_up() {
    for device in devices() {
        let mut parameters = Parameters::default();
        let table: Vec<f32> = (0..6).map(|i| i as f32).collect();
        let made = Embedding::from_weights(&device, &mut parameters, "t", (3, 2), table).unwrap();
        let (tape, tokens) = (Tape::new(), Indices::new(&device, &[2, 0, 2, 2]).unwrap());
        let bound = parameters.on(&tape);
        let y = made.forward(&tape, &bound, &tokens, &[2, 2]).unwrap();
        assert_eq!(y.value().shape(), [2, 2, 2]);
        assert_eq!(y.value().to_f64_vec().unwrap(), [4., 5., 0., 1., 4., 5., 4., 5.]);
        let gradients = bound.gradients(&tape.backward_from(&y, y.value()).unwrap());
        assert_eq!(gradients[0].as_ref().unwrap().to_f64_vec().unwrap(), [0., 1., 0., 0., 12., 15.]);
        let unknown = Indices::new(&device, &[3]).unwrap();
        let message = made.forward(&tape, &bound, &unknown, &[1]).unwrap_err().to_string();
        assert!(message.contains("row numbers below 3, got 3"), "{message}");
        assert!(made.forward(&tape, &bound, &tokens, &[3]).is_err(), "four tokens are no three");
    }
}

#[test]
fn dropout_is_a_function_of_seed_step_layer_and_place() {
    let mut everywhere = vec![];
    for device in devices() {
        let ones = |rows: usize| Tensor::from_vec(&device, &[rows, 50], vec![1f32; rows * 50]).unwrap();
        let drop = |layer: u64, step: DropoutStep, rows: usize| {
            let (tape, dropout) = (Tape::no_grad(), Dropout { p: 0.5, layer });
            let x = tape.constant(&ones(rows));
            dropout.forward(&tape, &x, Some(&step)).unwrap().value().to_vec::<f32>().unwrap()
        };
        let whole = drop(0, STEP, 8);
        let others = [
            drop(1, STEP, 8),
            drop(0, DropoutStep { step: 3, ..STEP }, 8),
            drop(0, DropoutStep { seed: 2, ..STEP }, 8),
            // The seed and the step change places.
            drop(0, DropoutStep { seed: STEP.step, step: STEP.seed, ..STEP }, 8),
        ];
        for other in &others {
            let same = whole.iter().zip(other).filter(|(a, b)| a == b).count();
            assert!((140..260).contains(&same), "{same} of 400 are the same: half should be");
        }
        let parts = [drop(0, STEP, 3), drop(0, DropoutStep { first_row: 3, ..STEP }, 5)].concat();
        assert_eq!(parts, whole, "in two parts");
        everywhere.push(whole);
    }
    assert_eq!(everywhere[0], everywhere[1], "on every device the same");
    let tape = Tape::no_grad();
    let x = tape.constant(&Tensor::scalar(&Device::Cpu, 3f32).unwrap());
    let of = |p: f64, step: Option<&DropoutStep>| Dropout { p, layer: 0 }.forward(&tape, &x, step);
    assert_eq!(of(0., Some(&STEP)).unwrap().value().item().unwrap(), 3.);
    assert_eq!(of(0.5, None).unwrap().value().item().unwrap(), 3.);
    assert!(of(1., Some(&STEP)).is_err() && of(f64::NAN, Some(&STEP)).is_err());
}

#[test]
fn what_a_layer_cannot_be_is_refused() {
    let (mut p, cpu) = (Parameters::default(), Device::Cpu);
    let random = || generator(0, 0);
    let zero = [
        LayerNorm::new(&cpu, &mut p, "a", 0).map(drop),
        RmsNorm::new(&cpu, &mut p, "b", 0).map(drop),
        Embedding::new(&cpu, &mut p, "c", (0, 3), &mut random()).map(drop),
        Embedding::new(&cpu, &mut p, "d", (usize::MAX, 3), &mut random()).map(drop),
        PositionalEmbedding::learned(&cpu, &mut p, "e", (3, 0), &mut random()).map(drop),
        PositionalEmbedding::sinusoidal(&cpu, (1 << 20, 1 << 20)).map(drop),
    ];
    for made in zero {
        assert!(made.unwrap_err().to_string().contains("at least one"));
    }
    let norm = LayerNorm::new(&cpu, &mut p, "norm", 3).unwrap();
    assert!(LayerNorm::new(&cpu, &mut p, "norm", 3).is_err(), "the name is taken");
    let tape = Tape::no_grad();
    let x = tape.constant(&Tensor::zeros(&cpu, &[2, 4], DType::F32).unwrap());
    let message = norm.forward(&tape, &p.on(&tape), &x).unwrap_err().to_string();
    assert!(message.contains("layer_norm: weight: expected shape [4], got [3]"), "{message}");
}

#[test]
fn the_layers_learn() {
    for device in devices() {
        let mut model = Model::new(&device);
        let (first, mut optimiser) = (model.value(), AdamW::new(&model.parameters).unwrap());
        for _ in 0..20 {
            let tape = Tape::new();
            let bound = model.parameters.on(&tape);
            let loss = model.loss(&tape, &bound);
            let gradients = bound.gradients(&tape.backward(&loss).unwrap());
            optimiser.step(&mut model.parameters, &gradients, 0.05).unwrap();
        }
        assert!(model.value() < first - 10., "{}: from {first} to {}", device.name(), model.value());
    }
}
