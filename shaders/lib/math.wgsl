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

// The complementary error function for v >= 0, by a Chebyshev fit with fractional error below 1.2e-7
// (Press et al., Numerical Recipes, 2nd edition, section 6.2).
fn erfc_positive(v: f32) -> f32 {
    let t = 1.0 / (1.0 + 0.5 * v);
    let fit = -1.26551223 + t * (1.00002368 + t * (0.37409196 + t * (0.09678418 + t * (-0.18628806
        + t * (0.27886807 + t * (-1.13520398 + t * (1.48851587 + t * (-0.82215223 + t * 0.17087277))))))));
    return t * exp(fit - v * v);
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

fn gelu_tanh_inner(v: f32) -> f32 {
    return 0.7978845608 * (v + 0.044715 * v * v * v);
}

// 0.5 (1 + tanh u) = sigmoid(2u)
fn gelu_tanh(v: f32) -> f32 {
    return v * sigmoid(2.0 * gelu_tanh_inner(v));
}

