//! Dropout with the random words of sixteen elements at a time.

use crate::reference::{Dropout, threefry_words};
use rayon::prelude::*;

/// Elements that one task takes.
const CHUNK: usize = 1 << 14;
const LANES: usize = 16;

/// `x_i / (1 − p)` where element i is kept, else 0.
pub(crate) fn dropout(x: &[f32], options: Dropout) -> Vec<f32> {
    let mut out = vec![0f32; x.len()];
    let (threshold, scale) = (options.threshold(), options.scale() as f32);
    let chunks = out.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).enumerate();
    chunks.for_each(|(chunk, (out, x))| {
        pulp::Arch::new().dispatch(
            #[inline(always)]
            || {
                let mut first = options.first.wrapping_add((chunk * CHUNK) as u32);
                for (out, x) in out.chunks_mut(LANES).zip(x.chunks(LANES)) {
                    let words = threefry_words::<LANES>(options.seed, 0, first);
                    for ((out, &v), word) in out.iter_mut().zip(x).zip(words) {
                        *out = if word >= threshold { v * scale } else { 0. };
                    }
                    first = first.wrapping_add(LANES as u32);
                }
            },
        );
    });
    out
}
