//! Fusions by name over tokens: vectors as tokens and tokens as vectors, padding, gradients, what is attended to, training.
#![cfg(feature = "io")]

mod common;

use crossmodal::align::{Modality, Split};
use crossmodal::autograd::{Tape, Var};
use crossmodal::fusion::{
    Fuser, FusionData, FusionKind, FusionModel, FusionRecipe, FusionTrainer, Presence, Target, TokenBatch,
    TokenCount,
};
use crossmodal::io::Features;
use crossmodal::nn::{Parameters, generator};
use crossmodal::ops::Mask;
use crossmodal::{DType, Device, Tensor};

const ROWS: usize = 3;
const DIM: usize = 4;
const WIDTHS: [usize; 2] = [3, 2];
const LENGTHS: [usize; 2] = [4, 5];
/// How many tokens of each row are there, of each modality: in the last row the second has none.
const THERE: [[u32; ROWS]; 2] = [[4, 1, 3], [5, 2, 0]];

fn of_vectors() -> Vec<FusionKind> {
    vec![
        FusionKind::Concat,
        FusionKind::Gated,
        FusionKind::Tensor { inner: 2 },
        FusionKind::LowRank { rank: 3 },
        FusionKind::Pooling,
        FusionKind::DeepSet { hidden: 6 },
    ]
}

fn of_tokens() -> Vec<FusionKind> {
    vec![
        FusionKind::CrossAttention { heads: 2, layers: 2 },
        FusionKind::CoAttention { heads: 2, layers: 1 },
        FusionKind::Merged { heads: 2, layers: 2 },
        FusionKind::GatedCrossAttention { heads: 2, layers: 2 },
        FusionKind::Bottleneck { heads: 2, layers: 2, latents: 2 },
        FusionKind::Resampler { heads: 2, layers: 1, latents: 3 },
    ]
}

fn kinds() -> Vec<FusionKind> {
    [of_vectors(), of_tokens()].concat()
}

/// Numbers that look random, the same every time.
fn noise(count: usize, phase: f64) -> Vec<f64> {
    (0..count).map(|i| ((i as f64 + 1.) * 12.9898 + phase * 78.233).sin() * 1.3).collect()
}

/// A fuser whose every parameter is another number: gates that are open, norms that scale.
fn fuser(device: &Device, dtype: DType, kind: FusionKind) -> (Fuser, Parameters) {
    let mut parameters = Parameters::default();
    let fuser = Fuser::new(device, &mut parameters, "f", kind, &WIDTHS, DIM, &mut generator(1, 0)).unwrap();
    for (i, parameter) in parameters.iter_mut().enumerate() {
        let shape = parameter.value.shape().to_vec();
        let values = noise(parameter.value.len(), 10. + i as f64).iter().map(|v| 0.5 * v).collect();
        parameter.value = Tensor::from_f64(device, &shape, dtype, values).unwrap();
    }
    (fuser, parameters)
}

/// What a fuser is given: values and shape of each modality.
type Given = Vec<(Vec<f64>, Vec<usize>)>;

fn tokens() -> Given {
    let one = |m: usize| {
        let shape = vec![ROWS, LENGTHS[m], WIDTHS[m]];
        (noise(shape.iter().product(), m as f64), shape)
    };
    vec![one(0), one(1)]
}

fn mask(m: usize) -> Mask {
    let there = THERE[m].iter().flat_map(|&own| (0..LENGTHS[m] as u32).map(move |at| at < own));
    Mask::keep(&[ROWS, LENGTHS[m]], &there.collect::<Vec<_>>())
}

/// The result, and the gradients of what is given and of the parameters, from upstream gradients that differ.
fn run(
    (fuser, parameters): &(Fuser, Parameters),
    (device, dtype): (&Device, DType),
    given: &Given,
    masks: &[Option<&Mask>],
    presence: &Presence,
) -> (Vec<f64>, Vec<Vec<f64>>, Vec<Vec<f64>>) {
    let tape = Tape::new();
    let bound = parameters.on(&tape);
    let leaf = |(values, shape): &(Vec<f64>, Vec<usize>)| {
        tape.leaf(&Tensor::from_f64(device, shape, dtype, values.clone()).unwrap())
    };
    let x: Vec<Var> = given.iter().map(leaf).collect();
    let batch = TokenBatch { tokens: &x.iter().collect::<Vec<_>>(), masks, presence };
    let h = fuser.forward(&tape, &bound, &batch).unwrap();
    assert_eq!(h.value().shape(), [ROWS, DIM]);
    let upstream = Tensor::from_f64(device, &[ROWS, DIM], dtype, noise(ROWS * DIM, 5.)).unwrap();
    let gradients = tape.backward_from(&h, &upstream).unwrap();
    let values = |tensor: &Tensor| tensor.to_f64_vec().unwrap();
    let of_x = x.iter().zip(given).map(|(x, (f, _))| gradients.get(x).map_or(vec![0.; f.len()], values));
    let of_parameters = bound.gradients(&gradients);
    let of_parameters = of_parameters.iter().zip(parameters.iter());
    let of_parameters = of_parameters.map(|(g, p)| g.as_ref().map_or(vec![0.; p.value.len()], values));
    (values(h.value()), of_x.collect(), of_parameters.collect())
}

const F64: (&Device, DType) = (&Device::Cpu, DType::F64);

fn close(got: &[f64], want: &[f64], bound: f64, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert!((got - want).abs() <= bound * (1. + want.abs()), "{what} [{i}]: {got} instead of {want}");
    }
}

#[test]
fn a_vector_is_one_token() {
    let vector = |m: usize| (noise(ROWS * WIDTHS[m], m as f64), vec![ROWS, WIDTHS[m]]);
    let token = |m: usize| (vector(m).0, vec![ROWS, 1, WIDTHS[m]]);
    let presence = Presence::new(ROWS, vec![None, Some([true, false, true].into())]).unwrap();
    for kind in kinds() {
        let model = fuser(&Device::Cpu, DType::F64, kind);
        let vectors = run(&model, F64, &vec![vector(0), vector(1)], &[], &presence);
        assert!(vectors == run(&model, F64, &vec![token(0), token(1)], &[], &presence), "{kind}");
        assert!(vectors == run(&model, F64, &vec![vector(0), token(1)], &[], &presence), "{kind}");
    }
}

#[test]
fn a_fusion_of_vectors_takes_the_mean_of_the_tokens_that_are_there() {
    let masks = [mask(0), mask(1)];
    let given = tokens();
    let mean = |m: usize| {
        let (values, _) = &given[m];
        let of = |row: usize, column: usize| {
            let count = THERE[m][row] as usize;
            let at = |token: usize| values[(row * LENGTHS[m] + token) * WIDTHS[m] + column];
            (0..count).map(at).sum::<f64>() / count.max(1) as f64
        };
        let all = (0..ROWS).flat_map(|row| (0..WIDTHS[m]).map(move |column| (row, column)));
        (all.map(|(row, column)| of(row, column)).collect(), vec![ROWS, WIDTHS[m]])
    };
    let without = Presence::new(ROWS, vec![None, Some([true, true, false].into())]).unwrap();
    for kind in of_vectors() {
        let model = fuser(&Device::Cpu, DType::F64, kind);
        let whole = Presence::all(ROWS, 2);
        let got = run(&model, F64, &given, &[Some(&masks[0]), Some(&masks[1])], &whole);
        let want = run(&model, F64, &vec![mean(0), mean(1)], &[], &without);
        close(&got.0, &want.0, 1e-14, &format!("{kind}"));
        close(&got.2.concat(), &want.2.concat(), 1e-13, &format!("the gradients of {kind}"));
    }
}

#[test]
fn tokens_that_are_not_there_leave_no_trace() {
    let masks = [mask(0), mask(1)];
    let masks = [Some(&masks[0]), Some(&masks[1])];
    // The first row has no second modality, whatever its tokens say.
    let presence = Presence::new(ROWS, vec![None, Some([false, true, true].into())]).unwrap();
    let is_there = |m: usize, row: usize, token: usize| (token as u32) < THERE[m][row] && (m == 0 || row > 0);
    let mut odd = tokens();
    for (m, (values, _)) in odd.iter_mut().enumerate() {
        for (at, token) in values.chunks_exact_mut(WIDTHS[m]).enumerate() {
            if !is_there(m, at / LENGTHS[m], at % LENGTHS[m]) {
                token.fill(f64::NAN);
            }
        }
    }
    for device in [Device::Cpu, common::gpu()] {
        for kind in kinds() {
            let what = format!("{kind} on {}", device.name());
            let (model, on) = (fuser(&device, DType::F32, kind), (&device, DType::F32));
            let (h, of_x, of_parameters) = run(&model, on, &odd, &masks, &presence);
            let plain = run(&model, on, &tokens(), &masks, &presence);
            assert!(h == plain.0 && of_x == plain.1 && of_parameters == plain.2, "{what}");
            assert!(h.iter().chain(of_parameters.iter().flatten()).all(|v| v.is_finite()), "{what}");
            for (m, gradient) in of_x.iter().enumerate() {
                for (at, own) in gradient.chunks_exact(WIDTHS[m]).enumerate() {
                    let there = is_there(m, at / LENGTHS[m], at % LENGTHS[m]);
                    assert_eq!(own.iter().any(|v| *v != 0.), there, "{what}: modality {m}, token {at}");
                }
            }
            // And every device agrees with f64.
            let want = run(&fuser(&Device::Cpu, DType::F64, kind), F64, &tokens(), &masks, &presence);
            close(&h, &want.0, 2e-5, &what);
            close(&of_x.concat(), &want.1.concat(), 5e-5, &format!("the gradients of {what}"));
            close(&of_parameters.concat(), &want.2.concat(), 5e-5, &format!("the gradients of {what}"));
        }
    }
}

#[test]
fn gradients_agree_with_finite_differences() {
    let masks = [mask(0), mask(1)];
    let masks = [Some(&masks[0]), Some(&masks[1])];
    let (presence, upstream) = (Presence::all(ROWS, 2), noise(ROWS * DIM, 5.));
    for kind in of_tokens() {
        let model = fuser(&Device::Cpu, DType::F64, kind);
        let loss = |model: &(Fuser, Parameters), given: &Given| -> f64 {
            let h = run(model, F64, given, &masks, &presence).0;
            h.iter().zip(&upstream).map(|(h, u)| h * u).sum()
        };
        let (_, of_x, of_parameters) = run(&model, F64, &tokens(), &masks, &presence);
        let check = |name: &str, got: f64, shifted: &dyn Fn(f64) -> f64| {
            let numeric = (shifted(1e-5) - shifted(-1e-5)) / 2e-5;
            let bound = 1e-6 * (1. + numeric.abs());
            assert!((numeric - got).abs() < bound, "{kind}, {name}: {got} instead of {numeric}");
        };
        for (m, gradient) in of_x.iter().enumerate() {
            for (at, &got) in gradient.iter().enumerate() {
                check(&format!("modality {m} [{at}]"), got, &|h| {
                    let mut moved = tokens();
                    moved[m].0[at] += h;
                    loss(&model, &moved)
                });
            }
        }
        // Of every parameter one element, another one each: the operations have been tried whole.
        for (i, gradient) in of_parameters.iter().enumerate() {
            let at = i * 7 % gradient.len();
            check(&model.1.iter().nth(i).unwrap().name, gradient[at], &|h| {
                let (fuser, mut parameters) = model.clone();
                let parameter = parameters.iter_mut().nth(i).unwrap();
                let mut values = parameter.value.to_f64_vec().unwrap();
                values[at] += h;
                let shape = parameter.value.shape().to_vec();
                parameter.value = Tensor::from_f64(&Device::Cpu, &shape, DType::F64, values).unwrap();
                loss(&(fuser, parameters), &tokens())
            });
        }
    }
}

const SAMPLES: usize = 700;
const KEYS: usize = 4;

/// A picture of four patches, each with a mark of its own and a sign; a word that is one of the marks, behind it up to two words that
/// are none, and padding. Whether the patch with the word's mark has a positive sign: what the means of the tokens do not tell.
fn look_up() -> FusionData {
    let bits = |i: usize| (((i as f64 + 1.) * 12.9898).sin() * 43758.5453).rem_euclid(1.);
    let (mut words, mut patches, mut lengths, mut labels) = (vec![], vec![], vec![], vec![]);
    for row in 0..SAMPLES {
        let mark = (bits(3 * row) * KEYS as f64) as usize;
        let signs: Vec<bool> = (0..KEYS).map(|key| bits(10_000 + row * KEYS + key) > 0.5).collect();
        let length = 1 + (bits(50_000 + row) * 3.) as usize;
        for token in 0..3 {
            let one = |key: usize| if token == 0 && key == mark { 1. } else { 0. };
            let word: Vec<f32> = (0..KEYS).map(one).collect();
            words.extend(if token < length { word } else { vec![f32::NAN; KEYS] });
        }
        // Patches stand in another order in every row.
        for place in 0..KEYS {
            let key = (place + row) % KEYS;
            patches.extend((0..KEYS).map(|own| if own == key { 1. } else { 0. }));
            patches.push(if signs[key] { 1. } else { -1. });
        }
        lengths.push(length as u32);
        labels.push(i64::from(signs[mark]));
    }
    let text = Modality::new("text", Features { rows: SAMPLES, cols: 3 * KEYS, values: words });
    let image = Modality::new("image", Features { rows: SAMPLES, cols: KEYS * (KEYS + 1), values: patches });
    let split = Split::random(SAMPLES, 0).unwrap();
    let data = FusionData::new(vec![text, image], Target::of_labels(&labels), split).unwrap();
    let data = data.with_tokens("text", TokenCount { length: 3, lengths: Some(lengths.into()) }).unwrap();
    data.with_tokens("image", TokenCount { length: KEYS, lengths: None }).unwrap()
}

fn recipe(kind: FusionKind) -> FusionRecipe {
    FusionRecipe {
        kind,
        dim: 32,
        epochs: 30,
        batch_size: 32,
        learning_rate: 3e-3,
        weight_decay: 0.,
        dropout: 0.,
        ..FusionRecipe::default()
    }
}

fn trained(device: &Device, data: &FusionData, recipe: &FusionRecipe) -> (FusionModel, f64) {
    let mut trainer = FusionTrainer::new(device, data, recipe).unwrap();
    while !trainer.is_done() {
        trainer.epoch().unwrap();
    }
    let model = trainer.best().unwrap();
    let accuracy = trainer.test(&model, &data.split.test).unwrap().accuracy;
    (model, accuracy)
}

#[test]
fn attention_finds_what_means_do_not_tell() {
    let data = look_up();
    let (_, mean) = trained(&Device::Cpu, &data, &recipe(FusionKind::Concat));
    let kind = FusionKind::CrossAttention { heads: 2, layers: 1 };
    let (model, found) = trained(&Device::Cpu, &data, &recipe(kind));
    assert!(mean < 75. && found > 90., "by means {mean} %, by attention {found} %");
    // And it is seen to look there.
    let rows: Vec<u32> = data.split.test.clone();
    let selected: Vec<Features> =
        data.modalities.iter().map(|own| own.features.select(&rows).unwrap()).collect();
    let features: Vec<_> = selected.iter().map(Some).collect();
    let lengths: Vec<u32> = rows
        .iter()
        .map(|&row| data.tokens[0].as_ref().unwrap().lengths.as_ref().unwrap()[row as usize])
        .collect();
    let presence = data.presence(&rows).unwrap();
    let maps = model.attention(&features, &[Some(&lengths), None], &presence, ["text", "image"]).unwrap();
    assert_eq!((maps.rows, maps.heads, maps.query_length, maps.key_length), (rows.len(), 2, 3, KEYS));
    let mut on_mark = 0.;
    for (i, line) in maps.values.chunks_exact(KEYS).enumerate() {
        let (row, token) = (i / (2 * 3), i % 3);
        let sum: f32 = line.iter().sum();
        assert!((sum - if token < lengths[row] as usize { 1. } else { 0. }).abs() < 1e-5, "{line:?}");
        if token == 0 {
            let word = &selected[0].values[row * 3 * KEYS..][..KEYS];
            let mark = word.iter().position(|v| *v == 1.).unwrap();
            let place = (0..KEYS).find(|place| (place + rows[row] as usize) % KEYS == mark).unwrap();
            on_mark += f64::from(line[place]) / (2 * rows.len()) as f64;
        }
    }
    assert!(on_mark > 0.6, "{on_mark} of the attention is on the patch that the word names");
}
