//! Attention at its edges: results known in advance, and what it refuses.

mod common;
#[path = "common/everywhere.rs"]
mod everywhere;

use crossmodal::autograd::Tape;
use crossmodal::ops::attention::ATTENTION;
use crossmodal::ops::{
    Alibi, Attended, AttentionLayout, AttentionOptions, AttentionWeights, Corner, Dropout, Mask, Sequences,
    Window, attention,
};
use crossmodal::{DType, Device, Tensor};
use everywhere::everywhere;

const NONE: f64 = f64::NEG_INFINITY;

fn tensor(device: &Device, dtype: DType, shape: &[usize], values: &[f64]) -> Tensor {
    Tensor::from_f64(device, shape, dtype, values.to_vec()).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_f64_vec().unwrap()
}

#[track_caller]
fn close(got: &[f64], want: &[f64], allowed: f64) {
    assert_eq!(got.len(), want.len(), "{got:?} instead of {want:?}");
    for (got, want) in got.iter().zip(want) {
        assert!(got == want || (got - want).abs() <= allowed, "{got} instead of {want}");
    }
}

fn plain() -> AttentionOptions {
    AttentionOptions::default()
}

/// Attention of one head with itself as keys, of numbers.
fn of_numbers(device: &Device, dtype: DType, q: &[f64], k: &[f64], options: &AttentionOptions) -> Attended {
    let of = |v: &[f64]| tensor(device, dtype, &[1, 1, v.len(), 1], v);
    attention(&of(q), &of(k), &of(k), None, options).unwrap()
}

#[test]
fn where_nothing_is_seen_the_result_is_zero_and_so_are_all_gradients() {
    everywhere(|device, dtype| {
        let of = |shape: &[usize], values: &[f64]| tensor(device, dtype, shape, values);
        let q = of(&[1, 1, 2, 2], &[1., 2., f64::NAN, f64::NAN]);
        let k = of(&[1, 1, 2, 2], &[1., 0., f64::NAN, f64::NAN]);
        let tape = Tape::new();
        let leaves = [&q, &k, &k].map(|x| tape.leaf(x));
        // Query 0 sees key 0 alone, query 1 nothing.
        let pair_mask = Some(Mask::drop(&[1, 1, 2, 2], &[false, true, true, true]));
        let options = AttentionOptions { pair_mask, weights: AttentionWeights::PerHead, ..plain() };
        let made = tape.apply_all(&ATTENTION, options, &[&leaves[0], &leaves[1], &leaves[2]]).unwrap();
        assert_eq!(values(made[0].value()), [1., 0., 0., 0.]);
        let lse = values(made[1].value());
        close(&lse[..1], &[0.5f64.sqrt()], 1e-6);
        assert_eq!(lse[1], NONE);
        assert_eq!(values(made[2].value()), [1., 0., 0., 0.]);
        for (result, shape) in [(0, &[1, 1, 2, 2][..]), (1, &[1, 1, 2]), (2, &[1, 1, 2, 2])] {
            let n = shape.iter().product();
            let gradients = tape.backward_from(&made[result], &of(shape, &vec![3.; n])).unwrap();
            let all = leaves.each_ref().map(|leaf| values(gradients.get(leaf).unwrap()));
            let scale = 0.5f64.sqrt();
            let want = match result {
                0 => [[0.; 4], [0.; 4], [3., 3., 0., 0.]],
                1 => [[3. * scale, 0., 0., 0.], [3. * scale, 6. * scale, 0., 0.], [0.; 4]],
                _ => [[0.; 4]; 3], // A single weight is 1 whatever its score is.
            };
            for (got, want) in all.iter().zip(&want) {
                close(got, want, 1e-5);
            }
        }
    });
}

#[test]
fn no_keys_and_no_queries() {
    everywhere(|device, dtype| {
        let zeros = |shape: &[usize]| Tensor::zeros(device, shape, dtype).unwrap();
        let options = AttentionOptions { weights: AttentionWeights::Averaged, ..plain() };
        let (some, none) = (zeros(&[2, 3, 4, 5]), zeros(&[2, 3, 0, 5]));
        let attended = attention(&some, &none, &none, None, &options).unwrap();
        assert_eq!(values(&attended.out), [0.; 120]);
        assert_eq!(values(&attended.lse), [NONE; 24]);
        assert_eq!(attended.weights.unwrap().shape(), [2, 4, 0]);
        let attended = attention(&none, &some, &some, None, &options).unwrap();
        assert_eq!(attended.out.shape(), [2, 3, 0, 5]);
        assert_eq!(attended.weights.unwrap().shape(), [2, 0, 4]);
    });
}

#[test]
fn corners_windows_and_sequences_let_see_what_they_say() {
    everywhere(|device, dtype| {
        // A query of 0 gives the mean of the numbers that it sees.
        let means = |queries: usize, keys: &[f64], options: &AttentionOptions| {
            values(&of_numbers(device, dtype, &vec![0.; queries], keys, options).out)
        };
        let causal = |corner| AttentionOptions { causal: Some(corner), ..plain() };
        close(&means(2, &[1., 3., 8.], &causal(Corner::TopLeft)), &[1., 2.], 1e-6);
        close(&means(2, &[1., 3., 8.], &causal(Corner::BottomRight)), &[2., 4.], 1e-6);
        close(&means(3, &[1., 3.], &causal(Corner::TopLeft)), &[1., 2., 2.], 1e-6);
        close(&means(3, &[1., 3.], &causal(Corner::BottomRight)), &[0., 1., 2.], 1e-6);
        let window = |before, after, corner| {
            let window = Some(Window { before, after, corner });
            AttentionOptions { window, ..plain() }
        };
        let four = [1., 3., 8., 10.];
        close(&means(4, &four, &window(Some(1), Some(0), Corner::TopLeft)), &[1., 2., 5.5, 9.], 1e-6);
        close(&means(2, &four, &window(None, Some(0), Corner::BottomRight)), &[4., 5.5], 1e-6);
        close(&means(2, &four, &window(Some(0), None, Corner::TopLeft)), &[5.5, 7.], 1e-6);
        let sequences = Some(Sequences { queries: [0, 1, 1, 4].into(), keys: [0, 2, 2, 4].into() });
        let options = AttentionOptions { sequences, ..causal(Corner::BottomRight) };
        // Alone: both of its keys. The three of the last one: none, its first, both.
        close(&means(4, &four, &options), &[2., 0., 8., 9.], 1e-6);
    });
}

#[test]
fn biases_and_caps_are_those_of_the_papers() {
    everywhere(|device, dtype| {
        let allowed = 2e-6;
        let alibi = Some(Alibi { slopes: [2f64.ln()].into(), corner: Corner::TopLeft });
        let options = AttentionOptions { alibi, weights: AttentionWeights::PerHead, ..plain() };
        // Each step away halves the weight.
        let weights = of_numbers(device, dtype, &[0., 0.], &[7., 7., 7.], &options).weights.unwrap();
        close(&values(&weights), &[4. / 7., 2. / 7., 1. / 7., 0.25, 0.5, 0.25], allowed);
        let options = AttentionOptions { softcap: Some(2.), scale: Some(3.), ..plain() };
        let capped = of_numbers(device, dtype, &[1.], &[5.], &options);
        close(&values(&capped.lse), &[2. * 7.5f64.tanh()], allowed);
        assert_eq!(
            Alibi::new(6, Corner::TopLeft).slopes[..],
            [0.25, 0.0625, 0.015625, 0.00390625, 0.5, 0.125]
        );
    });
}

#[test]
fn weights_sum_to_one_and_are_given_before_dropout() {
    everywhere(|device, dtype| {
        let numbers = |n: usize| (0..n).map(|i| (i as f64 * 0.7).sin()).collect::<Vec<_>>();
        let q = tensor(device, dtype, &[1, 4, 5, 2], &numbers(40));
        let k = tensor(device, dtype, &[1, 2, 7, 2], &numbers(28));
        let dropout = Some(Dropout { p: 0.5, seed: 1, first: 0 });
        let options = AttentionOptions { dropout, weights: AttentionWeights::PerHead, ..plain() };
        let all = attention(&q, &k, &k, None, &options).unwrap();
        let weights = values(all.weights.as_ref().unwrap());
        for row in weights.chunks(7) {
            close(&[row.iter().sum()], &[1.], 1e-6);
        }
        let rows = Some([3, 0].into());
        let averaged = AttentionOptions { weights: AttentionWeights::Averaged, rows, ..options };
        let some = values(&attention(&q, &k, &k, None, &averaged).unwrap().weights.unwrap());
        let mean =
            |row: usize, key: usize| (0..4).map(|h| weights[(h * 5 + row) * 7 + key]).sum::<f64>() / 4.;
        let want: Vec<_> = [3, 0].into_iter().flat_map(|row| (0..7).map(move |key| mean(row, key))).collect();
        close(&some, &want, 1e-6);
    });
}

#[test]
fn both_layouts_give_the_same_numbers() {
    everywhere(|device, dtype| {
        let (heads, kv_heads, rows) = (4, 2, 5);
        let number = |h: usize, i: usize, f: usize| ((h * 31 + i * 7 + f) as f64).sin();
        let apart = |heads: usize| {
            let each =
                (0..heads).flat_map(|h| (0..rows).flat_map(move |i| (0..3).map(move |f| number(h, i, f))));
            tensor(device, dtype, &[1, heads, rows, 3], &each.collect::<Vec<_>>())
        };
        let packed = |heads: usize| {
            let each =
                (0..rows).flat_map(|i| (0..heads).flat_map(move |h| (0..3).map(move |f| number(h, i, f))));
            tensor(device, dtype, &[1, rows, heads * 3], &each.collect::<Vec<_>>())
        };
        let one = attention(&apart(heads), &apart(kv_heads), &apart(kv_heads), None, &plain()).unwrap();
        let options = AttentionOptions { layout: AttentionLayout::Packed { heads, kv_heads }, ..plain() };
        let other = attention(&packed(heads), &packed(kv_heads), &packed(kv_heads), None, &options).unwrap();
        assert_eq!(values(&one.lse), values(&other.lse));
        let (one, other) = (values(&one.out), values(&other.out));
        for (n, value) in other.iter().enumerate() {
            let (i, h, f) = (n / 12, n / 3 % 4, n % 3);
            assert_eq!(one[(h * rows + i) * 3 + f], *value);
        }
    });
}

/// Not whole numbers: another order of summation would round otherwise.
#[test]
fn the_same_bits_every_time_on_any_number_of_threads() {
    everywhere(|device, dtype| {
        let numbers = |n: usize| (0..n).map(|i| (i as f64 * 0.37).sin()).collect::<Vec<_>>();
        let of = |shape: [usize; 4]| tensor(device, dtype, &shape, &numbers(shape.iter().product()));
        let run = || {
            let tape = Tape::new();
            let leaves = [of([2, 4, 150, 8]), of([2, 2, 140, 8]), of([2, 2, 140, 8])].map(|x| tape.leaf(&x));
            let options =
                AttentionOptions { dropout: Some(Dropout { p: 0.2, seed: 9, first: 0 }), ..plain() };
            let made = tape.apply_all(&ATTENTION, options, &[&leaves[0], &leaves[1], &leaves[2]]).unwrap();
            let gradients = tape.backward_from(&made[0], made[0].value()).unwrap();
            let mut all = vec![values(made[0].value()), values(made[1].value())];
            all.extend(leaves.iter().map(|leaf| values(gradients.get(leaf).unwrap())));
            all
        };
        let first = run();
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert!(pool.install(run) == first, "{} {dtype}: {threads} threads", device.name());
        }
    });
}

#[test]
fn what_has_no_meaning_is_refused() {
    let of = |shape: &[usize]| Tensor::zeros(&Device::Cpu, shape, DType::F32).unwrap();
    let (q, k) = (of(&[2, 4, 5, 3]), of(&[2, 2, 6, 3]));
    let with = |options: AttentionOptions| attention(&q, &k, &k, None, &options).map(drop);
    let packed = |heads, kv_heads| {
        let x = of(&[2, 5, 12]);
        let layout = AttentionLayout::Packed { heads, kv_heads };
        attention(&x, &x, &x, None, &AttentionOptions { layout, ..plain() }).map(drop)
    };
    let mask = |shape: &[usize], n: usize| Some(Mask::keep(shape, &vec![true; n]));
    let sequences = |queries: &[usize], keys: &[usize]| AttentionOptions {
        sequences: Some(Sequences { queries: queries.into(), keys: keys.into() }),
        ..plain()
    };
    let rows = |rows: &[usize], weights| AttentionOptions { rows: Some(rows.into()), weights, ..plain() };
    let per_head = AttentionWeights::PerHead;
    let short = Some(Alibi { slopes: [1.].into(), corner: Corner::TopLeft });
    let table = [
        (attention(&of(&[2, 3]), &k, &k, None, &plain()).map(drop), "q: expected four axes"),
        (attention(&q, &of(&[2, 2, 6, 4]), &k, None, &plain()).map(drop), "k: expected shape [2, 2, 6, 3]"),
        (attention(&q, &k, &of(&[2, 2, 7, 3]), None, &plain()).map(drop), "v: expected shape [2, 2, 6, 3]"),
        (
            attention(&q, &of(&[2, 3, 6, 3]), &of(&[2, 3, 6, 3]), None, &plain()).map(drop),
            "q: expected a multiple of the 3 heads of k, got 4 heads",
        ),
        (
            attention(&of(&[1, 1, 1, 257]), &of(&[1, 1, 1, 257]), &of(&[1, 1, 1, 1]), None, &plain())
                .map(drop),
            "q: expected a width of 1 to 256 for each head, got 257",
        ),
        (
            attention(&q, &k, &k, Some(&of(&[2, 4, 5, 5])), &plain()).map(drop),
            "bias: expected [2, 4, 5, 6], or 1 for any of them, got [2, 4, 5, 5]",
        ),
        (packed(5, 5), "q: expected three axes: batch, length, 5 heads side by side"),
        (packed(4, 0), "k: expected three axes: batch, length, 0 heads side by side"),
        (packed(4, 3), "k: expected shape [2, 5, 9], got [2, 5, 12]"),
        (with(AttentionOptions { scale: Some(f64::NAN), ..plain() }), "scale: expected a finite number"),
        (with(AttentionOptions { softcap: Some(0.), ..plain() }), "softcap: expected a number above 0"),
        (
            with(AttentionOptions { alibi: short, ..plain() }),
            "alibi: expected 4 slopes, one for each head, got 1",
        ),
        (
            with(AttentionOptions { dropout: Some(Dropout { p: 1., seed: 0, first: 0 }), ..plain() }),
            "dropout: expected p of 0 to less than 1, got 1.0",
        ),
        (
            with(AttentionOptions { key_mask: mask(&[2, 5], 10), ..plain() }),
            "key_mask: expected shape [2, 6], got [2, 5]",
        ),
        (
            with(AttentionOptions { key_mask: mask(&[2, 6], 11), ..plain() }),
            "key_mask: expected 12 elements for its shape, got 11",
        ),
        (
            with(AttentionOptions { pair_mask: mask(&[2, 4, 1, 6], 48), ..plain() }),
            "pair_mask: expected shape [2 or 1, 4 or 1, 5, 6], got [2, 4, 1, 6]",
        ),
        (
            with(sequences(&[0, 4], &[0, 6])),
            "sequences.queries: expected cumulative lengths from 0 to 5, got [0, 4]",
        ),
        (with(sequences(&[0, 5], &[0, 7, 6])), "sequences.keys: expected cumulative lengths from 0 to 6"),
        (with(sequences(&[0, 2, 5], &[0, 6])), "sequences.keys: expected 3 places as for the queries, got 2"),
        (with(rows(&[0], AttentionWeights::None)), "rows: expected weights to be returned"),
        (with(rows(&[0, 5], per_head)), "rows: expected query numbers below 5, got 5"),
        (with(rows(&[2, 2], per_head)), "rows: expected each query once, got 2 twice"),
    ];
    for (result, words) in table {
        let message = result.expect_err(words).to_string();
        assert!(message.contains(words), "{message:?} does not say {words:?}");
    }
}

/// On a GPU the backward goes other ways where not all of the inputs need a gradient, or no scratch is allowed.
#[test]
fn gradients_are_the_same_whichever_are_needed() {
    everywhere(|device, dtype| {
        let of = |seed: f64, rows: usize| {
            let at = |i: usize| ((i as f64 + seed) * 0.7).sin();
            tensor(device, dtype, &[2, 2, rows, 5], &(0..20 * rows).map(at).collect::<Vec<_>>())
        };
        let inputs = [of(1., 35), of(2., 70), of(3., 70)];
        let upstream = of(4., 35);
        let gradients = |needed: [bool; 3], scratch_bytes: usize| {
            let tape = Tape::new();
            let both = inputs.iter().zip(needed);
            let vars: Vec<_> =
                both.map(|(x, need)| if need { tape.leaf(x) } else { tape.constant(x) }).collect();
            let options = AttentionOptions { scratch_bytes, ..plain() };
            let made = tape.apply_all(&ATTENTION, options, &[&vars[0], &vars[1], &vars[2]]).unwrap();
            let gradients = tape.backward_from(&made[0], &upstream).unwrap();
            vars.iter().map(|var| gradients.get(var).map(values)).collect::<Vec<_>>()
        };
        let all = gradients([true; 3], plain().scratch_bytes);
        for scratch_bytes in [0, plain().scratch_bytes] {
            for needed in 1..8 {
                let needed = [0, 1, 2].map(|i| needed >> i & 1 == 1);
                for (i, own) in gradients(needed, scratch_bytes).iter().enumerate() {
                    assert_eq!(own.is_some(), needed[i], "{needed:?}, input {i}");
                    if let (Some(own), Some(want)) = (own, &all[i]) {
                        close(own, want, if dtype == DType::F16 { 1e-3 } else { 2e-6 });
                    }
                }
            }
        }
    });
}
