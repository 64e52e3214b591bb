// out[i] = x[indices[i]], rows of `width` elements.
struct Params { count: u32, width: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<elem>;
@group(0) @binding(2) var<storage, read> indices: array<u32>;
@group(0) @binding(3) var<storage, read_write> out: array<elem>;

@compute @workgroup_size(256)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_index(group, groups) * 256u + lane;
    if i >= params.count { return; }
    out[i] = x[indices[i / params.width] * params.width + i % params.width];
}

@group(0) @binding(1) var<storage, read> grad: array<elem>;
@group(0) @binding(2) var<storage, read> order: array<u32>;
@group(0) @binding(3) var<storage, read> starts: array<u32>;
@group(0) @binding(4) var<storage, read_write> dx: array<elem>;

// dx[v] = the sum of g[i] over indices[i] = v, in the order of i: order[starts[v] .. starts[v + 1]] lists those i.
@compute @workgroup_size(256)
fn backward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_index(group, groups) * 256u + lane;
    if i >= params.count { return; }
    let row = i / params.width;
    var sum = 0.0;
    for (var k = starts[row]; k < starts[row + 1u]; k++) {
        sum += f32(grad[order[k] * params.width + i % params.width]);
    }
    dx[i] = elem(sum);
}
