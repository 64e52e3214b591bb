// What every kernel of attention reads: its parameters and plan, and what a score is made of.
struct Params {
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
@group(0) @binding(0) var<uniform> params: Params;
// The bias by its bits, then the gradient of the weights.
@group(0) @binding(3) var<storage, read> extra: array<u32>;
// Four numbers for each query: the keys that it may see, from and to, its place among them, the place of its weights. Then the keys
// of each tile of queries, the queries of each tile of keys, slopes, queries whose weights are returned, masks as bits.
@group(0) @binding(4) var<storage, read> plan: array<u32>;

const BIAS: u32 = 1u;
const SLOPES: u32 = 2u;
const KEY_MASK: u32 = 4u;
const PAIR_MASK: u32 = 8u;
const DROPOUT: u32 = 16u;
const WEIGHT_GRAD: u32 = 32u;
const SUM_QUERIES: u32 = 64u;
const SUM_KEYS: u32 = 128u;

// The score of a pair that does not see each other.
const LOWEST: f32 = -3.4028234e38;
// No number of a query.
const NONE: u32 = 0xffffffffu;
// The bits of -∞, which no number here is: WGSL lets a device assume so.
const NOTHING: u32 = 0xff800000u;

fn has(flag: u32) -> bool {
    return (params.flags & flag) != 0u;
}

// A head and where its matrices begin.
struct Head {
    b: u32,
    h: u32,
    line: u32,
    q: u32,
    k: u32,
    v: u32,
    out: u32,
    stream: u32,
}

fn head_of(b: u32, h: u32) -> Head {
    let kv = h / (params.heads / params.kv_heads);
    return Head(
        b,
        h,
        (b * params.heads + h) * params.queries,
        b * params.q_batch + h * params.q_head,
        b * params.k_batch + kv * params.k_head,
        b * params.v_batch + kv * params.v_head,
        b * params.out_batch + h * params.out_head,
        params.first_stream + b * params.stream_batch + h,
    );
}

fn bit(at: u32, place: u32) -> bool {
    return ((plan[at + place / 32u] >> (place % 32u)) & 1u) == 1u;
}

fn is_seen(head: Head, i: u32, j: u32) -> bool {
    if i >= params.queries { return false; }
    var seen = j >= plan[4u * i] && j < plan[4u * i + 1u];
    if seen && has(KEY_MASK) {
        seen = bit(params.key_mask_at, head.b * params.keys + j);
    }
    if seen && has(PAIR_MASK) {
        let line = head.b * params.pair_batch + head.h * params.pair_head + i;
        seen = bit(params.pair_mask_at, line * params.keys + j);
    }
    return seen;
}

fn capped(product: f32) -> f32 {
    let score = product * params.scale;
    if params.softcap == 0.0 { return score; }
    return params.softcap * accurate_tanh(score / params.softcap);
}

// The derivative of a score by the scaled product.
fn cap_slope(product: f32) -> f32 {
    if params.softcap == 0.0 { return 1.0; }
    let tanh = accurate_tanh(product * params.scale / params.softcap);
    return 1.0 - tanh * tanh;
}

fn score(head: Head, i: u32, j: u32, product: f32) -> f32 {
    if !is_seen(head, i, j) { return LOWEST; }
    var sum = capped(product);
    if has(SLOPES) {
        let distance = abs(bitcast<i32>(plan[4u * i + 2u]) - i32(j));
        sum -= bitcast<f32>(plan[params.slopes_at + head.h]) * f32(distance);
    }
    if has(BIAS) {
        let at = head.b * params.bias_batch + head.h * params.bias_head + i * params.bias_row;
        let bits = extra[at + j * params.bias_key];
        if bits == NOTHING { return LOWEST; }
        sum += bitcast<f32>(bits);
    }
    return sum;
}

// What dropout multiplies a probability by.
fn kept(head: Head, i: u32, j: u32) -> f32 {
    if !has(DROPOUT) { return 1.0; }
    let seed = vec2(params.seed_low, params.seed_high);
    let word = random(seed, params.first_number + i * params.keys + j, head.stream);
    return select(0.0, params.keep_scale, word >= params.threshold);
}

// The upstream gradient of a pair's weight.
fn weight_grad(head: Head, i: u32, j: u32) -> f32 {
    if !has(WEIGHT_GRAD) { return 0.0; }
    let row = plan[4u * i + 3u];
    if row == NONE { return 0.0; }
    let line = head.b * params.weight_batch + head.h * params.weight_head + row;
    return params.weight_part * bitcast<f32>(extra[params.weights_at + line * params.keys + j]);
}

fn finite(bits: u32) -> f32 {
    return select(bitcast<f32>(bits), 0.0, bits == NOTHING);
}
