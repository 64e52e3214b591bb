//! The bonus of hard negatives, of which no gradient is taken: finite differences of a loss in which it stays what it is.
#![cfg(feature = "verify")]

use crossmodal::autograd::Tape;
use crossmodal::cases::Input;
use crossmodal::ops::InfoNceOptions;
use crossmodal::ops::info_nce::INFO_NCE;
use crossmodal::{Device, Tensor};

const N: usize = 4;
const D: usize = 3;
const ALPHA: f64 = 2.;

/// Rows of y, a queue behind the partners among them, and similarities that each row has to itself.
#[derive(Clone, Copy)]
struct Size {
    m: usize,
    k: usize,
}

/// x `[N, D]`, y `[m, D]`, the logarithm of the scale and each row's own similarities `[N, k]`.
type Point = [Vec<f64>; 4];

fn log_sum_exp(z: &[f64]) -> f64 {
    let top = z.iter().fold(f64::NEG_INFINITY, |top, &v| top.max(v));
    top + z.iter().map(|v| (v - top).exp()).sum::<f64>().ln()
}

/// The loss at a point, with the bonus that negatives have at another.
fn loss([x, y, t, own]: &Point, fixed: &Point, Size { m, k }: Size, symmetric: bool) -> f64 {
    let dot = |x: &[f64], y: &[f64], i: usize, j: usize| -> f64 {
        (0..D).map(|f| x[i * D + f] * y[j * D + f]).sum()
    };
    let scale = t[0].exp();
    let logit = |i: usize, j: usize| scale * dot(x, y, i, j);
    let z =
        |i: usize, j: usize| logit(i, j) + if i == j { 0. } else { ALPHA * dot(&fixed[0], &fixed[1], i, j) };
    let own = |i: usize| (i * k..(i + 1) * k).map(|at| scale * own[at] + ALPHA * fixed[3][at]);
    let row =
        |i: usize| log_sum_exp(&(0..m).map(|j| z(i, j)).chain(own(i)).collect::<Vec<_>>()) - logit(i, i);
    // A column of the queue has no partner and does not count.
    let col = |j: usize| log_sum_exp(&(0..N).map(|i| z(i, j)).collect::<Vec<_>>()) - logit(j, j);
    let mean = |line: &dyn Fn(usize) -> f64| (0..N).map(line).sum::<f64>() / N as f64;
    if symmetric { (mean(&row) + mean(&col)) / 2. } else { mean(&row) }
}

/// The operation's loss and gradients.
fn of_operation(point: &Point, Size { m, k }: Size, symmetric: bool) -> (f64, Vec<Vec<f64>>) {
    let tape = Tape::new();
    let shapes: [&[usize]; 4] = [&[N, D], &[m, D], &[], &[N, k]];
    let leaf = |(shape, values): (&&[usize], &Vec<f64>)| {
        tape.leaf(&Tensor::from_slice(&Device::Cpu, shape, values).unwrap())
    };
    let inputs = if k == 0 { 3 } else { 4 };
    let leaves: Vec<_> = shapes.iter().zip(point).take(inputs).map(leaf).collect();
    let options = InfoNceOptions { symmetric, hard_negatives: ALPHA, ..InfoNceOptions::default() };
    let value = tape.apply(&INFO_NCE, options, &leaves.iter().collect::<Vec<_>>()).unwrap();
    let gradients = tape.backward(&value).unwrap();
    let gradients = leaves.iter().map(|leaf| gradients.get(leaf).unwrap().to_f64_vec().unwrap()).collect();
    (value.value().item().unwrap(), gradients)
}

#[test]
fn no_gradient_is_taken_of_the_bonus_of_hard_negatives() {
    for (symmetric, m, k) in [
        (false, N, 0),
        (true, N, 0),
        (false, N + 3, 0),
        (true, N + 3, 0),
        (false, N, 2),
        (true, N, 2),
        (true, N + 3, 2),
    ] {
        let size = Size { m, k };
        let point: Point = [
            Input::unit_rows("x", N, D).values,
            Input::unit_rows("y", m, D).values,
            vec![2.],
            Input::uniform("own", &[N, k], 1.).values,
        ];
        let (value, gradients) = of_operation(&point, size, symmetric);
        let what = format!("symmetric {symmetric}, {m} rows of y, {k} of their own");
        assert!((value - loss(&point, &point, size, symmetric)).abs() < 1e-12, "{what}");
        for (input, gradient) in gradients.iter().enumerate() {
            for (at, got) in gradient.iter().enumerate() {
                let shifted = |h: f64| {
                    let mut moved = point.clone();
                    moved[input][at] += h;
                    loss(&moved, &point, size, symmetric)
                };
                let numeric = (shifted(1e-6) - shifted(-1e-6)) / 2e-6;
                assert!(
                    (numeric - got).abs() < 1e-8,
                    "{what}: input {input}[{at}]: {got} instead of {numeric}"
                );
            }
        }
    }
}
