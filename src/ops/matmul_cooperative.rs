//! The product by a device's matrix units (cooperative matrices): operands become lines of f16 along the inner axis, those of f32 in
//! two parts, and go through kernels for blocks of 8 by 8 or of 16 by 16.

use super::matmul_dispatch::{Product, block_params, in_blocks};
use super::matmul_kernels::{
    self as kernels, ALONG_INNER, LANES_OF_SUBGROUP, OPERAND, PACKED, PARTS, SUBGROUPS_ACROSS, SUBGROUPS_DOWN,
};
use super::matmul_ways::{Layout, Way};
#[cfg(feature = "verify")]
use super::{MatmulOptions, add, matmul, mul, split, transpose};
use super::{cast, dispatch_counted};
#[cfg(feature = "verify")]
use crate::device::Device;
use crate::dtype::DType;
use crate::error::Result;
use crate::gpu::{Abilities, Gpu, Kernel, Variant};
use crate::reference::MatmulShape;
use crate::shape::count;
use crate::tensor::Tensor;

/// Subgroups of a workgroup, down and across: each makes four by four blocks.
pub(super) fn arrangement(subgroups: usize) -> (usize, usize) {
    (subgroups / 2, 2)
}

/// Whether a device can run the kernel, and a product's rows can be written four elements at a time; where subgroups do not share
/// what they load also whether blocks are inside or past the edge as a whole.
pub(super) fn serves(subgroups: usize, shared: bool, device: &Abilities, shape: &MatmulShape) -> bool {
    let (least, lanes) = (device.subgroup_sizes.0 as usize, device.subgroup_sizes.1 as usize);
    let side = device.cooperative as usize;
    // A matrix that a batch shares would be packed for each product.
    let mut strides = shape.batch.iter().zip(shape.a_batch.iter().zip(&shape.b_batch));
    let shared_matrix = strides.any(|(&size, (&a, &b))| size > 1 && (a == 0 || b == 0));
    if side == 0
        || lanes == 0
        || least != lanes
        || shape.k == 0
        || !shape.n.is_multiple_of(4)
        || shared_matrix
    {
        return false;
    }
    let (down, across) = arrangement(subgroups);
    let (threads, lines) = (lanes * subgroups, 4 * side * (down + across));
    // A block of sums to a subgroup, and, as the kernel lays them out, lines of both operands with room behind each.
    let sums = 4 * subgroups * side * side;
    let bytes = sums + if shared { 2 * lines * (2 * side + 8) } else { 0 };
    // An invocation loads up to eight vectors of each operand.
    let loads = 4 * side * down * (2 * side / 4) / threads;
    let suits = if shared {
        (1..=8).contains(&loads)
    } else {
        shape.m.is_multiple_of(side) && shape.n.is_multiple_of(side)
    };
    suits && threads <= device.invocations as usize && bytes <= device.workgroup_memory as usize
}

pub(super) fn kernel(
    subgroups: usize,
    shared: bool,
    device: &Abilities,
) -> (&'static Kernel, Vec<(&'static str, u32)>) {
    let (down, across) = arrangement(subgroups);
    let constants = vec![
        (LANES_OF_SUBGROUP, device.subgroup_sizes.1),
        (SUBGROUPS_DOWN, down as u32),
        (SUBGROUPS_ACROSS, across as u32),
    ];
    let kernel = match (shared, device.cooperative) {
        (true, 8) => &kernels::STAGED_8,
        (true, _) => &kernels::STAGED_16,
        (false, 8) => &kernels::DIRECT_8,
        (false, _) => &kernels::DIRECT_16,
    };
    (kernel, constants)
}

/// An operand as the kernel reads it.
struct Packed {
    tensor: Tensor,
    scales: Option<Tensor>,
    /// Elements from one line to the next, and between a matrix's two parts.
    line: usize,
    part: usize,
    /// Strides of the batch axes, and where the first matrix begins.
    batch: Vec<usize>,
    offset: usize,
}

/// Bytes that the operands take beside themselves, the larger of the two.
pub(super) fn packed_bytes(shape: &MatmulShape, dtype: DType) -> u64 {
    let each = shape.m.max(shape.n) * shape.k.next_multiple_of(PACKED) * count(&shape.batch);
    2 * parts(dtype) as u64 * each as u64
}

fn parts(dtype: DType) -> usize {
    if dtype == DType::F16 { 1 } else { 2 }
}

/// As [`dispatch`](super::matmul_dispatch::dispatch) by this way.
pub(super) fn dispatch(
    gpu: &Gpu,
    [a, b]: [&Tensor; 2],
    out: &Tensor,
    shape: &MatmulShape,
    product: &Product<'_>,
    way: Way,
) -> Result<()> {
    let [left, right] = [packed(gpu, a, 0, shape, product)?, packed(gpu, b, 1, shape, product)?];
    let turned = MatmulShape {
        k: shape.k.next_multiple_of(PACKED),
        a_batch: left.batch,
        b_batch: right.batch,
        a_strides: (left.line, 1),
        b_strides: (1, right.line),
        ..shape.clone()
    };
    // The kernel reads a bias in the type of its result.
    let bias = product.bias.map(|bias| cast(bias, out.dtype())).transpose()?;
    let own = Product {
        bias: bias.as_ref(),
        a_offset: left.offset,
        b_offset: right.offset,
        parts: [left.part, right.part],
        scales: left.scales.as_ref().zip(right.scales.as_ref()),
        ..*product
    };
    let layout = Layout::of(&turned, [own.a_offset, own.b_offset, own.out_offset]);
    in_blocks(gpu, [&left.tensor, &right.tensor], out, &turned, &own, (way, layout))
}

/// Operand 0 or 1 as lines of f16: itself where it lies so.
fn packed(
    gpu: &Gpu,
    x: &Tensor,
    operand: usize,
    shape: &MatmulShape,
    product: &Product<'_>,
) -> Result<Packed> {
    let (lines, strides, offset, batch) = match operand {
        0 => (shape.m, shape.a_strides, product.a_offset, &shape.a_batch),
        _ => (shape.n, (shape.b_strides.1, shape.b_strides.0), product.b_offset, &shape.b_batch),
    };
    let parts = parts(x.dtype());
    let mut numbers = batch.iter().chain([&strides.0, &offset]);
    let fours = numbers.all(|number| number.is_multiple_of(4));
    if parts == 1 && strides.1 == 1 && shape.k.is_multiple_of(PACKED) && fours {
        let (tensor, batch) = (x.clone(), batch.clone());
        return Ok(Packed { tensor, scales: None, line: strides.0, part: 0, batch, offset });
    }
    let padded = shape.k.next_multiple_of(PACKED);
    let batches = count(&shape.batch);
    let mut params = block_params(shape, product, 0, shape.k, false);
    params.padded = padded as u32;
    let constants = |more: &[(&'static str, u32)]| {
        [&[(OPERAND, operand as u32), (ALONG_INNER, u32::from(strides.1 == 1))], more].concat()
    };
    let scales = if parts == 1 {
        None
    } else {
        let scales = Tensor::uninit("matmul", x.device(), &[batches * lines], DType::F32)?;
        let variant = Variant { constants: constants(&[]), ..Variant::of(x.dtype()) };
        let groups = (batches * lines).div_ceil(if strides.1 == 1 { 8 } else { 64 });
        let work = (batches * lines * shape.k) as f64;
        dispatch_counted(gpu, &kernels::LINE_SCALES, variant, &params, &[x, &scales], groups as u64, work)?;
        Some(scales)
    };
    let tensor = Tensor::uninit("matmul", x.device(), &[batches * parts, lines, padded], DType::F16)?;
    let variant = Variant {
        elem_out: DType::F16,
        constants: constants(&[(PARTS, parts as u32)]),
        ..Variant::of(x.dtype())
    };
    let groups = batches * lines.div_ceil(32) * (padded / 32);
    let bound = [x, scales.as_ref().unwrap_or(x), &tensor];
    dispatch_counted(gpu, &kernels::PACK, variant, &params, &bound, groups as u64, tensor.len() as f64)?;
    // Batch axes in their order, each as far apart as the matrices behind it take.
    let mut strides = vec![0; shape.batch.len()];
    let mut stride = parts * lines * padded;
    for (axis, size) in shape.batch.iter().enumerate().rev() {
        strides[axis] = stride;
        stride *= size;
    }
    let part = if parts == 1 { 0 } else { lines * padded };
    Ok(Packed { tensor, scales, line: padded, part, batch: strides, offset: 0 })
}

/// The lines of `x [batches, lines, k]`, or of its transpose, as matrix units read them and put together again by a product with
/// `eye [k + padding, k]`: for verification, on devices without such units too.
#[cfg(feature = "verify")]
pub(crate) fn packed_and_back(x: &Tensor, eye: &Tensor, operand: usize, transposed: bool) -> Result<Tensor> {
    let (batches, rows, cols) = (x.shape()[0], x.shape()[1], x.shape()[2]);
    let (lines, k) = if transposed { (cols, rows) } else { (rows, cols) };
    let as_it_is = || if transposed { transpose(x, &[0, 2, 1]) } else { Ok(x.clone()) };
    let Device::Gpu(gpu) = x.device() else { return as_it_is() };
    let strides = if transposed { (1, cols) } else { (cols, 1) };
    let shape = MatmulShape {
        m: lines,
        n: lines,
        k,
        batch: vec![batches],
        a_batch: vec![lines * k],
        b_batch: vec![lines * k],
        a_strides: strides,
        b_strides: (strides.1, strides.0),
    };
    if x.is_split() || packed_bytes(&shape, x.dtype()) > gpu.piece_bytes() {
        // As products do: other ways take what no binding spans.
        return as_it_is();
    }
    let packed = packed(gpu, x, operand, &shape, &Product::default())?;
    let parts = parts(x.dtype());
    let all = cast(&packed.tensor, DType::F32)?.reshape(&[batches, parts, lines, packed.line])?;
    let each = split(&all, 1, &vec![1; parts])?;
    let sum = if parts == 2 { add(&each[0], &each[1])? } else { each[0].clone() };
    let sum = sum.reshape(&[batches, lines, packed.line])?;
    let back = matmul(&sum, &cast(eye, DType::F32)?, None, &MatmulOptions::default())?;
    let back = match packed.scales {
        Some(scales) => {
            let inverse: Vec<f32> = scales.to_f64_vec()?.iter().map(|scale| 1. / *scale as f32).collect();
            mul(&back, &Tensor::from_vec(x.device(), &[batches, lines, 1], inverse)?)?
        }
        None => back,
    };
    cast(&back, x.dtype())
}
