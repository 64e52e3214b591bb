// out = x / |x| of each row, 0 for the zero row; one workgroup per row. Scaled by the largest entry first, so that
// rows of 1e-20 and of 1e20 neither vanish nor overflow.
struct Params { rows: u32, cols: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<elem>;
@group(0) @binding(2) var<storage, read_write> out: array<elem>;
@group(0) @binding(3) var<storage, read_write> norm: array<f32>;

@compute @workgroup_size(WIDTH)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group_index(group, groups);
    if row >= params.rows { return; }
    let base = row * params.cols;
    var largest = 0.0;
    for (var col = lane; col < params.cols; col += WIDTH) {
        largest = max(largest, abs(f32(x[base + col])));
    }
    largest = workgroup_max(largest, lane);
    let scale = select(largest, 1.0, largest == 0.0);
    var sum = 0.0;
    for (var col = lane; col < params.cols; col += WIDTH) {
        let v = f32(x[base + col]) / scale;
        sum += v * v;
    }
    let root = sqrt(workgroup_sum(sum, lane));
    let divisor = select(root, 1.0, largest == 0.0);
    for (var col = lane; col < params.cols; col += WIDTH) {
        out[base + col] = elem(f32(x[base + col]) / scale / divisor);
    }
    if lane == 0u {
        norm[row] = largest * root;
    }
}

@group(0) @binding(1) var<storage, read> y: array<elem>;
@group(0) @binding(2) var<storage, read> length: array<f32>;
@group(0) @binding(3) var<storage, read> grad: array<elem>;
@group(0) @binding(4) var<storage, read_write> dx: array<elem>;

// dx = (g - y <y, g>) / |x|, 0 for the zero row
@compute @workgroup_size(WIDTH)
fn backward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group_index(group, groups);
    if row >= params.rows { return; }
    let base = row * params.cols;
    var dot = 0.0;
    for (var col = lane; col < params.cols; col += WIDTH) {
        dot += f32(y[base + col]) * f32(grad[base + col]);
    }
    dot = workgroup_sum(dot, lane);
    let zero = length[row] == 0.0;
    let divisor = select(length[row], 1.0, zero);
    for (var col = lane; col < params.cols; col += WIDTH) {
        let i = base + col;
        dx[i] = elem(select((f32(grad[i]) - f32(y[i]) * dot) / divisor, 0.0, zero));
    }
}
