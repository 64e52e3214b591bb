//! One part of attention on a GPU: which kernels run, on what.

use super::attention::{Upstream, Wide};
use super::attention_kernels::{self as kernels, CHUNK, Params, TILE, WEIGHT_GRAD};
use super::attention_plan::{Part, Plan};
use super::concat::concat;
use super::{dispatch, dispatch_counted, groups};
use crate::dtype::DType;
use crate::error::Result;
use crate::gpu::{Gpu, Kernel, Variant};
use crate::reference::{Attention, AttentionWeights};
use crate::tensor::Tensor;

/// Floating-point operations in one dispatch, as those of a product.
const DISPATCH_FLOPS: f64 = 2e10;

/// As many groups at once as a driver's time limit allows, each of so many floating-point operations.
fn dispatch_groups(
    gpu: &Gpu,
    kernel: &Kernel,
    params: &Params,
    tensors: &[&Tensor],
    groups: usize,
    flops: f64,
) -> Result<()> {
    let at_once = ((DISPATCH_FLOPS / flops) as usize).max(1);
    for first in (0..groups).step_by(at_once) {
        let mut params = *params;
        params.first_group = first as u32;
        let (own, variant) = (at_once.min(groups - first), Variant::of(DType::F32));
        dispatch_counted(gpu, kernel, variant, &params, tensors, own as u64, own as f64 * flops)?;
    }
    Ok(())
}

fn uninit(like: &Tensor, shape: &[usize]) -> Result<Tensor> {
    Tensor::uninit("attention", like.device(), shape, DType::F32)
}

/// The floating-point operations of a tile with so many rows of another: products of `width` and of a chunk.
fn work(others: usize, width: usize) -> f64 {
    2. * (TILE * others.max(1) * (width + CHUNK)) as f64
}

/// The results of a part: of attention, its log-sum-exps, its weights.
pub(super) fn forward(gpu: &Gpu, inputs: &Wide, part: &Part<'_>) -> Result<Vec<Option<Tensor>>> {
    let (sizes, plan) = (&part.sizes, Plan::new(&inputs.q, part)?);
    let Wide { q, k, v, bias } = inputs;
    let Attention { batch, heads, queries, keys, dh, dv, .. } = *sizes;
    let params = kernels::params(part, &plan);
    let extra = bias.as_ref().unwrap_or(q);
    let (out, lse) = (uninit(q, &part.out_shape())?, uninit(q, &[batch, heads, queries])?);
    let tiles = batch * heads * queries.div_ceil(TILE);
    let tensors = [q, k, extra, &plan.tensor, &out, &lse, v];
    dispatch_groups(gpu, &kernels::FORWARD, &params, &tensors, tiles * dv.div_ceil(CHUNK), work(keys, dh))?;
    let Some(shape) = sizes.weights_shape() else { return Ok(vec![Some(out), Some(lse), None]) };
    let weights = uninit(q, &shape)?;
    let (lines, of_one) = match part.whole.options.weights {
        AttentionWeights::Averaged => (batch, heads),
        AttentionWeights::None | AttentionWeights::PerHead => (batch * heads, 1),
    };
    let groups = lines * params.weight_rows.div_ceil(TILE as u32) as usize * keys.div_ceil(TILE);
    let tensors = [q, k, extra, &plan.tensor, &lse, &weights];
    dispatch_groups(gpu, &kernels::WEIGH, &params, &tensors, groups, of_one as f64 * work(TILE, dh))?;
    Ok(vec![Some(out), Some(lse), Some(weights)])
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
    let (sizes, plan) = (&part.sizes, Plan::new(&inputs.q, part)?);
    let Wide { q, k, v, bias } = inputs;
    let Attention { batch, heads, kv_heads, queries, keys, dh, dv, .. } = *sizes;
    let mut params = kernels::params(part, &plan);
    let extra = extra(inputs, upstream)?;
    params.weights_at = bias.as_ref().map_or(0, Tensor::len) as u32;
    let stats = uninit(q, &[batch, heads, queries, 2])?;
    let tensors = [out, &upstream.out, &upstream.lse, lse, &stats];
    let variant = Variant::of(DType::F32);
    dispatch(gpu, &kernels::DELTA, variant, &params, &tensors, groups(batch * heads * queries, 64))?;
    let (query_tiles, key_tiles) = (queries.div_ceil(TILE), keys.div_ceil(TILE));
    let of_queries = batch * heads * query_tiles;
    if upstream.weights.is_some() {
        params.flags |= WEIGHT_GRAD;
        let tensors = [q, k, &extra, &plan.tensor, &stats];
        dispatch_groups(gpu, &kernels::DELTA_OF_WEIGHTS, &params, &tensors, of_queries, work(keys, dh))?;
    }
    let common = [q, k, &extra, &plan.tensor, &upstream.out, &stats];
    let needed = |i: usize, like: &Tensor| {
        (needs.get(i) == Some(&true)).then(|| uninit(like, like.shape())).transpose()
    };
    let (dq, dk, d_value) = (needed(0, q)?, needed(1, k)?, needed(2, v)?);
    if let Some(dq) = &dq {
        let tensors = [&common[..], &[v, dq]].concat();
        let groups = of_queries * dh.div_ceil(CHUNK);
        dispatch_groups(gpu, &kernels::GRAD_Q, &params, &tensors, groups, work(keys, dh + dv))?;
    }
    // Each head of keys goes through the queries of its group.
    let (of_keys, others) = (batch * kv_heads * key_tiles, queries * sizes.group());
    if let Some(dk) = &dk {
        let tensors = [&common[..], &[v, dk]].concat();
        let groups = of_keys * dh.div_ceil(CHUNK);
        dispatch_groups(gpu, &kernels::GRAD_K, &params, &tensors, groups, work(others, dh + dv))?;
    }
    if let Some(d_value) = &d_value {
        let tensors = [&common[..], &[d_value]].concat();
        let groups = of_keys * dv.div_ceil(CHUNK);
        dispatch_groups(gpu, &kernels::GRAD_V, &params, &tensors, groups, work(others, dh))?;
    }
    let Some(bias) = bias else { return Ok(vec![dq, dk, d_value]) };
    let d_bias = needed(3, bias)?;
    if let Some(d_bias) = &d_bias {
        grad_bias(gpu, &params, &[&common[..], &[v, d_bias]].concat(), sizes)?;
    }
    Ok(vec![dq, dk, d_value, d_bias])
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
            &params,
            tensors,
            groups,
            flops * (end - first).max(1) as f64,
        )?;
    }
    Ok(())
}
