// The norm of several tensors together, and scaling them to a largest norm. Partial results are (largest entry, sum of
// squares over its square), so that gradients of 1e20 do not overflow.
struct Params { count: u32, chunk: u32, first: u32, max_norm: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<elem>;
@group(0) @binding(2) var<storage, read_write> parts: array<vec2<f32>>;

// (largest, sum) of values that are already scaled by `largest`, over the workgroup
fn combine(largest: f32, sum: f32, lane: u32) -> vec2<f32> {
    let top = workgroup_max(largest, lane);
    let ratio = select(largest / top, 0.0, top == 0.0);
    return vec2(top, workgroup_sum(sum * ratio * ratio, lane));
}

// One workgroup per chunk of one tensor, into its own part.
@compute @workgroup_size(WIDTH)
fn partial_norms(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = group_index(group, groups);
    let begin = at * params.chunk;
    if begin >= params.count { return; }
    let end = min(begin + params.chunk, params.count);
    var largest = 0.0;
    for (var i = begin + lane; i < end; i += WIDTH) {
        largest = max(largest, abs(f32(x[i])));
    }
    largest = workgroup_max(largest, lane);
    let divisor = select(largest, 1.0, largest == 0.0);
    var sum = 0.0;
    for (var i = begin + lane; i < end; i += WIDTH) {
        let v = f32(x[i]) / divisor;
        sum += v * v;
    }
    sum = workgroup_sum(sum, lane);
    if lane == 0u {
        parts[params.first + at] = vec2(largest, sum);
    }
}

@group(0) @binding(1) var<storage, read> all_parts: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read_write> norm: array<f32>;

// One workgroup: norm[0] = the norm, norm[1] = the factor min(1, max_norm / norm).
@compute @workgroup_size(WIDTH)
fn total_norm(@builtin(local_invocation_index) lane: u32) {
    var largest = 0.0;
    for (var i = lane; i < params.count; i += WIDTH) {
        largest = max(largest, all_parts[i].x);
    }
    let divisor = select(largest, 1.0, largest == 0.0);
    var sum = 0.0;
    for (var i = lane; i < params.count; i += WIDTH) {
        let ratio = all_parts[i].x / divisor;
        sum += all_parts[i].y * ratio * ratio;
    }
    let whole = combine(largest, sum, lane);
    if lane == 0u {
        let length = whole.x * sqrt(whole.y);
        norm[0] = length;
        norm[1] = select(params.max_norm / length, 1.0, length <= params.max_norm);
    }
}

@group(0) @binding(2) var<storage, read> factor: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<elem>;

@compute @workgroup_size(256)
fn apply_factor(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_index(group, groups) * 256u + lane;
    if i >= params.count { return; }
    out[i] = elem(f32(x[i]) * factor[1]);
}
