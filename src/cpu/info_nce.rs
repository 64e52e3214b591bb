//! InfoNCE block by block. Each block of logits is one product; rows and strips of columns of it are shared out to threads,
//! each summed in a fixed order.

use super::exp::exp;
use super::matmul::{View, product};
use crate::device::Device;
use crate::dtype::DType;
use crate::error::Result;
use crate::reference::InfoNce;
use crate::tensor::Tensor;
use rayon::prelude::*;

/// Columns that one task sums.
const STRIP: usize = 128;
/// Partial sums of a row: enough for any vector width.
const LANES: usize = 16;

/// A maximum and the sum of exponentials relative to it: a log-sum-exp in parts.
#[derive(Clone, Copy)]
struct Partial {
    max: f32,
    sum: f32,
}

const EMPTY: Partial = Partial { max: f32::NEG_INFINITY, sum: 0. };

impl Partial {
    fn merge(self, other: Partial) -> Partial {
        if self.sum == 0. {
            return other;
        }
        let max = self.max.max(other.max);
        let part = |p: Partial| p.sum * exp(p.max - max);
        Partial { max, sum: part(self) + part(other) }
    }
}

fn tensor(partials: &[Partial]) -> Result<Tensor> {
    let values = partials.iter().flat_map(|p| [p.max, p.sum]).collect();
    Tensor::from_vec::<f32>(&Device::Cpu, &[partials.len(), 2], values)
}

fn partials(tensor: &Tensor) -> Vec<Partial> {
    let values = super::f32s(tensor);
    values.chunks_exact(2).map(|p| Partial { max: p[0], sum: p[1] }).collect()
}

/// The logits of one block.
fn logits(
    out: &mut [f32],
    [x, y]: [&[f32]; 2],
    scale: f32,
    d: usize,
    (first_row, rows, first_col, cols): (usize, usize, usize, usize),
) {
    let a = View { data: &x[first_row * d..(first_row + rows) * d], strides: (d, 1) };
    let b = View { data: &y[first_col * d..(first_col + cols) * d], strides: (1, d) };
    product(out, (rows, cols, d), a, b, scale, false);
}

/// The loss, and (maximum, sum) of each row and of each column.
pub(crate) fn info_nce(
    x: &Tensor,
    y: &Tensor,
    log_scale: &Tensor,
    size: InfoNce,
    scratch_bytes: usize,
) -> Result<(f64, Vec<Tensor>)> {
    let (x, y, scale) = (super::f32s(x), super::f32s(y), super::f32s(log_scale)[0].exp());
    let (mut of_rows, mut of_cols) = (vec![EMPTY; size.n], vec![EMPTY; size.m]);
    let mut positives = vec![0f32; size.n];
    let (most_rows, most_cols) = size.block_size(scratch_bytes);
    let mut scratch = vec![0f32; most_rows * most_cols];
    for block in size.blocks(scratch_bytes) {
        let (first_row, rows, first_col, cols) = block;
        let scratch = &mut scratch[..rows * cols];
        logits(scratch, [&x, &y], scale, size.d, block);
        sweep_rows(scratch, cols, &mut of_rows[first_row..first_row + rows]);
        if size.symmetric {
            sweep_columns(scratch, cols, &mut of_cols[first_col..first_col + cols]);
        }
        for i in first_row.max(first_col)..(first_row + rows).min(first_col + cols) {
            positives[i] = scratch[(i - first_row) * cols + i - first_col];
        }
    }
    let losses = |partials: &[Partial]| -> f64 {
        let loss = |(p, positive): (&Partial, &f32)| f64::from(p.max - positive) + f64::from(p.sum).ln();
        partials.iter().zip(&positives).map(loss).sum::<f64>() / size.n as f64
    };
    let loss = if size.symmetric { 0.5 * (losses(&of_rows) + losses(&of_cols)) } else { losses(&of_rows) };
    Ok((loss, vec![tensor(&of_rows)?, tensor(&of_cols)?]))
}

fn sweep_rows(logits: &[f32], cols: usize, partials: &mut [Partial]) {
    logits.par_chunks(cols).zip(partials).with_min_len(16).for_each(|(row, partial)| {
        let new = pulp::Arch::new().dispatch(
            #[inline(always)]
            || row_partial(row),
        );
        *partial = partial.merge(new);
    });
}

#[inline(always)]
fn row_partial(row: &[f32]) -> Partial {
    let (whole, rest) = row.as_chunks::<LANES>();
    let mut tops = [f32::NEG_INFINITY; LANES];
    for chunk in whole {
        for (top, &v) in tops.iter_mut().zip(chunk) {
            *top = if v > *top { v } else { *top };
        }
    }
    let max = tops.iter().chain(rest).fold(f32::NEG_INFINITY, |m, &v| if v > m { v } else { m });
    let mut sums = [0f32; LANES];
    for chunk in whole {
        for (sum, &v) in sums.iter_mut().zip(chunk) {
            *sum += exp(v - max);
        }
    }
    Partial { max, sum: sums.iter().sum::<f32>() + rest.iter().map(|&v| exp(v - max)).sum::<f32>() }
}

fn sweep_columns(logits: &[f32], cols: usize, partials: &mut [Partial]) {
    partials.par_chunks_mut(STRIP).enumerate().for_each(|(strip, partials)| {
        let first = strip * STRIP;
        let rows = || logits.chunks_exact(cols).map(|row| &row[first..first + partials.len()]);
        let (mut tops, mut sums) = ([f32::NEG_INFINITY; STRIP], [0f32; STRIP]);
        pulp::Arch::new().dispatch(
            #[inline(always)]
            || {
                for row in rows() {
                    for (top, &v) in tops.iter_mut().zip(row) {
                        *top = if v > *top { v } else { *top };
                    }
                }
                for row in rows() {
                    for ((sum, top), &v) in sums.iter_mut().zip(&tops).zip(row) {
                        *sum += exp(v - top);
                    }
                }
            },
        );
        for (partial, (&max, &sum)) in partials.iter_mut().zip(tops.iter().zip(&sums)) {
            *partial = partial.merge(Partial { max, sum });
        }
    });
}

/// The gradients of x and of y.
pub(crate) fn info_nce_backward(
    [x, y, log_scale]: [&Tensor; 3],
    kept: &[Tensor],
    upstream: &Tensor,
    size: InfoNce,
    scratch_bytes: usize,
) -> Result<[Tensor; 2]> {
    let d = size.d;
    let (shapes, scale) = ([x.shape(), y.shape()], super::f32s(log_scale)[0].exp());
    let factor = scale * super::f32s(upstream)[0] / size.n as f32;
    let (of_rows, of_cols) = (partials(&kept[0]), partials(&kept[1]));
    let col_tops: Vec<f32> = of_cols.iter().map(|p| p.max).collect();
    let col_weights: Vec<f32> = of_cols.iter().map(|p| 0.5 / p.sum).collect();
    let (x, y) = (super::f32s(x), super::f32s(y));
    let (mut dx, mut dy) = (vec![0f32; size.n * d], vec![0f32; size.m * d]);
    let (most_rows, most_cols) = size.block_size(scratch_bytes);
    let mut scratch = vec![0f32; most_rows * most_cols];
    for block in size.blocks(scratch_bytes) {
        let (first_row, rows, first_col, cols) = block;
        let scratch = &mut scratch[..rows * cols];
        logits(scratch, [&x, &y], scale, d, block);
        let columns = first_col..first_col + cols;
        let (tops, weights) = (&col_tops[columns.clone()], &col_weights[columns]);
        scratch.par_chunks_mut(cols).enumerate().with_min_len(16).for_each(|(r, row)| {
            let i = first_row + r;
            let positive = i.checked_sub(first_col).filter(|&j| j < cols);
            pulp::Arch::new().dispatch(
                #[inline(always)]
                || gradient_row(row, of_rows[i], size.symmetric.then_some((tops, weights)), positive, factor),
            );
        });
        let by_rows = View { data: scratch, strides: (cols, 1) };
        let by_cols = View { data: scratch, strides: (1, cols) };
        let x_rows = View { data: &x[first_row * d..(first_row + rows) * d], strides: (d, 1) };
        let y_rows = View { data: &y[first_col * d..(first_col + cols) * d], strides: (d, 1) };
        let dx_rows = &mut dx[first_row * d..(first_row + rows) * d];
        let dy_rows = &mut dy[first_col * d..(first_col + cols) * d];
        product(dx_rows, (rows, d, cols), by_rows, y_rows, 1., true);
        product(dy_rows, (cols, d, rows), by_cols, x_rows, 1., true);
    }
    Ok([super::tensor(shapes[0], DType::F32, dx)?, super::tensor(shapes[1], DType::F32, dy)?])
}

/// Turns a row of logits into `factor (P − I)`, `P` the mean of both softmaxes or the row's alone.
#[inline(always)]
fn gradient_row(
    row: &mut [f32],
    partial: Partial,
    columns: Option<(&[f32], &[f32])>,
    positive: Option<usize>,
    factor: f32,
) {
    let weight = if columns.is_some() { 0.5 / partial.sum } else { 1. / partial.sum };
    let (tops, weights) = columns.unwrap_or((&[], &[]));
    let subtract = |row: &mut [f32]| {
        if let Some(j) = positive {
            row[j] -= 1.;
        }
    };
    if columns.is_some() {
        for ((v, top), column_weight) in row.iter_mut().zip(tops).zip(weights) {
            *v = exp(*v - partial.max) * weight + exp(*v - top) * column_weight;
        }
    } else {
        row.iter_mut().for_each(|v| *v = exp(*v - partial.max) * weight);
    }
    subtract(row);
    row.iter_mut().for_each(|v| *v *= factor);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_partials_add_nothing() {
        let full = Partial { max: -200., sum: 3. };
        let merged = |a: Partial, b: Partial| (a.merge(b).max, a.merge(b).sum);
        assert_eq!(merged(EMPTY, EMPTY), (f32::NEG_INFINITY, 0.));
        assert_eq!(merged(EMPTY, full), (-200., 3.));
        assert_eq!(merged(full, EMPTY), (-200., 3.));
        assert_eq!(merged(full, Partial { max: 300., sum: 2. }), (300., 2.), "e⁻⁵⁰⁰ is 0 in f32");
    }
}
