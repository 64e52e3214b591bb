//! The sigmoid loss block by block; rows are shared out to threads, each summed in order.

use super::info_nce::{add_products, kept, logits};
use crate::dtype::DType;
use crate::error::Result;
use crate::reference::{LogitBlock, Reduction, Siglip, block_size, blocks};
use crate::tensor::Tensor;
use rayon::prelude::*;

/// The blocks of similarities times the scale, one after the other.
fn for_blocks(
    [x, y]: [&[f32]; 2],
    scale: f32,
    problem: &Siglip,
    scratch_bytes: usize,
    mut each: impl FnMut(&mut [f32], LogitBlock),
) {
    let size = (problem.n, problem.m);
    let (rows, cols) = block_size(size, scratch_bytes);
    let mut scratch = vec![0f32; rows * cols];
    for block in blocks(size, scratch_bytes) {
        let scratch = &mut scratch[..block.1 * block.3];
        logits(scratch, [x, y], scale, problem.d, block);
        each(scratch, block);
    }
}

/// The loss, or that of each row.
pub(crate) fn siglip(
    [x, y, log_scale, bias]: [&Tensor; 4],
    problem: &Siglip,
    scratch_bytes: usize,
) -> Vec<f64> {
    let (x, y) = (kept(x, &problem.rows), kept(y, &problem.cols));
    let (scale, bias) = (super::f32s(log_scale)[0].exp(), super::f32s(bias)[0]);
    let mut losses = vec![0f64; problem.n];
    for_blocks([&x, &y], scale, problem, scratch_bytes, |logits, (first_row, rows, first_col, cols)| {
        let losses = &mut losses[first_row..first_row + rows];
        logits.par_chunks(cols).zip(losses).enumerate().with_min_len(16).for_each(|(r, (row, loss))| {
            for (c, logit) in row.iter().enumerate() {
                if let Some(pair) = problem.is_pair(first_row + r, first_col + c) {
                    let l = if pair { -(logit + bias) } else { logit + bias };
                    *loss += f64::from(l.max(0.) + (-l.abs()).exp().ln_1p());
                }
            }
        });
    });
    if problem.reduction == Reduction::None {
        return losses;
    }
    vec![losses.iter().sum::<f64>() * problem.weight()]
}

/// The gradients of x and of y, where they are needed, and of the bias.
pub(crate) fn siglip_backward(
    [x, y, log_scale, bias]: [&Tensor; 4],
    upstream: &Tensor,
    [needs_x, needs_y]: [bool; 2],
    problem: &Siglip,
    scratch_bytes: usize,
) -> Result<(Option<Tensor>, Option<Tensor>, Tensor)> {
    let (d, shapes) = (problem.d, [x.shape(), y.shape()]);
    let (x, y) = (kept(x, &problem.rows), kept(y, &problem.cols));
    let (scale, bias) = (super::f32s(log_scale)[0].exp(), super::f32s(bias)[0]);
    let (upstream, weight) = (super::f32s(upstream), problem.weight() as f32);
    let sum = |needed: bool, rows: usize| needed.then(|| vec![0f32; rows * d]);
    let (mut dx, mut dy) = (sum(needs_x, problem.n), sum(needs_y, problem.m));
    let mut of_bias = vec![0f64; problem.n];
    for_blocks([&x, &y], scale, problem, scratch_bytes, |logits, (first_row, rows, first_col, cols)| {
        let of_bias = &mut of_bias[first_row..first_row + rows];
        logits.par_chunks_mut(cols).zip(of_bias).enumerate().with_min_len(16).for_each(|(r, (row, sum))| {
            let i = first_row + r;
            let up = weight * upstream[if problem.reduction == Reduction::None { i } else { 0 }];
            for (c, v) in row.iter_mut().enumerate() {
                let g = match problem.is_pair(i, first_col + c) {
                    Some(true) => -up * sigmoid(-(*v + bias)),
                    Some(false) => up * sigmoid(*v + bias),
                    None => 0.,
                };
                *sum += f64::from(g);
                *v = scale * g;
            }
        });
        add_products(logits, [&x, &y], [&mut dx, &mut dy], d, (first_row, rows, first_col, cols));
    });
    let db = vec![of_bias.iter().sum::<f64>() as f32];
    let tensor = |shape: &[usize], values: Option<Vec<f32>>| {
        values.map(|values| super::tensor(shape, DType::F32, values)).transpose()
    };
    Ok((tensor(shapes[0], dx)?, tensor(shapes[1], dy)?, super::tensor(&[], DType::F32, db)?))
}

fn sigmoid(v: f32) -> f32 {
    let e = (-v.abs()).exp();
    (if v < 0. { e } else { 1. }) / (1. + e)
}
