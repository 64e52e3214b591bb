// out = x^ weight + bias, x^ = (x - mean) / sqrt(variance + eps) of each row; one workgroup per row. Not centred, the mean is
// taken to be 0: the root mean square.
//
// The mean is that of the distances from the row's first element, and is kept so: of a row far from 0 it has digits that the mean
// itself would not.
struct Params { rows: u32, cols: u32, chunk: u32, chunks: u32, centred: u32, biased: u32, root_eps: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<elem>;
@group(0) @binding(2) var<storage, read> weight: array<elem>;
@group(0) @binding(3) var<storage, read> bias: array<elem>;
@group(0) @binding(4) var<storage, read_write> out: array<elem>;
// mean - origin and 1 / sqrt(variance + eps) of each row
@group(0) @binding(5) var<storage, read_write> moments: array<f32>;

fn origin(base: u32) -> f32 {
    return select(0.0, f32(x[base]), params.centred == 1u);
}

@compute @workgroup_size(WIDTH)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group_index(group, groups);
    if row >= params.rows { return; }
    let base = row * params.cols;
    let first = origin(base);
    var mean = 0.0;
    for (var col = lane; col < params.cols; col += WIDTH) {
        mean += f32(x[base + col]) - first;
    }
    mean = select(0.0, workgroup_sum(mean, lane) / f32(params.cols), params.centred == 1u);
    // Scaled by the largest deviation, or by the root of eps where that is larger: no square overflows, and they do not all vanish.
    var largest = params.root_eps;
    for (var col = lane; col < params.cols; col += WIDTH) {
        largest = max(largest, abs(f32(x[base + col]) - first - mean));
    }
    largest = workgroup_max(largest, lane);
    var squares = 0.0;
    for (var col = lane; col < params.cols; col += WIDTH) {
        let v = (f32(x[base + col]) - first - mean) / largest;
        squares += v * v;
    }
    let least = params.root_eps / largest;
    let variance = workgroup_sum(squares, lane) / f32(params.cols) + least * least;
    let factor = 1.0 / (largest * sqrt(variance));
    for (var col = lane; col < params.cols; col += WIDTH) {
        let offset = select(0.0, f32(bias[col]), params.biased == 1u);
        out[base + col] = elem((f32(x[base + col]) - first - mean) * factor * f32(weight[col]) + offset);
    }
    if lane == 0u {
        moments[2u * row] = mean;
        moments[2u * row + 1u] = factor;
    }
}

@group(0) @binding(2) var<storage, read> kept: array<f32>;
@group(0) @binding(3) var<storage, read> grad: array<elem>;
@group(0) @binding(4) var<storage, read> scale: array<elem>;
@group(0) @binding(5) var<storage, read_write> dx: array<elem>;

// dx = (h - <h>/n - x^ <x^, h>/n) / sqrt(variance + eps), h = grad weight; not centred, without the mean of h
@compute @workgroup_size(WIDTH)
fn backward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group_index(group, groups);
    if row >= params.rows { return; }
    let base = row * params.cols;
    let first = origin(base);
    let mean = kept[2u * row];
    let factor = kept[2u * row + 1u];
    var sum = 0.0;
    var dot = 0.0;
    for (var col = lane; col < params.cols; col += WIDTH) {
        let h = f32(grad[base + col]) * f32(scale[col]);
        sum += h;
        dot += h * ((f32(x[base + col]) - first - mean) * factor);
    }
    sum = select(0.0, workgroup_sum(sum, lane) / f32(params.cols), params.centred == 1u);
    dot = workgroup_sum(dot, lane) / f32(params.cols);
    for (var col = lane; col < params.cols; col += WIDTH) {
        let i = base + col;
        let hat = (f32(x[i]) - first - mean) * factor;
        dx[i] = elem((f32(grad[i]) * f32(scale[col]) - sum - hat * dot) * factor);
    }
}

@group(0) @binding(4) var<storage, read_write> sums: array<elem_out>;

// The weight's gradient, the sum of grad x^ over rows, by chunks of rows: sums [chunks, cols]. One invocation per sum,
// neighbours reading neighbouring columns.
@compute @workgroup_size(256)
fn weight_sums(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_index(group, groups) * 256u + lane;
    if i >= params.chunks * params.cols { return; }
    let col = i % params.cols;
    let chunk = i / params.cols;
    let end = min((chunk + 1u) * params.chunk, params.rows);
    var sum = 0.0;
    for (var row = chunk * params.chunk; row < end; row++) {
        let base = row * params.cols;
        let hat = (f32(x[base + col]) - origin(base) - kept[2u * row]) * kept[2u * row + 1u];
        sum += f32(grad[base + col]) * hat;
    }
    sums[i] = elem_out(sum);
}
