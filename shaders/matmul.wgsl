// The plain kernel of the product, which the others are checked against: any strides, straight from global memory, a tile of 4
// rows by 8 columns to an invocation. Rows and columns past the edge read the last one and are not written.
const THREADS: u32 = 8u; // on each side of a workgroup
const TILE_ROWS: u32 = 32u;
const TILE_COLS: u32 = 64u;

@compute @workgroup_size(8, 8)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) thread: vec3<u32>,
) {
    let tiles_across = (params.n + TILE_COLS - 1u) / TILE_COLS;
    let tiles_down = (params.m + TILE_ROWS - 1u) / TILE_ROWS;
    let tile = params.first_group + group_index(group, groups);
    let batch = tile / (tiles_across * tiles_down);
    if batch >= params.batches { return; }
    let within = tile % (tiles_across * tiles_down);
    let row = (within / tiles_across) * TILE_ROWS + thread.y * 4u;
    let col = (within % tiles_across) * TILE_COLS + thread.x;

    let origin = origins(batch);
    let last_row = params.m - 1u;
    let last_col = params.n - 1u;
    var a0 = origin.x + min(row, last_row) * params.a_row;
    var a1 = origin.x + min(row + 1u, last_row) * params.a_row;
    var a2 = origin.x + min(row + 2u, last_row) * params.a_row;
    var a3 = origin.x + min(row + 3u, last_row) * params.a_row;
    var b0 = origin.y + min(col, last_col) * params.b_col;
    var b1 = origin.y + min(col + THREADS, last_col) * params.b_col;
    var b2 = origin.y + min(col + 2u * THREADS, last_col) * params.b_col;
    var b3 = origin.y + min(col + 3u * THREADS, last_col) * params.b_col;
    var b4 = origin.y + min(col + 4u * THREADS, last_col) * params.b_col;
    var b5 = origin.y + min(col + 5u * THREADS, last_col) * params.b_col;
    var b6 = origin.y + min(col + 6u * THREADS, last_col) * params.b_col;
    var b7 = origin.y + min(col + 7u * THREADS, last_col) * params.b_col;
    var r0 = vec4(0.0); var s0 = vec4(0.0);
    var r1 = vec4(0.0); var s1 = vec4(0.0);
    var r2 = vec4(0.0); var s2 = vec4(0.0);
    var r3 = vec4(0.0); var s3 = vec4(0.0);
    for (var p = 0u; p < params.inner; p++) {
        let near = vec4(f32(b[b0]), f32(b[b1]), f32(b[b2]), f32(b[b3]));
        let far = vec4(f32(b[b4]), f32(b[b5]), f32(b[b6]), f32(b[b7]));
        let v0 = f32(a[a0]);
        let v1 = f32(a[a1]);
        let v2 = f32(a[a2]);
        let v3 = f32(a[a3]);
        r0 = fma(vec4(v0), near, r0); s0 = fma(vec4(v0), far, s0);
        r1 = fma(vec4(v1), near, r1); s1 = fma(vec4(v1), far, s1);
        r2 = fma(vec4(v2), near, r2); s2 = fma(vec4(v2), far, s2);
        r3 = fma(vec4(v3), near, r3); s3 = fma(vec4(v3), far, s3);
        a0 += params.a_col; a1 += params.a_col; a2 += params.a_col; a3 += params.a_col;
        b0 += params.b_row; b1 += params.b_row; b2 += params.b_row; b3 += params.b_row;
        b4 += params.b_row; b5 += params.b_row; b6 += params.b_row; b7 += params.b_row;
    }
    // One loop, so that the activation stands in the code once: 32 copies of it take a driver most of a second to compile.
    var sums = array(r0, s0, r1, s1, r2, s2, r3, s3);
    for (var i = 0u; i < 32u; i++) {
        put(batch, row + i / 8u, col + i % 8u * THREADS, sums[i / 4u][i % 4u]);
    }
}
