//! Multi-head attention as a layer: against loops in f64, finite differences, both devices, masked tokens, what it starts from.

use crate::plain::Plain;
use crate::trial::{Trial, close, sample};
use crossmodal::nn::{MultiHeadAttention, MultiHeadSizes, Parameters, generator};
use crossmodal::ops::{AttentionOptions, AttentionWeights, Corner, Dropout, Mask};
use crossmodal::{DType, Device, Tensor, autograd::Tape};

const BATCH: usize = 2;
const QUERIES: usize = 3;
const KEYS: usize = 4;
/// The last sample has one key.
const KEPT: [bool; BATCH * KEYS] = [true, false, true, true, false, true, false, false];

fn sizes() -> [MultiHeadSizes; 3] {
    [
        MultiHeadSizes::new(6, 3),
        MultiHeadSizes { key: 5, value: 4, bias: false, ..MultiHeadSizes::new(6, 2) },
        MultiHeadSizes { key: 2, value: 7, kv_heads: 2, ..MultiHeadSizes::new(8, 4) },
    ]
}

fn options() -> Vec<(&'static str, AttentionOptions)> {
    let weights = AttentionWeights::PerHead;
    vec![
        ("plain", AttentionOptions { weights, ..Default::default() }),
        (
            "masked",
            AttentionOptions {
                weights,
                key_mask: Some(Mask::keep(&[BATCH, KEYS], &KEPT)),
                ..Default::default()
            },
        ),
        ("causal", AttentionOptions { weights, causal: Some(Corner::BottomRight), ..Default::default() }),
    ]
}

fn layer(sizes: MultiHeadSizes) -> (MultiHeadAttention, Parameters) {
    let mut parameters = Parameters::default();
    let made = MultiHeadAttention::new(&Device::Cpu, &mut parameters, "a", sizes, &mut generator(0, 0));
    (made.unwrap(), parameters)
}

fn cross(sizes: MultiHeadSizes, options: AttentionOptions) -> Trial<'static> {
    let (layer, parameters) = layer(sizes);
    let shapes = [[BATCH, QUERIES, sizes.query], [BATCH, KEYS, sizes.key], [BATCH, KEYS, sizes.value]];
    let shapes: Vec<_> = shapes.iter().map(|shape| &shape[..]).collect();
    Trial::new(parameters, &shapes, move |tape, bound, x| {
        let attended = layer.forward(tape, bound, x[0], x[1], x[2], &options).unwrap();
        [attended.out].into_iter().chain(attended.weights).collect()
    })
}

#[test]
fn it_is_its_formula() {
    for sizes in sizes() {
        for (name, options) in options() {
            let trial = cross(sizes, options);
            let plain = Plain::new(&trial.parameters);
            let got = trial.run(&Device::Cpu, DType::F64).results;
            let (mut out, mut weights) = (vec![], vec![]);
            for b in 0..BATCH {
                let [q, k, v] = [0, 1, 2].map(|i| sample(&trial.inputs[i], b));
                let sees = |i: usize, j: usize| match name {
                    "masked" => KEPT[b * KEYS + j],
                    "causal" => j <= i + KEYS - QUERIES,
                    _ => true,
                };
                let own = plain.attention("a", (sizes.heads, sizes.kv_heads), [&q, &k, &v], &sees);
                out.extend(own.0.concat());
                weights.extend(own.1.concat().concat());
            }
            close(&got[0], &out, 1e-12, &format!("{name} {sizes:?}"));
            close(&got[1], &weights, 1e-12, &format!("weights, {name} {sizes:?}"));
        }
    }
}

#[test]
fn gradients_agree_with_finite_differences_and_on_every_device() {
    for sizes in sizes() {
        for (name, options) in options() {
            cross(sizes, options).check(&format!("{name} {sizes:?}"));
        }
    }
    let dropout = Some(Dropout { p: 0.4, seed: 3, first: 0 });
    cross(sizes()[2], AttentionOptions { dropout, ..Default::default() }).check("dropout");
}

/// The three inputs are one variable.
#[test]
fn self_attention_sums_the_gradients_of_its_three_parts() {
    let (layer, parameters) = layer(sizes()[0]);
    let attend = move |tape: &Tape, bound: &_, x: &[&_]| {
        vec![layer.forward(tape, bound, x[0], x[0], x[0], &AttentionOptions::default()).unwrap().out]
    };
    Trial::new(parameters, &[&[BATCH, KEYS, 6]], attend).check("self-attention");
}

#[test]
fn masked_keys_leave_no_trace() {
    for sizes in sizes() {
        for mask in [Mask::keep(&[BATCH, KEYS], &KEPT), Mask::drop(&[BATCH, KEYS], &KEPT.map(|kept| !kept))] {
            let trial = cross(sizes, AttentionOptions { key_mask: Some(mask), ..Default::default() });
            trial.leaves_no_trace(&|input, token| input > 0 && !KEPT[token], &format!("{sizes:?}"));
        }
    }
}

/// Nothing to see: the values add nothing, and no gradient goes anywhere but to the last bias.
#[test]
fn a_sample_without_keys_gives_the_last_bias() {
    let none = Mask::keep(&[BATCH, KEYS], &[false; BATCH * KEYS]);
    let trial = cross(sizes()[0], AttentionOptions { key_mask: Some(none), ..Default::default() });
    let bias = Plain::new(&trial.parameters).get("a.output.bias").repeat(BATCH * QUERIES);
    let got = trial.run(&crate::shared::gpu(), DType::F32);
    close(&got.results[0], &bias, 1e-6, "the bias");
    assert!(got.of_inputs.iter().flatten().all(|v| *v == 0.));
    let names: Vec<_> = trial.parameters.iter().map(|p| &*p.name).collect();
    for (name, gradient) in names.iter().zip(got.of_parameters) {
        assert_eq!(gradient.iter().any(|v| *v != 0.), *name == "a.output.bias", "{name}");
    }
}

#[test]
fn it_starts_as_glorot_and_bengio_have_it() {
    let (layer, parameters) =
        layer(MultiHeadSizes { key: 30, value: 50, kv_heads: 2, ..MultiHeadSizes::new(40, 4) });
    let want = [("query", 40, 40), ("key", 30, 20), ("value", 50, 20), ("output", 40, 40)];
    for (i, (name, inputs, outputs)) in want.into_iter().enumerate() {
        let weight = parameters.get(layer.weights[i]);
        assert_eq!((&*weight.name, weight.decays), (&*format!("a.{name}.weight"), true));
        assert_eq!(weight.value.shape(), [inputs, outputs]);
        let (values, bound) = (weight.value.to_f64_vec().unwrap(), (6. / (inputs + outputs) as f64).sqrt());
        let largest = values.iter().fold(0f64, |a, b| a.max(b.abs()));
        assert!(largest <= bound * (1. + 1e-6) && largest > 0.97 * bound, "{name}: {largest} of {bound}");
        let square = values.iter().map(|v| v * v).sum::<f64>() / values.len() as f64;
        // Four deviations of the mean square of 600 uniform numbers or more, √0.8 / √600 of it.
        assert!((square / (bound * bound / 3.) - 1.).abs() < 0.15, "{name}: {square}");
        let bias = parameters.get(layer.biases.unwrap()[i]);
        assert_eq!((&*bias.name, bias.decays), (&*format!("a.{name}.bias"), false));
        assert_eq!(bias.value.to_f64_vec().unwrap(), vec![0.; outputs]);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let refused = |sizes: MultiHeadSizes| {
        let (mut parameters, mut random) = (Parameters::default(), generator(0, 0));
        let made = MultiHeadAttention::new(&Device::Cpu, &mut parameters, "a", sizes, &mut random);
        assert!(parameters.is_empty(), "nothing is left of what was refused");
        made.unwrap_err().to_string()
    };
    let sound = MultiHeadSizes::new(6, 2);
    assert!(
        refused(MultiHeadSizes { key: 0, ..sound })
            .contains("sizes: expected widths of at least one feature")
    );
    assert!(
        refused(MultiHeadSizes { heads: 4, ..sound })
            .contains("heads: expected a divisor of the query width")
    );
    assert!(refused(MultiHeadSizes { heads: 0, ..sound }).contains("heads: expected a divisor"));
    assert!(refused(MultiHeadSizes::new(514, 2)).contains("256 features at most, got 2 for a width of 514"));
    assert!(refused(MultiHeadSizes { kv_heads: 0, ..sound }).contains("kv_heads: expected a divisor"));
    assert!(
        refused(MultiHeadSizes { heads: 3, kv_heads: 2, ..sound }).contains("kv_heads: expected a divisor")
    );
    assert!(refused(MultiHeadSizes { key: 1 << 40, ..sound }).contains("fewer than 2^32 weights"));

    let (layer, parameters) = layer(MultiHeadSizes { key: 5, value: 4, ..sound });
    let tape = Tape::no_grad();
    let forward = |shapes: [&[usize]; 3], options: AttentionOptions| {
        let [q, k, v] =
            shapes.map(|shape| tape.leaf(&Tensor::zeros(&Device::Cpu, shape, DType::F32).unwrap()));
        layer.forward(&tape, &parameters.on(&tape), &q, &k, &v, &options).unwrap_err().to_string()
    };
    let none = AttentionOptions::default;
    let cases = [
        (forward([&[3, 6], &[2, 4, 5], &[2, 4, 4]], none()), "query: expected three axes"),
        (
            forward([&[2, 3, 5], &[2, 4, 5], &[2, 4, 4]], none()),
            "query: expected three axes: batch, length, a width of 6",
        ),
        (forward([&[2, 3, 6], &[2, 4, 6], &[2, 4, 4]], none()), "key: expected three axes"),
        (forward([&[2, 3, 6], &[1, 4, 5], &[1, 4, 4]], none()), "key: expected a batch of 2, got 1"),
        (
            forward([&[2, 3, 6], &[2, 4, 5], &[2, 3, 4]], none()),
            "value: expected batch and length of the keys, [2, 4]",
        ),
        (
            forward([&[2, 3, 6], &[2, 4, 5], &[2, 4, 4]], AttentionOptions { softcap: Some(0.), ..none() }),
            "softcap",
        ),
    ];
    for (message, want) in cases {
        assert!(message.contains(want), "{message}");
    }
    for mask in [Mask::keep(&[2, 3], &[true; 6]), Mask::keep(&[2, 4], &[true; 7])] {
        let options = AttentionOptions { key_mask: Some(mask), ..none() };
        let message = forward([&[2, 3, 6], &[2, 4, 5], &[2, 4, 4]], options);
        assert!(message.contains("key_mask: expected shape [2, 4], an element for each token"), "{message}");
    }
}
