// The result four neighbouring elements at a time, as A and B.
@group(0) @binding(3) var<storage, read_write> out: array<vec4<elem_out>>;
@group(0) @binding(4) var<storage, read> bias: array<elem>;

fn put_four(batch: u32, row: u32, col: u32, sums: vec4<f32>, first: bool, last: bool) {
    if row >= params.m || col >= params.n { return; }
    let at = (params.out_offset + (batch * params.m + row) * params.n + col) / 4u;
    var value = sums * params.scale;
    if !first || params.accumulate == 1u { value += vec4<f32>(out[at]); }
    if last && params.has_bias == 1u {
        value += vec4(f32(bias[col]), f32(bias[col + 1u]), f32(bias[col + 2u]), f32(bias[col + 3u]));
    }
    if ACTIVATION > 0u && last {
        value = vec4(activated(value.x), activated(value.y), activated(value.z), activated(value.w));
    }
    out[at] = vec4<elem_out>(value);
}

@compute @workgroup_size(THREADS)
fn tiled_wide(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    tile_of_product(params.first_group + group_index(group, groups), thread);
}
