// Four rows by four columns to an invocation, whatever matrix they are of: many small products fill a workgroup.
@compute @workgroup_size(64)
fn small(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let across = (params.n + 3u) / 4u;
    let down = (params.m + 3u) / 4u;
    let unit = (params.first_group + group_index(group, groups)) * 64u + thread;
    let batch = unit / (across * down);
    if batch >= params.batches { return; }
    let row = unit % (across * down) / across * 4u;
    let col = unit % across * 4u;
    let origin = origins(batch);
    let four = vec4(0u, 1u, 2u, 3u);
    var from_a = origin.x + min(row + four, vec4(params.m - 1u)) * params.a_row;
    var from_b = origin.y + min(col + four, vec4(params.n - 1u)) * params.b_col;
    var sums = mat4x4<f32>();
    for (var p = 0u; p < params.inner; p++) {
        let x = vec4(f32(a[from_a.x]), f32(a[from_a.y]), f32(a[from_a.z]), f32(a[from_a.w]));
        let y = vec4(f32(b[from_b.x]), f32(b[from_b.y]), f32(b[from_b.z]), f32(b[from_b.w]));
        sums = add_outer(sums, x, y);
        from_a += vec4(params.a_col);
        from_b += vec4(params.b_row);
    }
    for (var r = 0u; r < 4u; r++) {
        put(batch, row + r, col, sums[r].x);
        put(batch, row + r, col + 1u, sums[r].y);
        put(batch, row + r, col + 2u, sums[r].z);
        put(batch, row + r, col + 3u, sums[r].w);
    }
}
