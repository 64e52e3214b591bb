// A tile of similarities that leaves as upstream * scale * G, G = probabilities - targets, where each row's own column is its target
// and nothing is masked: see gradient.
@group(0) @binding(3) var<storage, read> row_factors: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> col_factors: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> log_scale: array<f32>;
@group(0) @binding(6) var<storage, read_write> out: array<vec4<f32>>;

fn probability(z: f32, factor: vec4<f32>, scale: f32) -> f32 {
    // A line that does not count: nothing of it is finite of necessity.
    if factor.y == 0.0 { return 0.0; }
    return factor.y * exp(scale * (z - factor.x));
}

fn gradient_of(i: u32, j: u32, similarity: f32, row: vec4<f32>, scale: f32) -> f32 {
    let own = select(0.0, 1.0, i == j);
    var g = probability(similarity, row, scale);
    var away = row.z * own + row.w;
    if SYMMETRIC == 1u {
        let col = col_factors[j];
        g += probability(similarity, col, scale);
        away += col.z * own + col.w;
    }
    return g - away;
}

// One run of the inner axis is all of it.
fn put_four(batch: u32, row: u32, col: u32, sums: vec4<f32>, first: bool, last: bool) {
    if row >= params.m || col >= params.n { return; }
    let scale = exp(log_scale[0]);
    let i = params.first_row + row;
    let j = params.first_col + col;
    let of_row = row_factors[i];
    out[(row * params.n + col) / 4u] = vec4(
        gradient_of(i, j, sums.x, of_row, scale),
        gradient_of(i, j + 1u, sums.y, of_row, scale),
        gradient_of(i, j + 2u, sums.z, of_row, scale),
        gradient_of(i, j + 3u, sums.w, of_row, scale),
    );
}

@compute @workgroup_size(THREADS)
fn tiled_gradient(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    tile_of_product(params.first_group + group_index(group, groups), thread);
}
