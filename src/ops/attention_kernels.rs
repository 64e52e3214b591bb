//! Attention's kernels, and how one is dispatched.

use super::attention::{Upstream, Wide};
use super::attention_plan::{Part, Plan};
use super::concat::concat;
use super::{dispatch, dispatch_counted, groups};
use crate::dtype::DType;
use crate::error::Result;
use crate::gpu::kernel::{params, read, write};
use crate::gpu::{Binding, Gpu, Kernel, Variant};
use crate::reference::{Attention, AttentionWeights, Dropout};
use crate::tensor::Tensor;

const SOURCE: &str = concat!(
    include_str!("../../shaders/lib/grid.wgsl"),
    include_str!("../../shaders/lib/math.wgsl"),
    include_str!("../../shaders/lib/threefry.wgsl"),
    include_str!("../../shaders/lib/attention.wgsl"),
    include_str!("../../shaders/attention.wgsl")
);

params! {
    pub(super) struct Params {
        batch: u32,
        heads: u32,
        kv_heads: u32,
        queries: u32,
        keys: u32,
        dh: u32,
        dv: u32,
        q_batch: u32,
        q_head: u32,
        q_row: u32,
        k_batch: u32,
        k_head: u32,
        k_row: u32,
        v_batch: u32,
        v_head: u32,
        v_row: u32,
        out_batch: u32,
        out_head: u32,
        out_row: u32,
        bias_batches: u32,
        bias_heads: u32,
        bias_batch: u32,
        bias_head: u32,
        bias_row: u32,
        bias_key: u32,
        query_tiles: u32,
        key_tiles: u32,
        tiles_at: u32,
        slopes_at: u32,
        rows_at: u32,
        key_mask_at: u32,
        pair_mask_at: u32,
        pair_batch: u32,
        pair_head: u32,
        weight_rows: u32,
        weight_batch: u32,
        weight_head: u32,
        weights_at: u32,
        flags: u32,
        first_group: u32,
        first_step: u32,
        end_step: u32,
        first_stream: u32,
        stream_batch: u32,
        seed_low: u32,
        seed_high: u32,
        first_number: u32,
        threshold: u32,
        keep_scale: f32,
        scale: f32,
        softcap: f32,
        weight_part: f32,
    }
}

// As in the shader.
pub(super) const TILE: usize = 32;
const CHUNK: usize = 64;
const BIAS: u32 = 1;
const SLOPES: u32 = 2;
const KEY_MASK: u32 = 4;
const PAIR_MASK: u32 = 8;
const DROPOUT: u32 = 16;
const WEIGHT_GRAD: u32 = 32;
const SUM_QUERIES: u32 = 64;
const SUM_KEYS: u32 = 128;

/// Floating-point operations in one dispatch, as those of a product.
const DISPATCH_FLOPS: f64 = 2e10;

const fn kernel(entry: &'static str, bindings: &'static [Binding]) -> Kernel {
    Kernel::new::<Params>("attention", entry, SOURCE, bindings)
}

const FORWARD: Kernel = kernel(
    "forward",
    &[read("q"), read("k"), read("extra"), read("plan"), write("out"), write("lse"), read("v")],
);
const WEIGH: Kernel =
    kernel("weigh", &[read("q"), read("k"), read("extra"), read("plan"), read("lse_of"), write("weights")]);
const DELTA: Kernel = kernel(
    "delta",
    &[read("result"), read("result_grad"), read("lse_grad"), read("lse_bits"), write("stats")],
);
const DELTA_OF_WEIGHTS: Kernel =
    kernel("delta_of_weights", &[read("q"), read("k"), read("extra"), read("plan"), write("stats")]);
const GRAD_V: Kernel = kernel(
    "grad_v",
    &[read("q"), read("k"), read("extra"), read("plan"), read("out_grad"), read("stats_of"), write("v_grad")],
);

/// A kernel that gives a gradient made of those of the scores.
macro_rules! of_scores {
    ($entry:literal, $grad:literal) => {
        kernel(
            $entry,
            &[
                read("q"),
                read("k"),
                read("extra"),
                read("plan"),
                read("out_grad"),
                read("stats_of"),
                read("v"),
                write($grad),
            ],
        )
    };
}
const GRAD_Q: Kernel = of_scores!("grad_q", "q_grad");
const GRAD_K: Kernel = of_scores!("grad_k", "k_grad");
const GRAD_BIAS: Kernel = of_scores!("grad_bias", "bias_grad");

pub(super) const KERNELS: &[&Kernel] =
    &[&FORWARD, &WEIGH, &DELTA, &DELTA_OF_WEIGHTS, &GRAD_Q, &GRAD_K, &GRAD_V, &GRAD_BIAS];

fn params(part: &Part<'_>, plan: &Plan) -> Params {
    let (sizes, options) = (&part.sizes, &part.whole.options);
    let Attention { batch, heads, kv_heads, queries, keys, dh, dv, .. } = *sizes;
    let [q, k, v, out] = sizes.places();
    let bias_shape = sizes.bias.unwrap_or([1; 4]);
    let bias = sizes.bias_strides();
    let flag = |yes: bool, flag: u32| if yes { flag } else { 0 };
    let shared = |axis: usize| bias_shape[axis] == 1;
    let weight_rows = options.rows.as_ref().map_or(queries, |rows| rows.len());
    let (weight_batch, weight_head, part_of_mean) = match options.weights {
        AttentionWeights::Averaged => (weight_rows, 0, 1. / part.whole.heads as f64),
        AttentionWeights::None | AttentionWeights::PerHead => (heads * weight_rows, weight_rows, 1.),
    };
    let dropout = options.dropout.unwrap_or(Dropout { p: 0., seed: 0, first: 0 });
    Params {
        batch: batch as u32,
        heads: heads as u32,
        kv_heads: kv_heads as u32,
        queries: queries as u32,
        keys: keys as u32,
        dh: dh as u32,
        dv: dv as u32,
        q_batch: q[0] as u32,
        q_head: q[1] as u32,
        q_row: q[2] as u32,
        k_batch: k[0] as u32,
        k_head: k[1] as u32,
        k_row: k[2] as u32,
        v_batch: v[0] as u32,
        v_head: v[1] as u32,
        v_row: v[2] as u32,
        out_batch: out[0] as u32,
        out_head: out[1] as u32,
        out_row: out[2] as u32,
        bias_batches: bias_shape[0] as u32,
        bias_heads: bias_shape[1] as u32,
        bias_batch: bias[0] as u32,
        bias_head: bias[1] as u32,
        bias_row: bias[2] as u32,
        bias_key: bias[3] as u32,
        query_tiles: queries.div_ceil(TILE) as u32,
        key_tiles: keys.div_ceil(TILE) as u32,
        tiles_at: plan.tiles_at,
        slopes_at: plan.slopes_at,
        rows_at: plan.rows_at,
        key_mask_at: plan.key_mask_at,
        pair_mask_at: plan.pair_mask_at,
        pair_batch: plan.pair_strides[0],
        pair_head: plan.pair_strides[1],
        weight_rows: weight_rows as u32,
        weight_batch: weight_batch as u32,
        weight_head: weight_head as u32,
        weights_at: 0,
        flags: flag(sizes.bias.is_some(), BIAS)
            | flag(options.alibi.is_some(), SLOPES)
            | flag(options.key_mask.is_some(), KEY_MASK)
            | flag(options.pair_mask.is_some(), PAIR_MASK)
            | flag(options.dropout.is_some(), DROPOUT)
            | flag(shared(2), SUM_QUERIES)
            | flag(shared(3), SUM_KEYS),
        first_group: 0,
        first_step: 0,
        end_step: 0,
        first_stream: (part.batch.start * part.whole.heads + part.heads.start) as u32,
        stream_batch: part.whole.heads as u32,
        seed_low: dropout.seed as u32,
        seed_high: (dropout.seed >> 32) as u32,
        first_number: dropout.first,
        threshold: dropout.threshold(),
        keep_scale: dropout.scale() as f32,
        scale: part.whole.scale() as f32,
        softcap: options.softcap.unwrap_or(0.) as f32,
        weight_part: part_of_mean as f32,
    }
}

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
        let params = Params { first_group: first as u32, ..*params };
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
    let params = params(part, &plan);
    let extra = bias.as_ref().unwrap_or(q);
    let (out, lse) = (uninit(q, &part.out_shape())?, uninit(q, &[batch, heads, queries])?);
    let tiles = batch * heads * queries.div_ceil(TILE);
    let tensors = [q, k, extra, &plan.tensor, &out, &lse, v];
    dispatch_groups(gpu, &FORWARD, &params, &tensors, tiles * dv.div_ceil(CHUNK), work(keys, dh))?;
    let Some(shape) = sizes.weights_shape() else { return Ok(vec![Some(out), Some(lse), None]) };
    let weights = uninit(q, &shape)?;
    let (lines, of_one) = match part.whole.options.weights {
        AttentionWeights::Averaged => (batch, heads),
        AttentionWeights::None | AttentionWeights::PerHead => (batch * heads, 1),
    };
    let groups = lines * params.weight_rows.div_ceil(TILE as u32) as usize * keys.div_ceil(TILE);
    let tensors = [q, k, extra, &plan.tensor, &lse, &weights];
    dispatch_groups(gpu, &WEIGH, &params, &tensors, groups, of_one as f64 * work(TILE, dh))?;
    Ok(vec![Some(out), Some(lse), Some(weights)])
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
    let flat = |x: &Tensor| x.reshape(&[x.len()]);
    let mut params = params(part, &plan);
    let extra = match (bias, &upstream.weights) {
        (None, None) => q.clone(),
        (Some(bias), None) => bias.clone(),
        (None, Some(grad)) => grad.clone(),
        (Some(bias), Some(grad)) => {
            params.weights_at = bias.len() as u32;
            concat(&[&flat(bias)?, &flat(grad)?], 0)?
        }
    };
    let stats = uninit(q, &[batch, heads, queries, 2])?;
    let tensors = [out, &upstream.out, &upstream.lse, lse, &stats];
    let variant = Variant::of(DType::F32);
    dispatch(gpu, &DELTA, variant, &params, &tensors, groups(batch * heads * queries, 64))?;
    let (query_tiles, key_tiles) = (queries.div_ceil(TILE), keys.div_ceil(TILE));
    let of_queries = batch * heads * query_tiles;
    if upstream.weights.is_some() {
        params.flags |= WEIGHT_GRAD;
        let tensors = [q, k, &extra, &plan.tensor, &stats];
        dispatch_groups(gpu, &DELTA_OF_WEIGHTS, &params, &tensors, of_queries, work(keys, dh))?;
    }
    let common = [q, k, &extra, &plan.tensor, &upstream.out, &stats];
    let needed = |i: usize, like: &Tensor| {
        (needs.get(i) == Some(&true)).then(|| uninit(like, like.shape())).transpose()
    };
    let (dq, dk, d_value) = (needed(0, q)?, needed(1, k)?, needed(2, v)?);
    if let Some(dq) = &dq {
        let tensors = [&common[..], &[v, dq]].concat();
        let groups = of_queries * dh.div_ceil(CHUNK);
        dispatch_groups(gpu, &GRAD_Q, &params, &tensors, groups, work(keys, dh + dv))?;
    }
    // Each head of keys goes through the queries of its group.
    let (of_keys, others) = (batch * kv_heads * key_tiles, queries * sizes.group());
    if let Some(dk) = &dk {
        let tensors = [&common[..], &[v, dk]].concat();
        let groups = of_keys * dh.div_ceil(CHUNK);
        dispatch_groups(gpu, &GRAD_K, &params, &tensors, groups, work(others, dh + dv))?;
    }
    if let Some(d_value) = &d_value {
        let tensors = [&common[..], &[d_value]].concat();
        let groups = of_keys * dv.div_ceil(CHUNK);
        dispatch_groups(gpu, &GRAD_V, &params, &tensors, groups, work(others, dh))?;
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
        let params = Params { first_step: first as u32, end_step: end as u32, ..*params };
        dispatch_groups(gpu, &GRAD_BIAS, &params, tensors, groups, flops * (end - first).max(1) as f64)?;
    }
    Ok(())
}
