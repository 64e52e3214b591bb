// log_softmax(x)_j = x_j - lse(x) over each row; one workgroup per row.
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
    let shift = log(stats.y);
    for (var col = lane; col < params.cols; col += WIDTH) {
        let i = row * params.cols + col;
        // The maximum first: the difference is small and exact, where max + log(sum) would round.
        out[i] = elem((f32(x[i]) - stats.x) - shift);
    }
}

@group(0) @binding(1) var<storage, read> y: array<elem>;
@group(0) @binding(2) var<storage, read> grad: array<elem>;
@group(0) @binding(3) var<storage, read_write> dx: array<elem>;

// dx = g - exp(y) sum(g)
@compute @workgroup_size(WIDTH)
fn backward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group_index(group, groups);
    if row >= params.rows { return; }
    var sum = 0.0;
    for (var col = lane; col < params.cols; col += WIDTH) {
        sum += f32(grad[row * params.cols + col]);
    }
    sum = workgroup_sum(sum, lane);
    for (var col = lane; col < params.cols; col += WIDTH) {
        let i = row * params.cols + col;
        dx[i] = elem(f32(grad[i]) - exp(f32(y[i])) * sum);
    }
}
