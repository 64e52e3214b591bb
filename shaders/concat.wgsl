// Copies a block [outer, length] between tensors whose outer strides differ: concat writes into a slice, split reads one.
struct Params {
    count: u32,
    length: u32,
    from_stride: u32,
    from_offset: u32,
    to_stride: u32,
    to_offset: u32,
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
    let row = i / params.length;
    let at = i % params.length;
    out[row * params.to_stride + params.to_offset + at] = x[row * params.from_stride + params.from_offset + at];
}
