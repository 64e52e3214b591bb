// Functions that WGSL lacks, or gives with too little accuracy or range.

fn sigmoid(v: f32) -> f32 {
    // The exponential of a negative number only: no overflow.
    let e = exp(-abs(v));
    return select(1.0, e, v < 0.0) / (1.0 + e);
}

fn accurate_tanh(v: f32) -> f32 {
    let magnitude = abs(v);
    if magnitude < 0.3 {
        // (1 - e)/(1 + e) would cancel here; the odd series to v^9 is within 2^-24 relative.
        let s = v * v;
        return v * (1.0 + s * (-0.33333333 + s * (0.13333333 + s * (-0.053968254 + s * 0.021869488))));
    }
    let e = exp(-2.0 * magnitude);
    return sign(v) * ((1.0 - e) / (1.0 + e));
}

// The complementary error function for v >= 0: t exp(p(t) - v^2) with t = 1/(1 + v/2). p is our own least-squares fit of
// degree 9 on Chebyshev nodes of t in [0.15, 1], within 5.6e-8 of the logarithm; beyond it erfc is below the least f32.
fn erfc_positive(w: f32) -> f32 {
    // Beyond 20 it is 0 in f32, and the square of a huge number would overflow.
    let v = min(w, 20.0);
    let t = 1.0 / (1.0 + 0.5 * v);
    let low = -1.2654739 + t * (0.9991688 + t * (0.381963899 + t * (0.0572463485 + t * -0.0660282761)));
    let high = 0.0475086061 + t * (-0.851879443 + t * (1.27436159 + t * (-0.731059301 + t * 0.154191726)));
    let t2 = t * t;
    return t * exp(low + t2 * t2 * t * high - v * v);
}

const SQRT_HALF: f32 = 0.70710678;
const INV_SQRT_2PI: f32 = 0.39894228;

// The normal distribution function: no cancellation in the left tail.
fn normal_cdf(v: f32) -> f32 {
    let tail = 0.5 * erfc_positive(abs(v) * SQRT_HALF);
    return select(1.0 - tail, tail, v < 0.0);
}

fn gelu(v: f32) -> f32 {
    return v * normal_cdf(v);
}

fn gelu_tanh_inner(w: f32) -> f32 {
    // Beyond 30 the sigmoid around it is 0 or 1, and the cube of a huge number would overflow.
    let v = clamp(w, -30.0, 30.0);
    return 0.7978845608 * (v + 0.044715 * v * v * v);
}

// 0.5 (1 + tanh u) = sigmoid(2u)
fn gelu_tanh(v: f32) -> f32 {
    return v * sigmoid(2.0 * gelu_tanh_inner(v));
}

// ln(1 + v) for v in [0, 1]: near 0 the sum would lose v; the series to v^6 is within 2^-24 relative up to 1/16.
fn log_1p(v: f32) -> f32 {
    if v < 0.0625 {
        return v * (1.0 + v * (-0.5 + v * (0.33333333 + v * (-0.25 + v * (0.2 + v * -0.16666667)))));
    }
    return log(1.0 + v);
}

// ln(1 + e^v) without overflow.
fn softplus(v: f32) -> f32 {
    return max(v, 0.0) + log_1p(exp(-abs(v)));
}

// v^p for v >= 0; the frequent powers without logarithm and exponential.
fn power(v: f32, p: f32) -> f32 {
    if p == 0.0 { return 1.0; }
    if p == 0.5 { return sqrt(v); }
    if p == 1.0 { return v; }
    if p == 2.0 { return v * v; }
    if p == -1.0 { return 1.0 / v; }
    if v == 0.0 { return 0.0; }
    return pow(v, p);
}
