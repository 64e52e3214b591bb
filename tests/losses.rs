//! The losses that are made of operations: known values, finite differences in f64, and every device against them.
#![cfg(feature = "verify")]

mod common;
#[path = "common/everywhere.rs"]
mod everywhere;

use crossmodal::autograd::{Tape, Var};
use crossmodal::cases::Input;
use crossmodal::losses::{self, Distance, Mining, Queue, TripletOptions, Triplets, VicRegOptions};
use crossmodal::ops::info_nce::INFO_NCE;
use crossmodal::ops::{Indices, InfoNceOptions, Reduction};
use crossmodal::{DType, Device, Result, Tensor};
use everywhere::everywhere;
use std::sync::Arc;

type Loss = Box<dyn Fn(&Tape, &[Var]) -> Result<Var>>;

const N: usize = 9;
const D: usize = 5;
const SCRATCH: usize = 100;

/// Every loss with the inputs that it takes.
fn all() -> Vec<(String, Vec<Input>, Loss)> {
    let two = || vec![Input::uniform("a", &[N, D], 1.), Input::uniform("b", &[N, D], 1.)];
    let mut all: Vec<(String, Vec<Input>, Loss)> = vec![];
    let mut add = |name: String, inputs: Vec<Input>, loss: Loss| all.push((name, inputs, loss));
    for reduction in [Reduction::Mean, Reduction::Sum, Reduction::None] {
        add(
            format!("cosine {reduction:?}"),
            two(),
            Box::new(move |tape, v| losses::cosine(tape, &v[0], &v[1], reduction)),
        );
    }
    for alpha in [2., 1., 3.] {
        add(
            format!("alignment {alpha}"),
            two(),
            Box::new(move |tape, v| losses::alignment(tape, &v[0], &v[1], alpha, Reduction::Mean)),
        );
    }
    for t in [2., 0.5] {
        let one = vec![Input::uniform("a", &[N, D], 1.)];
        add(
            format!("uniformity {t}"),
            one,
            Box::new(move |tape, v| losses::uniformity(tape, &v[0], t, SCRATCH)),
        );
    }
    add(
        "vicreg".into(),
        two(),
        Box::new(|tape, v| losses::vicreg(tape, &v[0], &v[1], &VicRegOptions::default())),
    );
    add("barlow_twins".into(), two(), Box::new(|tape, v| losses::barlow_twins(tape, &v[0], &v[1], 0.0051)));
    for distance in [Distance::Euclidean, Distance::SquaredEuclidean, Distance::Cosine] {
        for (softplus, swap) in [(false, false), (true, false), (false, true), (true, true)] {
            let options = TripletOptions { distance, softplus, swap, ..TripletOptions::default() };
            let loss = move |tape: &Tape, v: &[Var]| {
                losses::triplet(tape, &v[0], &v[1], &triplets(v[0].value().device()), &options)
            };
            add(format!("triplet {distance:?}, softplus {softplus}, swap {swap}"), two(), Box::new(loss));
        }
    }
    let labels: Vec<i64> = vec![0, 1, 0, 2, -1, 1, 0, 2, 7];
    let with_scale = |t: f64| vec![Input::unit_rows("z", N, D), Input::of(&[], &[t])];
    add(
        "sup_con".into(),
        with_scale(2.),
        Box::new(move |tape, v| losses::sup_con(tape, &v[0], &v[1], &labels, Reduction::Mean, SCRATCH)),
    );
    let mut inputs = with_scale(2.);
    inputs.push(Input::uniform("negatives", &[N, 4, D], 1.));
    let options = InfoNceOptions { symmetric: false, ..InfoNceOptions::default() };
    let paired = move |tape: &Tape, v: &[Var]| {
        let own = losses::paired_negatives(tape, &v[0], &v[2], None)?;
        tape.apply(&INFO_NCE, options.clone(), &[&v[0], &v[0], &v[1], &own])
    };
    add("paired negatives".into(), inputs, Box::new(paired));
    all
}

/// A row may be in several triplets, on several sides.
fn triplets(device: &Device) -> Triplets {
    let indices = |rows: &[u32]| Indices::new(device, rows).unwrap();
    Triplets {
        anchors: indices(&[0, 0, 3, 8]),
        positives: indices(&[1, 2, 3, 0]),
        negatives: indices(&[5, 1, 4, 7]),
    }
}

/// The loss and the gradient of each input, from upstream gradients of its elements that differ.
fn run(device: &Device, dtype: DType, inputs: &[Input], loss: &Loss) -> (Vec<f64>, Vec<Vec<f64>>) {
    let tape = Tape::new();
    let tensor = |input: &Input| Tensor::from_f64(device, &input.shape, dtype, input.values.clone()).unwrap();
    let leaves: Vec<_> = inputs.iter().map(|input| tape.leaf(&tensor(input))).collect();
    let value = loss(&tape, &leaves).unwrap();
    let upstream = (0..value.value().len()).map(|i| 1. + 0.25 * i as f64).collect();
    let upstream = Tensor::from_f64(device, value.value().shape(), dtype, upstream).unwrap();
    let gradients = tape.backward_from(&value, &upstream).unwrap();
    let of = |leaf: &Var| gradients.get(leaf).unwrap().to_f64_vec().unwrap();
    (value.value().to_f64_vec().unwrap(), leaves.iter().map(of).collect())
}

#[test]
fn gradients_agree_with_finite_differences() {
    for (name, inputs, loss) in all() {
        let (_, gradients) = run(&Device::Cpu, DType::F64, &inputs, &loss);
        for (i, gradient) in gradients.iter().enumerate() {
            for (at, got) in gradient.iter().enumerate() {
                let shifted = |h: f64| -> f64 {
                    let mut moved = inputs.clone();
                    moved[i].values[at] += h;
                    let values = run(&Device::Cpu, DType::F64, &moved, &loss).0;
                    values.iter().enumerate().map(|(k, v)| (1. + 0.25 * k as f64) * v).sum()
                };
                let numeric = (shifted(1e-6) - shifted(-1e-6)) / 2e-6;
                let error = (numeric - got).abs();
                assert!(
                    error < 1e-7 * (1. + numeric.abs()),
                    "{name}: input {i}[{at}]: {got} instead of {numeric}"
                );
            }
        }
    }
}

#[test]
fn every_device_agrees_with_f64() {
    for device in [Device::Cpu, common::gpu()] {
        for (name, inputs, loss) in all() {
            // Both sides see what f32 can hold.
            let inputs: Vec<_> =
                inputs.into_iter().map(|input| input.map(|_, v| f64::from(v as f32))).collect();
            let (want, want_gradients) = run(&Device::Cpu, DType::F64, &inputs, &loss);
            let (got, got_gradients) = run(&device, DType::F32, &inputs, &loss);
            let all = want_gradients.concat();
            let size = all.iter().chain(&want).fold(1., |a: f64, v| a.max(v.abs()));
            for (got, want) in got.iter().chain(&got_gradients.concat()).zip(want.iter().chain(&all)) {
                // A few dozen roundings of numbers of the largest one's size.
                let error = (got - want).abs();
                assert!(error <= 64. * 6e-8 * size, "{name} on {}: {got} instead of {want}", device.name());
            }
        }
    }
}

#[test]
fn masked_rows_and_their_own_negatives_leave_no_trace() {
    let keep: Arc<[bool]> = (0..N).map(|i| i % 4 != 1).collect();
    for symmetric in [false, true] {
        let mask = Some(keep.clone());
        let (keep_rows, keep_cols) = (mask.clone(), mask);
        let options = InfoNceOptions { symmetric, keep_rows, keep_cols, ..InfoNceOptions::default() };
        let rows = keep.clone();
        let loss: Loss = Box::new(move |tape, v| {
            let own = losses::paired_negatives(tape, &v[0], &v[3], Some(&rows))?;
            tape.apply(&INFO_NCE, options.clone(), &[&v[0], &v[1], &v[2], &own])
        });
        let filled = |with: f64| {
            let fill = |input: Input| {
                let each = input.values.len() / N;
                input.map(|at, v| if keep[at / each] { f64::from(v as f32) } else { with })
            };
            let (x, y) = (Input::unit_rows("x", N, D), Input::unit_rows("y", N, D));
            vec![fill(x), fill(y), Input::of(&[], &[2.]), fill(Input::uniform("own", &[N, 4, D], 1.))]
        };
        everywhere(|device, dtype| {
            let (loss_of_nan, gradients_of_nan) = run(device, dtype, &filled(f64::NAN), &loss);
            let (want, want_gradients) = run(device, dtype, &filled(0.5), &loss);
            assert_eq!((&loss_of_nan, &gradients_of_nan), (&want, &want_gradients), "{}", device.name());
            assert!(want.iter().all(|v| v.is_finite() && *v > 0.));
            for (i, gradient) in gradients_of_nan.iter().enumerate().filter(|(i, _)| *i != 2) {
                let each = gradient.len() / N;
                let masked = gradient.chunks(each).zip(keep.iter()).filter(|(_, keep)| !**keep);
                assert!(masked.clone().all(|(row, _)| row.iter().all(|g| *g == 0.)), "input {i}");
                assert!(gradient.iter().any(|g| *g != 0.), "input {i}");
            }
        });
    }
}

fn leaf(tape: &Tape, shape: &[usize], values: &[f64]) -> Var {
    tape.leaf(&Tensor::from_slice(&Device::Cpu, shape, values).unwrap())
}

#[test]
fn losses_have_their_known_values() {
    let tape = Tape::new();
    let item = |v: Var| v.value().item().unwrap();
    // The seed's worked example.
    let (x, y) = (leaf(&tape, &[1, 3], &[0.1, 0.2, 0.3]), leaf(&tape, &[1, 3], &[0.4, 0.5, 0.6]));
    assert!((item(losses::cosine(&tape, &x, &y, Reduction::Mean).unwrap()) - 0.025_368).abs() < 5e-7);
    // Rows 0 and 1 vary by 1 each way, agree, and are one another's opposite in both features: covariance 2.
    let a = leaf(&tape, &[2, 2], &[1., 1., -1., -1.]);
    let got = item(losses::vicreg(&tape, &a, &a, &VicRegOptions::default()).unwrap());
    assert!((got - 2. * (1. / 2.) * 2. * 4.).abs() < 1e-12, "{got}");
    // Features that correlate with themselves and, wholly, with each other.
    let got = item(losses::barlow_twins(&tape, &a, &a, 0.5).unwrap());
    assert!((got - 0.5 * 2.).abs() < 1e-9, "{got}");
    // Three rows at right angles: three pairs at a squared distance of 2.
    let z = leaf(&tape, &[3, 3], &[1., 0., 0., 0., 2., 0., 0., 0., 3.]);
    assert!((item(losses::uniformity(&tape, &z, 1.5, 1 << 20).unwrap()) + 3.).abs() < 1e-12);
}

#[test]
fn edges_have_the_answers_that_the_formulas_give() {
    let tape = Tape::new();
    let gradient = |loss: &Var, of: &Var| tape.backward(loss).unwrap().get(of).unwrap().to_f64_vec().unwrap();
    let indices = |rows: &[u32]| Indices::new(&Device::Cpu, rows).unwrap();
    let of = |a: &[u32], p: &[u32], n: &[u32]| Triplets {
        anchors: indices(a),
        positives: indices(p),
        negatives: indices(n),
    };
    let options = TripletOptions::default();
    // Identical points: the margin, and no gradient from distances of 0.
    let x = leaf(&tape, &[3, 2], &[1., 2., 1., 2., 1., 2.]);
    let loss = losses::triplet(&tape, &x, &x, &of(&[0], &[1], &[2]), &options).unwrap();
    assert_eq!((loss.value().item().unwrap(), gradient(&loss, &x)), (1., vec![0.; 6]));
    // Exactly at the margin.
    let x = leaf(&tape, &[3, 1], &[0., 1., 2.]);
    let loss = losses::triplet(&tape, &x, &x, &of(&[0], &[1], &[2]), &options).unwrap();
    assert_eq!((loss.value().item().unwrap(), gradient(&loss, &x)), (0., vec![0.; 3]));
    // No triplet at all.
    let loss = losses::triplet(&tape, &x, &x, &of(&[], &[], &[]), &options).unwrap();
    assert_eq!((loss.value().item().unwrap(), gradient(&loss, &x)), (0., vec![0.; 3]));
    // One row is uniform; one class only, and none, have no positive to miss or negative to fear.
    let one = leaf(&tape, &[1, 2], &[3., 4.]);
    let loss = losses::uniformity(&tape, &one, 2., 1 << 20).unwrap();
    assert_eq!((loss.value().item().unwrap(), gradient(&loss, &one)), (0., vec![0.; 2]));
    let scale = tape.constant(&Tensor::scalar(&Device::Cpu, 1f64).unwrap());
    let z = leaf(&tape, &[3, 2], &[1., 0., 0., 1., 0.6, 0.8]);
    for (labels, counts) in [([0, 1, 2], false), ([-1, -1, -1], false), ([4, 4, 4], true), ([5, -1, 5], true)]
    {
        let of = |reduction| losses::sup_con(&tape, &z, &scale, &labels, reduction, 1 << 20).unwrap();
        let (mean, rows) = (of(Reduction::Mean), of(Reduction::None).value().to_f64_vec().unwrap());
        assert_eq!(mean.value().item().unwrap() > 0., counts, "{labels:?}");
        let silent = rows.iter().zip(labels).filter(|(_, label)| *label == -1);
        assert!(silent.clone().all(|(loss, _)| *loss == 0.), "{labels:?}: {rows:?}");
        if !counts {
            assert_eq!(gradient(&mean, &z), [0.; 6]);
        }
    }
}

#[test]
fn mining_chooses_what_it_says() {
    for device in [Device::Cpu, common::gpu()] {
        let rows = |values: &[f32]| Tensor::from_slice(&device, &[values.len(), 1], values).unwrap();
        let lists = |t: Triplets| [t.anchors, t.positives, t.negatives].map(|list| list.as_slice().to_vec());
        let x = rows(&[0., 10.]);
        let y = rows(&[1., -2., 3., 2., 9., 30.]);
        let (of_x, of_y) = ([0, 1], [0, 0, 1, -1, 1, 1]);
        let mined =
            |mining| lists(losses::mine(&x, &y, &of_x, &of_y, false, Distance::Euclidean, mining).unwrap());
        // Row 0: the farthest of 1 and -2, the nearest of what is not its own; row 1: 30 is its farthest, 2 its nearest.
        assert_eq!(mined(Mining::BatchHard), [vec![0, 1], vec![1, 5], vec![3, 3]]);
        // Negatives farther than the positive by less than 1.5: 2 and 3 behind 1, 3 behind -2; 10's distances are 7, 1 and 20
        // to its own, 9, 12, 8 to the others: 8 behind 7.
        let semi = mined(Mining::SemiHard { margin: 1.5 });
        assert_eq!(semi, [vec![0, 0, 1], vec![0, 1, 2], vec![3, 2, 3]]);
        // One set: no row is its own positive; of equal rows the first.
        let z = rows(&[5., 5., 5., 0., 0.]);
        let classes = [1, 1, 1, 2, 3];
        let own =
            losses::mine(&z, &z, &classes, &classes, true, Distance::Cosine, Mining::BatchHard).unwrap();
        assert_eq!(lists(own), [vec![0, 1, 2], vec![1, 0, 0], vec![3, 3, 3]]);
        assert!(losses::mine(&x, &y, &[0], &of_y, false, Distance::Euclidean, Mining::BatchHard).is_err());
    }
}

#[test]
fn a_queue_is_first_in_first_out() {
    for device in [Device::Cpu, common::gpu()] {
        for capacity in [1, 3, 4, 7] {
            let mut queue = Queue::new(&device, capacity, 2, DType::F32).unwrap();
            let mut latest: Vec<f32> = vec![];
            let mut next = 0.;
            for count in [1, 0, 2, 5, 3, 9, 1] {
                let new: Vec<f32> = (0..count).map(|i| next + i as f32).collect();
                next += count as f32;
                let both: Vec<f32> = new.iter().flat_map(|v| [*v, -v]).collect();
                let before = (queue.keys().unwrap(), queue.keys().unwrap().to_vec::<f32>().unwrap());
                let keys = Tensor::from_slice(&device, &[count, 2], &both).unwrap();
                // The class of a key is its number.
                let classes: Vec<i64> = new.iter().map(|v| *v as i64).collect();
                queue.enqueue_with(&keys, &classes).unwrap();
                latest.extend(new);
                latest = latest.split_off(latest.len().saturating_sub(capacity));
                let keys = queue.keys().unwrap().to_vec::<f32>().unwrap();
                let of_keys: Vec<i64> = keys.chunks(2).map(|key| key[0] as i64).collect();
                assert_eq!(queue.classes(), of_keys, "each key has its own class");
                let mut firsts: Vec<f32> = keys.chunks(2).map(|key| key[0]).collect();
                assert!(keys.chunks(2).all(|key| key[1] == -key[0]));
                firsts.sort_by(f32::total_cmp);
                assert_eq!(firsts, latest, "a capacity of {capacity}");
                assert_eq!(before.0.to_vec::<f32>().unwrap(), before.1, "what was given before stays");
            }
            let (ring, classes, at, len) = queue.state();
            let again = Queue::from_state(ring.clone(), classes.to_vec(), at, len).unwrap();
            assert_eq!(again.classes(), queue.classes());
            assert!(Queue::from_state(ring.clone(), classes[1..].to_vec(), at, len).is_err());
            assert_eq!(
                again.keys().unwrap().to_vec::<f32>().unwrap(),
                queue.keys().unwrap().to_vec::<f32>().unwrap()
            );
        }
        let mut queue = Queue::new(&device, 2, 2, DType::F32).unwrap();
        assert!(queue.enqueue(&Tensor::zeros(&device, &[1, 3], DType::F32).unwrap()).is_err());
        let two = Tensor::zeros(&device, &[2, 2], DType::F32).unwrap();
        assert!(queue.enqueue_with(&two, &[0]).unwrap_err().to_string().contains("2, one a key"));
        assert!(Queue::new(&device, 0, 2, DType::F32).is_err());
    }
}

#[test]
fn combinations_without_a_meaning_are_refused_with_a_sentence() {
    use crossmodal::ops::{Targets, info_nce};
    let x = Tensor::zeros(&Device::Cpu, &[2, 2], DType::F32).unwrap();
    let scale = Tensor::scalar(&Device::Cpu, 0f32).unwrap();
    let base = InfoNceOptions::default;
    let soft = || Targets::Soft(x.clone());
    let classes = || Targets::Classes { rows: [0, 1].into(), cols: [0, 1].into() };
    for (options, words) in [
        (
            InfoNceOptions { decoupled: true, smoothing: 0.1, ..base() },
            "smoothing has no meaning where positives",
        ),
        (InfoNceOptions { decoupled: true, targets: soft(), ..base() }, "which columns are positives"),
        (InfoNceOptions { hard_negatives: 1., targets: soft(), ..base() }, "which columns are positives"),
        (InfoNceOptions { exclude_self: true, ..base() }, "classes as targets"),
        (InfoNceOptions { smoothing: 0.1, targets: Targets::None, ..base() }, "nothing to smooth"),
        (InfoNceOptions { smoothing: 1., ..base() }, "smoothing: expected 0 to less than 1, got 1.0"),
        (InfoNceOptions { hard_negatives: f64::NAN, ..base() }, "hard_negatives: expected 0 to 1e6, got NaN"),
        (
            InfoNceOptions { keep_rows: Some([true].into()), ..base() },
            "keep_rows: expected 2 elements, got 1",
        ),
        (
            InfoNceOptions { targets: Targets::Classes { rows: [0].into(), cols: [0, 1].into() }, ..base() },
            "rows: expected 2 elements, got 1",
        ),
    ] {
        let message = info_nce(&x, &x, &scale, &options).unwrap_err().to_string();
        assert!(message.contains(words), "{message:?} does not say {words:?}");
    }
    let more = Tensor::zeros(&Device::Cpu, &[3, 2], DType::F32).unwrap();
    let none = InfoNceOptions { reduction: Reduction::None, ..base() };
    assert!(info_nce(&x, &more, &scale, &none).unwrap_err().to_string().contains("differ in number"));
    assert!(info_nce(&x, &x, &scale, &InfoNceOptions { targets: classes(), ..base() }).is_ok());
}

#[test]
fn a_feature_that_does_not_vary_correlates_with_nothing() {
    for device in [Device::Cpu, common::gpu()] {
        let (n, tape) = (256, Tape::new());
        // 0.1 is no sum of powers of two, and its mean over rows is rounded.
        let values: Vec<f32> = (0..n * 2).map(|i| if i % 2 == 0 { 0.1 } else { (i as f32).sin() }).collect();
        let a = tape.leaf(&Tensor::from_slice(&device, &[n, 2], &values).unwrap());
        let loss = losses::barlow_twins(&tape, &a, &a, 0.5).unwrap();
        // The constant falls short of 1 by 1, the other correlates with itself alone.
        let got = loss.value().item().unwrap();
        assert!((got - 1.).abs() < 1e-3, "{got} on {}", device.name());
        let gradient = tape.backward(&loss).unwrap().get(&a).unwrap().to_f64_vec().unwrap();
        assert!(gradient.iter().all(|g| g.is_finite()));
        let half = tape.leaf(&crossmodal::ops::cast(a.value(), DType::F16).unwrap());
        assert!(losses::barlow_twins(&tape, &half, &half, 0.5).unwrap().value().item().unwrap().is_finite());
    }
}

#[test]
fn a_scale_of_almost_nothing_is_no_trouble() {
    use crossmodal::ops::{Targets, info_nce};
    for device in [Device::Cpu, common::gpu()] {
        let x = Tensor::from_slice(&device, &[2, 2], &[1f32, 0., 0., 1.]).unwrap();
        let scale = Tensor::scalar(&device, -120f32).unwrap();
        let classes = Targets::Classes { rows: [0, 1].into(), cols: [0, 1].into() };
        for targets in [Targets::Diagonal, classes] {
            for smoothing in [0., 0.1] {
                let options =
                    InfoNceOptions { targets: targets.clone(), smoothing, ..InfoNceOptions::default() };
                let loss = info_nce(&x, &x, &scale, &options).unwrap().item().unwrap();
                assert!((loss - 2f64.ln()).abs() < 1e-6, "{loss} on {}", device.name());
            }
        }
    }
}
