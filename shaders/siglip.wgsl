// Around the product: the sigmoid loss of one block of similarities S [rows, cols], and its gradient in place.
// The block starts at (first_row, first_col) of the whole; logits are L = exp(log_scale[0]) S + bias[0].
struct Params {
    rows: u32,
    cols: u32,
    first_row: u32,
    first_col: u32,
    fresh: u32,
    flags: u32,
    weight: f32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> sims: array<f32>;
@group(0) @binding(2) var<storage, read> log_scale: array<f32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read> row_codes: array<u32>;
@group(0) @binding(5) var<storage, read> col_codes: array<u32>;
@group(0) @binding(6) var<storage, read_write> losses: array<f32>;

// Each row has a loss, and so an upstream gradient, of its own.
const PER_ROW: u32 = 1u;

// 1 for a pair, -1 for two that do not belong together, 0 where one of them is masked.
fn sign_of(row_code: u32, col_code: u32) -> f32 {
    if row_code == MASKED || col_code == MASKED { return 0.0; }
    return select(-1.0, 1.0, same_class(row_code, col_code));
}

// One workgroup per row of the block; adds to the row's loss so far, a fresh one is overwritten.
@compute @workgroup_size(WIDTH)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group_index(group, groups);
    if row >= params.rows { return; }
    let scale = exp(log_scale[0]);
    let i = params.first_row + row;
    let row_code = row_code_at(i);
    var sum = 0.0;
    for (var col = lane; col < params.cols; col += WIDTH) {
        let z = sign_of(row_code, col_code_at(params.first_col + col));
        if z != 0.0 {
            sum += softplus(-z * (scale * sims[row * params.cols + col] + bias[0]));
        }
    }
    sum = workgroup_sum(sum, lane);
    if lane == 0u {
        if params.fresh == 0u { sum += losses[i]; }
        losses[i] = sum;
    }
}

@group(0) @binding(1) var<storage, read> upstream: array<f32>;
@group(0) @binding(6) var<storage, read_write> block: array<f32>;
@group(0) @binding(7) var<storage, read_write> bias_parts: array<f32>;

// In place: S becomes upstream * weight * scale * G, G = sigmoid(L) - [pair]; and the row's part of the bias's gradient.
@compute @workgroup_size(WIDTH)
fn backward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group_index(group, groups);
    if row >= params.rows { return; }
    let scale = exp(log_scale[0]);
    let i = params.first_row + row;
    let row_code = row_code_at(i);
    let up = upstream[select(0u, i, has(PER_ROW))] * params.weight;
    var sum = 0.0;
    for (var col = lane; col < params.cols; col += WIDTH) {
        let at = row * params.cols + col;
        let z = sign_of(row_code, col_code_at(params.first_col + col));
        // -z sigmoid(-z L): no cancellation.
        var g = 0.0;
        if z != 0.0 {
            g = -z * up * sigmoid(-z * (scale * block[at] + bias[0]));
        }
        sum += g;
        block[at] = scale * g;
    }
    sum = workgroup_sum(sum, lane);
    if lane == 0u {
        if params.fresh == 0u { sum += bias_parts[i]; }
        bias_parts[i] = sum;
    }
}
