// The elementwise functions by their number in ops/unary.rs; alpha and beta are the function's constants.
fn activation(kind: u32, v: f32, alpha: f32, beta: f32) -> f32 {
    switch kind {
        case 1u: { return v * alpha; }
        case 2u: { return exp(v); }
        case 3u: { return log(v); }
        case 4u: { return accurate_tanh(v); }
        case 5u: { return sigmoid(v); }
        case 6u: { return max(v, 0.0); }
        case 7u: { return gelu(v); }
        case 8u: { return gelu_tanh(v); }
        case 9u: { return clamp(v, alpha, beta); }
        case 10u: { return softplus(v); }
        case 11u: { return power(v, alpha); }
        case 12u: { return v + alpha; }
        default: { return v; }
    }
}

