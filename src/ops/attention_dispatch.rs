//! One part of attention on a GPU: which kernels run, on what.

use super::attention::{Upstream, Wide};
use super::attention_blocks::{Blocks, blocks, with_width};
use super::attention_kernels::{self as kernels, CHUNK, Params, TILE, WEIGHT_GRAD};
use super::attention_plan::{Part, Plan};
use super::concat::concat;
use super::{dispatch, dispatch_counted, groups};
use crate::dtype::DType;
use crate::error::Result;
use crate::gpu::{Gpu, Kernel, Variant};
use crate::reference::{Attention, AttentionWeights};
use crate::tensor::Tensor;
use std::ops::Range;

/// Floating-point operations in one dispatch, as those of a product.
const DISPATCH_FLOPS: f64 = 2e10;

/// Some groups, as many at once as a driver's time limit allows, each of so many floating-point operations.
pub(super) fn dispatch_groups(
    gpu: &Gpu,
    kernel: &Kernel,
    variant: &Variant,
    params: &Params,
    tensors: &[&Tensor],
    groups: Range<usize>,
    flops: f64,
) -> Result<()> {
    let at_once = ((DISPATCH_FLOPS / flops) as usize).max(1);
    for first in groups.clone().step_by(at_once) {
        let mut params = *params;
        (params.first_group, params.end_group) = (first as u32, groups.end as u32);
        let own = at_once.min(groups.end - first);
        dispatch_counted(gpu, kernel, variant.clone(), &params, tensors, own as u64, own as f64 * flops)?;
    }
    Ok(())
}

pub(super) fn uninit(like: &Tensor, shape: &[usize]) -> Result<Tensor> {
    Tensor::uninit("attention", like.device(), shape, DType::F32)
}

/// The floating-point operations of a tile with so many rows of another: products of `width` and of a chunk.
fn work(others: usize, width: usize) -> f64 {
    2. * (TILE * others.max(1) * (width + CHUNK)) as f64
}

/// The results of a part: of attention, its log-sum-exps, its weights.
pub(super) fn forward(gpu: &Gpu, inputs: &Wide, part: &Part<'_>) -> Result<Vec<Option<Tensor>>> {
    let (blocks, (dh, dv)) = (blocks(gpu, part), (part.sizes.dh, part.sizes.dv));
    let widths = blocks.map_or((dh, dv), |blocks| (blocks.wide(dh), blocks.wide(dv)));
    if widths == (dh, dv) {
        return forward_by(blocks, gpu, inputs, part);
    }
    let inputs = inputs.with_widths((dh, dv), widths)?;
    let mut made = forward_by(blocks, gpu, &inputs, &part.with_widths(widths.0, widths.1))?;
    made[0] = made[0].take().map(|out| with_width(&out, widths.1, dv)).transpose()?;
    Ok(made)
}

fn forward_by(
    blocks: Option<&Blocks>,
    gpu: &Gpu,
    inputs: &Wide,
    part: &Part<'_>,
) -> Result<Vec<Option<Tensor>>> {
    let (sizes, plan) = (&part.sizes, Plan::new(&inputs.q, part)?);
    let Wide { q, k, v, bias } = inputs;
    let Attention { batch, heads, queries, keys, dh, dv, .. } = *sizes;
    let params = kernels::params(part, &plan);
    let extra = bias.as_ref().unwrap_or(q);
    let (out, lse) = (uninit(q, &part.out_shape())?, uninit(q, &[batch, heads, queries])?);
    let tensors = [q, k, extra, &plan.tensor, &out, &lse, v];
    let variant = Variant::of(DType::F32);
    match blocks {
        Some(blocks) => blocks.forward(gpu, part, &params, &tensors)?,
        None => {
            let groups = batch * heads * queries.div_ceil(TILE) * dv.div_ceil(CHUNK);
            dispatch_groups(gpu, &kernels::FORWARD, &variant, &params, &tensors, 0..groups, work(keys, dh))?;
        }
    }
    let Some(shape) = sizes.weights_shape() else { return Ok(vec![Some(out), Some(lse), None]) };
    let weights = uninit(q, &shape)?;
    let (lines, of_one) = match part.whole.options.weights {
        AttentionWeights::Averaged => (batch, heads),
        AttentionWeights::None | AttentionWeights::PerHead => (batch * heads, 1),
    };
    let groups = lines * params.weight_rows.div_ceil(TILE as u32) as usize * keys.div_ceil(TILE);
    let tensors = [q, k, extra, &plan.tensor, &lse, &weights];
    dispatch_groups(
        gpu,
        &kernels::WEIGH,
        &variant,
        &params,
        &tensors,
        0..groups,
        of_one as f64 * work(TILE, dh),
    )?;
    Ok(vec![Some(out), Some(lse), Some(weights)])
}

impl Wide {
    /// The same with other widths.
    fn with_widths(&self, (dh, dv): (usize, usize), to: (usize, usize)) -> Result<Wide> {
        Ok(Wide {
            q: with_width(&self.q, dh, to.0)?,
            k: with_width(&self.k, dh, to.0)?,
            v: with_width(&self.v, dv, to.1)?,
            bias: self.bias.clone(),
        })
    }
}

/// The bias, then the gradient of the weights: whichever there is, or something to bind.
fn extra(inputs: &Wide, upstream: &Upstream) -> Result<Tensor> {
    let flat = |x: &Tensor| x.reshape(&[x.len()]);
    match (&inputs.bias, &upstream.weights) {
        (Some(bias), Some(grad)) => concat(&[&flat(bias)?, &flat(grad)?], 0),
        (Some(one), None) | (None, Some(one)) => Ok(one.clone()),
        (None, None) => Ok(inputs.q.clone()),
    }
}

/// The gradients of a part's q, k, v and bias, where they are needed.
pub(super) fn backward(
    gpu: &Gpu,
    inputs: &Wide,
    [out, lse]: [&Tensor; 2],
    upstream: &Upstream,
    needs: &[bool],
    part: &Part<'_>,
) -> Result<Vec<Option<Tensor>>> {
    let (blocks, (dh, dv)) = (blocks(gpu, part), (part.sizes.dh, part.sizes.dv));
    let widths = blocks.map_or((dh, dv), |blocks| (blocks.wide(dh), blocks.wide(dv)));
    if widths == (dh, dv) {
        return backward_by(blocks, gpu, inputs, [out, lse], upstream, needs, part);
    }
    let inputs = &inputs.with_widths((dh, dv), widths)?;
    let (part, out) = (&part.with_widths(widths.0, widths.1), &with_width(out, dv, widths.1)?);
    let Upstream { out: of_out, lse: of_lse, weights } = upstream;
    let of_out = with_width(of_out, dv, widths.1)?;
    let upstream = &Upstream { out: of_out, lse: of_lse.clone(), weights: weights.clone() };
    let mut made = backward_by(blocks, gpu, inputs, [out, lse], upstream, needs, part)?;
    for (grad, (from, to)) in made.iter_mut().zip([(widths.0, dh), (widths.0, dh), (widths.1, dv)]) {
        *grad = grad.take().map(|grad| with_width(&grad, from, to)).transpose()?;
    }
    Ok(made)
}

fn backward_by(
    blocks: Option<&Blocks>,
    gpu: &Gpu,
    inputs: &Wide,
    [out, lse]: [&Tensor; 2],
    upstream: &Upstream,
    needs: &[bool],
    part: &Part<'_>,
) -> Result<Vec<Option<Tensor>>> {
    let (sizes, plan) = (&part.sizes, Plan::new(&inputs.q, part)?);
    let Wide { q, k, v, bias } = inputs;
    let Attention { batch, heads, queries, keys, dh, .. } = *sizes;
    let mut params = kernels::params(part, &plan);
    let extra = extra(inputs, upstream)?;
    params.weights_at = bias.as_ref().map_or(0, Tensor::len) as u32;
    let stats = uninit(q, &[batch, heads, queries, 2])?;
    let tensors = [out, &upstream.out, &upstream.lse, lse, &stats];
    let variant = Variant::of(DType::F32);
    let lines = groups(batch * heads * queries, 64);
    dispatch(gpu, &kernels::DELTA, variant.clone(), &params, &tensors, lines)?;
    if upstream.weights.is_some() {
        params.flags |= WEIGHT_GRAD;
        let tensors = [q, k, &extra, &plan.tensor, &stats];
        let groups = batch * heads * queries.div_ceil(TILE);
        dispatch_groups(
            gpu,
            &kernels::DELTA_OF_WEIGHTS,
            &variant,
            &params,
            &tensors,
            0..groups,
            work(keys, dh),
        )?;
    }
    let common = [q, k, &extra, &plan.tensor, &upstream.out, &stats, v];
    let needs = |i: usize| needs.get(i) == Some(&true);
    let wanted = [needs(0), needs(1), needs(2)];
    let mut made = match blocks {
        Some(blocks) => blocks.backward(gpu, part, &params, &common, wanted)?,
        None => plain_backward(gpu, sizes, &params, &common, wanted)?,
    };
    let Some(bias) = bias else { return Ok(made) };
    let d_bias = needs(3).then(|| uninit(bias, bias.shape())).transpose()?;
    if let Some(d_bias) = &d_bias {
        grad_bias(gpu, &params, &[&common[..], &[d_bias]].concat(), sizes)?;
    }
    made.push(d_bias);
    Ok(made)
}

/// The gradients of q, k and v by the plain kernels.
fn plain_backward(
    gpu: &Gpu,
    sizes: &Attention,
    params: &Params,
    common: &[&Tensor; 7],
    wanted: [bool; 3],
) -> Result<Vec<Option<Tensor>>> {
    let Attention { batch, heads, kv_heads, queries, keys, dh, dv, .. } = *sizes;
    let variant = Variant::of(DType::F32);
    let (of_queries, of_keys) =
        (batch * heads * queries.div_ceil(TILE), batch * kv_heads * keys.div_ceil(TILE));
    // Each head of keys goes through the queries of its group.
    let others = queries * sizes.group();
    let without_v = &common[..6];
    let run = |kernel: &Kernel, read: &[&Tensor], like: &Tensor, groups: usize, flops: f64| {
        let grad = uninit(like, like.shape())?;
        dispatch_groups(gpu, kernel, &variant, params, &[read, &[&grad]].concat(), 0..groups, flops)?;
        Ok(grad)
    };
    let (chunks, value_chunks) = (dh.div_ceil(CHUNK), dv.div_ceil(CHUNK));
    let grad_q = || run(&kernels::GRAD_Q, common, common[0], of_queries * chunks, work(keys, dh + dv));
    let grad_k = || run(&kernels::GRAD_K, common, common[1], of_keys * chunks, work(others, dh + dv));
    let grad_v = || run(&kernels::GRAD_V, without_v, common[6], of_keys * value_chunks, work(others, dh));
    Ok(vec![
        wanted[0].then(grad_q).transpose()?,
        wanted[1].then(grad_k).transpose()?,
        wanted[2].then(grad_v).transpose()?,
    ])
}

/// The bias's gradient. What shares one of its tiles is gone through in steps, as many in a dispatch as a driver's time limit
/// allows; a later dispatch adds to the earlier ones.
fn grad_bias(gpu: &Gpu, params: &Params, tensors: &[&Tensor], sizes: &Attention) -> Result<()> {
    let bias = sizes.bias.unwrap_or([1; 4]);
    let tiles = |axis: usize, n: usize| if bias[axis] == 1 { (1, n) } else { (n, 1) };
    let (down, down_steps) = tiles(2, params.query_tiles as usize);
    let (across, across_steps) = tiles(3, params.key_tiles as usize);
    let shared = |axis: usize, whole: usize| if bias[axis] == 1 { whole } else { 1 };
    let steps = shared(0, sizes.batch) * shared(1, sizes.heads) * down_steps * across_steps;
    let (groups, flops) = (bias[0] * bias[1] * down * across, work(TILE, sizes.dh + sizes.dv));
    let at_once = ((DISPATCH_FLOPS / (flops * groups.max(1) as f64)) as usize).max(1);
    // No step at all writes zeros.
    for first in (0..steps.max(1)).step_by(at_once) {
        let end = steps.min(first + at_once);
        let mut params = *params;
        (params.first_step, params.end_step) = (first as u32, end as u32);
        dispatch_groups(
            gpu,
            &kernels::GRAD_BIAS,
            &Variant::of(DType::F32),
            &params,
            tensors,
            0..groups,
            flops * (end - first).max(1) as f64,
        )?;
    }
    Ok(())
}
