// The maximum and the shifted sum of exponentials of row `row` of x [rows, cols]: lse = max + log(sum), sum >= 1 for cols > 0.
fn row_stats(row: u32, cols: u32, lane: u32) -> vec2<f32> {
    var largest = LOWEST;
    for (var col = lane; col < cols; col += WIDTH) {
        largest = max(largest, f32(x[row * cols + col]));
    }
    largest = workgroup_max(largest, lane);
    var sum = 0.0;
    for (var col = lane; col < cols; col += WIDTH) {
        sum += exp(f32(x[row * cols + col]) - largest);
    }
    return vec2(largest, workgroup_sum(sum, lane));
}

