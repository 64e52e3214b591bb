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

@group(0) @binding(2) var<storage, read> largest: array<elem>;
@group(0) @binding(3) var<storage, read> grad: array<elem>;
@group(0) @binding(4) var<storage, read_write> dx: array<elem>;

// The gradient of a maximum goes to the first place that attains it.
@compute @workgroup_size(256)
fn max_backward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_index(group, groups) * 256u + lane;
    if i >= params.outer * params.inner { return; }
    let base = (i / params.inner) * params.axis * params.inner + i % params.inner;
    var found = false;
    for (var k = 0u; k < params.axis; k++) {
        let at = base + k * params.inner;
        let here = !found && x[at] == largest[i];
        dx[at] = select(elem(0.0), grad[i], here);
        found = found || here;
    }
}
