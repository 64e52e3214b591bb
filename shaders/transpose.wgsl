// out[i] = x[strides . index(i)]: a permutation of axes, or with a stride of 0 a broadcast.
struct Params {
    shape: array<vec4<u32>, 2>,
    strides: array<vec4<u32>, 2>,
    count: u32,
    rank: u32,
    pad: u32,
    pad2: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<elem>;
@group(0) @binding(2) var<storage, read_write> out: array<elem>;

@compute @workgroup_size(256)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_index(group, groups) * 256u + lane;
    if i >= params.count { return; }
    var rest = i;
    var source = 0u;
    for (var axis = params.rank; axis > 0u; axis--) {
        let k = axis - 1u;
        let size = params.shape[k / 4u][k % 4u];
        source += (rest % size) * params.strides[k / 4u][k % 4u];
        rest = rest / size;
    }
    out[i] = x[source];
}
