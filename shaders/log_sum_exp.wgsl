// lse(x) = max + log(sum exp(x - max)) of each row; one workgroup per row.
struct Params { rows: u32, cols: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<elem>;
@group(0) @binding(2) var<storage, read_write> out: array<elem>;

@compute @workgroup_size(WIDTH)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group_index(group, groups);
    if row >= params.rows { return; }
    let stats = row_stats(row, params.cols, lane);
    if lane == 0u {
        out[row] = elem(stats.x + log(stats.y));
    }
}

@group(0) @binding(2) var<storage, read> grad: array<elem>;
@group(0) @binding(3) var<storage, read_write> dx: array<elem>;

// dx_j = g softmax(x)_j
@compute @workgroup_size(WIDTH)
fn backward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group_index(group, groups);
    if row >= params.rows { return; }
    let stats = row_stats(row, params.cols, lane);
    for (var col = lane; col < params.cols; col += WIDTH) {
        let i = row * params.cols + col;
        dx[i] = elem(f32(grad[row]) * (exp(f32(x[i]) - stats.x) / stats.y));
    }
}
