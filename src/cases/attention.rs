//! Cases of attention.

use super::attention_options::combinations;
use super::bench::Bench;
use super::{Case, Input, Tolerance, of_forward, of_rule};
use crate::ops::attention::ATTENTION;
use crate::ops::{
    Alibi, AttentionLayout, AttentionOptions, AttentionWeights, Corner, Mask, Sequences, Window,
};

/// Sizes of a case.
#[derive(Clone, Copy)]
pub(super) struct Size {
    pub batch: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub queries: usize,
    pub keys: usize,
    pub dh: usize,
    pub dv: usize,
}

/// A little more than a tile each way.
pub(super) const PLAIN: Size = Size { batch: 2, heads: 2, kv_heads: 2, queries: 35, keys: 37, dh: 3, dv: 5 };

/// For results, for gradients, and for that of a bias of the given shape. Queries and keys are in ± `largest`.
fn tolerance(
    size: Size,
    options: &AttentionOptions,
    bias: Option<[usize; 4]>,
    largest: f64,
) -> [Tolerance; 3] {
    let (dh, dv, u) = ((size.dh as f64).sqrt(), (size.dv as f64).sqrt(), Tolerance::ulps(0.5).rel);
    let scale = options.scale.unwrap_or(1. / dh).abs();
    // A product of dh pairs of numbers in ±1 is of size √dh / 3: twice √dh is six times that. A bias adds 1.
    let distance = (size.queries + size.keys) as f64;
    let steepest = |alibi: &Alibi| alibi.slopes.iter().fold(0f64, |a, b| a.max(*b));
    let scores =
        2. * scale * dh * largest * largest + 1. + options.alibi.as_ref().map_or(0., steepest) * distance;
    // A cap's tanh has roundings of its own, as that of `unary`.
    let capped =
        if options.softcap.is_some() { Tolerance::exponential(18.).rel * 2. * scale * dh } else { 0. };
    let score = (dh + 8.) * u * scores + capped;
    let probability = 2. * score + Tolerance::exponential(2. * scores).rel + u * (size.keys as f64).sqrt();
    let kept = options.dropout.map_or(1., |dropout| 1. / (1. - dropout.p));
    let forward = Tolerance::carried(2. * score + kept * probability).and(Tolerance::ulps(4.));
    // ∂P − δ is of the size of the upstream gradients: products of dv pairs, ∂LSE and ∂A.
    let upstream = kept * 2. * dv + 2.;
    let of_score = upstream * (2. * probability + 2. * (dv + 4.) * u);
    let carried = |error: f64| Tolerance::carried(error).and(Tolerance::ulps(4.));
    // The probabilities of a query sum to one; errors of queries that add up have random signs.
    let rows = (size.queries * size.heads / size.kv_heads.max(1)).max(1) as f64;
    let backward = carried(of_score * scale.max(1.) * largest * rows.sqrt());
    let lines = (size.batch * size.heads * size.queries) as f64;
    let shared = bias.map_or(1., |[b, h, i, _]| lines / (b * h * i).max(1) as f64).max(1.);
    [forward, backward, carried(of_score * shared.sqrt())]
}

/// The shapes of q, k and v.
fn shapes(size: Size, layout: AttentionLayout) -> [Vec<usize>; 3] {
    let Size { batch, heads, kv_heads, queries, keys, dh, dv } = size;
    [(heads, queries, dh), (kv_heads, keys, dh), (kv_heads, keys, dv)].map(
        |(heads, rows, width)| match layout {
            AttentionLayout::Heads => vec![batch, heads, rows, width],
            AttentionLayout::Packed { .. } => vec![batch, rows, heads * width],
        },
    )
}

pub(super) fn inputs(size: Size, layout: AttentionLayout) -> Vec<Input> {
    let [q, k, v] = shapes(size, layout);
    vec![Input::uniform("q", &q, 1.), Input::uniform("k", &k, 1.), Input::uniform("v", &v, 1.)]
}

pub(super) fn case_of(name: String, size: Size, options: AttentionOptions, inputs: Vec<Input>) -> Case {
    let bias = inputs.get(3).map(|bias| std::array::from_fn(|axis| bias.shape[axis]));
    let factors = inputs.iter().take(2).flat_map(|input| input.values.iter());
    let largest = factors.fold(1f64, |a, b| a.max(b.abs()));
    let [forward, backward, last] = tolerance(size, &options, bias, largest);
    let case = of_rule(name, &ATTENTION, options, inputs, (forward, backward));
    Case { last: bias.map(|_| last), ..case }.f32_only()
}

fn plain_case(size: Size, options: &AttentionOptions, name: String) -> Case {
    case_of(name, size, options.clone(), inputs(size, options.layout))
}

/// Lengths and widths around the tiles of 32 and the chunks of 64 columns.
fn sizes() -> Vec<Case> {
    let plain = AttentionOptions::default();
    let mut cases = vec![];
    for (queries, keys, dh, dv) in [
        (1, 1, 1, 1),
        (1, 7, 2, 3),
        (2, 1, 3, 2),
        (7, 8, 7, 8),
        (9, 2, 8, 9),
        (31, 33, 31, 7),
        (32, 32, 9, 31),
        (33, 31, 3, 63),
        (63, 9, 63, 64),
        (8, 63, 64, 65),
        (64, 65, 2, 2),
        (65, 64, 3, 1),
        (3, 127, 5, 7),
        (129, 3, 7, 5),
        (9, 7, 65, 127),
        (5, 6, 127, 129),
        (7, 5, 129, 256),
        (4, 3, 256, 1),
        (3, 4, 1, 256),
        (2, 257, 3, 2),
        (257, 2, 2, 3),
    ] {
        let size = Size { queries, keys, dh, dv, ..PLAIN };
        let name = format!("{queries} queries, {keys} keys, widths {dh} and {dv}");
        cases.push(plain_case(size, &plain, name));
    }
    let many = Size { batch: 9, heads: 6, kv_heads: 3, queries: 33, keys: 34, ..PLAIN };
    let averaged = AttentionOptions { weights: AttentionWeights::Averaged, ..plain.clone() };
    cases.push(plain_case(many, &averaged, "9 batches of 6 heads in groups of 2".into()));
    let one_for_all = Size { batch: 1, heads: 5, kv_heads: 1, ..PLAIN };
    cases.push(plain_case(one_for_all, &plain, "5 heads with one of keys".into()));
    for (name, size) in [
        ("no keys", Size { keys: 0, ..PLAIN }),
        ("no queries", Size { queries: 0, ..PLAIN }),
        ("no batch", Size { batch: 0, ..PLAIN }),
    ] {
        let options = AttentionOptions { weights: AttentionWeights::PerHead, ..plain.clone() };
        let mut inputs = inputs(size, plain.layout);
        inputs.push(Input::uniform("bias", &[1, 2, 1, 1], 1.));
        cases.push(case_of(format!("{name}: nothing"), size, options, inputs));
    }
    cases
}

/// Whole numbers throughout: each query sees its own key alone, so that its probability is 1 and its log-sum-exp its score.
fn exact() -> Vec<Case> {
    let size = Size { queries: 33, keys: 33, heads: 4, dh: 4, dv: 65, ..PLAIN };
    let own = Window { before: Some(0), after: Some(0), corner: Corner::TopLeft };
    let exact = (Tolerance::exact(), Tolerance::exact());
    let case = |name: &str, layout: AttentionLayout, size: Size, weights: AttentionWeights| {
        let [q, k, v] = shapes(size, layout);
        let inputs = vec![
            Input::integers("q", &q),
            Input::integers("k", &k),
            Input::integers("v", &v),
            Input::integers("bias", &[1, size.heads, 1, size.keys]),
        ];
        let options = AttentionOptions { layout, weights, window: Some(own), ..AttentionOptions::default() };
        of_rule(format!("{name}, integers"), &ATTENTION, options, inputs, exact)
    };
    let packed = AttentionLayout::Packed { heads: 4, kv_heads: 2 };
    let one = Size { keys: 1, queries: 1, ..size };
    vec![
        case("own keys", AttentionLayout::Heads, size, AttentionWeights::PerHead),
        case("own keys, packed", packed, size, AttentionWeights::Averaged),
        case("one key", AttentionLayout::Heads, one, AttentionWeights::None),
    ]
}

/// The edges of the mathematics.
fn edges() -> Vec<Case> {
    let mut cases = vec![];
    let plain = AttentionOptions::default();
    // With more queries than keys the first ones stand before the first key.
    let tall = Size { queries: 40, keys: 9, ..PLAIN };
    let causal = AttentionOptions {
        causal: Some(Corner::BottomRight),
        weights: AttentionWeights::PerHead,
        ..plain.clone()
    };
    cases.push(plain_case(tall, &causal, "nothing seen by the first 31".into()));
    // A query that sees nothing, of NaN and with an upstream gradient.
    for (name, size) in [("", PLAIN), (", widths 64", Size { dh: 64, dv: 64, ..PLAIN })] {
        let mut nan = inputs(size, plain.layout);
        nan[0] = Input::uniform("q", &nan[0].shape, 1.)
            .map(|at, v| if at / size.dh % size.queries == 4 { f64::NAN } else { v });
        let line = |at: usize| at / size.keys % size.queries != 4;
        let values: Vec<bool> = (0..size.queries * size.keys).map(line).collect();
        let pair_mask = Some(Mask::keep(&[1, 1, size.queries, size.keys], &values));
        let options = AttentionOptions { pair_mask, weights: AttentionWeights::Averaged, ..plain.clone() };
        cases.push(case_of(format!("a NaN query that sees nothing{name}"), size, options, nan));
    }
    // Scores of ±1e4 and of −104: the maximum is subtracted, and it is that of what is seen.
    let [q, k, v] = shapes(PLAIN, plain.layout);
    for (name, of_query, of_key) in [("1e4", 100., 100.), ("-104", -10.4, 10.)] {
        let single = |shape: &[usize], value: f64| {
            Input::of(shape, &[]).fill(|at| if at % 3 == 0 { value } else { 0. })
        };
        let inputs = vec![single(&q, of_query), single(&k, of_key), Input::uniform("v", &v, 1.)];
        let options = AttentionOptions { scale: Some(1.), ..plain.clone() };
        cases.push(case_of(format!("scores of {name}"), PLAIN, options, inputs));
    }
    let wide = Window { before: None, after: Some(1), corner: Corner::TopLeft };
    let far = Window { before: Some(usize::MAX), after: Some(usize::MAX), corner: Corner::BottomRight };
    for (name, window) in [("open to one side", wide), ("open by numbers", far)] {
        let options = AttentionOptions { window: Some(window), ..plain.clone() };
        cases.push(plain_case(PLAIN, &options, format!("a window {name}")));
    }
    // Tiles that nobody sees anybody in, before and behind those of use.
    let long = Size { batch: 1, queries: 129, keys: 140, ..PLAIN };
    let band = Window { before: Some(6), after: Some(2), corner: Corner::TopLeft };
    let sequences = Sequences { queries: [0, 50, 50, 129].into(), keys: [0, 70, 90, 140].into() };
    for (name, sequences) in [("", None), (" of sequences", Some(sequences))] {
        let options = AttentionOptions {
            window: Some(band),
            causal: Some(Corner::BottomRight),
            sequences,
            ..plain.clone()
        };
        cases.push(plain_case(long, &options, format!("a band among many tiles{name}")));
    }
    for shape in [[1, 1, 1, 1], [2, 2, 35, 37], [1, 1, 35, 1], [2, 2, 1, 1]] {
        let mut inputs = inputs(PLAIN, plain.layout);
        inputs.push(Input::uniform("bias", &shape, 1.));
        cases.push(case_of(format!("bias of {shape:?}"), PLAIN, plain.clone(), inputs));
    }
    let small = Size { queries: 5, keys: 6, ..PLAIN };
    let options = AttentionOptions { weights: AttentionWeights::PerHead, ..plain.clone() };
    let mut f16 = inputs(small, plain.layout);
    f16.push(Input::uniform("bias", &[1, 2, 5, 6], 1.));
    cases.push(Case { f16: true, ..case_of("f16".into(), small, options, f16) });
    cases
}

/// Gradients of the scores kept for the queries' gradient, or not. A discrete GPU, which takes 16 times the scratch, does most of
/// these in one run, but not the longest.
fn kept() -> Vec<Case> {
    let packed = AttentionLayout::Packed { heads: 6, kv_heads: 3 };
    let many = AttentionLayout::Packed { heads: 40, kv_heads: 20 };
    let batches = Size { batch: 9, heads: 6, kv_heads: 3, ..PLAIN };
    let heads = Size { heads: 20, kv_heads: 20, queries: 5, dh: 2, dv: 3, ..PLAIN };
    let grouped = Size { heads: 40, keys: 30, ..heads };
    let tiles = Size { heads: 4, kv_heads: 2, queries: 3, keys: 1157, dh: 9, ..PLAIN };
    let longest = Size { batch: 1, heads: 1, kv_heads: 1, queries: 3, keys: 19_237, ..PLAIN };
    let case = |name: &str, size: Size, layout: AttentionLayout, scratch_bytes: usize| {
        plain_case(size, &AttentionOptions { layout, scratch_bytes, ..Default::default() }, name.into())
    };
    let apart = AttentionLayout::Heads;
    let mut cases = vec![
        case("kept by batches", batches, apart, 512 << 10),
        case("kept by batches, packed", batches, packed, 512 << 10),
        case("kept by batches, wide", Size { dh: 129, ..batches }, apart, 512 << 10),
        case("kept by heads", heads, apart, 256 << 10),
        case("kept by heads, packed groups", grouped, many, 512 << 10),
        case("kept by tiles of keys of heads", tiles, apart, 512 << 10),
        case("kept by tiles of keys", longest, apart, 256 << 10),
    ];
    for (queries, keys, dh, dv) in
        [(35, 37, 3, 5), (65, 64, 3, 1), (3, 127, 5, 7), (8, 63, 64, 65), (64, 65, 2, 2), (7, 70, 129, 256)]
    {
        let size = Size { queries, keys, dh, dv, ..PLAIN };
        let name = format!("nothing kept of {queries} queries, {keys} keys, widths {dh} and {dv}");
        cases.push(case(&name, size, apart, 0));
    }
    let causal = AttentionOptions { causal: Some(Corner::BottomRight), ..AttentionOptions::default() };
    for (dh, dv) in [(8, 9), (129, 127)] {
        let size = Size { queries: 130, keys: 140, dh, dv, ..PLAIN };
        cases.push(plain_case(size, &causal, format!("causal, several tiles, widths {dh} and {dv}")));
    }
    cases
}

pub(super) fn attention() -> Vec<Case> {
    let mut cases = sizes();
    cases.extend(exact());
    cases.extend(edges());
    cases.extend(kept());
    cases.extend(combinations());
    cases
}

/// Heads of so many queries and keys of one width: the forward alone, and with the backward where `both`.
pub(super) fn attention_of(
    heads: (usize, usize),
    sizes: (usize, usize, usize),
    causal: bool,
    both: bool,
) -> Bench {
    let causal = causal.then_some(Corner::TopLeft);
    attention_by(heads, sizes, AttentionOptions { causal, ..AttentionOptions::default() }, both)
}

/// The same by options.
pub(super) fn attention_by(
    (batch, heads): (usize, usize),
    (queries, keys, width): (usize, usize, usize),
    options: AttentionOptions,
    both: bool,
) -> Bench {
    let size = Size { batch, heads, kv_heads: heads, queries, keys, dh: width, dv: width };
    let causal = options.causal.is_some();
    let make = {
        let options = options.clone();
        move || {
            let case = plain_case(size, &options, "both".into());
            if both { case } else { of_forward(&ATTENTION, options.clone(), case.inputs) }
        }
    };
    let kind = if causal {
        "causal"
    } else if queries == keys {
        "self"
    } else {
        "cross"
    };
    let name = format!("{kind} {queries}x{keys}x{width}{}", if both { ", both" } else { "" });
    // Two products forward, five backward; half of them where nobody looks ahead.
    let products = if both { 7. } else { 2. } * if causal { 0.5 } else { 1. };
    let pairs = (batch * heads * queries) as f64 * keys as f64;
    let moved = batch * heads * (queries + keys) * width * if both { 4 } else { 2 };
    Bench::new(name, products * 2. * pairs * width as f64, moved, make)
}

pub(super) fn attention_bench() -> Vec<Bench> {
    let mut benches = vec![];
    for both in [false, true] {
        for length in [64, 128, 256, 1024, 4096, 16_384] {
            benches.push(attention_of((1, 8), (length, length, 64), false, both));
        }
        for length in [128, 1024, 4096] {
            benches.push(attention_of((1, 8), (length, length, 128), false, both));
        }
        for length in [128, 2048] {
            benches.push(attention_of((1, 8), (length, length, 64), true, both));
        }
        // Words over the patches of a picture.
        benches.push(attention_of((4, 8), (64, 576, 64), false, both));
    }
    benches
}
