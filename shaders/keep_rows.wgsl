// out = x with zeros in the rows that are not kept, whatever is in them.
struct Params {
    count: u32,
    cols: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<elem>;
@group(0) @binding(2) var<storage, read> keep: array<u32>;
@group(0) @binding(3) var<storage, read_write> out: array<elem>;

@compute @workgroup_size(256)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = group_index(group, groups) * 256u + lane;
    if at >= params.count { return; }
    // Chosen, not multiplied: 0 times NaN is NaN.
    var value = elem(0.0);
    if keep[at / params.cols] == 1u { value = x[at]; }
    out[at] = value;
}
