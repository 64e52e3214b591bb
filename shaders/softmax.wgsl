// softmax(x)_j = exp(x_j - lse(x)) over each row; one workgroup per row.
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
    for (var col = lane; col < params.cols; col += WIDTH) {
        let i = row * params.cols + col;
        out[i] = elem(exp(f32(x[i]) - stats.x) / stats.y);
    }
}

@group(0) @binding(1) var<storage, read> y: array<elem>;
@group(0) @binding(2) var<storage, read> grad: array<elem>;
@group(0) @binding(3) var<storage, read_write> dx: array<elem>;

// dx = y (g - <y, g>)
@compute @workgroup_size(WIDTH)
fn backward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group_index(group, groups);
    if row >= params.rows { return; }
    var dot = 0.0;
    for (var col = lane; col < params.cols; col += WIDTH) {
        let i = row * params.cols + col;
        dot += f32(y[i]) * f32(grad[i]);
    }
    dot = workgroup_sum(dot, lane);
    for (var col = lane; col < params.cols; col += WIDTH) {
        let i = row * params.cols + col;
        dx[i] = elem(f32(y[i]) * (f32(grad[i]) - dot));
    }
}
