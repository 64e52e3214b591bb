// lse(x) of each row, for drivers on a CPU: an invocation goes once through a row, and its sum follows the largest logit so far.
@group(0) @binding(1) var<storage, read> x: array<u64>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;

const WIDTH: u32 = 64u;

fn four(pair: u32, first: u32) -> vec4<f32> {
    let near = numbers(x[pair], is_inside(pair, first), MINUS_INFINITY);
    let far = numbers(x[pair + 1u], is_inside(pair + 1u, first), MINUS_INFINITY);
    return vec4(near, far);
}

@compute @workgroup_size(WIDTH)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    // Invocations behind the last row do that one again.
    let row = min(group_index(group, groups) * WIDTH + lane, params.rows - 1u);
    let first = row * params.cols;
    let end = (first + params.cols + 1u) / 2u;
    var largest = LOWEST;
    var sums = vec4(0.0);
    for (var pair = first / 2u; pair < end; pair += 4u) {
        let near = four(pair, first);
        let far = four(pair + 2u, first);
        let both = max(near, far);
        let next = max(max(largest, max(both.x, both.y)), max(both.z, both.w));
        sums = sums * exp(largest - next) + (exp(near - next) + exp(far - next));
        largest = next;
    }
    out[row] = largest + log((sums.x + sums.y) + (sums.z + sums.w));
}
