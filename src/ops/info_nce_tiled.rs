//! The usual loss on a GPU by kernels that make a tile of similarities and keep none: the sweep stores statistics alone, the backward
//! the gradient in its place.

use super::info_nce_kernels::{
    MERGE_COLUMNS, OF_COLUMNS, Params, TILED_GRADIENT, TILED_SWEEP, is_simple, params, variant,
};
use super::info_nce_sweep::Lines;
use super::logit_blocks::{Means, block_bytes, uninit};
use super::matmul::Precision;
use super::matmul_dispatch::{INNER, Product, block_params};
use super::matmul_kernels::{self as matmul, PAD, TILE_COLS, TILE_ROWS};
use super::{dispatch, dispatch_counted, groups};
use crate::dtype::DType;
use crate::error::Result;
use crate::gpu::{Gpu, Kernel, Variant};
use crate::reference::{InfoNce, LogitBlock, MatmulShape};
use crate::tensor::Tensor;

/// The side of a tile.
const SIDE: usize = 128;

/// Whether these kernels do what is asked for: the usual loss, f32 by f32, rows of a multiple of four elements and of one run.
pub(super) fn serves(gpu: &Gpu, [x, y]: [&Tensor; 2], problem: &InfoNce, means: Means) -> bool {
    let (device, d) = (gpu.abilities(), x.shape()[1]);
    let (rows, cols) = problem.block_size(block_bytes(gpu, means.scratch_bytes));
    // A binding has to span the parts of all tiles.
    let parts = 16 * (rows * cols.div_ceil(SIDE)).max(cols * rows.div_ceil(SIDE)) as u64;
    let by_units = means.precision == Precision::Fast && device.cooperative > 0;
    is_simple(&params(problem, (0, 0, 0, 0)))
        && !by_units
        && !(x.is_split() || y.is_split())
        && d.is_multiple_of(4)
        && (1..=INNER).contains(&d)
        && parts <= gpu.piece_bytes()
        && device.invocations >= 256
        && device.workgroup_memory >= 16 << 10
}

/// The product of a block, its kernel's parameters and constants.
struct Tiles {
    params: matmul::Params,
    variant: Variant,
    count: usize,
    flops: f64,
}

impl Tiles {
    fn of(gpu: &Gpu, d: usize, (first_row, rows, first_col, cols): LogitBlock, symmetric: bool) -> Tiles {
        let (a_strides, b_strides) = ((d, 1), (1, d));
        let shape = MatmulShape { m: rows, n: cols, k: d, a_strides, b_strides, ..MatmulShape::default() };
        let (a_offset, b_offset) = (first_row * d, first_col * d);
        let product = Product { scale: 1., a_offset, b_offset, ..Product::default() };
        let params = matmul::Params {
            first_row: first_row as u32,
            first_col: first_col as u32,
            ..block_params(&shape, &product, 0, d, true)
        };
        let variant = Variant::of(DType::F32)
            .with(OF_COLUMNS, u32::from(symmetric))
            .with(TILE_ROWS, SIDE as u32)
            .with(TILE_COLS, SIDE as u32)
            .with(PAD, u32::from(gpu.abilities().workgroup_memory > 16 << 10));
        let (count, flops) = (rows.div_ceil(SIDE) * cols.div_ceil(SIDE), 2. * (SIDE * SIDE * d) as f64);
        Tiles { params, variant, count, flops }
    }

    /// As many tiles at once as a driver's time limit allows.
    fn run(mut self, gpu: &Gpu, kernel: &Kernel, tensors: &[&Tensor]) -> Result<()> {
        let together = ((gpu.abilities().flops_at_once / self.flops) as usize).max(1);
        for first in (0..self.count).step_by(together) {
            self.params.first_group = first as u32;
            let now = together.min(self.count - first);
            let work = now as f64 * self.flops;
            dispatch_counted(gpu, kernel, self.variant.clone(), &self.params, tensors, now as u64, work)?;
        }
        Ok(())
    }
}

/// The statistics of a block's rows and columns, merged with what there is of them.
pub(super) fn sweep(
    gpu: &Gpu,
    [x, y, log_scale]: [&Tensor; 3],
    (rows, cols): (&Lines, Option<&Lines>),
    problem: &InfoNce,
    block: LogitBlock,
) -> Result<()> {
    let (first_row, rows_now, first_col, cols_now) = block;
    let (down, across) = (rows_now.div_ceil(SIDE), cols_now.div_ceil(SIDE));
    let parts = |count: usize| Ok((uninit(x, &[count, 2])?, uninit(x, &[count, 4])?));
    let (row_stats, row_aims) = parts(across * rows_now)?;
    let (col_stats, col_aims) = parts(if cols.is_some() { down * cols_now } else { 1 })?;
    let tensors = [x, y, log_scale, &row_stats, &row_aims, &col_stats, &col_aims];
    Tiles::of(gpu, x.shape()[1], block, cols.is_some()).run(gpu, &TILED_SWEEP, &tensors)?;
    let merge = |stats: &Tensor,
                 aims: &Tensor,
                 lines: &Lines,
                 fresh: bool,
                 (first, now, count): (usize, usize, usize)| {
        let params = Params {
            cols: now as u32,
            first_col: first as u32,
            fresh: u32::from(fresh),
            count: count as u32,
            ..params(problem, block)
        };
        let tensors = [stats, log_scale, aims, &lines.stats, &lines.aims];
        dispatch(gpu, &MERGE_COLUMNS, variant(&params), &params, &tensors, groups(now, 64))
    };
    merge(&row_stats, &row_aims, rows, first_col == 0, (first_row, rows_now, across))?;
    match cols {
        Some(cols) => merge(&col_stats, &col_aims, cols, first_row == 0, (first_col, cols_now, down)),
        None => Ok(()),
    }
}

/// The gradient by a block's similarities, in `out`; the block's columns are a multiple of four.
pub(super) fn gradient(
    gpu: &Gpu,
    [x, y, log_scale]: [&Tensor; 3],
    [row_factors, col_factors]: [&Tensor; 2],
    symmetric: bool,
    out: &Tensor,
    block: LogitBlock,
) -> Result<()> {
    let tensors = [x, y, row_factors, col_factors, log_scale, out];
    Tiles::of(gpu, x.shape()[1], block, symmetric).run(gpu, &TILED_GRADIENT, &tensors)
}
