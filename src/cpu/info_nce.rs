//! The softmax losses block by block. Each block of logits is one product; rows and strips of columns of it are shared out to
//! threads, each summed in a fixed order.

use super::exp::exp;
use super::info_nce_lines::{Aim, Lines};
use super::matmul::{View, product};
use crate::device::Device;
use crate::dtype::DType;
use crate::error::Result;
use crate::reference::{Codes, InfoNce, LogitBlock, Reduction};
use crate::tensor::Tensor;
use rayon::prelude::*;
use std::borrow::Cow;

/// Columns that one task sums.
const STRIP: usize = 128;
/// Partial sums of a row: enough for any vector width.
const LANES: usize = 16;

/// A maximum and the sum of exponentials relative to it: a log-sum-exp in parts.
#[derive(Clone, Copy)]
pub(super) struct Partial {
    pub(super) max: f32,
    pub(super) sum: f32,
}

pub(super) const EMPTY: Partial = Partial { max: f32::NEG_INFINITY, sum: 0. };

impl Partial {
    fn merge(self, other: Partial) -> Partial {
        if self.sum == 0. {
            return other;
        }
        if other.sum == 0. {
            return self;
        }
        let max = self.max.max(other.max);
        let part = |p: Partial| p.sum * exp(p.max - max);
        Partial { max, sum: part(self) + part(other) }
    }
}

/// The rows of a tensor, those that are masked as zeros: what is in them must leave no trace, and 0 times NaN would.
pub(super) fn kept<'a>(x: &'a Tensor, codes: &Codes) -> Cow<'a, [f32]> {
    let mut values = super::f32s(x);
    if let Some(keep) = codes.keep() {
        let rows = values.to_mut().chunks_exact_mut(x.shape()[1].max(1)).zip(keep);
        rows.filter(|(_, keep)| !keep).for_each(|(row, _)| row.fill(0.));
    }
    values
}

/// The logits of one block.
pub(super) fn logits(
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

/// The loss, or that of each row, and what the backward needs: (maximum, sum, mass, count) of each row and of each column, and
/// the logits where they fit into the scratch.
pub(crate) fn info_nce(
    [x, y, log_scale]: [&Tensor; 3],
    [extra, soft]: [Option<&Tensor>; 2],
    problem: &InfoNce,
    scratch_bytes: usize,
) -> Result<(Vec<f64>, Vec<Tensor>)> {
    let (x, y, scale) = (kept(x, &problem.rows), kept(y, &problem.cols), super::f32s(log_scale)[0].exp());
    let lines = Lines::new(problem, soft.map(super::f32s), scale);
    let columns = if problem.symmetric { problem.m } else { 0 };
    let (mut of_rows, mut of_cols) = (vec![EMPTY; problem.n], vec![EMPTY; columns]);
    let (mut row_aims, mut col_aims) = (vec![Aim::default(); problem.n], vec![Aim::default(); columns]);
    let (most_rows, most_cols) = problem.block_size(scratch_bytes);
    let mut scratch = vec![0f32; most_rows * most_cols];
    let mut whole = None;
    for block in problem.blocks(scratch_bytes) {
        let (first_row, rows, first_col, cols) = block;
        let scratch = &mut scratch[..rows * cols];
        logits(scratch, [&x, &y], scale, problem.d, block);
        whole = ((rows, cols) == (problem.n, problem.m)).then(|| scratch.to_vec());
        if problem.symmetric {
            lines.aim_columns(scratch, block, &mut col_aims[first_col..first_col + cols]);
        }
        let of_rows = &mut of_rows[first_row..first_row + rows];
        let row_aims = &mut row_aims[first_row..first_row + rows];
        let each = scratch.par_chunks_mut(cols).zip(of_rows).zip(row_aims).enumerate().with_min_len(16);
        each.for_each(|(r, ((row, partial), aim))| {
            aim.add(lines.aim_row(row, first_row + r, first_col));
            lines.compete(row, first_row + r, first_col);
            *partial = partial.merge(row_partial_wide(row));
        });
        if problem.symmetric {
            sweep_columns(scratch, cols, &mut of_cols[first_col..first_col + cols]);
        }
    }
    if let Some(extra) = extra.filter(|extra| !extra.is_empty()) {
        for (i, own) in super::f32s(extra).chunks_exact(problem.k).enumerate() {
            let mut row: Vec<f32> = own.iter().map(|v| v * scale).collect();
            row_aims[i].add(lines.aim_own(&mut row, i));
            of_rows[i] = of_rows[i].merge(row_partial_wide(&row));
        }
    }
    let losses = |partials: &[Partial], aims: &[Aim]| -> Vec<Option<f64>> {
        partials.iter().zip(aims).map(|(&partial, aim)| lines.loss(partial, aim)).collect()
    };
    let (rows, cols) = (losses(&of_rows, &row_aims), losses(&of_cols, &col_aims));
    let mut kept = vec![lines.tensor(&of_rows, &row_aims)?, lines.tensor(&of_cols, &col_aims)?];
    if let Some(whole) = whole {
        kept.push(Tensor::from_vec(&Device::Cpu, &[problem.n, problem.m], whole)?);
    }
    Ok((reduced(&rows, &cols, problem), kept))
}

/// The losses of lines, none for one that does not count, as the problem's reduction has it.
fn reduced(rows: &[Option<f64>], cols: &[Option<f64>], problem: &InfoNce) -> Vec<f64> {
    let half = if problem.symmetric { 0.5 } else { 1. };
    let direction = |lines: &[Option<f64>]| {
        let sum = lines.iter().flatten().sum::<f64>() + 0.;
        let count = lines.iter().flatten().count().max(1) as f64;
        half * if problem.reduction == Reduction::Mean { sum / count } else { sum }
    };
    if problem.reduction == Reduction::None {
        let col = |i: usize| cols.get(i).copied().flatten().unwrap_or(0.);
        return rows.iter().enumerate().map(|(i, row)| half * (row.unwrap_or(0.) + col(i))).collect();
    }
    vec![direction(rows) + direction(cols)]
}

/// [`row_partial`] with the widest vectors there are.
fn row_partial_wide(row: &[f32]) -> Partial {
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || row_partial(row),
    )
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
    // Of a row without a number the sum is NaN; one without an entry that competes has none.
    if max == f32::NEG_INFINITY && row.iter().all(|&v| v == f32::NEG_INFINITY) {
        return EMPTY;
    }
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
        for (at, (partial, (&max, &sum))) in partials.iter_mut().zip(tops.iter().zip(&sums)).enumerate() {
            let nothing =
                max == f32::NEG_INFINITY && logits.iter().skip(first + at).step_by(cols).all(|&v| v == max);
            *partial = partial.merge(if nothing { EMPTY } else { Partial { max, sum } });
        }
    });
}

/// `∂X += G Y` and `∂Y += Gᵀ X` for a block of the gradient, where they are needed.
pub(super) fn add_products(
    block: &[f32],
    [x, y]: [&[f32]; 2],
    [dx, dy]: [&mut Option<Vec<f32>>; 2],
    d: usize,
    (first_row, rows, first_col, cols): LogitBlock,
) {
    let (of_rows, of_cols) = (first_row * d..(first_row + rows) * d, first_col * d..(first_col + cols) * d);
    let view = |data, strides| View { data, strides };
    if let Some(dx) = dx {
        let (by_rows, y) = (view(block, (cols, 1)), view(&y[of_cols.clone()], (d, 1)));
        product(&mut dx[of_rows.clone()], (rows, d, cols), by_rows, y, 1., true);
    }
    if let Some(dy) = dy {
        let (by_cols, x) = (view(block, (1, cols)), view(&x[of_rows], (d, 1)));
        product(&mut dy[of_cols], (cols, d, rows), by_cols, x, 1., true);
    }
}

/// The gradients of x and of y, where they are needed, and of what each row has to itself.
pub(crate) fn info_nce_backward(
    [x, y, log_scale]: [&Tensor; 3],
    [extra, soft]: [Option<&Tensor>; 2],
    kept_before: &[Tensor],
    upstream: &Tensor,
    [needs_x, needs_y]: [bool; 2],
    problem: &InfoNce,
    scratch_bytes: usize,
) -> Result<[Option<Tensor>; 3]> {
    let (d, shapes, scale) = (problem.d, [x.shape(), y.shape()], super::f32s(log_scale)[0].exp());
    let lines = Lines::new(problem, soft.map(super::f32s), scale);
    let upstream = super::f32s(upstream);
    let rows_factors = lines.factors(&kept_before[0], &upstream);
    let cols_factors = lines.factors(&kept_before[1], &upstream);
    let whole = kept_before.get(2).map(super::f32s);
    let (x, y) = (kept(x, &problem.rows), kept(y, &problem.cols));
    let sum = |needed: bool, rows: usize| needed.then(|| vec![0f32; rows * d]);
    let (mut dx, mut dy) = (sum(needs_x, problem.n), sum(needs_y, problem.m));
    let (most_rows, most_cols) = problem.block_size(scratch_bytes);
    let mut scratch = vec![0f32; most_rows * most_cols];
    for block in problem.blocks(scratch_bytes) {
        let (first_row, rows, first_col, cols) = block;
        let scratch = &mut scratch[..rows * cols];
        match &whole {
            Some(whole) => scratch.copy_from_slice(whole),
            None => logits(scratch, [&x, &y], scale, d, block),
        }
        let columns = problem.symmetric.then(|| cols_factors.columns(first_col..first_col + cols));
        scratch.par_chunks_mut(cols).enumerate().with_min_len(16).for_each(|(r, row)| {
            let i = first_row + r;
            lines.compete(row, i, first_col);
            pulp::Arch::new().dispatch(
                #[inline(always)]
                || {
                    probabilities(
                        row,
                        rows_factors.max[i],
                        rows_factors.exp[i],
                        columns.map(|c| (c.max, c.exp)),
                    )
                },
            );
            lines.subtract_targets(row, i, first_col, &rows_factors, columns.as_ref());
        });
        add_products(scratch, [&x, &y], [&mut dx, &mut dy], d, block);
    }
    let own = |(i, own): (usize, &[f32])| {
        let mut row: Vec<f32> = own.iter().map(|v| v * scale).collect();
        lines.aim_own(&mut row, i);
        probabilities(&mut row, rows_factors.max[i], rows_factors.exp[i], None);
        lines.subtract_own(&mut row, i, &rows_factors);
        row
    };
    let dextra = extra.map(|extra| {
        let values = super::f32s(extra).chunks_exact(problem.k.max(1)).enumerate().flat_map(own).collect();
        super::tensor(extra.shape(), DType::F32, values)
    });
    let tensor = |values: Option<Vec<f32>>, shape: &[usize]| {
        values.map(|values| super::tensor(shape, DType::F32, values)).transpose()
    };
    Ok([tensor(dx, shapes[0])?, tensor(dy, shapes[1])?, dextra.transpose()?])
}

/// Turns a row of competing logits into weighted probabilities: those of the row and, when symmetric, of each column.
#[inline(always)]
fn probabilities(row: &mut [f32], max: f32, factor: f32, columns: Option<(&[f32], &[f32])>) {
    match columns {
        Some((tops, factors)) => {
            for ((v, top), column) in row.iter_mut().zip(tops).zip(factors) {
                *v = exp(*v - max) * factor + exp(*v - top) * column;
            }
        }
        None => row.iter_mut().for_each(|v| *v = exp(*v - max) * factor),
    }
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
