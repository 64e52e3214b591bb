const WHOLE: bool = false;

fn a_whole(at: u32) -> vec4<f32> {
    return a_four(at, 4u);
}

fn b_whole(at: u32) -> vec4<f32> {
    return b_four(at, 4u);
}

// Up to `left` neighbouring elements from `at` on, then zeros.
fn a_four(at: u32, left: u32) -> vec4<f32> {
    var four = vec4(0.0);
    if left > 0u { four.x = f32(a[at]); }
    if left > 1u { four.y = f32(a[at + 1u]); }
    if left > 2u { four.z = f32(a[at + 2u]); }
    if left > 3u { four.w = f32(a[at + 3u]); }
    return four;
}

fn b_four(at: u32, left: u32) -> vec4<f32> {
    var four = vec4(0.0);
    if left > 0u { four.x = f32(b[at]); }
    if left > 1u { four.y = f32(b[at + 1u]); }
    if left > 2u { four.z = f32(b[at + 2u]); }
    if left > 3u { four.w = f32(b[at + 3u]); }
    return four;
}

fn put_four(batch: u32, row: u32, col: u32, sums: vec4<f32>, first: bool, last: bool) {
    put_part(batch, row, col, sums.x, first, last);
    put_part(batch, row, col + 1u, sums.y, first, last);
    put_part(batch, row, col + 2u, sums.z, first, last);
    put_part(batch, row, col + 3u, sums.w, first, last);
}

@compute @workgroup_size(THREADS)
fn tiled(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    tile_of_product(params.first_group + group_index(group, groups), thread);
}
