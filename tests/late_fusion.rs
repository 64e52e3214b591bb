//! Late fusion: means, products, votes and a greedy ensemble against their formulas in plain loops.

mod common;

use crossmodal::autograd::{Tape, Var};
use crossmodal::fusion::{
    Ballots, LearnedMean, Presence, greedy_selection, maximum, product_of_experts, weighted_mean,
};
use crossmodal::nn::Parameters;
use crossmodal::{DType, Device, Result, Tensor};

const ROWS: usize = 6;
const CLASSES: usize = 4;
const WEIGHTS: [f64; 3] = [1., 0.5, 2.];
const PRIOR: [f64; 4] = [0.4, 0.3, 0.2, 0.1];

/// Probabilities that sum to one.
fn experts(count: usize) -> Vec<Vec<f64>> {
    let raw = |m: usize, i: usize| (((i * 7 + m * 13) as f64 * 0.83).sin() * 2.).exp();
    let expert = |m| {
        let row = |row: usize| {
            let own: Vec<f64> = (0..CLASSES).map(|c| raw(m, row * CLASSES + c)).collect();
            own.iter().map(|v| v / own.iter().sum::<f64>()).collect::<Vec<_>>()
        };
        (0..ROWS).flat_map(row).collect()
    };
    (0..count).map(expert).collect()
}

/// Each expert is missing in two samples; all of them are in the last.
fn gaps() -> Presence {
    let of = |m: usize| Some((0..ROWS).map(|row| row % 3 != m && row + 1 != ROWS).collect());
    Presence::new(ROWS, (0..3).map(of).collect()).unwrap()
}

type Late = fn(&Tape, &[&Var], &Presence) -> Result<Var>;
type Fused<'a> = dyn Fn(&Tape, &[&Var], &Presence) -> Result<Var> + 'a;

fn late() -> [(&'static str, Late); 4] {
    [
        ("mean", |tape, p, presence| weighted_mean(tape, p, &WEIGHTS, presence)),
        ("maximum", maximum),
        ("product", |tape, p, presence| product_of_experts(tape, p, &WEIGHTS, None, presence)),
        ("product over a prior", |tape, p, presence| {
            product_of_experts(tape, p, &WEIGHTS, Some(&PRIOR), presence)
        }),
    ]
}

fn formula(name: &str, p: &[Option<&[f64]>]) -> Vec<f64> {
    let there: Vec<_> = (0..3).filter_map(|m| Some((WEIGHTS[m], p[m]?))).collect();
    let sum: f64 = there.iter().map(|(w, _)| w).sum();
    let of = |c: usize| match name {
        "mean" => there.iter().map(|(w, p)| w * p[c]).sum::<f64>() / if sum > 0. { sum } else { 1. },
        "maximum" => there.iter().map(|(_, p)| p[c]).fold(0., f64::max),
        _ => {
            let logs: f64 = there.iter().map(|(w, p)| w * p[c].max(1e-30).ln()).sum();
            if name == "product" { logs } else { logs - (sum - 1.) * PRIOR[c].ln() }
        }
    };
    let values: Vec<f64> = (0..CLASSES).map(of).collect();
    if !name.starts_with("product") {
        return values;
    }
    let largest = values.iter().copied().fold(f64::MIN, f64::max);
    let lse = largest + values.iter().map(|v| (v - largest).exp()).sum::<f64>().ln();
    values.iter().map(|v| v - lse).collect()
}

/// The result and the gradient of each expert, from upstream gradients that differ.
fn run(
    late: &Fused<'_>,
    device: &Device,
    dtype: DType,
    all: &[Vec<f64>],
    presence: &Presence,
) -> (Vec<f64>, Vec<Vec<f64>>) {
    let tape = Tape::new();
    let leaf =
        |p: &Vec<f64>| tape.leaf(&Tensor::from_f64(device, &[ROWS, CLASSES], dtype, p.clone()).unwrap());
    let leaves: Vec<_> = all.iter().map(leaf).collect();
    let fused = late(&tape, &leaves.iter().collect::<Vec<_>>(), presence).unwrap();
    let upstream = Tensor::from_f64(device, &[ROWS, CLASSES], dtype, upstream()).unwrap();
    let gradients = tape.backward_from(&fused, &upstream).unwrap();
    let of = |leaf: &Var| gradients.get(leaf).unwrap().to_f64_vec().unwrap();
    (fused.value().to_f64_vec().unwrap(), leaves.iter().map(of).collect())
}

fn upstream() -> Vec<f64> {
    (0..ROWS * CLASSES).map(|i| (i as f64 * 1.7).cos()).collect()
}

fn close(got: &[f64], want: &[f64], bound: f64, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert!((got - want).abs() <= bound * (1. + want.abs()), "{what} [{i}]: {got} instead of {want}");
    }
}

#[test]
fn every_late_fusion_is_its_formula() {
    let mut all = experts(3);
    // One is sure, and wrong with the others: the floor.
    all[0][..CLASSES].copy_from_slice(&[1., 0., 0., 0.]);
    for (name, late) in late() {
        for presence in [Presence::all(ROWS, 3), gaps()] {
            let (got, gradients) = run(&late, &Device::Cpu, DType::F64, &all, &presence);
            for row in 0..ROWS {
                let own = |m: usize| presence.is_there(m, row).then(|| &all[m][row * CLASSES..][..CLASSES]);
                let want = formula(name, &[own(0), own(1), own(2)]);
                close(&got[row * CLASSES..][..CLASSES], &want, 1e-12, &format!("{name}, row {row}"));
            }
            for (m, gradient) in gradients.iter().enumerate() {
                for (at, got) in gradient.iter().enumerate().skip(CLASSES) {
                    let shifted = |h: f64| -> f64 {
                        let mut moved = all.clone();
                        moved[m][at] += h;
                        let values = run(&late, &Device::Cpu, DType::F64, &moved, &presence).0;
                        values.iter().zip(upstream()).map(|(v, u)| v * u).sum()
                    };
                    let numeric = (shifted(1e-6) - shifted(-1e-6)) / 2e-6;
                    let error = (numeric - got).abs();
                    assert!(error < 1e-6 * (1. + numeric.abs()), "{name}: {m}[{at}]: {got}, {numeric}");
                }
            }
        }
    }
}

#[test]
fn every_device_agrees_and_what_is_missing_leaves_no_trace() {
    let (all, presence) = (experts(3), gaps());
    let mut odd = all.clone();
    for (m, p) in odd.iter_mut().enumerate() {
        (0..ROWS).filter(|&row| !presence.is_there(m, row)).for_each(|row| p[row * CLASSES] = f64::NAN);
    }
    for (name, late) in late() {
        let want = run(&late, &Device::Cpu, DType::F64, &all, &presence);
        for device in [Device::Cpu, common::gpu()] {
            let got = run(&late, &device, DType::F32, &odd, &presence);
            close(&got.0, &want.0, 1e-5, name);
            close(&got.1.concat(), &want.1.concat(), 2e-5, name);
        }
    }
}

#[test]
fn learned_weights_learn() {
    let mut parameters = Parameters::default();
    let mean = LearnedMean::new(&Device::Cpu, &mut parameters, "mean", 3).unwrap();
    let scores = [0.3, -0.7, 0.1];
    let set = |parameters: &mut Parameters, scores: &[f64]| {
        let value = Tensor::from_f64(&Device::Cpu, &[3], DType::F64, scores.to_vec()).unwrap();
        parameters.iter_mut().for_each(|parameter| parameter.value = value.clone());
    };
    let all = experts(3);
    for presence in [Presence::all(ROWS, 3), gaps()] {
        set(&mut parameters, &scores);
        // With the same weights it is the weighted mean.
        let weights = scores.map(f64::exp);
        let fixed = |tape: &Tape, p: &[&Var], presence: &Presence| weighted_mean(tape, p, &weights, presence);
        let learned = |tape: &Tape, p: &[&Var], presence: &Presence| {
            mean.forward(tape, &parameters.on(tape), p, presence)
        };
        let want = run(&fixed, &Device::Cpu, DType::F64, &all, &presence);
        let got = run(&learned, &Device::Cpu, DType::F64, &all, &presence);
        close(&got.0, &want.0, 1e-12, "the learned mean");
        close(&got.1.concat(), &want.1.concat(), 1e-12, "its gradient");
        // And the gradient of the weights is that of finite differences.
        let tape = Tape::new();
        let bound = parameters.on(&tape);
        let leaf = |p: &Vec<f64>| {
            tape.constant(&Tensor::from_f64(&Device::Cpu, &[ROWS, CLASSES], DType::F64, p.clone()).unwrap())
        };
        let leaves: Vec<_> = all.iter().map(leaf).collect();
        let fused = mean.forward(&tape, &bound, &leaves.iter().collect::<Vec<_>>(), &presence).unwrap();
        let upstreams = Tensor::from_f64(&Device::Cpu, &[ROWS, CLASSES], DType::F64, upstream()).unwrap();
        let gradients = bound.gradients(&tape.backward_from(&fused, &upstreams).unwrap());
        let gradient = gradients[0].as_ref().unwrap().to_f64_vec().unwrap();
        for at in 0..3 {
            let shifted = |h: f64| -> f64 {
                let (mut moved, mut own) = (scores, parameters.clone());
                moved[at] += h;
                set(&mut own, &moved);
                let forward = |tape: &Tape, p: &[&Var], presence: &Presence| {
                    mean.forward(tape, &own.on(tape), p, presence)
                };
                let values = run(&forward, &Device::Cpu, DType::F64, &all, &presence).0;
                values.iter().zip(upstream()).map(|(v, u)| v * u).sum()
            };
            let numeric = (shifted(1e-6) - shifted(-1e-6)) / 2e-6;
            assert!((numeric - gradient[at]).abs() < 1e-8, "{at}: {} and {numeric}", gradient[at]);
        }
    }
}

#[test]
fn votes_go_to_the_lowest_class_of_equals() {
    let all: Vec<Vec<f32>> = experts(3).iter().map(|p| p.iter().map(|v| *v as f32).collect()).collect();
    let slices: Vec<&[f32]> = all.iter().map(Vec::as_slice).collect();
    let presence = gaps();
    let ballots = Ballots { experts: &slices, classes: CLASSES, presence: &presence };
    let (soft, hard) = (ballots.soft(&WEIGHTS).unwrap(), ballots.hard(&WEIGHTS).unwrap());
    for row in 0..ROWS {
        let there: Vec<usize> = (0..3).filter(|&m| presence.is_there(m, row)).collect();
        let p = |m: usize| &all[m][row * CLASSES..][..CLASSES];
        let first_best = |votes: Vec<f64>| {
            let best = votes.iter().copied().fold(f64::MIN, f64::max);
            votes.iter().position(|v| *v == best).unwrap() as u32
        };
        let sums = |c: usize| there.iter().map(|&m| WEIGHTS[m] * f64::from(p(m)[c])).sum();
        assert_eq!(soft[row], first_best((0..CLASSES).map(sums).collect()));
        let choice = |m: usize| first_best(p(m).iter().map(|v| f64::from(*v)).collect()) as usize;
        let votes = |c: usize| there.iter().filter(|&&m| choice(m) == c).map(|&m| WEIGHTS[m]).sum();
        assert_eq!(hard[row], first_best((0..CLASSES).map(votes).collect()));
    }
    assert_eq!(soft[ROWS - 1], 0, "without an expert");
    let (a, b) = ([0.1f32, 0.6, 0.3], [0.1f32, 0.3, 0.6]);
    let tie = Ballots { experts: &[&b, &a], classes: 3, presence: &Presence::all(1, 2) };
    assert_eq!((tie.hard(&[1., 1.]).unwrap(), tie.hard(&[1.1, 1.]).unwrap()), (vec![1], vec![2]));
    let nan = [f32::NAN, 0.5, 0.5];
    let nan = Ballots { experts: &[&nan], classes: 3, presence: &Presence::all(1, 1) };
    assert_eq!(nan.soft(&[1.]).unwrap(), [1], "what is not a number wins nothing");
}

#[test]
fn the_greedy_ensemble_is_better_than_any_of_its_experts() {
    // Each is wrong about another sample, and unsure there.
    let sure = |wrong: usize| -> Vec<f32> {
        (0..3usize).flat_map(|row| if row == wrong { [0.4, 0.6] } else { [0.9, 0.1] }).collect()
    };
    let all = [sure(0), sure(1), sure(2), vec![0.1, 0.9, 0.1, 0.9, 0.1, 0.9]];
    let slices: Vec<&[f32]> = all.iter().map(Vec::as_slice).collect();
    let counts = greedy_selection(&slices, 2, &[0, 0, 0], 3, &Presence::all(3, slices.len())).unwrap();
    assert_eq!(counts, [1., 1., 1., 0.]);
    let presence = Presence::all(3, 4);
    let ballots = Ballots { experts: &slices, classes: 2, presence: &presence };
    assert_eq!(ballots.soft(&counts).unwrap(), [0, 0, 0]);
    // With replacement.
    assert_eq!(greedy_selection(&slices[2..], 2, &[0, 0, 0], 4, &Presence::all(3, 2)).unwrap(), [4., 0.]);
}

/// An expert that is missing neither helps nor harms the ensemble where it is.
#[test]
fn the_greedy_ensemble_knows_who_is_there() {
    let (good, bad) = (vec![0.9, 0.1, 0.5, 0.5], vec![0.4, 0.6, 0.8, 0.2]);
    let slices = [&good[..], &bad[..]];
    // Of the second sample the first expert knows nothing: even then it is right about all that it is asked.
    let presence = Presence::new(2, vec![Some([true, false].into()), None]).unwrap();
    assert_eq!(greedy_selection(&slices, 2, &[0, 0], 2, &presence).unwrap(), [1., 1.]);
    let all = Presence::all(2, 2);
    assert_eq!(greedy_selection(&slices, 2, &[0, 0], 2, &all).unwrap(), [2., 0.]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let tape = Tape::new();
    let p = tape.constant(&Tensor::zeros(&Device::Cpu, &[2, 3], DType::F32).unwrap());
    let all = Presence::all(2, 2);
    let said = |error: crossmodal::Error| error.to_string();
    for weights in [&[1.][..], &[-1., 1.], &[0., 0.], &[f64::NAN, 1.]] {
        let message = said(weighted_mean(&tape, &[&p, &p], weights, &all).unwrap_err());
        assert!(message.contains("weights: expected 2 finite numbers"), "{message}");
        assert!(product_of_experts(&tape, &[&p, &p], weights, None, &all).is_err());
    }
    for prior in [&[0.5, 0.5][..], &[0.5, 0.5, 0.]] {
        let refused = product_of_experts(&tape, &[&p, &p], &[1., 1.], Some(prior), &all);
        assert!(said(refused.unwrap_err()).contains("prior: expected 3 positive numbers"));
    }
    assert!(said(maximum(&tape, &[&p], &all).unwrap_err()).contains("features of 2 modalities"));
    let short = [0.5f32; 5];
    let ballots = Ballots { experts: &[&short, &short], classes: 3, presence: &all };
    assert!(said(ballots.hard(&[1., 1.]).unwrap_err()).contains("2 x 3 probabilities, got 5"));
    assert!(
        said(greedy_selection(&[&short[..3]], 3, &[3], 1, &Presence::all(1, 1)).unwrap_err())
            .contains("classes below 3, got 3")
    );
    assert!(
        said(greedy_selection(&[], 3, &[0], 1, &Presence::all(1, 0)).unwrap_err())
            .contains("experts: expected at least one")
    );
    assert!(
        said(greedy_selection(&[&short[..3]], 3, &[0], 0, &Presence::all(1, 1)).unwrap_err())
            .contains("rounds")
    );
}
