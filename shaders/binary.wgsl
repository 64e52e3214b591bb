// out = a op b with broadcasting: the shape is the output's, a stride of 0 repeats an axis.
struct Params {
    shape: array<vec4<u32>, 2>,
    a_strides: array<vec4<u32>, 2>,
    b_strides: array<vec4<u32>, 2>,
    count: u32,
    rank: u32,
    kind: u32,
    pad: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<elem>;
@group(0) @binding(2) var<storage, read> b: array<elem>;
@group(0) @binding(3) var<storage, read_write> out: array<elem>;

@compute @workgroup_size(256)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_index(group, groups) * 256u + lane;
    if i >= params.count { return; }
    var rest = i;
    var at_a = 0u;
    var at_b = 0u;
    for (var axis = params.rank; axis > 0u; axis--) {
        let k = axis - 1u;
        let size = params.shape[k / 4u][k % 4u];
        let index = rest % size;
        rest = rest / size;
        at_a += index * params.a_strides[k / 4u][k % 4u];
        at_b += index * params.b_strides[k / 4u][k % 4u];
    }
    let p = f32(a[at_a]);
    let q = f32(b[at_b]);
    var value = p * q;
    if params.kind == 0u { value = p + q; }
    if params.kind == 1u { value = p - q; }
    out[i] = elem(value);
}
