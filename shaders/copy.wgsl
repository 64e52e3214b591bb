// out = x, in four ways: scalars and vectors, one or several an invocation.
struct Params { count: u32, stride: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<elem>;
@group(0) @binding(2) var<storage, read_write> out: array<elem>;
@group(0) @binding(1) var<storage, read> x4: array<vec4<elem>>;
@group(0) @binding(2) var<storage, read_write> out4: array<vec4<elem>>;

const WIDTH: u32 = 256u;

@compute @workgroup_size(WIDTH)
fn scalar(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_index(group, groups) * WIDTH + lane;
    if i >= params.count { return; }
    out[i] = x[i];
}

@compute @workgroup_size(WIDTH)
fn several(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    for (var i = group_index(group, groups) * WIDTH + lane; i < params.count; i += params.stride) {
        out[i] = x[i];
    }
}

@compute @workgroup_size(WIDTH)
fn vector(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_index(group, groups) * WIDTH + lane;
    if i >= params.count { return; }
    out4[i] = x4[i];
}

@compute @workgroup_size(WIDTH)
fn several_vectors(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    for (var i = group_index(group, groups) * WIDTH + lane; i < params.count; i += params.stride) {
        out4[i] = x4[i];
    }
}
