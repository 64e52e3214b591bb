//! Cases of everything that can be asked of a softmax loss, together.

use super::contrastive::info_nce_tolerance;
use super::{Case, Input, Run, Tolerance, of_rule_with};
use crate::error::Result;
use crate::ops::info_nce::INFO_NCE;
use crate::ops::{InfoNceOptions, Precision, Reduction, Targets};
use std::sync::Arc;

/// Rows of x, rows of y where there are more, features, similarities that each row has to itself.
type Size = (usize, usize, usize, usize);
const SIZE: Size = (19, 26, 7, 5);
/// Soft targets and own similarities larger than the bindings of `tests/parts.rs`, whose statistics are not.
const LARGER: Size = (41, 53, 7, 37);

/// What can be asked of a softmax loss.
#[derive(Clone, Copy, PartialEq)]
enum Ask {
    Classes,
    Soft,
    NoTargets,
    MaskedNan,
    Smoothing,
    Decoupled,
    HardNegatives,
    ExcludeSelf,
    Queue,
    OwnNegatives,
    Sum,
    PerRow,
    SmallBlocks,
}

use Ask::*;

/// Each with its name.
const ALL: [(Ask, &str); 13] = [
    (Classes, "classes"),
    (Soft, "soft targets"),
    (NoTargets, "no targets"),
    (MaskedNan, "masked NaN"),
    (Smoothing, "smoothing"),
    (Decoupled, "decoupled"),
    (HardNegatives, "hard negatives"),
    (ExcludeSelf, "one set"),
    (Queue, "queue"),
    (OwnNegatives, "own negatives"),
    (Sum, "sum"),
    (PerRow, "per row"),
    (SmallBlocks, "small blocks"),
];

/// Pairs that exclude each other: two sorts of targets, two reductions, and those that the operation refuses.
const EXCLUSIVE: &[(Ask, Ask)] = &[
    (Classes, Soft),
    (Classes, NoTargets),
    (Soft, NoTargets),
    (Sum, PerRow),
    (Smoothing, Decoupled),
    (Soft, Decoupled),
    (Soft, HardNegatives),
    (NoTargets, Decoupled),
    (NoTargets, HardNegatives),
    (NoTargets, Smoothing),
    (ExcludeSelf, Queue),
];

/// Everything alone and everything with everything else that it goes with, symmetric and one-way, and all at once.
pub(super) fn combinations() -> Vec<Case> {
    let mut sets: Vec<Vec<Ask>> = ALL.iter().map(|&(ask, _)| vec![ask]).collect();
    for (at, &(first, _)) in ALL.iter().enumerate() {
        sets.extend(ALL[at + 1..].iter().map(|&(second, _)| vec![first, second]));
    }
    sets.push(vec![Classes, MaskedNan, Smoothing, HardNegatives, Queue, OwnNegatives, Sum, SmallBlocks]);
    sets.push(vec![
        Classes,
        MaskedNan,
        Decoupled,
        HardNegatives,
        ExcludeSelf,
        OwnNegatives,
        PerRow,
        SmallBlocks,
    ]);
    let has = |set: &[Ask], ask: &Ask| set.contains(ask);
    sets.retain(|set| !EXCLUSIVE.iter().any(|(a, b)| has(set, a) && has(set, b)));
    // The diagonal has nothing else to be excluded from.
    sets.retain(|set| {
        !has(set, &ExcludeSelf) || [Classes, Soft, NoTargets].iter().any(|kind| has(set, kind))
    });
    let both = |set: &Vec<Ask>| {
        // Rows and columns of different numbers have no common loss per row.
        let symmetric = !(has(set, &PerRow) && has(set, &Queue));
        [true, false]
            .into_iter()
            .filter(move |way| symmetric || !way)
            .map(|way| combination(set, way, SIZE))
            .collect::<Vec<_>>()
    };
    sets.iter().flat_map(both).chain(larger()).collect()
}

/// Those whose tensors grow with rows times columns, again where these are many.
fn larger() -> Vec<Case> {
    let sets: [&[Ask]; 5] = [
        &[Soft],
        &[Soft, MaskedNan, Smoothing, Queue, OwnNegatives, Sum],
        &[Soft, Queue, SmallBlocks],
        &[OwnNegatives],
        &[Classes, MaskedNan, HardNegatives, OwnNegatives, PerRow, SmallBlocks],
    ];
    let of = |set| {
        [true, false].map(|way| {
            let case = combination(set, way, LARGER);
            Case { name: format!("{}, more rows", case.name), ..case }
        })
    };
    sets.into_iter().flat_map(of).collect()
}

fn combination(set: &[Ask], symmetric: bool, (n, more, d, k): Size) -> Case {
    let has = |ask: Ask| set.contains(&ask);
    let m = if has(Queue) { more } else { n };
    // Row 4 has a class of its own, row 3 none.
    let class = |i: usize| match i {
        3 => -1,
        4 => 9,
        i => (i % 4) as i64,
    };
    let classes = |count: usize| (0..count).map(class).collect::<Arc<[i64]>>();
    let keep =
        |count: usize, out: [usize; 2]| Some((0..count).map(|i| !out.contains(&i)).collect::<Arc<[bool]>>());
    let (masked_rows, masked_cols) = ([2, 5], [2, 7]);
    let base = InfoNceOptions {
        symmetric,
        keep_rows: if has(MaskedNan) { keep(n, masked_rows) } else { None },
        keep_cols: if has(MaskedNan) { keep(m, masked_cols) } else { None },
        smoothing: if has(Smoothing) { 0.1 } else { 0. },
        decoupled: has(Decoupled),
        hard_negatives: if has(HardNegatives) { 3. } else { 0. },
        exclude_self: has(ExcludeSelf),
        reduction: match (has(Sum), has(PerRow)) {
            (true, _) => Reduction::Sum,
            (_, true) => Reduction::None,
            _ => Reduction::Mean,
        },
        scratch_bytes: if has(SmallBlocks) { 200 } else { 16 << 20 },
        precision: Precision::Strict,
        targets: match (has(Classes), has(NoTargets)) {
            (true, _) => Targets::Classes { rows: classes(n), cols: classes(m) },
            (_, true) => Targets::None,
            _ => Targets::Diagonal,
        },
    };
    let soft = has(Soft)
        .then(|| Input::uniform("soft", &[n, m], 1.).map(|at, v| if at % 3 == 0 { 0. } else { v.abs() }));
    let options = move |run: &Run| -> Result<InfoNceOptions> {
        let targets = match &soft {
            Some(soft) => Targets::Soft(run.tensor(soft)?),
            None => base.targets.clone(),
        };
        Ok(InfoNceOptions { targets, ..base.clone() })
    };
    let nan = |input: Input, rows: [usize; 2]| {
        let cols = input.shape[1];
        input.map(|at, v| if has(MaskedNan) && rows.contains(&(at / cols)) { f64::NAN } else { v })
    };
    let t = (1f64 / 0.07).ln();
    let mut inputs = vec![
        nan(Input::unit_rows("x", n, d), masked_rows),
        nan(Input::unit_rows("y", m, d), masked_cols),
        Input::of(&[], &[t]),
    ];
    if has(OwnNegatives) {
        inputs.push(nan(Input::uniform("own", &[n, k], 1.), masked_rows));
    }
    // A negative's logit is at most the scale and its bonus; without a mean, all rows add up.
    let scale = t.exp() + if has(HardNegatives) { 3. } else { 0. };
    let rows = if has(Sum) || has(PerRow) { n as f64 } else { 1. };
    let [forward, backward, last] = info_nce_tolerance(n, m + k, d, scale);
    let times = |tolerance: Tolerance| Tolerance { abs: tolerance.abs * rows, ..tolerance };
    let way = if symmetric { "symmetric" } else { "one-way" };
    let names: Vec<_> = ALL.iter().filter(|(ask, _)| has(*ask)).map(|(_, name)| *name).collect();
    let name = format!("{way}: {}", names.join(" + "));
    let case = of_rule_with(name, &INFO_NCE, options, inputs, (times(forward), times(backward))).f32_only();
    // That of the scale sums over every logit. It is the last but where rows have negatives of their own: then all have its bound.
    if has(OwnNegatives) {
        return Case { backward: times(last), ..case };
    }
    Case { last: Some(times(last)), ..case }
}
