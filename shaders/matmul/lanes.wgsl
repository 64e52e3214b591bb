// 32 rows by 64 columns to a subgroup of eight, straight from global memory: an invocation reads four elements of A and eight
// of B for 256 multiply-adds, and the elements of A go round by broadcasts. For drivers where a load from any memory is dear:
// those that run on a CPU.
const LANES: u32 = 8u;

fn lower_lanes(own: f32) -> vec4<f32> {
    return vec4(subgroupBroadcast(own, 0u), subgroupBroadcast(own, 1u), subgroupBroadcast(own, 2u), subgroupBroadcast(own, 3u));
}

fn upper_lanes(own: f32) -> vec4<f32> {
    return vec4(subgroupBroadcast(own, 4u), subgroupBroadcast(own, 5u), subgroupBroadcast(own, 6u), subgroupBroadcast(own, 7u));
}

// Neither bias nor activation: what stands here stands 32 times in the code, and a driver has to compile it.
fn put_sum(at: u32, stays: bool, sum: f32) {
    if !stays { return; }
    if ACCUMULATE == 1u {
        out[at] = elem_out(sum * params.scale + f32(out[at]));
    } else {
        out[at] = elem_out(sum * params.scale);
    }
}

fn put_row(row: u32, at: u32, left: u32, near: vec4<f32>, far: vec4<f32>) {
    if row >= params.m { return; }
    put_sum(at, left > 0u, near.x);
    put_sum(at + LANES, left > LANES, near.y);
    put_sum(at + 2u * LANES, left > 2u * LANES, near.z);
    put_sum(at + 3u * LANES, left > 3u * LANES, near.w);
    put_sum(at + 4u * LANES, left > 4u * LANES, far.x);
    put_sum(at + 5u * LANES, left > 5u * LANES, far.y);
    put_sum(at + 6u * LANES, left > 6u * LANES, far.z);
    put_sum(at + 7u * LANES, left > 7u * LANES, far.w);
}

fn put_rows(batch: u32, row: u32, col: u32, near: mat4x4<f32>, far: mat4x4<f32>) {
    let at = params.out_offset + (batch * params.m + row) * params.n + col;
    let left = params.n - min(col, params.n);
    put_row(row, at, left, near[0], far[0]);
    put_row(row + 1u, at + params.n, left, near[1], far[1]);
    put_row(row + 2u, at + 2u * params.n, left, near[2], far[2]);
    put_row(row + 3u, at + 3u * params.n, left, near[3], far[3]);
}

@compute @workgroup_size(LANES)
fn lanes(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let tiles_across = (params.n + 63u) / 64u;
    let tiles_down = (params.m + 31u) / 32u;
    let tile = params.first_group + group_index(group, groups);
    let batch = tile / (tiles_across * tiles_down);
    if batch >= params.batches { return; }
    let row = tile % (tiles_across * tiles_down) / tiles_across * 32u;
    let col = tile % tiles_across * 64u + lane;
    let origin = origins(batch);
    // Rows and columns past the edge read the last one, and are not written.
    let eighths = vec4(0u, LANES, 2u * LANES, 3u * LANES);
    var from_a = origin.x + min(row + lane + eighths, vec4(params.m - 1u)) * params.a_row;
    var from_b = origin.y + min(col + eighths, vec4(params.n - 1u)) * params.b_col;
    var from_far_b = origin.y + min(col + 4u * LANES + eighths, vec4(params.n - 1u)) * params.b_col;
    var near0 = mat4x4<f32>(); var far0 = mat4x4<f32>();
    var near1 = mat4x4<f32>(); var far1 = mat4x4<f32>();
    var near2 = mat4x4<f32>(); var far2 = mat4x4<f32>();
    var near3 = mat4x4<f32>(); var far3 = mat4x4<f32>();
    var near4 = mat4x4<f32>(); var far4 = mat4x4<f32>();
    var near5 = mat4x4<f32>(); var far5 = mat4x4<f32>();
    var near6 = mat4x4<f32>(); var far6 = mat4x4<f32>();
    var near7 = mat4x4<f32>(); var far7 = mat4x4<f32>();
    for (var p = 0u; p < params.inner; p++) {
        let own = vec4(f32(a[from_a.x]), f32(a[from_a.y]), f32(a[from_a.z]), f32(a[from_a.w]));
        let near = vec4(f32(b[from_b.x]), f32(b[from_b.y]), f32(b[from_b.z]), f32(b[from_b.w]));
        let far = vec4(f32(b[from_far_b.x]), f32(b[from_far_b.y]), f32(b[from_far_b.z]), f32(b[from_far_b.w]));
        from_a += vec4(params.a_col);
        from_b += vec4(params.b_row);
        from_far_b += vec4(params.b_row);
        let x0 = lower_lanes(own.x); near0 = add_outer(near0, x0, near); far0 = add_outer(far0, x0, far);
        let x1 = upper_lanes(own.x); near1 = add_outer(near1, x1, near); far1 = add_outer(far1, x1, far);
        let x2 = lower_lanes(own.y); near2 = add_outer(near2, x2, near); far2 = add_outer(far2, x2, far);
        let x3 = upper_lanes(own.y); near3 = add_outer(near3, x3, near); far3 = add_outer(far3, x3, far);
        let x4 = lower_lanes(own.z); near4 = add_outer(near4, x4, near); far4 = add_outer(far4, x4, far);
        let x5 = upper_lanes(own.z); near5 = add_outer(near5, x5, near); far5 = add_outer(far5, x5, far);
        let x6 = lower_lanes(own.w); near6 = add_outer(near6, x6, near); far6 = add_outer(far6, x6, far);
        let x7 = upper_lanes(own.w); near7 = add_outer(near7, x7, near); far7 = add_outer(far7, x7, far);
    }
    // One after the other by the names of the first: the stores stand once in the code that a driver has to compile, not eight times.
    for (var down = 0u; down < 32u; down += 4u) {
        put_rows(batch, row + down, col, near0, far0);
        near0 = near1; far0 = far1;
        near1 = near2; far1 = far2;
        near2 = near3; far2 = far3;
        near3 = near4; far3 = far4;
        near4 = near5; far4 = far5;
        near5 = near6; far5 = far6;
        near6 = near7; far6 = far7;
    }
}
