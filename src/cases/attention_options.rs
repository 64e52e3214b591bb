//! Cases of attention's options, alone and together.

use super::attention::{PLAIN, Size, case_of, inputs};
use super::{Case, Input};
use crate::ops::{AttentionLayout, AttentionOptions, AttentionWeights, Corner, Mask};

/// What can be asked of attention.
#[derive(Clone, Copy, PartialEq)]
enum Ask {
    Packed,
    Grouped,
    Scale,
    Softcap,
    Causal,
    CausalFromTheEnd,
    Window,
    Alibi,
    KeyMask,
    PairMask,
    SharedPairMask,
    Bias,
    RowBias,
    KeyBias,
    Sequences,
    Dropout,
    PerHead,
    Averaged,
    Rows,
}

use Ask::*;

/// Each with its name.
const ALL: [(Ask, &str); 19] = [
    (Packed, "packed"),
    (Grouped, "grouped"),
    (Scale, "scale"),
    (Softcap, "softcap"),
    (Causal, "causal"),
    (CausalFromTheEnd, "causal from the end"),
    (Window, "window"),
    (Alibi, "alibi"),
    (KeyMask, "masked NaN keys"),
    (PairMask, "masked pairs"),
    (SharedPairMask, "masked pairs of all"),
    (Bias, "bias"),
    (RowBias, "bias of queries"),
    (KeyBias, "bias of keys"),
    (Sequences, "sequences"),
    (Dropout, "dropout"),
    (PerHead, "weights"),
    (Averaged, "averaged weights"),
    (Rows, "some rows"),
];

/// Pairs that are two values of one option, or that the operation refuses.
const EXCLUSIVE: &[(Ask, Ask)] = &[
    (Causal, CausalFromTheEnd),
    (PairMask, SharedPairMask),
    (Bias, RowBias),
    (Bias, KeyBias),
    (RowBias, KeyBias),
    (PerHead, Averaged),
];

/// Everything alone, everything with everything else that it goes with, and much at once.
pub(super) fn combinations() -> Vec<Case> {
    let mut sets: Vec<Vec<Ask>> = ALL.iter().map(|&(ask, _)| vec![ask]).collect();
    for (at, &(first, _)) in ALL.iter().enumerate() {
        sets.extend(ALL[at + 1..].iter().map(|&(second, _)| vec![first, second]));
    }
    sets.push(vec![Packed, Grouped, Causal, Window, KeyMask, Bias, Dropout, PerHead, Rows]);
    sets.push(vec![Grouped, Softcap, CausalFromTheEnd, Alibi, PairMask, KeyBias, Sequences, Averaged]);
    sets.push(vec![Packed, Scale, Softcap, Alibi, KeyMask, SharedPairMask, RowBias, Dropout, Averaged, Rows]);
    sets.retain(|set| !EXCLUSIVE.iter().any(|(a, b)| set.contains(a) && set.contains(b)));
    // Rows are of weights.
    sets.retain(|set| !set.contains(&Rows) || set.contains(&PerHead) || set.contains(&Averaged));
    let mut cases: Vec<_> = sets.iter().map(|set| combination(set, plain(set), "")).collect();
    // Where a binding spans one group of heads of one batch they are cut both ways.
    for set in [
        [Window, Alibi, KeyMask, PairMask, Bias, Dropout, PerHead],
        [Packed, Causal, SharedPairMask, KeyMask, Bias, Dropout, Averaged],
    ] {
        let size = Size { batch: 3, heads: 4, kv_heads: 2, ..PLAIN };
        cases.push(combination(&set, size, ", many heads"));
    }
    cases.push(combination(&[KeyMask], Size { dh: 64, dv: 64, ..PLAIN }, ", widths 64"));
    cases
}

/// A mask that is not regular, but for what it says of key 2: masked in batch 0.
fn keeps(at: usize) -> bool {
    at % 7 != 2 && at % 11 != 5
}

fn mask(shape: &[usize], drop: bool) -> Mask {
    let kept: Vec<bool> = (0..shape.iter().product()).map(keeps).collect();
    if drop {
        return Mask::drop(shape, &kept.iter().map(|keep| !keep).collect::<Vec<_>>());
    }
    Mask::keep(shape, &kept)
}

fn options(set: &[Ask], size: Size) -> AttentionOptions {
    let has = |ask: Ask| set.contains(&ask);
    let Size { batch, heads, kv_heads, queries, keys, .. } = size;
    AttentionOptions {
        layout: if has(Packed) {
            AttentionLayout::Packed { heads, kv_heads }
        } else {
            AttentionLayout::Heads
        },
        scale: has(Scale).then_some(-0.7),
        softcap: has(Softcap).then_some(0.8),
        causal: match (has(Causal), has(CausalFromTheEnd)) {
            (true, _) => Some(Corner::TopLeft),
            (_, true) => Some(Corner::BottomRight),
            _ => None,
        },
        window: has(Window).then_some(crate::ops::Window {
            before: Some(6),
            after: Some(2),
            corner: Corner::BottomRight,
        }),
        alibi: has(Alibi).then(|| crate::ops::Alibi::new(heads, Corner::TopLeft)),
        key_mask: has(KeyMask).then(|| mask(&[batch, keys], false)),
        pair_mask: match (has(PairMask), has(SharedPairMask)) {
            (true, _) => Some(mask(&[batch, heads, queries, keys], true)),
            (_, true) => Some(mask(&[1, 1, queries, keys], false)),
            _ => None,
        },
        // The second has no queries, the third no keys.
        sequences: has(Sequences).then(|| crate::ops::Sequences {
            queries: [0, 3, 3, 5, queries].into(),
            keys: [0, 2, 6, 6, keys].into(),
        }),
        dropout: has(Dropout).then_some(crate::ops::Dropout {
            p: 0.3,
            seed: 0x1_0000_0007,
            first: u32::MAX - 20,
        }),
        weights: match (has(PerHead), has(Averaged)) {
            (true, _) => AttentionWeights::PerHead,
            (_, true) => AttentionWeights::Averaged,
            _ => AttentionWeights::None,
        },
        rows: has(Rows).then(|| [33, 2, 17].into()),
        ..AttentionOptions::default()
    }
}

fn plain(set: &[Ask]) -> Size {
    Size { kv_heads: if set.contains(&Grouped) { 1 } else { 2 }, ..PLAIN }
}

fn combination(set: &[Ask], size: Size, rest: &str) -> Case {
    let has = |ask: Ask| set.contains(&ask);
    let options = options(set, size);
    let mut inputs = inputs(size, options.layout);
    if has(KeyMask) {
        // In either layout an element's row is its place over the width, less what lies in front of its batch and head.
        for (input, width) in inputs[1..].iter_mut().zip([size.dh, size.dv]) {
            let own = std::mem::replace(input, Input::of(&[0], &[]));
            let row = |at: usize| match has(Packed) {
                true => at / (width * size.kv_heads) % size.keys,
                false => at / width % size.keys,
            };
            let batch = size.kv_heads * size.keys * width;
            *input = own.map(|at, v| if keeps(at / batch * size.keys + row(at)) { v } else { f64::NAN });
        }
    }
    let Size { batch, heads, queries, keys, .. } = size;
    let bias = |shape: &[usize]| {
        // −∞ here and there.
        Input::uniform("bias", shape, 1.).map(|at, v| if at % 13 == 4 { f64::NEG_INFINITY } else { v })
    };
    if has(Bias) {
        inputs.push(bias(&[1, heads, queries, keys]));
    } else if has(RowBias) {
        inputs.push(bias(&[batch, heads, queries, 1]));
    } else if has(KeyBias) {
        inputs.push(bias(&[batch, 1, 1, keys]));
    }
    let names: Vec<_> = ALL.iter().filter(|(ask, _)| has(*ask)).map(|(_, name)| *name).collect();
    let name = names.join(" + ") + rest;
    case_of(name, size, options, inputs)
}
