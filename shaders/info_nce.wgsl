// Around the product: statistics of one block of similarities S [rows, cols], and the gradient of the loss in place.
// The block starts at (first_row, first_col) of the whole; logits are L = scale S with scale = exp(log_scale[0]).
// A line is a row or a column. Its targets are the entries with its code, or what soft weights say.
struct Params {
    rows: u32,
    cols: u32,
    first_row: u32,
    first_col: u32,
    m: u32,
    fresh: u32,
    flags: u32,
    smoothing: f32,
    hard_negatives: f32,
    count: u32,
    weight: f32,
    rows_each: u32,
}
@group(0) @binding(0) var<uniform> params: Params;

const SYMMETRIC: u32 = 1u;
const DECOUPLED: u32 = 2u;
const EXCLUDE_SELF: u32 = 4u;
const SOFT: u32 = 8u;
// No line has a target: its loss is its log-sum-exp.
const NO_TARGETS: u32 = 16u;
// The columns of the block are each row's own: of no class, in no column.
const OWN_COLUMNS: u32 = 32u;
const MEAN: u32 = 64u;
// Each row has a loss, and so an upstream gradient, of its own.
const PER_ROW: u32 = 128u;

// The soft weights at hand are those of the block alone, not of the whole.
const SOFT_OF_BLOCK: u32 = 256u;

// SIMPLE: each row's own column is its target, nothing is masked or left out, negatives have no bonus. What most training runs
// ask for is a pipeline without the questions.

// Whether there is an entry at row i and column j, of these codes.
fn keeps(i: u32, j: u32, row_code: u32, col_code: u32) -> bool {
    if SIMPLE == 1u { return true; }
    return row_code != MASKED && col_code != MASKED && !(i == j && has(EXCLUDE_SELF) && !has(OWN_COLUMNS));
}

// The similarity with the bonus of a negative.
fn competing(similarity: f32, target_weight: f32, scale: f32) -> f32 {
    // No division by a scale that may be too small for it where nobody asked for a bonus.
    if SIMPLE == 1u || params.hard_negatives == 0.0 { return similarity; }
    return select(similarity + similarity * (params.hard_negatives / scale), similarity, target_weight > 0.0);
}

fn competes(target_weight: f32) -> bool {
    return SIMPLE == 1u || !(has(DECOUPLED) && target_weight > 0.0);
}

// One more entry of a line.
fn joined(part: vec2<f32>, z: f32, scale: f32) -> vec2<f32> {
    if z <= part.x { return vec2(part.x, part.y + exp(scale * (z - part.x))); }
    return vec2(z, part.y * exp(scale * (part.x - z)) + 1.0);
}

// (maximum, sum of exp(scale (z - maximum))) of two parts of a line; the sum of an empty part is 0.
fn merge(a: vec2<f32>, b: vec2<f32>, scale: f32) -> vec2<f32> {
    if a.y == 0.0 { return b; }
    if b.y == 0.0 { return a; }
    let top = max(a.x, b.x);
    return vec2(top, a.y * exp(scale * (a.x - top)) + b.y * exp(scale * (b.x - top)));
}

@group(0) @binding(1) var<storage, read> sims: array<f32>;
@group(0) @binding(2) var<storage, read> log_scale: array<f32>;
@group(0) @binding(3) var<storage, read> row_codes: array<u32>;
@group(0) @binding(4) var<storage, read> col_codes: array<u32>;
@group(0) @binding(5) var<storage, read> soft: array<f32>;
// (maximum, sum) of each line so far; a fresh one is overwritten. The difference comes before the scale: at the maximum it is
// exactly 0 even where a driver fuses products with sums.
@group(0) @binding(6) var<storage, read_write> stats: array<vec2<f32>>;
// (sum of target * similarity, sum of targets, sum of similarities, number of entries) of each line so far.
@group(0) @binding(7) var<storage, read_write> aims: array<vec4<f32>>;

var<workgroup> scratch4: array<vec4<f32>, WIDTH>;

fn workgroup_sum4(value: vec4<f32>, lane: u32) -> vec4<f32> {
    scratch4[lane] = value;
    workgroupBarrier();
    for (var step = WIDTH / 2u; step > 0u; step = step / 2u) {
        if lane < step {
            scratch4[lane] = scratch4[lane] + scratch4[lane + step];
        }
        workgroupBarrier();
    }
    let total = scratch4[0];
    workgroupBarrier();
    return total;
}

// The weight of the target at row i and column j, for the row and for the column alike.
fn target_weight(i: u32, j: u32, row_code: u32, col_code: u32) -> f32 {
    if SIMPLE == 1u { return select(0.0, 1.0, i == j); }
    if has(OWN_COLUMNS) || has(NO_TARGETS) { return 0.0; }
    if has(SOFT_OF_BLOCK) { return soft[(i - params.first_row) * params.cols + j - params.first_col]; }
    if has(SOFT) { return soft[i * params.m + j]; }
    return select(0.0, 1.0, same_class(row_code, col_code));
}

fn code_of_col(j: u32) -> u32 {
    if has(OWN_COLUMNS) { return NO_CLASS; }
    return col_code_at(j);
}

// One workgroup per row of the block.
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
    let i = params.first_row + row;
    let row_code = row_code_at(i);
    var aim = vec4(0.0);
    var own = vec2(LOWEST, 0.0);
    for (var col = lane; col < params.cols; col += WIDTH) {
        let j = params.first_col + col;
        let col_code = code_of_col(j);
        if !keeps(i, j, row_code, col_code) { continue; }
        let similarity = sims[base + col];
        let weight = target_weight(i, j, row_code, col_code);
        aim += vec4(weight * similarity, weight, similarity, 1.0);
        if competes(weight) { own = joined(own, competing(similarity, weight, scale), scale); }
    }
    aim = workgroup_sum4(aim, lane);
    let largest = workgroup_max(own.x, lane);
    let sum = workgroup_sum(select(0.0, own.y * exp(scale * (own.x - largest)), !(own.y == 0.0)), lane);
    if lane == 0u {
        var part = vec2(largest, sum);
        if params.fresh == 0u {
            part = merge(stats[i], part, scale);
            aim += aims[i];
        }
        stats[i] = part;
        aims[i] = aim;
    }
}

// One invocation per column of the block and chunk of `rows_each` rows, neighbours reading neighbouring columns. What it finds
// is a part, [chunk, column].
@compute @workgroup_size(64)
fn column_sweep(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let across = (params.cols + 63u) / 64u;
    let unit = group_index(group, groups);
    let chunk = unit / across;
    let col = unit % across * 64u + lane;
    let first = chunk * params.rows_each;
    if col >= params.cols || first >= params.rows { return; }
    let end = min(first + params.rows_each, params.rows);
    let scale = exp(log_scale[0]);
    let j = params.first_col + col;
    let col_code = code_of_col(j);
    var aim = vec4(0.0);
    var own = vec2(LOWEST, 0.0);
    for (var row = first; row < end; row++) {
        let i = params.first_row + row;
        let row_code = row_code_at(i);
        if !keeps(i, j, row_code, col_code) { continue; }
        let similarity = sims[row * params.cols + col];
        let weight = target_weight(i, j, row_code, col_code);
        aim += vec4(weight * similarity, weight, similarity, 1.0);
        if competes(weight) { own = joined(own, competing(similarity, weight, scale), scale); }
    }
    stats[chunk * params.cols + col] = own;
    aims[chunk * params.cols + col] = aim;
}

@group(0) @binding(1) var<storage, read> part_stats: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read> part_aims: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> merged_stats: array<vec2<f32>>;
@group(0) @binding(5) var<storage, read_write> merged_aims: array<vec4<f32>>;

// The parts of each column of the block together, in the order of the chunks, and with what there is of the column so far.
@compute @workgroup_size(64)
fn merge_columns(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let col = group_index(group, groups) * 64u + lane;
    if col >= params.cols { return; }
    let scale = exp(log_scale[0]);
    let j = params.first_col + col;
    var part = vec2(LOWEST, 0.0);
    var aim = vec4(0.0);
    if params.fresh == 0u {
        part = merged_stats[j];
        aim = merged_aims[j];
    }
    for (var at = col; at < params.count * params.cols; at += params.cols) {
        part = merge(part, part_stats[at], scale);
        aim += part_aims[at];
    }
    merged_stats[j] = part;
    merged_aims[j] = aim;
}

@group(0) @binding(1) var<storage, read> line_stats: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read> line_aims: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> log_scales: array<f32>;
@group(0) @binding(4) var<storage, read_write> lines: array<vec2<f32>>;

// (loss, whether it counts) of each line: lse - sum of targets * logits. Without an entry that competes the loss is 0.
@compute @workgroup_size(256)
fn line_losses(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_index(group, groups) * 256u + lane;
    if i >= params.count { return; }
    let part = line_stats[i];
    let aim = line_aims[i];
    let mass = select(aim.y, aim.w, has(NO_TARGETS));
    var loss = 0.0;
    // A NaN among the entries is one of the loss: it is not equal to 0, and where compilers take != for "less or more" not unequal.
    if mass > 0.0 && !(part.y == 0.0) {
        let scale = exp(log_scales[0]);
        var aimed = 0.0;
        if !has(NO_TARGETS) {
            aimed = (1.0 - params.smoothing) * (aim.x / mass) + params.smoothing * (aim.z / aim.w);
        }
        loss = scale * (part.x - aimed) + log(part.y);
    }
    lines[i] = vec2(loss, select(0.0, 1.0, mass > 0.0));
}

// What the losses of a direction are multiplied by, from (sum of losses, number that count).
fn share(sums: vec2<f32>) -> f32 {
    return params.weight / select(1.0, max(sums.y, 1.0), has(MEAN));
}

@group(0) @binding(1) var<storage, read> row_sums: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read> col_sums: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read_write> loss: array<f32>;

// The loss, or that of each row: both directions' together when symmetric.
@compute @workgroup_size(256)
fn combine(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_index(group, groups) * 256u + lane;
    if i >= params.count { return; }
    var sum = share(row_sums[i]) * row_sums[i].x;
    if has(SYMMETRIC) { sum += share(col_sums[i]) * col_sums[i].x; }
    loss[i] = sum;
}

@group(0) @binding(5) var<storage, read> counted: array<vec2<f32>>;
@group(0) @binding(6) var<storage, read> upstream: array<f32>;
@group(0) @binding(4) var<storage, read> line_losses_of: array<vec2<f32>>;
@group(0) @binding(7) var<storage, read_write> factors: array<vec4<f32>>;

// For each line (maximum, factor of exp, factor of the targets, of every entry): what the gradient needs, with the upstream
// gradient and the scale in it.
@compute @workgroup_size(256)
fn line_factors(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_index(group, groups) * 256u + lane;
    if i >= params.count { return; }
    let part = line_stats[i];
    let aim = line_aims[i];
    var factor = vec4(0.0);
    if line_losses_of[i].y > 0.0 && !(part.y == 0.0) {
        let g = upstream[select(0u, i, has(PER_ROW))] * share(counted[0]) * exp(log_scales[0]);
        factor = vec4(part.x, g / part.y, 0.0, 0.0);
        if !has(NO_TARGETS) {
            factor.z = g * (1.0 - params.smoothing) / aim.y;
            factor.w = g * params.smoothing / aim.w;
        }
    }
    factors[i] = factor;
}

@group(0) @binding(1) var<storage, read> row_factors: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> col_factors: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read> log_factor: array<f32>;
@group(0) @binding(7) var<storage, read_write> block: array<f32>;

fn probability(z: f32, factor: vec4<f32>, scale: f32) -> f32 {
    if factor.y == 0.0 { return 0.0; }
    return factor.y * exp(scale * (z - factor.x));
}

// Entries of the block for each invocation, one after the other.
const RUN: u32 = 4u;

// In place: S becomes upstream * scale * G, G = probabilities - targets, of the rows and, when symmetric, of the columns.
@compute @workgroup_size(256)
fn gradient(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = (group_index(group, groups) * 256u + lane) * RUN;
    let scale = exp(log_factor[0]);
    var row = first / params.cols;
    var col = first % params.cols;
    for (var at = first; at < first + RUN; at++) {
        if at >= params.rows * params.cols { return; }
        block[at] = gradient_of(params.first_row + row, params.first_col + col, block[at], scale);
        col += 1u;
        if col == params.cols {
            col = 0u;
            row += 1u;
        }
    }
}

fn gradient_of(i: u32, j: u32, similarity: f32, scale: f32) -> f32 {
    let row_code = row_code_at(i);
    let col_code = code_of_col(j);
    if !keeps(i, j, row_code, col_code) { return 0.0; }
    let weight = target_weight(i, j, row_code, col_code);
    let z = competing(similarity, weight, scale);
    let row = row_factors[i];
    var g = 0.0;
    var away = row.z * weight + row.w;
    if competes(weight) { g = probability(z, row, scale); }
    if has(SYMMETRIC) {
        let col = col_factors[j];
        away += col.z * weight + col.w;
        if competes(weight) { g += probability(z, col, scale); }
    }
    return g - away;
}
