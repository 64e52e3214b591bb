// A tile of similarities whose statistics leave it, and nothing else: of its rows and of its columns what the sweeps find, where each
// row's own column is its target and nothing is masked. Parts of a row are [tile across, row], those of a column [tile down,
// column]; merge_columns puts them together.
@group(0) @binding(3) var<storage, read> log_scale: array<f32>;
// (maximum, sum of exp(scale (z - maximum))) of a part.
@group(0) @binding(4) var<storage, read_write> row_stats: array<vec2<f32>>;
// (sum of target * similarity, sum of targets, sum of similarities, number of entries) of a part.
@group(0) @binding(5) var<storage, read_write> row_aims: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> col_stats: array<vec2<f32>>;
@group(0) @binding(7) var<storage, read_write> col_aims: array<vec4<f32>>;

const LOWEST: f32 = -3.4028234e38;

// Numbers of an invocation's eight rows, or columns.
struct Eight {
    near: vec4<f32>,
    far: vec4<f32>,
}

// Brings what invocations have of the tile's lines to those that reduce four lines each: the first of them rows, the next columns.
fn exchange(rows: Eight, cols: Eight, spot: Spot) {
    workgroupBarrier();
    rows_of_a[spot.across * FOURS_DOWN + spot.down] = rows.near;
    rows_of_a[spot.across * FOURS_DOWN + FOURS_DOWN / 2u + spot.down] = rows.far;
    columns_of_b[spot.down * FOURS_ACROSS + spot.across] = cols.near;
    columns_of_b[spot.down * FOURS_ACROSS + FOURS_ACROSS / 2u + spot.across] = cols.far;
    workgroupBarrier();
}

fn reduced_sum(thread: u32) -> vec4<f32> {
    var sum = vec4(0.0);
    if thread < FOURS_DOWN {
        for (var i = 0u; i < FOURS_ACROSS / 2u; i++) { sum += rows_of_a[i * FOURS_DOWN + thread]; }
    } else if thread < FOURS_DOWN + FOURS_ACROSS {
        for (var i = 0u; i < FOURS_DOWN / 2u; i++) { sum += columns_of_b[i * FOURS_ACROSS + thread - FOURS_DOWN]; }
    }
    return sum;
}

// The largest of four lines each, left where everybody finds those of their own lines too.
fn reduced_max(thread: u32) -> vec4<f32> {
    var top = vec4(LOWEST);
    if thread < FOURS_DOWN {
        for (var i = 0u; i < FOURS_ACROSS / 2u; i++) { top = max(top, rows_of_a[i * FOURS_DOWN + thread]); }
        rows_of_a[thread] = top;
    } else if thread < FOURS_DOWN + FOURS_ACROSS {
        let own = thread - FOURS_DOWN;
        for (var i = 0u; i < FOURS_DOWN / 2u; i++) { top = max(top, columns_of_b[i * FOURS_ACROSS + own]); }
        columns_of_b[own] = top;
    }
    workgroupBarrier();
    return top;
}

// A block of four by four with another value where an entry is past the edge.
fn within(block: mat4x4<f32>, row: vec4<u32>, col: vec4<u32>, other: f32) -> mat4x4<f32> {
    let cols = col < vec4(params.n);
    let past = vec4(other);
    return mat4x4(
        select(past, block[0], cols & vec4(row.x < params.m)),
        select(past, block[1], cols & vec4(row.y < params.m)),
        select(past, block[2], cols & vec4(row.z < params.m)),
        select(past, block[3], cols & vec4(row.w < params.m)),
    );
}

fn within_all(sums: Sums, row: vec4<u32>, col: vec4<u32>, other: f32) -> Sums {
    let far_row = row + TILE_ROWS / 2u;
    let far_col = col + TILE_COLS / 2u;
    return Sums(
        within(sums.near, row, col, other),
        within(sums.right, row, far_col, other),
        within(sums.below, far_row, col, other),
        within(sums.far, far_row, far_col, other),
    );
}

fn block_max(block: mat4x4<f32>) -> vec4<f32> {
    return max(max(block[0], block[1]), max(block[2], block[3]));
}

fn block_sum(block: mat4x4<f32>) -> vec4<f32> {
    return (block[0] + block[1]) + (block[2] + block[3]);
}

fn rows_max(sums: Sums) -> Eight {
    return Eight(
        max(block_max(transpose(sums.near)), block_max(transpose(sums.right))),
        max(block_max(transpose(sums.below)), block_max(transpose(sums.far))),
    );
}

fn cols_max(sums: Sums) -> Eight {
    return Eight(
        max(block_max(sums.near), block_max(sums.below)),
        max(block_max(sums.right), block_max(sums.far)),
    );
}

fn rows_sum(sums: Sums) -> Eight {
    return Eight(
        block_sum(transpose(sums.near)) + block_sum(transpose(sums.right)),
        block_sum(transpose(sums.below)) + block_sum(transpose(sums.far)),
    );
}

fn cols_sum(sums: Sums) -> Eight {
    return Eight(block_sum(sums.near) + block_sum(sums.below), block_sum(sums.right) + block_sum(sums.far));
}

// exp(scale (z - top)) of a block whose rows have one maximum each; of columns the block is turned before.
fn exponentials(block: mat4x4<f32>, top: vec4<f32>, scale: f32) -> mat4x4<f32> {
    return mat4x4(
        exp(scale * (block[0] - top.x)),
        exp(scale * (block[1] - top.y)),
        exp(scale * (block[2] - top.z)),
        exp(scale * (block[3] - top.w)),
    );
}

fn exponentials_of_rows(sums: Sums, top: Eight, scale: f32) -> Sums {
    return Sums(
        exponentials(sums.near, top.near, scale),
        exponentials(sums.right, top.near, scale),
        exponentials(sums.below, top.far, scale),
        exponentials(sums.far, top.far, scale),
    );
}

fn exponentials_of_cols(sums: Sums, top: Eight, scale: f32) -> Sums {
    return Sums(
        transpose(exponentials(transpose(sums.near), top.near, scale)),
        transpose(exponentials(transpose(sums.right), top.far, scale)),
        transpose(exponentials(transpose(sums.below), top.near, scale)),
        transpose(exponentials(transpose(sums.far), top.far, scale)),
    );
}

fn targets(block: mat4x4<f32>, row: vec4<u32>, col: vec4<u32>) -> mat4x4<f32> {
    let i = row + params.first_row;
    let j = col + params.first_col;
    let none = vec4(0.0);
    return mat4x4(
        select(none, block[0], j == vec4(i.x)),
        select(none, block[1], j == vec4(i.y)),
        select(none, block[2], j == vec4(i.z)),
        select(none, block[3], j == vec4(i.w)),
    );
}

@compute @workgroup_size(THREADS)
fn tiled_sweep(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let tile = params.first_group + group_index(group, groups);
    if tile >= tiles_of_one() { return; }
    let spot = spot_of(tile, thread);
    let sums = sum_of_run(thread, origins(0u), spot, 0u, params.inner);
    let scale = exp(log_scale[0]);
    let row = spot.row + 4u * spot.down + vec4(0u, 1u, 2u, 3u);
    let col = spot.col + 4u * spot.across + vec4(0u, 1u, 2u, 3u);

    let entries = within_all(sums, row, col, LOWEST);
    exchange(rows_max(entries), cols_max(entries), spot);
    let top = reduced_max(thread);
    let row_top = Eight(rows_of_a[spot.down], rows_of_a[FOURS_DOWN / 2u + spot.down]);
    let col_top = Eight(columns_of_b[spot.across], columns_of_b[FOURS_ACROSS / 2u + spot.across]);
    // Past the edge a line has no maximum, and an entry none of its own.
    let of_rows = within_all(exponentials_of_rows(sums, row_top, scale), row, col, 0.0);
    let of_cols = within_all(exponentials_of_cols(sums, col_top, scale), row, col, 0.0);
    exchange(rows_sum(of_rows), cols_sum(of_cols), spot);
    let sum = reduced_sum(thread);
    let plain = within_all(sums, row, col, 0.0);
    exchange(rows_sum(plain), cols_sum(plain), spot);
    let similarities = reduced_sum(thread);
    let far_row = row + TILE_ROWS / 2u;
    let far_col = col + TILE_COLS / 2u;
    let own = Sums(
        targets(plain.near, row, col),
        targets(plain.right, row, far_col),
        targets(plain.below, far_row, col),
        targets(plain.far, far_row, far_col),
    );
    exchange(rows_sum(own), cols_sum(own), spot);
    let aim = reduced_sum(thread);

    let rows_here = min(TILE_ROWS, params.m - spot.row);
    let cols_here = min(TILE_COLS, params.n - spot.col);
    let first_row = params.first_row + spot.row;
    let first_col = params.first_col + spot.col;
    for (var n = 0u; n < 4u; n++) {
        if thread < FOURS_DOWN {
            let line = spot.row + 4u * thread + n;
            if line >= params.m { break; }
            let at = spot.col / TILE_COLS * params.m + line;
            let has_own = first_col <= params.first_row + line && params.first_row + line < first_col + cols_here;
            row_stats[at] = vec2(top[n], sum[n]);
            row_aims[at] = vec4(aim[n], select(0.0, 1.0, has_own), similarities[n], f32(cols_here));
        } else if SYMMETRIC == 1u && thread < FOURS_DOWN + FOURS_ACROSS {
            let line = spot.col + 4u * (thread - FOURS_DOWN) + n;
            if line >= params.n { break; }
            let at = spot.row / TILE_ROWS * params.n + line;
            let has_own = first_row <= params.first_col + line && params.first_col + line < first_row + rows_here;
            col_stats[at] = vec2(top[n], sum[n]);
            col_aims[at] = vec4(aim[n], select(0.0, 1.0, has_own), similarities[n], f32(rows_here));
        }
    }
}
