// The softmax of rows in registers, for drivers on a CPU.
@group(0) @binding(1) var<storage, read> x: array<u64>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(WIDTH)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let thread = subgroup * SUBGROUP + lane;
    let row = row_begin(group_index(group, groups), thread);
    let first = first_pair(row, thread);
    var values: array<vec2<f32>, PAIRS>;
    var largest = vec2(LOWEST);
    for (var i = 0u; i < PAIRS; i++) {
        let pair = first + i * STEP;
        values[i] = numbers(x[pair], is_inside(pair, row), MINUS_INFINITY);
        largest = max(largest, values[i]);
    }
    let most = part_max(max(largest.x, largest.y));
    var sum = vec2(0.0);
    for (var i = 0u; i < PAIRS; i++) {
        values[i] = exp(values[i] - most);
        sum += values[i];
    }
    let scale = 1.0 / row_sum(most, part_sum(sum.x + sum.y), thread);
    for (var i = 0u; i < PAIRS; i++) {
        let pair = first + i * STEP;
        let inside = is_inside(pair, row);
        if inside.x { out[2u * pair] = values[i].x * scale; }
        if inside.y { out[2u * pair + 1u] = values[i].y * scale; }
    }
}

@group(0) @binding(1) var<storage, read> y: array<u64>;
@group(0) @binding(2) var<storage, read> grad: array<u64>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;

// dx = y (g - <y, g>)
@compute @workgroup_size(WIDTH)
fn backward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let thread = subgroup * SUBGROUP + lane;
    let row = row_begin(group_index(group, groups), thread);
    let first = first_pair(row, thread);
    var ys: array<vec2<f32>, PAIRS>;
    var grads: array<vec2<f32>, PAIRS>;
    var products = vec2(0.0);
    for (var i = 0u; i < PAIRS; i++) {
        let pair = first + i * STEP;
        let inside = is_inside(pair, row);
        ys[i] = numbers(y[pair], inside, 0u);
        grads[i] = numbers(grad[pair], inside, 0u);
        products += ys[i] * grads[i];
    }
    let dot = row_sum(0.0, part_sum(products.x + products.y), thread);
    for (var i = 0u; i < PAIRS; i++) {
        let pair = first + i * STEP;
        let inside = is_inside(pair, row);
        let values = ys[i] * (grads[i] - dot);
        if inside.x { dx[2u * pair] = values.x; }
        if inside.y { dx[2u * pair + 1u] = values.y; }
    }
}
