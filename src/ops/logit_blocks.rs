//! Similarities block by block on a GPU, and what their gradients add up to: the products of the contrastive losses.

use super::add;
use super::concat::{copy, put, slice};
use super::matmul::{self, MatmulOptions, Precision};
use super::matmul_dispatch::{self, Product};
use super::matmul_ways::{self as ways, Way};
use crate::dtype::DType;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::reference::{Block, LogitBlock, MatmulShape, block_size};
use crate::tensor::Tensor;

/// Memory for a block, and how exact its products have to be.
#[derive(Clone, Copy)]
pub(super) struct Means {
    pub scratch_bytes: usize,
    pub precision: Precision,
}

/// `S = X[first_row..] Y[first_col..]ᵀ` of one block, in the scratch where a binding spans x and y.
pub(super) fn similarities(
    gpu: &Gpu,
    [x, y]: [&Tensor; 2],
    scratch: &Tensor,
    (first_row, rows, first_col, cols): LogitBlock,
    precision: Precision,
) -> Result<Tensor> {
    let d = x.shape()[1];
    if x.is_split() || y.is_split() {
        let (x, y) =
            (slice(x, 0, &(first_row..first_row + rows))?, slice(y, 0, &(first_col..first_col + cols))?);
        let options = MatmulOptions { transpose_b: true, precision, ..Default::default() };
        return matmul::matmul(&x, &y, None, &options);
    }
    let (a_strides, b_strides) = ((d, 1), (1, d));
    let shape = MatmulShape { m: rows, n: cols, k: d, a_strides, b_strides, ..MatmulShape::default() };
    let (a_offset, b_offset) = (first_row * d, first_col * d);
    let way = of_blocks(gpu, &shape, x, y);
    let product = Product { scale: 1., a_offset, b_offset, precision, way, ..Product::default() };
    matmul_dispatch::dispatch(gpu, x, y, scratch, &shape, &product)?;
    Ok(scratch.clone())
}

/// `∂X += G Y` and `∂Y += Gᵀ X` for a block of the gradient, where they are needed; the first block of each row and column writes
/// instead of adding.
pub(super) fn add_products(
    gpu: &Gpu,
    block: &Tensor,
    [x, y]: [&Tensor; 2],
    [dx, dy]: [&mut Option<Tensor>; 2],
    (first_row, rows, first_col, cols): LogitBlock,
    precision: Precision,
) -> Result<()> {
    let size = (rows, cols);
    if let Some(dx) = dx {
        let how = (first_col > 0, precision);
        add_product(gpu, (block, false), (y, first_col), (dx, first_row), size, how)?;
    }
    if let Some(dy) = dy {
        let how = (first_row > 0, precision);
        add_product(gpu, (block, true), (x, first_row), (dy, first_col), size, how)?;
    }
    Ok(())
}

/// The way of the products of all blocks of rows of two matrices of one width.
fn of_blocks(gpu: &Gpu, shape: &MatmulShape, a: &Tensor, b: &Tensor) -> Option<Way> {
    ways::of_many(&gpu.abilities(), shape, 2. * a.len() as f64 * b.shape()[0] as f64)
}

/// Adds the product of a block of the gradient, or of its transpose, and the rows of `other` from `second` on to the rows of
/// `sum` from `first` on; writes it where it is the first.
fn add_product(
    gpu: &Gpu,
    (block, transposed): (&Tensor, bool),
    (other, second): (&Tensor, usize),
    (sum, first): (&mut Tensor, usize),
    (rows, cols): (usize, usize),
    (accumulate, precision): (bool, Precision),
) -> Result<()> {
    let (m, k, n) = if transposed { (cols, rows, sum.shape()[1]) } else { (rows, cols, sum.shape()[1]) };
    if other.is_split() || sum.is_split() {
        let (block, other) = (block.reshape(&[rows, cols])?, slice(other, 0, &(second..second + k))?);
        let options = MatmulOptions { transpose_a: transposed, precision, ..Default::default() };
        let product = matmul::matmul(&block, &other, None, &options)?;
        let own = || slice(sum, 0, &(first..first + m));
        let product = if accumulate { add(&own()?, &product)? } else { product };
        return put(&product, sum, 0, first);
    }
    let a_strides = if transposed { (1, cols) } else { (cols, 1) };
    let shape = MatmulShape { m, n, k, a_strides, b_strides: (n, 1), ..MatmulShape::default() };
    let (b_offset, out_offset) = (second * n, first * n);
    let (scale, way) = (1., of_blocks(gpu, &shape, sum, other));
    let product = Product { scale, accumulate, b_offset, out_offset, precision, way, ..Product::default() };
    matmul_dispatch::dispatch(gpu, block, other, sum, &shape, &product)
}

/// A fast GPU needs larger blocks to be busy.
const DISCRETE: usize = 16;

/// The bytes of a block of similarities: what the caller allows, but no more than a binding spans.
pub(super) fn block_bytes(gpu: &Gpu, scratch_bytes: usize) -> usize {
    let times = if gpu.abilities().discrete { DISCRETE } else { 1 };
    scratch_bytes.saturating_mul(times).min(gpu.piece_bytes() as usize)
}

/// Memory for the largest block.
pub(super) fn scratch(like: &Tensor, size: (usize, usize), bytes: usize) -> Result<Tensor> {
    let (rows, cols) = block_size(size, bytes);
    uninit(like, &[rows, cols])
}

pub(super) fn uninit(like: &Tensor, shape: &[usize]) -> Result<Tensor> {
    Tensor::uninit("logits", like.device(), shape, DType::F32)
}

/// Where a block stands in a matrix of so many columns, and how it is copied out.
fn out_of(whole: usize, (first_row, rows, first_col, cols): LogitBlock) -> Block {
    Block {
        rows,
        length: cols,
        from_stride: whole,
        from_offset: first_row * whole + first_col,
        to_stride: cols,
        to_offset: 0,
    }
}

/// A copy of a block of a matrix `[n, m]` that stands in the way of [`similarities`]' blocks.
pub(super) fn block_of(matrix: &Tensor, block: LogitBlock) -> Result<Tensor> {
    let mut out = uninit(matrix, &[block.1, block.3])?;
    copy(matrix, &mut out, &out_of(matrix.shape()[1], block))?;
    Ok(out)
}

/// Writes a block to its place in a matrix.
pub(super) fn put_block(part: &Tensor, matrix: &mut Tensor, block: LogitBlock) -> Result<()> {
    let Block { from_stride, from_offset, to_stride, to_offset, .. } = out_of(matrix.shape()[1], block);
    let back = Block {
        rows: block.1,
        length: block.3,
        from_stride: to_stride,
        from_offset: to_offset,
        to_stride: from_stride,
        to_offset: from_offset,
    };
    copy(part, matrix, &back)
}

/// A copy, to be written over.
pub(super) fn copied(tensor: &Tensor) -> Result<Tensor> {
    let mut copy = uninit(tensor, tensor.shape())?;
    put(tensor, &mut copy, 0, 0)?;
    Ok(copy)
}
