//! The codes of rows and columns: from options, and as kernels see them.

use super::info_nce_options::Targets;
use super::keep_rows::keep_rows;
use crate::error::Result;
use crate::reference::{Codes, MASKED, NO_CLASS};
use crate::tensor::Tensor;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

// Flags, as in shaders/lib/codes.wgsl.
const ROW_CODES: u32 = 1 << 16;
const COL_CODES: u32 = 1 << 17;

/// The codes of `[n, m]` rows and columns. Weights, or no targets, say nothing about codes but what is masked.
pub(super) fn codes(
    targets: &Targets,
    [keep_rows, keep_cols]: [&Option<Arc<[bool]>>; 2],
    [n, m]: [usize; 2],
) -> [Codes; 2] {
    let [rows, cols] = match targets {
        Targets::Classes { rows, cols } => {
            let mut classes = HashMap::new();
            let mut code = |&class: &i64| {
                let next = classes.len() as u32;
                if class < 0 { NO_CLASS } else { *classes.entry(class).or_insert(next) }
            };
            [rows, cols].map(|lines| Codes::Each(lines.iter().map(&mut code).collect()))
        }
        Targets::Diagonal | Targets::Soft(_) | Targets::None => [Codes::Index, Codes::Index],
    };
    [masked(rows, keep_rows, n), masked(cols, keep_cols, m)]
}

fn masked(codes: Codes, keep: &Option<Arc<[bool]>>, count: usize) -> Codes {
    match keep {
        Some(keep) if keep.contains(&false) => {
            Codes::Each((0..count).map(|i| if keep[i] { codes.at(i) } else { MASKED }).collect())
        }
        _ => codes,
    }
}

/// Rows as they are but for those that had a positive among all columns and have none among those that are kept: masked.
pub(super) fn without_lost(rows: Codes, [all, kept]: [&Codes; 2], [n, m]: [usize; 2]) -> Codes {
    if all == kept {
        return rows;
    }
    let of = |cols: &Codes| (0..m).map(|j| cols.at(j)).collect::<HashSet<_>>();
    let (all, kept) = (of(all), of(kept));
    let lost = |code: u32| code < NO_CLASS && all.contains(&code) && !kept.contains(&code);
    if !(0..n).any(|i| lost(rows.at(i))) {
        return rows;
    }
    Codes::Each((0..n).map(|i| rows.at(i)).map(|code| if lost(code) { MASKED } else { code }).collect())
}

/// Tells a kernel which of its lines have codes.
pub(super) fn flags(rows: &Codes, cols: &Codes) -> u32 {
    let flag = |codes: &Codes, flag: u32| if *codes == Codes::Index { 0 } else { flag };
    flag(rows, ROW_CODES) | flag(cols, COL_CODES)
}

/// Codes on the device of a tensor; that tensor where a kernel has no need of any: something has to be bound.
pub(super) fn on_device(codes: &Codes, like: &Tensor) -> Result<Tensor> {
    match codes {
        Codes::Index => Ok(like.clone()),
        Codes::Each(codes) => Tensor::from_slice(like.device(), &[codes.len()], codes),
    }
}

/// The rows of a tensor, those that are masked as zeros: what is in them must leave no trace, and 0 times NaN would.
pub(super) fn kept_rows(x: &Tensor, codes: &Codes) -> Result<Tensor> {
    codes.keep().map_or_else(|| Ok(x.clone()), |keep| keep_rows(x, &keep))
}
