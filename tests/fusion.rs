//! Early fusion: each against its formula in plain loops, finite differences, missing modalities, both devices.

mod common;

use crossmodal::autograd::{Tape, Var};
use crossmodal::fusion::{Fuser, FusionKind, Presence, TokenBatch};
use crossmodal::nn::{Parameters, generator};
use crossmodal::{DType, Device, Tensor};
use std::collections::BTreeMap;

const ROWS: usize = 5;
const DIM: usize = 3;
const WIDTHS: [usize; 3] = [4, 2, 3];

fn kinds() -> Vec<FusionKind> {
    vec![
        FusionKind::Concat,
        FusionKind::Gated,
        FusionKind::Tensor { inner: 2 },
        FusionKind::LowRank { rank: 3 },
        FusionKind::Pooling,
        FusionKind::DeepSet { hidden: 6 },
    ]
}

/// Numbers that look random, the same every time.
fn noise(count: usize, phase: f64) -> Vec<f64> {
    (0..count).map(|i| ((i as f64 + 1.) * 12.9898 + phase * 78.233).sin() * 1.3).collect()
}

fn features(modalities: usize) -> Vec<Vec<f64>> {
    (0..modalities).map(|m| noise(ROWS * WIDTHS[m], m as f64)).collect()
}

/// A fuser whose every parameter is another number, biases included.
fn fuser(device: &Device, dtype: DType, kind: FusionKind, modalities: usize) -> (Fuser, Parameters) {
    let (mut parameters, mut random) = (Parameters::default(), generator(1, 0));
    let widths = &WIDTHS[..modalities];
    let fuser = Fuser::new(device, &mut parameters, "f", kind, widths, DIM, &mut random).unwrap();
    for (i, parameter) in parameters.iter_mut().enumerate() {
        let shape = parameter.value.shape().to_vec();
        let values = noise(parameter.value.len(), 10. + i as f64).iter().map(|v| 0.7 * v).collect();
        parameter.value = Tensor::from_f64(device, &shape, dtype, values).unwrap();
    }
    (fuser, parameters)
}

/// The result and the gradients of features and parameters, from upstream gradients that differ.
fn run(
    (fuser, parameters): &(Fuser, Parameters),
    device: &Device,
    dtype: DType,
    features: &[Vec<f64>],
    presence: &Presence,
) -> (Vec<f64>, Vec<Vec<f64>>, Vec<Vec<f64>>) {
    let tape = Tape::new();
    let bound = parameters.on(&tape);
    let leaf = |values: &Vec<f64>| {
        let shape = [ROWS, values.len() / ROWS];
        tape.leaf(&Tensor::from_f64(device, &shape, dtype, values.clone()).unwrap())
    };
    let x: Vec<Var> = features.iter().map(leaf).collect();
    let batch = TokenBatch { tokens: &x.iter().collect::<Vec<_>>(), masks: &[], presence };
    let h = fuser.forward(&tape, &bound, &batch).unwrap();
    let upstream = Tensor::from_f64(device, &[ROWS, DIM], dtype, noise(ROWS * DIM, 5.)).unwrap();
    let gradients = tape.backward_from(&h, &upstream).unwrap();
    let values = |tensor: &Tensor| tensor.to_f64_vec().unwrap();
    let of_x =
        x.iter().zip(features).map(|(x, f)| gradients.get(x).map_or(vec![0.; f.len()], values)).collect();
    let of_parameters = bound.gradients(&gradients);
    let of_parameters = of_parameters.iter().zip(parameters.iter());
    let of_parameters =
        of_parameters.map(|(g, p)| g.as_ref().map_or(vec![0.; p.value.len()], values)).collect();
    (values(h.value()), of_x, of_parameters)
}

/// A third of the samples without each modality, none without any.
fn gaps(modalities: usize) -> Presence {
    let of = |m: usize| Some((0..ROWS).map(|row| modalities == 1 || row % modalities != m).collect());
    Presence::new(ROWS, (0..modalities).map(of).collect()).unwrap()
}

/// Parameters by name, and how layers read them.
struct Plain(BTreeMap<String, Vec<f64>>);

impl Plain {
    fn layer(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let (weight, bias) = (&self.0[&format!("f.{name}.weight")], &self.0[&format!("f.{name}.bias")]);
        let out = bias.len();
        let value =
            |j: usize| bias[j] + x.iter().enumerate().map(|(i, x)| x * weight[i * out + j]).sum::<f64>();
        (0..out).map(value).collect()
    }
}

fn gelu(v: f64) -> f64 {
    crossmodal::reference::Unary::Gelu.apply(v)
}

fn softmax(scores: &[f64]) -> Vec<f64> {
    let exps: Vec<f64> = scores.iter().map(|s| s.exp()).collect();
    exps.iter().map(|e| e / exps.iter().sum::<f64>()).collect()
}

/// One sample by the formula; none for a modality that is missing.
fn formula(kind: FusionKind, plain: &Plain, x: &[Option<&[f64]>]) -> Vec<f64> {
    let there: Vec<usize> = (0..x.len()).filter(|&m| x[m].is_some()).collect();
    let projected = |m: usize| plain.layer(&m.to_string(), x[m].unwrap());
    match kind {
        FusionKind::Concat => {
            let all: Vec<f64> =
                (0..x.len()).flat_map(|m| x[m].map_or(vec![0.; WIDTHS[m]], <[f64]>::to_vec)).collect();
            plain.layer("0", &all)
        }
        FusionKind::Gated => {
            let all: Vec<f64> =
                (0..x.len()).flat_map(|m| x[m].map_or(vec![0.; DIM], |_| projected(m))).collect();
            let scores = plain.layer("gate", &all);
            let of = |j: usize| {
                let own: Vec<f64> = there.iter().map(|&m| scores[j * x.len() + m]).collect();
                softmax(&own).iter().zip(&there).map(|(z, &m)| z * projected(m)[j].tanh()).sum()
            };
            (0..DIM).map(of).collect()
        }
        FusionKind::Tensor { inner } => {
            let mut product = vec![1.];
            for (m, x) in x.iter().enumerate() {
                let v = x.map_or(vec![0.; inner], |_| projected(m));
                let with_one = [vec![1.], v].concat();
                product = product.iter().flat_map(|p| with_one.iter().map(move |v| p * v)).collect();
            }
            plain.layer("output", &product)
        }
        FusionKind::LowRank { rank } => {
            let (weight, bias) = (&plain.0["f.weight"], &plain.0["f.bias"]);
            let factors: Vec<_> = there.iter().map(|&m| projected(m)).collect();
            let of = |j: usize| {
                let product = |r: usize| factors.iter().map(|f| f[r * DIM + j]).product::<f64>();
                bias[j] + (0..rank).map(|r| weight[r * DIM + j] * product(r)).sum::<f64>()
            };
            (0..DIM).map(of).collect()
        }
        FusionKind::Pooling => {
            let score = |m: &usize| {
                let hidden: Vec<f64> =
                    plain.layer("hidden", &projected(*m)).iter().map(|v| v.tanh()).collect();
                plain.layer("score", &hidden)[0]
            };
            let weights = softmax(&there.iter().map(score).collect::<Vec<_>>());
            (0..DIM).map(|j| weights.iter().zip(&there).map(|(a, &m)| a * projected(m)[j]).sum()).collect()
        }
        FusionKind::DeepSet { hidden } => {
            let element = |m: &usize| projected(*m).into_iter().map(gelu).collect::<Vec<_>>();
            let elements: Vec<_> = there.iter().map(element).collect();
            let mean = |j: usize| elements.iter().map(|e| e[j]).sum::<f64>() / there.len() as f64;
            plain.layer("output", &(0..hidden).map(mean).collect::<Vec<_>>())
        }
        of_tokens => panic!("{of_tokens} has formulas of its own"),
    }
}

fn close(got: &[f64], want: &[f64], bound: f64, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert!((got - want).abs() <= bound * (1. + want.abs()), "{what} [{i}]: {got} instead of {want}");
    }
}

#[test]
fn every_fusion_is_its_formula() {
    for kind in kinds() {
        for modalities in 1..=3 {
            let model = fuser(&Device::Cpu, DType::F64, kind, modalities);
            let named = model.1.iter().map(|p| (p.name.clone(), p.value.to_f64_vec().unwrap()));
            let plain = Plain(named.collect());
            let all = features(modalities);
            for presence in [Presence::all(ROWS, modalities), gaps(modalities)] {
                let got = run(&model, &Device::Cpu, DType::F64, &all, &presence).0;
                for row in 0..ROWS {
                    let x: Vec<_> = (0..modalities)
                        .map(|m| presence.is_there(m, row).then(|| &all[m][row * WIDTHS[m]..][..WIDTHS[m]]))
                        .collect();
                    let want = formula(kind, &plain, &x);
                    close(
                        &got[row * DIM..][..DIM],
                        &want,
                        1e-12,
                        &format!("{kind} of {modalities}, row {row}"),
                    );
                }
            }
        }
    }
}

#[test]
fn gradients_agree_with_finite_differences() {
    let upstream = noise(ROWS * DIM, 5.);
    for kind in kinds() {
        let model = fuser(&Device::Cpu, DType::F64, kind, 3);
        let all = features(3);
        let loss = |model: &(Fuser, Parameters), all: &[Vec<f64>], presence: &Presence| -> f64 {
            run(model, &Device::Cpu, DType::F64, all, presence)
                .0
                .iter()
                .zip(&upstream)
                .map(|(h, u)| h * u)
                .sum()
        };
        let check = |name: &str, got: &[f64], shifted: &dyn Fn(usize, f64) -> f64| {
            for (at, got) in got.iter().enumerate() {
                let numeric = (shifted(at, 1e-6) - shifted(at, -1e-6)) / 2e-6;
                assert!(
                    (numeric - got).abs() < 1e-7 * (1. + numeric.abs()),
                    "{kind}, {name}[{at}]: {got} instead of {numeric}"
                );
            }
        };
        for presence in [Presence::all(ROWS, 3), gaps(3)] {
            let (_, of_x, of_parameters) = run(&model, &Device::Cpu, DType::F64, &all, &presence);
            for (m, got) in of_x.iter().enumerate() {
                check(&format!("modality {m}"), got, &|at, h| {
                    let mut moved = all.clone();
                    moved[m][at] += h;
                    loss(&model, &moved, &presence)
                });
            }
            for (i, got) in of_parameters.iter().enumerate() {
                check(&model.1.iter().nth(i).unwrap().name, got, &|at, h| {
                    let (fuser, mut parameters) = model.clone();
                    let parameter = parameters.iter_mut().nth(i).unwrap();
                    let mut values = parameter.value.to_f64_vec().unwrap();
                    values[at] += h;
                    let shape = parameter.value.shape().to_vec();
                    parameter.value = Tensor::from_f64(&Device::Cpu, &shape, DType::F64, values).unwrap();
                    loss(&(fuser, parameters), &all, &presence)
                });
            }
        }
    }
}

#[test]
fn what_is_missing_leaves_no_trace() {
    for device in [Device::Cpu, common::gpu()] {
        for kind in kinds() {
            let model = fuser(&device, DType::F32, kind, 3);
            let (presence, all) = (gaps(3), features(3));
            let mut odd = all.clone();
            for (m, values) in odd.iter_mut().enumerate() {
                for row in (0..ROWS).filter(|&row| !presence.is_there(m, row)) {
                    values[row * WIDTHS[m]..][..WIDTHS[m]].fill(f64::NAN);
                }
            }
            let (h, of_x, of_parameters) = run(&model, &device, DType::F32, &odd, &presence);
            assert!(h == run(&model, &device, DType::F32, &all, &presence).0, "{kind} on {}", device.name());
            assert!(of_parameters.iter().flatten().all(|v| v.is_finite()), "{kind} on {}", device.name());
            for (m, gradient) in of_x.iter().enumerate() {
                for row in 0..ROWS {
                    let own = &gradient[row * WIDTHS[m]..][..WIDTHS[m]];
                    let nothing = own.iter().all(|v| *v == 0.);
                    assert_eq!(
                        nothing,
                        !presence.is_there(m, row),
                        "{kind}: modality {m} of row {row}: {own:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn every_device_agrees_with_f64() {
    for device in [Device::Cpu, common::gpu()] {
        for kind in kinds() {
            let all = features(3);
            for presence in [Presence::all(ROWS, 3), gaps(3)] {
                let f64s = fuser(&Device::Cpu, DType::F64, kind, 3);
                let want = run(&f64s, &Device::Cpu, DType::F64, &all, &presence);
                let got = run(&fuser(&device, DType::F32, kind, 3), &device, DType::F32, &all, &presence);
                close(&got.0, &want.0, 1e-5, &format!("{kind}"));
                let gradients =
                    |(_, x, p): (Vec<f64>, Vec<Vec<f64>>, Vec<Vec<f64>>)| [x, p].concat().concat();
                close(&gradients(got), &gradients(want), 2e-5, &format!("the gradient of {kind}"));
            }
        }
    }
}

/// Where a factor is 0 or a gate saturated nothing is divided: the answer is the formula's.
#[test]
fn zero_factors_and_saturated_gates_are_no_trouble() {
    for kind in kinds() {
        let model = fuser(&Device::Cpu, DType::F64, kind, 2);
        for value in [0., 1e3, -1e3] {
            let all = vec![vec![value; ROWS * WIDTHS[0]], noise(ROWS * WIDTHS[1], 1.)];
            let (h, of_x, of_parameters) =
                run(&model, &Device::Cpu, DType::F64, &all, &Presence::all(ROWS, 2));
            let every = [vec![h], of_x, of_parameters].concat().concat();
            assert!(every.iter().all(|v| v.is_finite()), "{kind} at {value}");
        }
    }
    // A factor of exactly 0: the gradient of the other is 0 through it, its own is the other.
    let (fuser, mut parameters) = fuser(&Device::Cpu, DType::F64, FusionKind::LowRank { rank: 1 }, 2);
    for parameter in parameters.iter_mut() {
        let fill = if parameter.name.starts_with("f.0") { 0. } else { 1. };
        let (shape, count) = (parameter.value.shape().to_vec(), parameter.value.len());
        parameter.value = Tensor::from_f64(&Device::Cpu, &shape, DType::F64, vec![fill; count]).unwrap();
    }
    let all = vec![vec![1.; ROWS * WIDTHS[0]], vec![2.; ROWS * WIDTHS[1]]];
    let (h, of_x, of_parameters) =
        run(&(fuser, parameters), &Device::Cpu, DType::F64, &all, &Presence::all(ROWS, 2));
    assert_eq!(h, [1.; ROWS * DIM]);
    assert!(of_x[1].iter().all(|v| *v == 0.));
    // ∂(bias of the zero factor) = w ∂h F, F = 1 + 2 · 2.
    let upstream = noise(ROWS * DIM, 5.);
    let sums: Vec<f64> =
        (0..DIM).map(|j| 5. * (0..ROWS).map(|row| upstream[row * DIM + j]).sum::<f64>()).collect();
    close(&of_parameters[1], &sums, 1e-12, "the gradient of a factor of 0");
}

#[test]
fn what_does_not_fit_is_refused() {
    let (mut parameters, mut random) = (Parameters::default(), generator(0, 0));
    let mut new = |kind, widths: &[usize], dim| {
        Fuser::new(&Device::Cpu, &mut parameters, "f", kind, widths, dim, &mut random)
            .err()
            .map(|e| e.to_string())
    };
    for kind in kinds() {
        assert!(new(kind, &[], 3).is_some(), "{kind} of nothing");
        assert!(new(kind, &[3, 0], 3).is_some(), "{kind} of no features");
        assert!(new(kind, &[3, 2], 0).is_some(), "{kind} to nothing");
    }
    let wide = new(FusionKind::Tensor { inner: 300 }, &[3, 3], 3).unwrap();
    assert!(wide.contains("inner: expected at most 65536"), "{wide}");
    let (fuser, parameters) = fuser(&Device::Cpu, DType::F32, FusionKind::Gated, 2);
    let tape = Tape::new();
    let x = |rows: usize, cols: usize| {
        tape.leaf(&Tensor::zeros(&Device::Cpu, &[rows, cols], DType::F32).unwrap())
    };
    let forward = |x: &[&Var], presence: &Presence| {
        let batch = TokenBatch { tokens: x, masks: &[], presence };
        fuser.forward(&tape, &parameters.on(&tape), &batch).unwrap_err().to_string()
    };
    let all = Presence::all(ROWS, 2);
    assert!(forward(&[&x(ROWS, 4)], &all).contains("tokens: expected one for each of 2 modalities, got 1"));
    assert!(forward(&[&x(ROWS, 4), &x(4, 2)], &all).contains("a batch of 5, as the presence has it, got 4"));
    let short = Presence::new(3, vec![Some([true; 2].into())]).unwrap_err().to_string();
    assert!(short.contains("presence: expected 3 for each modality, one a sample, got 2"), "{short}");
}
