//! Rows picked by index.
//!
//! ```
//! use crossmodal::{Device, Tensor, autograd::Tape, ops::{Indices, gather::GATHER}};
//! let tape = Tape::new();
//! let x = tape.leaf(&Tensor::from_slice(&Device::Cpu, &[3], &[10f32, 20., 30.])?);
//! let y = tape.apply(&GATHER, Indices::new(&Device::Cpu, &[2, 2])?, &[&x])?;
//! assert_eq!(tape.backward_from(&y, y.value())?.get(&x).unwrap().to_vec::<f32>()?, [0., 0., 60.]);
//! # Ok::<(), crossmodal::Error>(())
//! ```

use super::concat::{copy, put, slice};
use super::{
    Forward, Rule, Saved, add, cast, check_device, check_floats, dispatch, dispatch_counted, expect_inputs,
    groups, host, parts, work_of_bytes,
};
use crate::device::Device;
use crate::dtype::{DType, HostData};
use crate::error::{Error, Result};
use crate::gpu::kernel::{params, read, write};
use crate::gpu::{Gpu, Kernel, Variant};
use crate::reference::{self, Block};
use crate::shape::{count, rows_cols};
use crate::tensor::{Tensor, check as check_size};
use std::sync::Arc;

const SOURCE: &str =
    concat!(include_str!("../../shaders/lib/grid.wgsl"), include_str!("../../shaders/gather.wgsl"));

params! {
    struct Params { count: u32, width: u32 }
}

const FORWARD: Kernel =
    Kernel::new::<Params>("gather", "forward", SOURCE, &[read("x"), read("indices"), write("out")]);
const BACKWARD: Kernel = Kernel::new::<Params>(
    "gather",
    "backward",
    SOURCE,
    &[read("grad"), read("order"), read("starts"), write("dx")],
);

/// The kernels of this operation. Example: [`Kernel`].
pub const KERNELS: &[&Kernel] = &[&FORWARD, &BACKWARD];

/// Gradients of one row that one invocation sums: longer lists are summed in two levels.
const REPEATS: usize = 1024;

/// Row numbers on a device, with the host's copy: bounds are checked before anything reaches the driver.
///
/// ```
/// use crossmodal::{Device, ops::Indices};
/// let indices = Indices::new(&Device::Cpu, &[2, 0])?;
/// assert_eq!(indices.as_slice(), [2, 0]);
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Indices {
    on_device: Tensor,
    on_host: Arc<[u32]>,
}

impl Indices {
    /// Uploads row numbers. Errors: the device's. Example: [`Indices`].
    pub fn new(device: &Device, indices: &[u32]) -> Result<Indices> {
        let on_device = Tensor::from_slice(device, &[indices.len()], indices)?;
        Ok(Indices { on_device, on_host: indices.into() })
    }

    /// The row numbers. Example: [`Indices`].
    pub fn as_slice(&self) -> &[u32] {
        &self.on_host
    }
}

/// How the tape calls [`gather`]. Example: [the module](self).
pub const GATHER: Rule<Indices> = Rule {
    name: "gather",
    forward: |indices, inputs| {
        expect_inputs("gather", inputs, 1..=1)?;
        Ok(Forward::one(gather(inputs[0], indices)?))
    },
    backward,
};

/// `out[i] = x[indices[i]]`: `x [rows, ...]` to `[indices, ...]`.
///
/// The backward of repeated indices sums in the order of the indices: the same bits every time. Errors: an index is not
/// below `rows`; `x` is a scalar or not floating-point; devices differ.
///
/// ```
/// use crossmodal::{Device, Tensor, ops::{Indices, gather}};
/// let x = Tensor::from_slice(&Device::Cpu, &[3, 1], &[10f32, 20., 30.])?;
/// let picked = gather(&x, &Indices::new(&Device::Cpu, &[2, 0])?)?;
/// assert_eq!(picked.to_vec::<f32>()?, [30., 10.]);
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn gather(x: &Tensor, indices: &Indices) -> Result<Tensor> {
    check_floats("gather", &[("x", x)])?;
    check_device("gather", "indices", &indices.on_device, x.device())?;
    let width = first_axis(x)?.1;
    let rows = x.shape()[0];
    if let Some((i, index)) = indices.on_host.iter().enumerate().find(|(_, index)| **index as usize >= rows) {
        let got = format!("{index} at position {i}");
        return Err(Error::argument("gather", "indices", format!("row numbers below {rows}"), got));
    }
    let mut shape = x.shape().to_vec();
    shape[0] = indices.on_host.len();
    check_size("gather", x.device(), &shape, x.dtype())?;
    match x.device() {
        Device::Cpu => {
            let data = match x.data() {
                HostData::F32(v) => HostData::F32(reference::gather(v, &indices.on_host, width)),
                HostData::F16(v) => HostData::F16(reference::gather(v, &indices.on_host, width)),
                HostData::F64(v) => HostData::F64(reference::gather(v, &indices.on_host, width)),
                HostData::U32(v) => HostData::U32(reference::gather(v, &indices.on_host, width)),
            };
            Tensor::from_host(&Device::Cpu, &shape, data)
        }
        Device::Gpu(gpu) => {
            if parts::needed(gpu, &[x, &indices.on_device], &shape, x.dtype()) {
                return in_parts(gpu, x, &indices.on_host, &shape);
            }
            let out = Tensor::uninit("gather", x.device(), &shape, x.dtype())?;
            let params = Params { count: out.len() as u32, width: width as u32 };
            let (variant, groups) = (Variant::of(x.dtype()), groups(out.len(), 256));
            let (tensors, work) =
                ([x, &indices.on_device, &out], work_of_bytes(2 * out.len() * out.dtype().size()));
            dispatch_counted(gpu, &FORWARD, variant, &params, &tensors, groups, work)?;
            Ok(out)
        }
    }
}

/// By blocks of indices. From a table that is split, each run of rows that follow each other is a copy.
fn in_parts(gpu: &Gpu, x: &Tensor, indices: &[u32], shape: &[usize]) -> Result<Tensor> {
    if indices.is_empty() {
        return Tensor::uninit("gather", x.device(), shape, x.dtype());
    }
    let width = count(&shape[1..]);
    let [out] = parts::in_rows(gpu, indices.len(), (width * x.dtype().size()).max(4), |range| {
        let own = &indices[range.clone()];
        if !x.is_split() {
            return Ok([gather(x, &Indices::new(x.device(), own)?)?]);
        }
        let shape = [&[own.len()], &shape[1..]].concat();
        let mut part = Tensor::uninit("gather", x.device(), &shape, x.dtype())?;
        let mut to_offset = 0;
        for run in own.chunk_by(|a, b| a + 1 == *b) {
            let (length, from_offset) = (run.len() * width, run[0] as usize * width);
            let block =
                Block { rows: 1, length, from_stride: length, from_offset, to_stride: length, to_offset };
            copy(x, &mut part, &block)?;
            to_offset += length;
        }
        Ok([part])
    })?;
    Ok(out)
}

/// (rows, elements in a row).
fn first_axis(x: &Tensor) -> Result<(usize, usize)> {
    rows_cols("gather", "x", x.shape())?;
    Ok((x.shape()[0], x.shape()[1..].iter().product()))
}

fn backward(indices: &Indices, saved: &Saved<'_>) -> Result<Vec<Option<Tensor>>> {
    let (x, grad) = (&saved.inputs[0], saved.grad());
    let (rows, width) = first_axis(x)?;
    let dx = match x.device() {
        Device::Cpu => {
            let dx = reference::gather_backward(&grad.f64s(), &indices.on_host, rows, width);
            host(x.shape(), x.dtype(), dx)?
        }
        Device::Gpu(gpu) => scatter(gpu, grad, &indices.on_host, x.shape())?,
    };
    Ok(vec![Some(dx)])
}

/// `dx [rows, ...]` from `grad [indices, ...]`.
fn scatter(gpu: &Gpu, grad: &Tensor, indices: &[u32], shape: &[usize]) -> Result<Tensor> {
    let (device, dtype, rows) = (grad.device(), grad.dtype(), shape[0]);
    let width = count(&shape[1..]);
    let row_bytes = (width * dtype.size()).max(4);
    if row_bytes as u64 > gpu.piece_bytes() {
        let (grad, mut dx) = (
            grad.reshape(&[indices.len(), width])?,
            Tensor::uninit("gather", device, &[rows, width], dtype)?,
        );
        for range in parts::ranges(gpu, width, rows.max(indices.len()) * dtype.size()) {
            let part = scatter(gpu, &slice(&grad, 1, &range)?, indices, &[rows, range.len()])?;
            put(&part, &mut dx, 1, range.start)?;
        }
        return dx.reshape(shape);
    }
    if parts::needed(gpu, &[], shape, dtype) || parts::needed(gpu, &[], &[rows + 1], DType::U32) {
        let [dx] = parts::in_rows(gpu, rows, 2 * row_bytes, |range| {
            let own = (0u32..).zip(indices).filter(|(_, row)| range.contains(&(**row as usize)));
            let (places, own): (Vec<_>, Vec<_>) = own.map(|(i, row)| (i, row - range.start as u32)).unzip();
            let grad = gather(grad, &Indices::new(device, &places)?)?;
            Ok([scatter(gpu, &grad, &own, &[&[range.len()], &shape[1..]].concat())?])
        })?;
        return Ok(dx);
    }
    if parts::needed(gpu, &[grad], &[indices.len()], DType::U32) {
        let mut sum = Tensor::zeros(device, shape, DType::F32)?;
        for range in parts::ranges(gpu, indices.len(), row_bytes) {
            let grad = cast(&slice(grad, 0, &range)?, DType::F32)?;
            sum = add(&sum, &scatter(gpu, &grad, &indices[range], shape)?)?;
        }
        return cast(&sum, dtype);
    }
    let (order, starts) = by_row(indices, rows);
    let most = starts.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0) as usize;
    if most > REPEATS {
        return in_two_levels(gpu, grad, (&order, &starts), indices.len(), shape);
    }
    let order = Tensor::from_vec(device, &[order.len()], order)?;
    let starts = Tensor::from_vec(device, &[starts.len()], starts)?;
    let dx = Tensor::uninit("gather", device, shape, dtype)?;
    let params = Params { count: dx.len() as u32, width: width as u32 };
    let (variant, groups) = (Variant::of(dtype), groups(dx.len(), 256));
    dispatch(gpu, &BACKWARD, variant, &params, &[grad, &order, &starts, &dx], groups)?;
    Ok(dx)
}

/// Rows whose lists are long: blocks of each list are rows of their own at first, in f32.
fn in_two_levels(
    gpu: &Gpu,
    grad: &Tensor,
    (order, starts): (&[u32], &[u32]),
    count: usize,
    shape: &[usize],
) -> Result<Tensor> {
    let (mut block_of, mut row_of) = (vec![0; count], vec![]);
    for (row, pair) in (0u32..).zip(starts.windows(2)) {
        for block in order[pair[0] as usize..pair[1] as usize].chunks(REPEATS) {
            block.iter().for_each(|&place| block_of[place as usize] = row_of.len() as u32);
            row_of.push(row);
        }
    }
    let blocks = [&[row_of.len()], &shape[1..]].concat();
    let sums = scatter(gpu, &cast(grad, DType::F32)?, &block_of, &blocks)?;
    cast(&scatter(gpu, &sums, &row_of, shape)?, grad.dtype())
}

/// A stable counting sort: `order[starts[v]..starts[v + 1]]` are the positions of row `v`, ascending.
fn by_row(indices: &[u32], rows: usize) -> (Vec<u32>, Vec<u32>) {
    let mut starts = vec![0u32; rows + 1];
    indices.iter().for_each(|&row| starts[row as usize + 1] += 1);
    (0..rows).for_each(|row| starts[row + 1] += starts[row]);
    let (mut next, mut order) = (starts.clone(), vec![0; indices.len()]);
    for (i, &row) in (0u32..).zip(indices) {
        order[next[row as usize] as usize] = i;
        next[row as usize] += 1;
    }
    (order, starts)
}
