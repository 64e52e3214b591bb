//! A product on a GPU: which way, in how many dispatches.

use super::matmul_cooperative as cooperative;
use super::matmul_kernels::{ACCUMULATE, ACTIVATION, PARTS, Params};
use super::matmul_tune as tune;
use super::matmul_ways::{self as ways, Layout, Precision, Way};
use super::{Reduce, ReduceOptions, Unary, add, cast, dispatch_counted, pad8, reduce, unary};
use crate::dtype::DType;
use crate::error::Result;
use crate::gpu::{Gpu, Variant};
use crate::reference::MatmulShape;
use crate::shape::count;
use crate::tensor::Tensor;

/// One product on a GPU, of whole tensors or of parts that begin at an element.
#[derive(Default, Clone, Copy)]
pub(super) struct Product<'a> {
    pub bias: Option<&'a Tensor>,
    pub scale: f64,
    pub activation: Option<Unary>,
    /// How exact it has to be, where the way is not given.
    pub precision: Precision,
    /// Whether to add to what is there.
    pub accumulate: bool,
    pub a_offset: usize,
    pub b_offset: usize,
    pub out_offset: usize,
    /// The way to take; otherwise the one that suits.
    pub way: Option<Way>,
    /// In how many pieces to sum the inner axis, for [`whole`]; otherwise as suits, in one by a way that is asked for.
    pub pieces: Option<usize>,
    /// Of operands in two parts of f16: how far apart these lie, and the powers of two that the lines were multiplied by.
    pub parts: [usize; 2],
    pub scales: Option<(&'a Tensor, &'a Tensor)>,
}

/// A sum is one running f32 over so much of the inner axis, and those sums are another: rounding grows with the length of either,
/// not of both together.
pub(crate) const INNER: usize = 2048;

/// Writes, or adds, a product to `out`, which is f32 where the inner axis is more than the way sums at once.
pub(super) fn dispatch(
    gpu: &Gpu,
    a: &Tensor,
    b: &Tensor,
    out: &Tensor,
    shape: &MatmulShape,
    product: &Product<'_>,
) -> Result<()> {
    let layout = Layout::of(shape, [product.a_offset, product.b_offset, product.out_offset]);
    let way =
        product.way.map_or_else(|| tune::way(gpu, shape, &layout, (a.dtype(), product.precision)), Ok)?;
    if way.has_units() {
        return cooperative::dispatch(gpu, [a, b], out, shape, product, way);
    }
    if way == Way::Vector && shape.n > 1 {
        // A row by a matrix is the matrix transposed by a column.
        let (turned, other) = turned(shape, product);
        let layout = Layout::of(&turned, [other.a_offset, other.b_offset, other.out_offset]);
        return in_blocks(gpu, [b, a], out, &turned, &other, (way, layout));
    }
    in_blocks(gpu, [a, b], out, shape, product, (way, layout))
}

/// The same product with A and B in each other's place; the kernel of vectors puts its lines along the columns.
fn turned<'a>(shape: &MatmulShape, product: &Product<'a>) -> (MatmulShape, Product<'a>) {
    let turned = MatmulShape {
        a_strides: (shape.b_strides.1, shape.b_strides.0),
        b_strides: (shape.a_strides.1, shape.a_strides.0),
        a_batch: shape.b_batch.clone(),
        b_batch: shape.a_batch.clone(),
        ..shape.clone()
    };
    (turned, Product { a_offset: product.b_offset, b_offset: product.a_offset, ..*product })
}

/// Goes through blocks of the inner axis, and for each through as many workgroups at once as a driver's time limit allows.
pub(super) fn in_blocks(
    gpu: &Gpu,
    [a, b]: [&Tensor; 2],
    out: &Tensor,
    shape: &MatmulShape,
    product: &Product<'_>,
    (way, layout): (Way, Layout),
) -> Result<()> {
    let abilities = gpu.abilities();
    let (kernel, constants) = way.kernel(&abilities, &layout);
    // Without a bias its binding still needs a buffer; it is not read.
    let (a_scales, b_scales) = product.scales.unwrap_or((a, b));
    let all = [a, b, out, product.bias.unwrap_or(b), a_scales, b_scales];
    let tensors = &all[..kernel.bindings.len()];
    let at_once = abilities.flops_at_once;
    let kind = product.activation.map_or(0, |kind| unary::code(kind).0);
    // An empty inner axis is one empty block.
    let run = way.inner(shape, if product.scales.is_some() { DType::F32 } else { a.dtype() });
    for first in (0..shape.k.max(1)).step_by(run) {
        let (inner, last) = (run.min(shape.k - first), first + run >= shape.k);
        let mut params = block_params(shape, product, first, inner, last);
        let own = if way.has_epilogue() {
            (ACTIVATION, if last { kind } else { 0 })
        } else {
            (ACCUMULATE, params.accumulate)
        };
        let parts = product.scales.map(|_| (PARTS, 2));
        let constants: Vec<_> = constants.iter().copied().chain([own]).chain(parts).collect();
        let variant = Variant { elem_out: out.dtype(), constants, ..Variant::of(a.dtype()) };
        let (groups, work) = way.groups(&abilities, shape, &layout, inner);
        let together = ((at_once / work) as usize).max(1);
        for first_group in (0..groups).step_by(together) {
            params.first_group = first_group as u32;
            let now = together.min(groups - first_group);
            dispatch_counted(gpu, kernel, variant.clone(), &params, tensors, now as u64, now as f64 * work)?;
        }
    }
    Ok(())
}

/// The parameters for a block of the inner axis.
pub(super) fn block_params(
    shape: &MatmulShape,
    product: &Product<'_>,
    first: usize,
    inner: usize,
    last: bool,
) -> Params {
    let (_, alpha, beta) = product.activation.filter(|_| last).map_or((0, 0., 0.), unary::code);
    Params {
        batch_shape: pad8(&shape.batch),
        a_batch: pad8(&shape.a_batch),
        b_batch: pad8(&shape.b_batch),
        m: shape.m as u32,
        n: shape.n as u32,
        inner: inner as u32,
        batches: count(&shape.batch) as u32,
        batch_rank: shape.batch.len() as u32,
        a_row: shape.a_strides.0 as u32,
        a_col: shape.a_strides.1 as u32,
        b_row: shape.b_strides.0 as u32,
        b_col: shape.b_strides.1 as u32,
        a_offset: (product.a_offset + first * shape.a_strides.1) as u32,
        b_offset: (product.b_offset + first * shape.b_strides.0) as u32,
        out_offset: product.out_offset as u32,
        first_group: 0,
        has_bias: u32::from(last && product.bias.is_some()),
        accumulate: u32::from(product.accumulate || first > 0),
        scale: product.scale as f32,
        alpha,
        beta,
        a_part: product.parts[0] as u32,
        b_part: product.parts[1] as u32,
        padded: 0,
        first_row: 0,
        first_col: 0,
        pad0: 0,
    }
}

/// The product `out_shape` in the type of `a`, by the way that suits or the one that `product` asks for, in pieces of the inner
/// axis where that suits.
pub(super) fn whole(
    gpu: &Gpu,
    [a, b]: [&Tensor; 2],
    shape: &MatmulShape,
    out_shape: &[usize],
    product: &Product<'_>,
) -> Result<Tensor> {
    let suits = || if product.way.is_some() { 1 } else { ways::pieces(&gpu.abilities(), shape) };
    let pieces = product.pieces.unwrap_or_else(suits);
    let out = if pieces > 1 {
        let alone = Product { bias: None, activation: None, ..*product };
        in_pieces(gpu, [a, b], pieces, shape, &alone)?.reshape(out_shape)?
    } else {
        let layout = Layout::of(shape, [0; 3]);
        let way =
            product.way.map_or_else(|| tune::way(gpu, shape, &layout, (a.dtype(), product.precision)), Ok)?;
        let own = Product { way: Some(way), ..*product };
        // Between blocks of the inner axis, and before what follows, a sum is kept in f32.
        let follows = !way.has_epilogue() && (product.bias.is_some() || product.activation.is_some());
        let dtype = if shape.k > way.inner(shape, a.dtype()) || follows { DType::F32 } else { a.dtype() };
        let out = Tensor::uninit("matmul", a.device(), out_shape, dtype)?;
        if !follows {
            dispatch(gpu, a, b, &out, shape, &own)?;
            return cast(&out, a.dtype());
        }
        dispatch(gpu, a, b, &out, shape, &Product { bias: None, activation: None, ..own })?;
        out
    };
    let out = match product.bias {
        Some(bias) => add(&out, &cast(bias, DType::F32)?)?,
        None => out,
    };
    let out = product.activation.map_or(Ok(out.clone()), |kind| unary::unary(kind, &out))?;
    cast(&out, a.dtype())
}

/// The product by pieces of the inner axis that are summed side by side, then added, in f32.
fn in_pieces(
    gpu: &Gpu,
    [a, b]: [&Tensor; 2],
    pieces: usize,
    shape: &MatmulShape,
    product: &Product<'_>,
) -> Result<Tensor> {
    let piece = shape.k / pieces;
    let before = |first: usize, strides: &[usize]| [&[first], strides].concat();
    let split = MatmulShape {
        k: piece,
        batch: before(pieces, &shape.batch),
        a_batch: before(piece * shape.a_strides.1, &shape.a_batch),
        b_batch: before(piece * shape.b_strides.0, &shape.b_batch),
        ..shape.clone()
    };
    let size = count(&shape.batch) * shape.m * shape.n;
    let parts = Tensor::uninit("matmul", a.device(), &[pieces, size], DType::F32)?;
    dispatch(gpu, a, b, &parts, &split, product)?;
    reduce(&parts, &ReduceOptions { kind: Reduce::Sum, axis: 0, keep_axis: false })
}
