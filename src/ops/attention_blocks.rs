//! The fast kernels of attention: two families, each a forward, the gradient of q, and those of k and v at once.

use super::attention_dispatch::{dispatch_groups, uninit};
use super::attention_kept::Kept;
use super::attention_kernels::{LANES, Params, TALL_LANES, TILES};
use super::attention_plan::Part;
use super::concat::{concat, slice};
use super::ways;
use crate::error::{Error, Result};
use crate::gpu::{Gpu, Kernel, Variant};
use crate::reference::Attention;
use crate::tensor::Tensor;
use std::ops::Range;

/// Floating-point operations that are worth compiling the taller forward for: it takes a fifth less time or better, and two to three
/// times as long to compile, which on a driver on a CPU is seconds.
const WORTH_TALL: f64 = 2e9;

/// A family of kernels, by what a workgroup of it has.
pub(super) struct Blocks {
    /// Queries, or keys where gradients of keys and values are made.
    pub rows: usize,
    /// Columns of a result: as many, or the second where the result is wider.
    pub columns: [usize; 2],
    /// How many times as many rows its forward has where there are that many queries.
    pub tall: usize,
    /// What widths are multiples of.
    pub multiple: usize,
    pub forward: Kernel,
    pub grad_q: Kernel,
    pub grad_kv: Kernel,
}

/// Which gradients `grad_kv` makes, as in the shaders.
const OF_KEYS: u32 = 1;
const OF_VALUES: u32 = 2;

/// The fast kernels that suit a device best, or none where the plain ones do; or those that verification forces. None either
/// where no binding spans the tensors with their widths made multiples.
pub(super) fn blocks(gpu: &Gpu, part: &Part<'_>) -> Option<&'static Blocks> {
    let device = gpu.abilities();
    let Attention { batch, heads, kv_heads, queries, keys, dh, dv, .. } = part.sizes;
    let products = [batch, heads, queries, keys, dh + dv].map(|size| size as f64);
    let flops = 2. * products.iter().product::<f64>();
    let all: &[Option<&Blocks>] = match (device.software, device.subgroup_sizes == (8, 8) && device.int64) {
        (true, true) if flops < WORTH_TALL => &[Some(&LANES), Some(&TALL_LANES), Some(&TILES), None],
        (true, true) => &[Some(&TALL_LANES), Some(&LANES), Some(&TILES), None],
        (true, false) => &[None, Some(&TILES)],
        (false, _) => &[Some(&TILES), None],
    };
    let rows = (batch * heads * queries).max(batch * kv_heads * keys);
    let spans = |blocks: &&Blocks| (4 * rows * blocks.wide(dh.max(dv))) as u64 <= gpu.piece_bytes();
    all[ways::choose(all.len())].filter(spans)
}

impl Blocks {
    /// A width as the kernels take it.
    pub(super) fn wide(&self, width: usize) -> usize {
        width.next_multiple_of(self.multiple)
    }

    /// The columns of a result of this width that a workgroup has.
    fn chunk(&self, width: usize) -> usize {
        self.columns[usize::from(width > self.columns[0])]
    }

    fn variant(&self, params: &Params, width: usize) -> Variant {
        match self.columns {
            [narrow, wide] if narrow == wide => params.variant(),
            _ => params.variant().with("WIDTH", self.chunk(width) as u32),
        }
    }

    /// The floating-point operations of a workgroup: its rows with so many others, products of `width`.
    fn work(&self, others: usize, width: usize) -> f64 {
        2. * (self.rows * others.max(1) * width) as f64
    }

    /// Attention and its log-sum-exps: the tensors are the forward kernel's.
    pub(super) fn forward(
        &self,
        gpu: &Gpu,
        part: &Part<'_>,
        params: &Params,
        tensors: &[&Tensor],
    ) -> Result<()> {
        let Attention { batch, heads, queries, keys, dh, dv, .. } = part.sizes;
        let chunk = self.chunk(dv);
        let tall = if queries > self.rows { self.tall } else { 1 };
        let groups = batch * heads * queries.div_ceil(tall * self.rows) * dv.div_ceil(chunk);
        let flops = tall as f64 * self.work(keys, dh + chunk);
        let variant = self.variant(params, dv).with("TALL", tall as u32 - 1);
        dispatch_groups(gpu, &self.forward, &variant, params, tensors, 0..groups, flops)
    }

    /// The gradients of q, k and v, of which some are wanted. `common` is what `grad_q` reads.
    pub(super) fn backward(
        &self,
        gpu: &Gpu,
        part: &Part<'_>,
        params: &Params,
        common: &[&Tensor; 7],
        wanted: [bool; 3],
    ) -> Result<Vec<Option<Tensor>>> {
        let lines = [common[1], common[6]];
        let of_keys = [wanted[1], wanted[2]];
        let gradients = lengths(lines, of_keys).iter().sum();
        if wanted[0]
            && wanted[1]
            && params.is_plain()
            && let Some(kept) = Kept::of(gpu, part, self.rows, gradients)
        {
            match self.backward_by(&kept, gpu, part, params, common, of_keys) {
                // Seven products need no scratch.
                Err(Error::OutOfMemory { .. }) => {}
                made => return made,
            }
        }
        let Attention { batch, heads, queries, keys, dh, dv, .. } = part.sizes;
        let q = common[0];
        let dq = wanted[0].then(|| uninit(q, q.shape())).transpose()?;
        if let Some(dq) = &dq {
            let (chunk, variant) = (self.chunk(dh), self.variant(params, dh));
            let groups = 0..batch * heads * queries.div_ceil(self.rows) * dh.div_ceil(chunk);
            let (tensors, flops) = ([&common[..], &[dq]].concat(), self.work(keys, dh + dv + chunk));
            dispatch_groups(gpu, &self.grad_q, &variant, params, &tensors, groups, flops)?;
        }
        let [dk, d_value] = match of_keys {
            // Where no binding spans both, each for itself.
            [true, true] if (4 * gradients) as u64 > gpu.piece_bytes() => {
                let [dk, _] = self.grad_kv(gpu, part, params, common, [true, false])?;
                let [_, d_value] = self.grad_kv(gpu, part, params, common, [false, true])?;
                [dk, d_value]
            }
            _ => self.grad_kv(gpu, part, params, common, of_keys)?,
        };
        Ok(vec![dq, dk, d_value])
    }

    /// Those of keys and of values, of which some are wanted. One kernel writes both, one behind the other.
    fn grad_kv(
        &self,
        gpu: &Gpu,
        part: &Part<'_>,
        params: &Params,
        common: &[&Tensor; 7],
        wanted: [bool; 2],
    ) -> Result<[Option<Tensor>; 2]> {
        let lines = [common[1], common[6]];
        let lengths = lengths(lines, wanted);
        let kv_grad = uninit(common[1], &[lengths[0] + lengths[1]])?;
        let params = &Params { value_grads_at: lengths[0] as u32, ..*params };
        let tensors = &[&common[..], &[&kv_grad]].concat();
        for (grads, width) in self.runs(part, wanted) {
            self.run_grad_kv(gpu, part, params, tensors, (grads, width), 0..self.key_tiles(part))?;
        }
        cut(&kv_grad, lines, wanted)
    }

    /// All three, where what is kept of the kernel of keys gives that of q.
    fn backward_by(
        &self,
        kept: &Kept,
        gpu: &Gpu,
        part: &Part<'_>,
        params: &Params,
        common: &[&Tensor; 7],
        wanted: [bool; 2],
    ) -> Result<Vec<Option<Tensor>>> {
        let [q, k, v] = [0, 1, 6].map(|i| common[i]);
        let lengths = lengths([k, v], wanted);
        let kept_at = lengths[0] + lengths[1];
        let (dq, kv_grad) = (kept.uninit_dq(q)?, uninit(k, &[kept_at + kept.len()])?);
        let params = Params { value_grads_at: lengths[0] as u32, kept_at: kept_at as u32, ..*params };
        let tensors = &[&common[..], &[&kv_grad]].concat();
        for (grads, width) in self.runs(part, wanted) {
            if grads == OF_VALUES {
                self.run_grad_kv(gpu, part, &params, tensors, (grads, width), 0..self.key_tiles(part))?;
                continue;
            }
            for run in kept.runs() {
                let tiles = kept.tiles(&run);
                let own = Params { kept_from: tiles.start as u32, kept_row: kept.row as u32, ..params };
                self.run_grad_kv(gpu, part, &own, tensors, (grads, width), tiles)?;
                kept.add_to_queries(gpu, &run, (&kv_grad, kept_at), k, &dq, part.whole.scale())?;
            }
        }
        let [dk, d_value] = cut(&kv_grad, [k, v], wanted)?;
        Ok(vec![Some(kept.in_layout(&dq, part.whole.options.layout)?), dk, d_value])
    }

    /// Which gradients `grad_kv` makes at once, with their width: both where both are wanted and neither is wide.
    fn runs(&self, part: &Part<'_>, wanted: [bool; 2]) -> Vec<(u32, usize)> {
        let Attention { dh, dv, .. } = part.sizes;
        match wanted {
            [true, true] if dh.max(dv) <= self.columns[0] => vec![(OF_KEYS | OF_VALUES, dh.max(dv))],
            [true, true] => vec![(OF_KEYS, dh), (OF_VALUES, dv)],
            [true, false] => vec![(OF_KEYS, dh)],
            [false, true] => vec![(OF_VALUES, dv)],
            [false, false] => vec![],
        }
    }

    /// Tiles of keys of all heads of all batches.
    fn key_tiles(&self, part: &Part<'_>) -> usize {
        part.sizes.batch * part.sizes.kv_heads * part.sizes.keys.div_ceil(self.rows)
    }

    fn run_grad_kv(
        &self,
        gpu: &Gpu,
        part: &Part<'_>,
        params: &Params,
        tensors: &[&Tensor],
        (grads, width): (u32, usize),
        tiles: Range<usize>,
    ) -> Result<()> {
        let Attention { queries, dh, dv, .. } = part.sizes;
        let (chunk, is_kept) = (self.chunk(width), u32::from(params.kept_row > 0));
        let chunks = width.div_ceil(chunk);
        let variant = self.variant(params, width).with("GRADS", grads).with("KEPT", is_kept);
        let flops = self.work(queries * part.sizes.group(), dh + dv + 2 * chunk);
        let groups = tiles.start * chunks..tiles.end * chunks;
        dispatch_groups(gpu, &self.grad_kv, &variant, params, tensors, groups, flops)
    }
}

/// Elements of the gradients of keys and of values, where they are wanted.
fn lengths(like: [&Tensor; 2], wanted: [bool; 2]) -> [usize; 2] {
    [0, 1].map(|i| if wanted[i] { like[i].len() } else { 0 })
}

/// The gradients of keys and of values from where both lie, one behind the other.
fn cut(kv_grad: &Tensor, like: [&Tensor; 2], wanted: [bool; 2]) -> Result<[Option<Tensor>; 2]> {
    let lengths = lengths(like, wanted);
    let own = |i: usize, first: usize| {
        let range = first..first + lengths[i];
        wanted[i].then(|| slice(kv_grad, 0, &range)?.reshape(like[i].shape())).transpose()
    };
    Ok([own(0, 0)?, own(1, lengths[0])?])
}

/// A tensor's rows of `from` columns with `to` of them: zeros behind, or the first ones.
pub(super) fn with_width(x: &Tensor, from: usize, to: usize) -> Result<Tensor> {
    if from == to {
        return Ok(x.clone());
    }
    let rows = x.len() / from;
    let flat = x.reshape(&[rows, from])?;
    let mut shape = x.shape().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = *last / from * to;
    }
    let made = match to < from {
        true => slice(&flat, 1, &(0..to))?,
        false => concat(&[&flat, &Tensor::zeros(x.device(), &[rows, to - from], x.dtype())?], 1)?,
    };
    made.reshape(&shape)
}
