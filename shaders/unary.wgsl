// out = f(x), element by element; f by its number in ops/unary.rs.
struct Params { count: u32, kind: u32, alpha: f32, beta: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<elem>;
@group(0) @binding(2) var<storage, read_write> out: array<elem>;

@compute @workgroup_size(256)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_index(group, groups) * 256u + lane;
    if i >= params.count { return; }
    out[i] = elem(activation(params.kind, f32(x[i]), params.alpha, params.beta));
}

@group(0) @binding(2) var<storage, read> grad: array<elem>;
@group(0) @binding(3) var<storage, read_write> dx: array<elem>;

fn derivative(v: f32) -> f32 {
    // For the two forms of gelu: flat beyond 30, where the powers of a huge number would overflow.
    let near = clamp(v, -30.0, 30.0);
    switch params.kind {
        case 1u: { return params.alpha; }
        case 2u: { return exp(v); }
        case 3u: { return 1.0 / v; }
        case 4u: {
            // 1 - tanh^2 without its cancellation: 4 e / (1 + e)^2 with e = exp(-2|v|)
            let e = exp(-2.0 * abs(v));
            return 4.0 * e / ((1.0 + e) * (1.0 + e));
        }
        case 5u: {
            let e = exp(-abs(v));
            return e / ((1.0 + e) * (1.0 + e));
        }
        case 6u: { return select(0.0, 1.0, v > 0.0); }
        case 7u: { return normal_cdf(v) + near * INV_SQRT_2PI * exp(-0.5 * near * near); }
        case 8u: {
            let s = sigmoid(2.0 * gelu_tanh_inner(v));
            let inner = 0.7978845608 * (1.0 + 3.0 * 0.044715 * near * near);
            return s + near * 2.0 * s * sigmoid(-2.0 * gelu_tanh_inner(v)) * inner;
        }
        case 9u: { return select(0.0, 1.0, v >= params.alpha && v <= params.beta); }
        case 10u: { return sigmoid(v); }
        case 11u: {
            if v == 0.0 { return 0.0; }
            if params.alpha == 0.5 { return 0.5 / sqrt(v); }
            return params.alpha * power(v, params.alpha - 1.0);
        }
        default: { return 1.0; }
    }
}

// dx = g f'(x)
@compute @workgroup_size(256)
fn backward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group_index(group, groups) * 256u + lane;
    if i >= params.count { return; }
    dx[i] = elem(f32(grad[i]) * derivative(f32(x[i])));
}
