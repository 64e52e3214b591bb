// What the kernels of attention share: tiles of 32 queries by 32 keys, a workgroup of 8 by 8 invocations to each. An invocation has
// four rows next to each other, by thread.y, and four columns 8 apart, by thread.x.
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
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<f32>;
@group(0) @binding(2) var<storage, read> k: array<f32>;
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

const TILE: u32 = 32u;
// Columns of a result that a workgroup has.
const CHUNK: u32 = 64u;
// The score of a pair that does not see each other.
const LOWEST: f32 = -3.4028234e38;
// No number of a query.
const NONE: u32 = 0xffffffffu;
// The bits of -∞, which no number here is: WGSL lets a device assume so.
const NOTHING: u32 = 0xff800000u;

var<workgroup> tile: array<f32, 1024>;
var<workgroup> partial: array<vec4<f32>, 64>;

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

fn rows_of(first: u32, thread: vec3<u32>) -> vec4<u32> {
    return first + thread.y * 4u + vec4(0u, 1u, 2u, 3u);
}

fn columns_of(first: u32, thread: vec3<u32>) -> vec4<u32> {
    return first + thread.x + vec4(0u, 8u, 16u, 24u);
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

// sums + a bᵀ
fn add_outer(sums: mat4x4<f32>, a: vec4<f32>, b: vec4<f32>) -> mat4x4<f32> {
    return mat4x4(
        fma(vec4(a.x), b, sums[0]),
        fma(vec4(a.y), b, sums[1]),
        fma(vec4(a.z), b, sums[2]),
        fma(vec4(a.w), b, sums[3]),
    );
}

fn weighed(weight: f32, values: vec4<f32>) -> vec4<f32> {
    return select(vec4(0.0), weight * values, weight != 0.0);
}

// As add_outer, where a is of weights: what has none leaves no trace, NaN neither.
fn add_weighed(sums: mat4x4<f32>, a: vec4<f32>, b: vec4<f32>) -> mat4x4<f32> {
    return mat4x4(
        sums[0] + weighed(a.x, b),
        sums[1] + weighed(a.y, b),
        sums[2] + weighed(a.z, b),
        sums[3] + weighed(a.w, b),
    );
}

// Queries by keys. Rows and columns past the edge read the last one, and are not seen.
fn query_key(head: Head, rows: vec4<u32>, columns: vec4<u32>) -> mat4x4<f32> {
    let a = head.q + min(rows, vec4(params.queries - 1u)) * params.q_row;
    let b = head.k + min(columns, vec4(params.keys - 1u)) * params.k_row;
    var sums = mat4x4<f32>();
    for (var p = 0u; p < params.dh; p++) {
        let left = vec4(q[a.x + p], q[a.y + p], q[a.z + p], q[a.w + p]);
        sums = add_outer(sums, left, vec4(k[b.x + p], k[b.y + p], k[b.z + p], k[b.w + p]));
    }
    return sums;
}

// e^(S - lse), 0 where a pair does not see each other.
fn probabilities(
    head: Head,
    rows: vec4<u32>,
    columns: vec4<u32>,
    lse: vec4<f32>,
    products: mat4x4<f32>,
) -> mat4x4<f32> {
    var all = products;
    for (var n = 0u; n < 16u; n++) {
        let r = n / 4u;
        let c = n % 4u;
        let s = score(head, rows[r], columns[c], all[r][c]);
        all[r][c] = select(exp(s - lse[r]), 0.0, s == LOWEST);
    }
    return all;
}

// The sum of what the eight invocations of each row have, for its four rows.
fn rows_sum(own: vec4<f32>, thread: vec3<u32>) -> vec4<f32> {
    partial[thread.y * 8u + thread.x] = own;
    workgroupBarrier();
    var sum = vec4(0.0);
    for (var x = 0u; x < 8u; x++) {
        sum += partial[thread.y * 8u + x];
    }
    workgroupBarrier();
    return sum;
}

fn rows_max(own: vec4<f32>, thread: vec3<u32>) -> vec4<f32> {
    partial[thread.y * 8u + thread.x] = own;
    workgroupBarrier();
    var largest = own;
    for (var x = 0u; x < 8u; x++) {
        largest = max(largest, partial[thread.y * 8u + x]);
    }
    workgroupBarrier();
    return largest;
}

// Shares an invocation's part of a tile with the others.
fn share(own: mat4x4<f32>, thread: vec3<u32>) {
    let first = thread.y * 4u * TILE + thread.x;
    for (var n = 0u; n < 4u; n++) {
        let at = first + n * TILE;
        let line = own[n];
        tile[at] = line.x;
        tile[at + 8u] = line.y;
        tile[at + 16u] = line.z;
        tile[at + 24u] = line.w;
    }
}

// A column of the tile for an invocation's four rows.
fn tile_column(column: u32, thread: vec3<u32>) -> vec4<f32> {
    let at = thread.y * 4u * TILE + column;
    return vec4(tile[at], tile[at + TILE], tile[at + 2u * TILE], tile[at + 3u * TILE]);
}

// A row of the tile for the four columns that an invocation has as rows of what it makes.
fn tile_row(row: u32, thread: vec3<u32>) -> vec4<f32> {
    let at = row * TILE + thread.y * 4u;
    return vec4(tile[at], tile[at + 1u], tile[at + 2u], tile[at + 3u]);
}

