//! One step of AdamW, in chunks.

use crate::reference::AdamwStep;
use rayon::prelude::*;

/// Elements that one task updates.
const CHUNK: usize = 1 << 14;

pub(crate) fn adamw(
    step: &AdamwStep,
    weight: &mut [f32],
    grad: &[f32],
    first: &mut [f32],
    second: &mut [f32],
) {
    let chunks = weight.par_chunks_mut(CHUNK).zip(grad.par_chunks(CHUNK));
    let chunks = chunks.zip(first.par_chunks_mut(CHUNK)).zip(second.par_chunks_mut(CHUNK));
    chunks.for_each(|(((weight, grad), first), second)| {
        pulp::Arch::new().dispatch(
            #[inline(always)]
            || chunk(step, weight, grad, first, second),
        );
    });
}

#[inline(always)]
fn chunk(step: &AdamwStep, weight: &mut [f32], grad: &[f32], first: &mut [f32], second: &mut [f32]) {
    // What is nearly 1 is computed in f64 first.
    let (c1, c2) = step.corrections();
    let (c1, c2) = ((1. / c1) as f32, (1. / c2) as f32);
    let (beta1, beta2) = (step.beta1 as f32, step.beta2 as f32);
    let (rest1, rest2) = ((1. - step.beta1) as f32, (1. - step.beta2) as f32);
    let (rate, eps) = (step.learning_rate as f32, step.eps as f32);
    let keep = (1. - step.learning_rate * step.weight_decay) as f32;
    for (((w, g), m), v) in weight.iter_mut().zip(grad).zip(first).zip(second) {
        *m = beta1 * *m + rest1 * g;
        *v = beta2 * *v + rest2 * g * g;
        let ratio = (*m * c1) / ((*v * c2).sqrt() + eps);
        *w = *w * keep - rate * ratio;
    }
}
