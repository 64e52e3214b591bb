//! Every backward against finite differences of its forward, in f64 on the CPU, and the tape that chains them.
#![cfg(feature = "verify")]

use crossmodal::autograd::Tape;
use crossmodal::cases::{self, Case, Run, Tolerance};
use crossmodal::ops::binary::BINARY;
use crossmodal::ops::concat::{CONCAT, SPLIT};
use crossmodal::ops::info_nce::INFO_NCE;
use crossmodal::ops::l2_normalize::L2_NORMALIZE;
use crossmodal::ops::matmul::MATMUL;
use crossmodal::ops::reduce::REDUCE;
use crossmodal::ops::unary::UNARY;
use crossmodal::ops::{Binary, Forward, InfoNceOptions, MatmulOptions, Reduce, ReduceOptions, Rule, Unary};
use crossmodal::{DType, Device, Tensor};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// Outputs of a case in f64, split into results and gradients.
fn run(case: &Case, inputs: &[Tensor]) -> (Vec<Tensor>, Vec<(usize, Vec<f64>)>) {
    let run = Run { device: Device::Cpu, dtype: DType::F64, rounded: DType::F64 };
    let outputs = (case.run)(&run, inputs).unwrap();
    let gradient = |(name, tensor): &(String, Tensor)| {
        Some((name.strip_prefix('d')?.parse().ok()?, tensor.to_f64_vec().unwrap()))
    };
    let gradients = outputs.iter().filter_map(gradient).collect();
    (outputs.into_iter().filter(|(name, _)| name.starts_with("out")).map(|(_, t)| t).collect(), gradients)
}

/// `Σ out · upstream`, whose gradient the backward computed.
fn objective(case: &Case, inputs: &[Tensor]) -> f64 {
    let whole = case.backward == Tolerance::exact();
    let (outputs, _) = run(case, inputs);
    let dot = |(i, out): (usize, &Tensor)| -> f64 {
        let upstream = cases::upstream(i, out.shape(), whole).values;
        // The log-sum-exp of nothing stays −∞, whatever moves.
        let values = out.to_f64_vec().unwrap();
        values.iter().zip(&upstream).filter(|(a, _)| **a != f64::NEG_INFINITY).map(|(a, b)| a * b).sum()
    };
    outputs.iter().enumerate().map(dot).sum()
}

fn with(input: &Tensor, at: usize, change: f64) -> Tensor {
    let mut values = input.to_f64_vec().unwrap();
    values[at] += change;
    Tensor::from_vec(&Device::Cpu, input.shape(), values).unwrap()
}

/// The worst error of a few elements of every gradient, and how many there were.
fn check(op: &str, case: &Case) -> usize {
    let inputs: Vec<_> = case
        .inputs
        .iter()
        .map(|i| Tensor::from_vec(&Device::Cpu, &i.shape, i.values.clone()).unwrap())
        .collect();
    let (_, gradients) = run(case, &inputs);
    let mut checked = 0;
    for (i, gradient) in gradients {
        for at in (0..gradient.len()).step_by((gradient.len() / 4).max(1)) {
            let value = case.inputs[i].values[at];
            // What is masked, by its place or by its value: it has no neighbours.
            if !value.is_finite() {
                assert_eq!(gradient[at], 0., "{op} {}: d{i}[{at}]", case.name);
                continue;
            }
            // In proportion to small values, and to the huge ones whose neighbours are far apart.
            let h = match value.abs() {
                0. => 1e-5,
                size if size > 1e6 => 1e-6 * size,
                size => 1e-5 * size.min(1.),
            };
            let shifted = |change: f64| {
                let mut moved = inputs.clone();
                moved[i] = with(&inputs[i], at, change);
                objective(case, &moved)
            };
            let (above, below) = (shifted(h), shifted(-h));
            let numeric = (above - below) / (2. * h);
            // What the difference itself cannot resolve: roundings of the objective over 2h, and the cubic term.
            let noise = 1e-14 * (above.abs() + below.abs() + 1.) * gradient.len().max(100) as f64 / h / 100.;
            // Where inputs are huge gradients are tiny: in proportion.
            let unit = 1f64.min(1. / value.abs().max(1e-300));
            let allowed = 1e-6 * (unit + numeric.abs()) + noise;
            assert!(
                (numeric - gradient[at]).abs() <= allowed,
                "{op} {}: d{i}[{at}] is {}, finite differences give {numeric} (allowed {allowed:e})",
                case.name,
                gradient[at],
            );
            checked += 1;
        }
    }
    checked
}

/// Cases at a kink of the function, where there is no derivative: relu at 0, a maximum attained twice, a clamp's edge, the
/// zero row; and inputs too large to run many times.
fn is_smooth(op: &str, case: &Case) -> bool {
    let kinked = match op {
        "unary" => case.name.contains("relu") || case.name.contains("clamp") || case.name.contains("at 0"),
        "reduce" => case.name.starts_with("max"),
        // No gradient is taken of the bonus of hard negatives (tests/hard_negatives.rs has those); a difference from NaN is none.
        "info_nce" => case.name.contains("hard negatives") || case.name.contains("NaN"),
        "siglip" => case.name.contains("NaN"),
        // Of scores of 1e4 the probabilities are 0 or 1 but for steps.
        "attention" => case.name.contains("1e4"),
        _ => case.name.contains("zero row"),
    };
    let count: usize = case.inputs.iter().map(|input| input.values.len()).sum();
    !kinked && count < 5000
}

#[test]
fn every_backward_agrees_with_finite_differences() {
    // Four have no backward; a cast is a step function, whose gradient is by definition the identity.
    let others = ["adamw", "clip_global_norm", "cast", "copy", "top_k"];
    for row in cases::TABLE.iter().filter(|row| !others.contains(&row.op)) {
        let cases = (row.cases)();
        let checked: usize =
            cases.iter().filter(|case| is_smooth(row.op, case)).map(|case| check(row.op, case)).sum();
        assert!(checked >= 8, "{}: only {checked} elements were checked", row.op);
    }
}

#[test]
fn kinks_have_the_derivative_that_the_formulas_name() {
    let x = Tensor::from_slice(&Device::Cpu, &[5], &[-1f64, 0., 2., 2., 1.]).unwrap();
    let tape = Tape::new();
    let leaf = tape.leaf(&x);
    let ones = Tensor::from_slice(&Device::Cpu, &[5], &[1f64; 5]).unwrap();
    let of = |kind| {
        let y = tape.apply(&UNARY, kind, &[&leaf]).unwrap();
        tape.backward_from(&y, &ones).unwrap().get(&leaf).unwrap().to_f64_vec().unwrap()
    };
    assert_eq!(of(Unary::Relu), [0., 0., 1., 1., 1.], "relu's derivative at 0 is 0");
    assert_eq!(of(Unary::Clamp(0., 2.)), [0., 1., 1., 1., 1.], "a clamp's edges belong to it");
    let largest = tape
        .apply(&REDUCE, ReduceOptions { kind: Reduce::Max, axis: 0, keep_axis: false }, &[&leaf])
        .unwrap();
    let gradient = tape.backward(&largest).unwrap().get(&leaf).unwrap().to_f64_vec().unwrap();
    assert_eq!(gradient, [0., 0., 1., 0., 0.], "a maximum's gradient goes to the first");
}

/// A model with shared values, broadcasting, several results of one operation, and a constant.
fn model(tape: &Tape, leaves: &[&crossmodal::autograd::Var]) -> crossmodal::autograd::Var {
    let [x, w, b, t] = leaves else { panic!("four leaves") };
    let hidden = MatmulOptions { activation: Some(Unary::Gelu), scale: 0.7, ..MatmulOptions::default() };
    let h = tape.apply(&MATMUL, hidden, &[x, w, b]).unwrap();
    let both = tape.apply(&CONCAT, 1, &[&h, x, &h]).unwrap();
    let parts = tape.apply_all(&SPLIT, (1, vec![3, 5]), &[&both]).unwrap();
    let short = tape.apply(&BINARY, Binary::Mul, &[&parts[0], b]).unwrap();
    let u = tape.apply(&L2_NORMALIZE, (), &[&short]).unwrap();
    let v = tape.apply(&L2_NORMALIZE, (), &[&h]).unwrap();
    let shift = tape.constant(&Tensor::from_slice(&Device::Cpu, &[3], &[0.1, -0.2, 0.3]).unwrap());
    let v = tape.apply(&BINARY, Binary::Add, &[&v, &shift]).unwrap();
    tape.apply(&INFO_NCE, InfoNceOptions::default(), &[&u, &v, t]).unwrap()
}

#[test]
fn the_tape_chains_gradients_of_a_whole_model() {
    let of = |name: &str, shape: &[usize]| {
        let input = cases::Input::uniform(name, shape, 1.);
        Tensor::from_vec(&Device::Cpu, shape, input.values).unwrap()
    };
    let values =
        [of("x", &[4, 2]), of("w", &[2, 3]), of("b", &[3]), Tensor::scalar(&Device::Cpu, 1.5f64).unwrap()];
    let loss = |values: &[Tensor]| {
        let tape = Tape::no_grad();
        let leaves: Vec<_> = values.iter().map(|v| tape.leaf(v)).collect();
        model(&tape, &leaves.iter().collect::<Vec<_>>()).value().item().unwrap()
    };
    let tape = Tape::new();
    let leaves: Vec<_> = values.iter().map(|v| tape.leaf(v)).collect();
    let gradients = tape.backward(&model(&tape, &leaves.iter().collect::<Vec<_>>())).unwrap();
    for (i, leaf) in leaves.iter().enumerate() {
        let gradient = gradients.get(leaf).unwrap().to_f64_vec().unwrap();
        for (at, &got) in gradient.iter().enumerate() {
            let shifted = |h: f64| {
                let mut moved = values.to_vec();
                moved[i] = with(&values[i], at, h);
                loss(&moved)
            };
            let numeric = (shifted(1e-6) - shifted(-1e-6)) / 2e-6;
            assert!((numeric - got).abs() < 1e-8, "leaf {i}[{at}]: {got}, finite differences give {numeric}");
        }
    }
}

#[test]
fn misuse_of_a_tape_is_refused() {
    let x = Tensor::from_slice(&Device::Cpu, &[2], &[1f64, 2.]).unwrap();
    let (tape, other) = (Tape::new(), Tape::new());
    let (leaf, foreign) = (tape.leaf(&x), other.leaf(&x));
    let message = tape.apply(&BINARY, Binary::Add, &[&leaf, &foreign]).unwrap_err().to_string();
    assert!(message.contains("another tape"), "{message}");
    assert!(tape.backward(&leaf).unwrap_err().to_string().contains("one element"));
    assert!(tape.backward(&tape.constant(&x.reshape(&[2]).unwrap())).is_err());
    assert!(tape.backward_from(&foreign, &x).is_err());
    let wrong = Tensor::from_slice(&Device::Cpu, &[1], &[1f64]).unwrap();
    assert!(tape.backward_from(&leaf, &wrong).unwrap_err().to_string().contains("[2]"));
    let narrow = Tensor::from_slice(&Device::Cpu, &[2], &[1f32, 2.]).unwrap();
    let message = tape.backward_from(&leaf, &narrow).unwrap_err().to_string();
    assert!(message.contains("expected f64 on cpu, got f32 on cpu"), "{message}");
    let none = tape.leaf(&Tensor::zeros(&Device::Cpu, &[0], DType::F64).unwrap());
    let message = tape.apply(&SPLIT, (0, vec![]), &[&none]).unwrap_err().to_string();
    assert!(message.contains("use apply_all"), "{message}");
    let unused = tape.leaf(&x);
    assert!(tape.backward_from(&leaf, &x).unwrap().get(&unused).is_none());
}

#[test]
fn a_long_tape_is_dropped_without_recursion() {
    let tape = Tape::new();
    let mut x = tape.leaf(&Tensor::scalar(&Device::Cpu, 1f64).unwrap());
    let first = x.clone();
    for _ in 0..100_000 {
        x = tape.apply(&UNARY, Unary::Scale(1.), &[&x]).unwrap();
    }
    assert_eq!(tape.backward(&x).unwrap().get(&first).unwrap().item().unwrap(), 1.);
}

/// Counts the backward passes that have reached an operation.
#[derive(Default)]
struct Meeting {
    here: Mutex<usize>,
    changed: Condvar,
}

/// The identity, whose backward waits until another thread's has come as far.
static MEET: Rule<Arc<Meeting>> = Rule {
    name: "meet",
    forward: |_, inputs| Ok(Forward::one(inputs[0].clone())),
    backward: |meeting, saved| {
        let mut here = meeting.here.lock().unwrap();
        *here += 1;
        meeting.changed.notify_all();
        let alone = |here: &mut usize| *here < 2;
        let waited = meeting.changed.wait_timeout_while(here, Duration::from_secs(10), alone).unwrap();
        assert!(!waited.1.timed_out(), "the other thread waits for this one");
        Ok(vec![Some(saved.grad().clone())])
    },
};

#[test]
fn two_threads_go_back_over_one_tape_at_the_same_time() {
    let tape = Tape::new();
    let x = tape.leaf(&Tensor::from_slice(&Device::Cpu, &[3], &[1f64, 2., 3.]).unwrap());
    let square = tape.apply(&BINARY, Binary::Mul, &[&x, &x]).unwrap();
    let meeting = Arc::new(Meeting::default());
    let y = tape.apply(&MEET, meeting, &[&square]).unwrap();
    let back = |scale: f64| {
        let from = Tensor::from_slice(&Device::Cpu, &[3], &[scale; 3]).unwrap();
        tape.backward_from(&y, &from).unwrap().get(&x).unwrap().to_f64_vec().unwrap()
    };
    let (one, ten) = std::thread::scope(|scope| {
        let other = scope.spawn(|| back(10.));
        (back(1.), other.join().unwrap())
    });
    assert_eq!((one, ten), (vec![2., 4., 6.], vec![20., 40., 60.]));
}
