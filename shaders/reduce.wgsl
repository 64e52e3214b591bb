// The sum or maximum of x [outer, axis, inner] over chunks of the axis: out [outer, chunks, inner]. Called again on its own
// output until one chunk is left, so that a long axis is summed in a fixed tree.
struct Params {
    outer: u32,
    axis: u32,
    inner: u32,
    chunk: u32,
    chunks: u32,
    kind: u32,
    factor: f32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<elem>;
@group(0) @binding(2) var<storage, read_write> out: array<elem_out>;

// inner = 1: one workgroup per output
@compute @workgroup_size(WIDTH)
fn rows(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_index(group, groups);
    if i >= params.outer * params.chunks { return; }
    let base = (i / params.chunks) * params.axis;
    let first = (i % params.chunks) * params.chunk;
    let end = min(first + params.chunk, params.axis);
    var value = select(LOWEST, 0.0, params.kind == 0u);
    for (var k = first + lane; k < end; k += WIDTH) {
        let v = f32(x[base + k]);
        value = select(max(value, v), value + v, params.kind == 0u);
    }
    if params.kind == 0u {
        value = workgroup_sum(value, lane) * params.factor;
    } else {
        value = workgroup_max(value, lane);
    }
    if lane == 0u {
        out[i] = elem_out(value);
    }
}

// one invocation per output, neighbours reading neighbouring columns
@compute @workgroup_size(256)
fn columns(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_index(group, groups) * 256u + lane;
    if i >= params.outer * params.chunks * params.inner { return; }
    let column = i % params.inner;
    let at = i / params.inner;
    let base = (at / params.chunks) * params.axis * params.inner + column;
    let first = (at % params.chunks) * params.chunk;
    let end = min(first + params.chunk, params.axis);
    var value = select(LOWEST, 0.0, params.kind == 0u);
    for (var k = first; k < end; k++) {
        let v = f32(x[base + k * params.inner]);
        value = select(max(value, v), value + v, params.kind == 0u);
    }
    out[i] = elem_out(select(value, value * params.factor, params.kind == 0u));
}

const NOWHERE: u32 = 0xffffffffu;

@group(0) @binding(2) var<storage, read> largest: array<elem>;
@group(0) @binding(3) var<storage, read_write> first: array<u32>;

// Where along the axis each chunk of x first attains the maximum of the whole axis.
@compute @workgroup_size(256)
fn first_of_chunk(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_index(group, groups) * 256u + lane;
    if i >= params.outer * params.chunks * params.inner { return; }
    let column = i % params.inner;
    let at = i / params.inner;
    let outer = at / params.chunks;
    let begin = (at % params.chunks) * params.chunk;
    let end = min(begin + params.chunk, params.axis);
    let top = largest[outer * params.inner + column];
    var k = begin;
    while k < end && x[(outer * params.axis + k) * params.inner + column] != top {
        k++;
    }
    first[i] = select(NOWHERE, k, k < end);
}

@group(0) @binding(1) var<storage, read> of_chunks: array<u32>;
@group(0) @binding(2) var<storage, read_write> place: array<u32>;

// The first of all chunks.
@compute @workgroup_size(256)
fn first_of_axis(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_index(group, groups) * 256u + lane;
    if i >= params.outer * params.inner { return; }
    var least = NOWHERE;
    for (var chunk = 0u; chunk < params.chunks; chunk++) {
        least = min(least, of_chunks[((i / params.inner) * params.chunks + chunk) * params.inner + i % params.inner]);
    }
    place[i] = least;
}

@group(0) @binding(1) var<storage, read> places: array<u32>;
@group(0) @binding(2) var<storage, read> grad: array<elem>;
@group(0) @binding(3) var<storage, read_write> dx: array<elem>;

// The gradient of a maximum goes to the first place that attains it.
@compute @workgroup_size(256)
fn max_backward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_index(group, groups) * 256u + lane;
    if i >= params.outer * params.axis * params.inner { return; }
    let at = i / params.inner;
    let result = (at / params.axis) * params.inner + i % params.inner;
    dx[i] = select(elem(0.0), grad[result], at % params.axis == places[result]);
}
