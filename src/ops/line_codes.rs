//! The codes of rows and columns: from options, and as kernels see them.

use super::info_nce_options::Targets;
use super::keep_rows::keep_rows;
use crate::error::Result;
use crate::reference::{Codes, MASKED, NO_CLASS};
use crate::tensor::Tensor;
use std::collections::HashMap;
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
