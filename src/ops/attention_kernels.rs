//! Attention's kernels and their parameters: here the plain ones.

use super::attention_blocks::Blocks;
use super::attention_plan::{Part, Plan};
use crate::dtype::DType;
use crate::gpu::kernel::{params, read, write};
use crate::gpu::{Binding, Kernel, Variant};
use crate::reference::{Attention, AttentionWeights, Dropout};

/// A shader behind what it shares with others.
macro_rules! source {
    ($($lib:literal),* ; $file:literal) => {
        concat!(
            include_str!("../../shaders/lib/grid.wgsl"),
            include_str!("../../shaders/lib/math.wgsl"),
            include_str!("../../shaders/lib/threefry.wgsl"),
            include_str!("../../shaders/lib/attention_plan.wgsl"),
            $(include_str!(concat!("../../shaders/lib/", $lib, ".wgsl")),)*
            include_str!(concat!("../../shaders/", $file, ".wgsl"))
        )
    };
}
const SOURCE: &str = source!("outer", "attention", "attention_grads"; "attention");

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
        value_grads_at: u32,
        kept_at: u32,
        kept_from: u32,
        kept_row: u32,
        flags: u32,
        first_group: u32,
        end_group: u32,
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
pub(super) const CHUNK: usize = 64;
const BIAS: u32 = 1;
const SLOPES: u32 = 2;
const KEY_MASK: u32 = 4;
const PAIR_MASK: u32 = 8;
const DROPOUT: u32 = 16;
pub(super) const WEIGHT_GRAD: u32 = 32;
const SUM_QUERIES: u32 = 64;
const SUM_KEYS: u32 = 128;

impl Params {
    /// Whether a score is a product and which run of keys a query sees, and no more.
    pub(super) fn is_plain(&self) -> bool {
        let options = BIAS | SLOPES | KEY_MASK | PAIR_MASK | DROPOUT | WEIGHT_GRAD;
        self.flags & options == 0 && self.softcap == 0.
    }

    /// A variant of a kernel that tells whether there is more to a score than its product and which run of keys a query sees.
    pub(super) fn variant(&self) -> Variant {
        Variant::of(DType::F32).with("OPTIONS", u32::from(!self.is_plain()))
    }
}

const FORWARD_BINDINGS: &[Binding] =
    &[read("q"), read("k"), read("extra"), read("plan"), write("out"), write("lse"), read("v")];

const fn kernel(entry: &'static str, bindings: &'static [Binding]) -> Kernel {
    Kernel::new::<Params>("attention", entry, SOURCE, bindings)
}

/// The bindings of a kernel that gives a gradient made of those of the scores.
macro_rules! of_scores {
    ($grad:literal) => {
        &[
            read("q"),
            read("k"),
            read("extra"),
            read("plan"),
            read("out_grad"),
            read("stats_of"),
            read("v"),
            write($grad),
        ]
    };
}

pub(super) const FORWARD: Kernel = kernel("forward", FORWARD_BINDINGS);
pub(super) const WEIGH: Kernel =
    kernel("weigh", &[read("q"), read("k"), read("extra"), read("plan"), read("lse_of"), write("weights")]);
pub(super) const DELTA: Kernel = kernel(
    "delta",
    &[read("result"), read("result_grad"), read("lse_grad"), read("lse_bits"), write("stats")],
);
pub(super) const DELTA_OF_WEIGHTS: Kernel =
    kernel("delta_of_weights", &[read("q"), read("k"), read("extra"), read("plan"), write("stats")]);
pub(super) const GRAD_V: Kernel = kernel(
    "grad_v",
    &[read("q"), read("k"), read("extra"), read("plan"), read("out_grad"), read("stats_of"), write("v_grad")],
);
pub(super) const GRAD_Q: Kernel = kernel("grad_q", of_scores!("q_grad"));
pub(super) const GRAD_K: Kernel = kernel("grad_k", of_scores!("k_grad"));
pub(super) const GRAD_BIAS: Kernel = kernel("grad_bias", of_scores!("bias_grad"));

/// What the fast kernels' sources leave open: columns of a workgroup, whether there is more to a score than its product and
/// which run of keys a query sees, which gradients, whether ∂Sᵀ is left behind them, whether a workgroup has twice the queries.
const OPEN: &[(&str, u32)] = &[("WIDTH", 64), ("OPTIONS", 1), ("GRADS", 3), ("KEPT", 1), ("TALL", 1)];

const fn fast(
    name: &'static str,
    entry: &'static str,
    source: &'static str,
    bindings: &'static [Binding],
) -> Kernel {
    Kernel { constants: OPEN, ..Kernel::new::<Params>(name, entry, source, bindings) }
}

/// A family of kernels: its forward's shader and that of its gradients, with what both include.
macro_rules! blocks {
    ($lib:literal, $forward:literal, $grads:literal, $rows:literal, $columns:expr, $tall:literal, $multiple:literal) => {
        Blocks {
            rows: $rows,
            columns: $columns,
            tall: $tall,
            multiple: $multiple,
            forward: fast($forward, "forward", source!($lib; $forward), FORWARD_BINDINGS),
            grad_q: fast(
                $grads,
                "grad_q",
                source!("attention_pairs", $lib; $grads),
                of_scores!("q_grad"),
            ),
            grad_kv: fast(
                $grads,
                "grad_kv",
                source!("attention_pairs", $lib; $grads),
                of_scores!("kv_grad"),
            ),
        }
    };
}

/// Tiles of 64 by 64 in workgroup memory, for GPUs.
pub(super) static TILES: Blocks =
    blocks!("attention_tiles", "attention_tiles", "attention_tiles_grads", 64, [64, 128], 1, 4);
/// Blocks of 32 rows and 64 columns in the registers of a subgroup of eight, for drivers on a CPU; with 64-bit integers, as which pairs
/// of numbers are loaded.
pub(super) static LANES: Blocks =
    blocks!("attention_lanes", "attention_lanes", "attention_lanes_grads", 32, [64, 64], 1, 2);
/// The same, with a forward of twice as many rows: a fifth less time or better, two to three times as long to compile.
pub(super) static TALL_LANES: Blocks =
    blocks!("attention_lanes", "attention_lanes", "attention_lanes_grads", 32, [64, 64], 2, 2);

pub(super) const KERNELS: &[&Kernel] = &[
    &FORWARD,
    &WEIGH,
    &DELTA,
    &DELTA_OF_WEIGHTS,
    &GRAD_Q,
    &GRAD_K,
    &GRAD_V,
    &GRAD_BIAS,
    &TILES.forward,
    &TILES.grad_q,
    &TILES.grad_kv,
    &LANES.forward,
    &LANES.grad_q,
    &LANES.grad_kv,
];

pub(super) fn params(part: &Part<'_>, plan: &Plan) -> Params {
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
        value_grads_at: 0,
        kept_at: 0,
        kept_from: 0,
        kept_row: 0,
        flags: flag(sizes.bias.is_some(), BIAS)
            | flag(options.alibi.is_some(), SLOPES)
            | flag(options.key_mask.is_some(), KEY_MASK)
            | flag(options.pair_mask.is_some(), PAIR_MASK)
            | flag(options.dropout.is_some(), DROPOUT)
            | flag(shared(2), SUM_QUERIES)
            | flag(shared(3), SUM_KEYS),
        first_group: 0,
        end_group: 0,
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
