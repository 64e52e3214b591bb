//! A model of several inputs, run anywhere: finite differences in f64, and every device against that.

use crate::plain::Tokens;
use crate::shared;
use crossmodal::autograd::{Tape, Var};
use crossmodal::nn::{Bound, Parameters};
use crossmodal::ops::binary::BINARY;
use crossmodal::ops::reduce::REDUCE;
use crossmodal::ops::{Binary, Reduce, ReduceOptions};
use crossmodal::{DType, Device, Tensor};

type Forward<'a> = dyn Fn(&Tape, &Bound, &[&Var]) -> Vec<Var> + 'a;

/// Parameters and inputs of numbers that look random, and what is made of them.
pub(crate) struct Trial<'a> {
    pub parameters: Parameters,
    pub inputs: Vec<(Vec<usize>, Vec<f64>)>,
    forward: Box<Forward<'a>>,
}

/// The results, and the gradients of inputs and parameters from upstream gradients that differ.
pub(crate) struct Outcome {
    pub results: Vec<Vec<f64>>,
    pub of_inputs: Vec<Vec<f64>>,
    pub of_parameters: Vec<Vec<f64>>,
}

/// Numbers that look random, the same every time.
pub(crate) fn noise(count: usize, phase: f64) -> Vec<f64> {
    (0..count).map(|i| ((i as f64 + 1.) * 12.9898 + phase * 78.233).sin() * 1.3).collect()
}

/// A sample's tokens.
pub(crate) fn sample((shape, values): &(Vec<usize>, Vec<f64>), b: usize) -> Tokens {
    values.chunks(shape[2]).skip(b * shape[1]).take(shape[1]).map(<[f64]>::to_vec).collect()
}

fn sum(tape: &Tape, x: &Var) -> Var {
    let flat = tape.reshape(x, &[x.value().len()]).unwrap();
    let sum = ReduceOptions { kind: Reduce::Sum, axis: 0, keep_axis: false };
    tape.apply(&REDUCE, sum, &[&flat]).unwrap()
}

/// `Σ (y − target)²`.
pub(crate) fn squared_error(tape: &Tape, y: &Var, target: &Tensor) -> Var {
    let error = tape.apply(&BINARY, Binary::Sub, &[y, &tape.constant(target)]).unwrap();
    sum(tape, &tape.apply(&BINARY, Binary::Mul, &[&error, &error]).unwrap())
}

impl<'a> Trial<'a> {
    /// A model on the CPU whose every parameter, biases included, becomes another number.
    pub(crate) fn new(
        mut parameters: Parameters,
        inputs: &[&[usize]],
        forward: impl Fn(&Tape, &Bound, &[&Var]) -> Vec<Var> + 'a,
    ) -> Trial<'a> {
        for (i, parameter) in parameters.iter_mut().enumerate() {
            let shape = parameter.value.shape().to_vec();
            let values = noise(parameter.value.len(), 10. + i as f64).iter().map(|v| 0.5 * v).collect();
            parameter.value = Tensor::from_f64(&Device::Cpu, &shape, DType::F64, values).unwrap();
        }
        let input = |(i, shape): (usize, &&[usize])| {
            (shape.to_vec(), noise(shape.iter().product(), i as f64 + shape.len() as f64))
        };
        let inputs = inputs.iter().enumerate().map(input).collect();
        Trial { parameters, inputs, forward: Box::new(forward) }
    }

    fn loss(&self, tape: &Tape, bound: &Bound, x: &[Var]) -> (Vec<Var>, Var) {
        let results = (self.forward)(tape, bound, &x.iter().collect::<Vec<_>>());
        let mut loss: Option<Var> = None;
        for (i, y) in results.iter().enumerate() {
            let upstream = noise(y.value().len(), 5. + i as f64);
            let like = y.value();
            let upstream = Tensor::from_f64(like.device(), like.shape(), y.dtype(), upstream).unwrap();
            let own = sum(tape, &tape.apply(&BINARY, Binary::Mul, &[y, &tape.constant(&upstream)]).unwrap());
            loss = Some(match loss {
                Some(before) => tape.apply(&BINARY, Binary::Add, &[&before, &own]).unwrap(),
                None => own,
            });
        }
        (results, loss.unwrap())
    }

    fn placed(&self, device: &Device, dtype: DType) -> (Parameters, Vec<Tensor>) {
        let mut parameters = self.parameters.clone();
        for parameter in parameters.iter_mut() {
            let values = parameter.value.to_f64_vec().unwrap();
            parameter.value = Tensor::from_f64(device, parameter.value.shape(), dtype, values).unwrap();
        }
        let input = |(shape, values): &(Vec<usize>, Vec<f64>)| {
            Tensor::from_f64(device, shape, dtype, values.clone()).unwrap()
        };
        (parameters, self.inputs.iter().map(input).collect())
    }

    pub(crate) fn run(&self, device: &Device, dtype: DType) -> Outcome {
        let (parameters, inputs) = self.placed(device, dtype);
        let tape = Tape::new();
        let bound = parameters.on(&tape);
        let x: Vec<_> = inputs.iter().map(|x| tape.leaf(x)).collect();
        let (results, loss) = self.loss(&tape, &bound, &x);
        let gradients = tape.backward(&loss).unwrap();
        let values = |tensor: Option<&Tensor>, like: &Tensor| {
            tensor.map_or(vec![0.; like.len()], |tensor| tensor.to_f64_vec().unwrap())
        };
        let of_parameters = bound.gradients(&gradients);
        let of_parameters = of_parameters.iter().zip(parameters.iter());
        Outcome {
            results: results.iter().map(|y| y.value().to_f64_vec().unwrap()).collect(),
            of_inputs: x.iter().map(|x| values(gradients.get(x), x.value())).collect(),
            of_parameters: of_parameters.map(|(g, p)| values(g.as_ref(), &p.value)).collect(),
        }
    }

    fn value(&self) -> f64 {
        let (parameters, inputs) = self.placed(&Device::Cpu, DType::F64);
        let tape = Tape::no_grad();
        let x: Vec<_> = inputs.iter().map(|x| tape.constant(x)).collect();
        self.loss(&tape, &parameters.on(&tape), &x).1.value().item().unwrap()
    }

    /// Gradients of every input and parameter against finite differences in f64, and both devices in f32 against f64.
    pub(crate) fn check(&mut self, what: &str) {
        let exact = self.run(&Device::Cpu, DType::F64);
        for (i, gradient) in exact.of_inputs.iter().enumerate() {
            for (at, got) in gradient.iter().enumerate() {
                let own = self.inputs[i].1[at];
                let mut shifted = |h: f64| {
                    self.inputs[i].1[at] = own + h;
                    self.value()
                };
                let numeric = (shifted(1e-6) - shifted(-1e-6)) / 2e-6;
                self.inputs[i].1[at] = own;
                agree(numeric, *got, &format!("{what}: input {i}[{at}]"));
            }
        }
        for (i, gradient) in exact.of_parameters.iter().enumerate() {
            let before = self.parameters.iter().nth(i).unwrap().clone();
            for (at, got) in gradient.iter().enumerate() {
                let mut shifted = |h: f64| {
                    let mut values = before.value.to_f64_vec().unwrap();
                    values[at] += h;
                    let moved = Tensor::from_vec(&Device::Cpu, before.value.shape(), values).unwrap();
                    self.parameters.iter_mut().nth(i).unwrap().value = moved;
                    self.value()
                };
                let numeric = (shifted(1e-6) - shifted(-1e-6)) / 2e-6;
                agree(numeric, *got, &format!("{what}: {}[{at}]", before.name));
            }
            self.parameters.iter_mut().nth(i).unwrap().value = before.value;
        }
        for device in [Device::Cpu, shared::gpu()] {
            let (got, name) = (self.run(&device, DType::F32), device.name());
            close(&got.results.concat(), &exact.results.concat(), 1e-5, &format!("{what} on {name}"));
            let all = |of: &Outcome| [of.of_inputs.concat(), of.of_parameters.concat()].concat();
            close(&all(&got), &all(&exact), 5e-5, &format!("gradients of {what} on {name}"));
        }
    }

    /// On every device the results and all gradients are the same whatever stands in some tokens, which get no gradient.
    pub(crate) fn leaves_no_trace(&self, hidden: &dyn Fn(usize, usize) -> bool, what: &str) {
        for device in [Device::Cpu, shared::gpu()] {
            let clean = self.run(&device, DType::F32);
            let mut odd = Trial {
                parameters: self.parameters.clone(),
                inputs: self.inputs.clone(),
                forward: Box::new(&self.forward),
            };
            for (i, (shape, values)) in odd.inputs.iter_mut().enumerate() {
                let width = *shape.last().unwrap();
                for (token, own) in values.chunks_mut(width).enumerate().filter(|(t, _)| hidden(i, *t)) {
                    own.fill(f64::NAN);
                    let gradient = &clean.of_inputs[i][token * width..][..width];
                    assert_eq!(gradient, vec![0.; width], "{what}: input {i}, token {token}");
                }
            }
            let got = odd.run(&device, DType::F32);
            let name = device.name();
            assert_eq!(got.results, clean.results, "{what} on {name}");
            assert_eq!(got.of_inputs, clean.of_inputs, "{what} on {name}");
            assert_eq!(got.of_parameters, clean.of_parameters, "{what} on {name}");
        }
    }
}

fn agree(numeric: f64, got: f64, what: &str) {
    assert!((numeric - got).abs() < 1e-7 * (1. + got.abs()), "{what}: {got}, numerically {numeric}");
}

pub(crate) fn close(got: &[f64], want: &[f64], bound: f64, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert!((got - want).abs() <= bound * (1. + want.abs()), "{what} [{i}]: {got} instead of {want}");
    }
}
