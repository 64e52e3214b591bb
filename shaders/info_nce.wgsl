// Around the product: statistics of one block of similarities S [rows, cols], and the gradient of the loss in place.
// The block starts at (first_row, first_col) of the whole; logits are L = scale S with scale = exp(log_scale[0]).
struct Params {
    rows: u32,
    cols: u32,
    first_row: u32,
    first_col: u32,
    fresh: u32,
    symmetric: u32,
    count: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> sims: array<f32>;
@group(0) @binding(2) var<storage, read> log_scale: array<f32>;
// (maximum similarity, sum of exp(scale (S - maximum))) of each row so far; a fresh one is overwritten. The difference comes
// before the scale: at the maximum it is exactly 0 even where a driver fuses products with sums.
@group(0) @binding(3) var<storage, read_write> stats: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read_write> positive: array<f32>;

// Two partial log-sum-exps as one.
fn merge(a: vec2<f32>, b: vec2<f32>, scale: f32) -> vec2<f32> {
    let top = max(a.x, b.x);
    return vec2(top, a.y * exp(scale * (a.x - top)) + b.y * exp(scale * (b.x - top)));
}

// One workgroup per row of the block; also keeps the positive's similarity S_ii.
@compute @workgroup_size(WIDTH)
fn row_sweep(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group_index(group, groups);
    if row >= params.rows { return; }
    let scale = exp(log_scale[0]);
    let base = row * params.cols;
    var largest = LOWEST;
    for (var col = lane; col < params.cols; col += WIDTH) {
        largest = max(largest, sims[base + col]);
    }
    largest = workgroup_max(largest, lane);
    var sum = 0.0;
    for (var col = lane; col < params.cols; col += WIDTH) {
        sum += exp(scale * (sims[base + col] - largest));
    }
    sum = workgroup_sum(sum, lane);
    if lane == 0u {
        let i = params.first_row + row;
        var part = vec2(largest, sum);
        if params.fresh == 0u {
            part = merge(stats[i], part, scale);
        }
        stats[i] = part;
        if i >= params.first_col && i - params.first_col < params.cols {
            positive[i] = sims[base + i - params.first_col];
        }
    }
}

// One invocation per column of the block, neighbours reading neighbouring columns.
@compute @workgroup_size(64)
fn column_sweep(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let col = group_index(group, groups) * 64u + lane;
    if col >= params.cols { return; }
    let scale = exp(log_scale[0]);
    var largest = LOWEST;
    for (var row = 0u; row < params.rows; row++) {
        largest = max(largest, sims[row * params.cols + col]);
    }
    var sum = 0.0;
    for (var row = 0u; row < params.rows; row++) {
        sum += exp(scale * (sims[row * params.cols + col] - largest));
    }
    let j = params.first_col + col;
    var part = vec2(largest, sum);
    if params.fresh == 0u {
        part = merge(stats[j], part, scale);
    }
    stats[j] = part;
}

@group(0) @binding(1) var<storage, read> row_stats: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read> col_stats: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read> positives: array<f32>;
@group(0) @binding(4) var<storage, read> log_scales: array<f32>;
@group(0) @binding(5) var<storage, read_write> losses: array<f32>;

// lse - L_ii per row; the mean of both directions when symmetric.
@compute @workgroup_size(256)
fn row_losses(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_index(group, groups) * 256u + lane;
    if i >= params.count { return; }
    let row = row_stats[i];
    let scale = exp(log_scales[0]);
    var loss = scale * (row.x - positives[i]) + log(row.y);
    if params.symmetric == 1u {
        let col = col_stats[i];
        loss = 0.5 * (loss + (scale * (col.x - positives[i]) + log(col.y)));
    }
    losses[i] = loss;
}

@group(0) @binding(1) var<storage, read> row_part: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read> col_part: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read> log_factor: array<f32>;
@group(0) @binding(4) var<storage, read> upstream: array<f32>;
@group(0) @binding(5) var<storage, read_write> block: array<f32>;

// In place: S becomes upstream * scale * G, G = (P_row + P_col - 2I)/2N when symmetric, (P_row - I)/N otherwise.
@compute @workgroup_size(256)
fn gradient(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = group_index(group, groups) * 256u + lane;
    if at >= params.rows * params.cols { return; }
    let i = params.first_row + at / params.cols;
    let j = params.first_col + at % params.cols;
    let scale = exp(log_factor[0]);
    let similarity = block[at];
    let row = row_part[i];
    var g = exp(scale * (similarity - row.x)) / row.y;
    if params.symmetric == 1u {
        let col = col_part[j];
        g = 0.5 * (g + exp(scale * (similarity - col.x)) / col.y);
    }
    if i == j { g -= 1.0; }
    block[at] = g * scale * upstream[0] / f32(params.count);
}
