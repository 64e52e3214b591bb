//! The fast kernels of attention: two families, each a forward, the gradient of q, and those of k and v at once.

use super::attention_dispatch::{dispatch_groups, uninit};
use super::attention_kernels::{LANES, Params, TILES};
use super::attention_plan::Part;
use super::concat::{concat, slice};
use super::ways;
use crate::error::Result;
use crate::gpu::{Gpu, Kernel, Variant};
use crate::reference::Attention;
use crate::tensor::Tensor;

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
    let all: &[Option<&Blocks>] = match (device.software, device.subgroup_sizes == (8, 8)) {
        (true, true) => &[Some(&LANES), Some(&TILES), None],
        (true, false) => &[None, Some(&TILES)],
        (false, _) => &[Some(&TILES), None],
    };
    let Attention { batch, heads, kv_heads, queries, keys, dh, dv, .. } = part.sizes;
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
        let mut variant = self.variant(params, dv);
        if self.tall > 1 {
            variant = variant.with("TALL", tall as u32 - 1);
        }
        dispatch_groups(gpu, &self.forward, &variant, params, tensors, groups, flops)
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
        let Attention { batch, heads, queries, keys, dh, dv, .. } = part.sizes;
        let q = common[0];
        let dq = wanted[0].then(|| uninit(q, q.shape())).transpose()?;
        if let Some(dq) = &dq {
            let chunk = self.chunk(dh);
            let groups = batch * heads * queries.div_ceil(self.rows) * dh.div_ceil(chunk);
            let (tensors, flops) = ([&common[..], &[dq]].concat(), self.work(keys, dh + dv + chunk));
            dispatch_groups(gpu, &self.grad_q, &self.variant(params, dh), params, &tensors, groups, flops)?;
        }
        let [dk, d_value] = self.grad_kv(gpu, part, params, common, [wanted[1], wanted[2]])?;
        Ok(vec![dq, dk, d_value])
    }

    /// One kernel writes both, one behind the other.
    fn grad_kv(
        &self,
        gpu: &Gpu,
        part: &Part<'_>,
        params: &Params,
        common: &[&Tensor; 7],
        wanted: [bool; 2],
    ) -> Result<[Option<Tensor>; 2]> {
        let Attention { batch, kv_heads, queries, keys, dh, dv, .. } = part.sizes;
        let like = [common[1], common[6]];
        let lengths = [0, 1].map(|i| if wanted[i] { like[i].len() } else { 0 });
        if wanted == [true, true] && (4 * (lengths[0] + lengths[1])) as u64 > gpu.piece_bytes() {
            // No binding spans both.
            let [dk, _] = self.grad_kv(gpu, part, params, common, [true, false])?;
            let [_, d_value] = self.grad_kv(gpu, part, params, common, [false, true])?;
            return Ok([dk, d_value]);
        }
        let params = &Params { value_grads_at: lengths[0] as u32, ..*params };
        let kv_grad = uninit(like[0], &[lengths[0] + lengths[1]])?;
        let (tensors, others) = ([&common[..], &[&kv_grad]].concat(), queries * part.sizes.group());
        let run = |grads: u32, width: usize| {
            let chunk = self.chunk(width);
            let groups = batch * kv_heads * keys.div_ceil(self.rows) * width.div_ceil(chunk);
            let variant = self.variant(params, width).with("GRADS", grads);
            let flops = self.work(others, dh + dv + 2 * chunk);
            dispatch_groups(gpu, &self.grad_kv, &variant, params, &tensors, groups, flops)
        };
        match (wanted, dh.max(dv)) {
            ([true, true], width) if width <= self.columns[0] => run(OF_KEYS | OF_VALUES, width)?,
            _ => {
                wanted[0].then(|| run(OF_KEYS, dh)).transpose()?;
                wanted[1].then(|| run(OF_VALUES, dv)).transpose()?;
            }
        }
        let cut = |i: usize, first: usize| {
            let range = first..first + lengths[i];
            wanted[i].then(|| slice(&kv_grad, 0, &range)?.reshape(like[i].shape())).transpose()
        };
        Ok([cut(0, 0)?, cut(1, lengths[0])?])
    }
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
