// What the gradients of attention make of four pairs of a query and a key at a time.
@group(0) @binding(6) var<storage, read> stats_of: array<u32>;

fn lse_of(head: Head, i: u32) -> f32 {
    return finite(stats_of[2u * (head.line + min(i, params.queries - 1u))]);
}

fn delta_of(head: Head, i: u32) -> f32 {
    return bitcast<f32>(stats_of[2u * (head.line + min(i, params.queries - 1u)) + 1u]);
}

fn lses(head: Head, i: vec4<u32>) -> vec4<f32> {
    return vec4(lse_of(head, i.x), lse_of(head, i.y), lse_of(head, i.z), lse_of(head, i.w));
}

fn deltas(head: Head, i: vec4<u32>) -> vec4<f32> {
    return vec4(delta_of(head, i.x), delta_of(head, i.y), delta_of(head, i.z), delta_of(head, i.w));
}

// What comes of four pairs: weights behind dropout, and gradients of the products.
struct Pairs {
    weights: vec4<f32>,
    grads: vec4<f32>,
}

// Where a pair is not seen both are 0, whatever its products are.
fn pairs(
    head: Head,
    i: vec4<u32>,
    j: vec4<u32>,
    lse: vec4<f32>,
    delta: vec4<f32>,
    product: vec4<f32>,
    of_weights: vec4<f32>,
) -> Pairs {
    let near_i = min(i, vec4(params.queries - 1u));
    let near_j = min(j, vec4(params.keys - 1u));
    let begins = vec4(plan[4u * near_i.x], plan[4u * near_i.y], plan[4u * near_i.z], plan[4u * near_i.w]);
    let ends = vec4(plan[4u * near_i.x + 1u], plan[4u * near_i.y + 1u], plan[4u * near_i.z + 1u], plan[4u * near_i.w + 1u]);
    let seen = (i == near_i) & (j >= begins) & (j < ends);
    var of_weight = of_weights;
    var scores = params.scale * product;
    var slope = vec4(1.0);
    var keep = vec4(1.0);
    if OPTIONS > 0u {
        scores = vec4(
            score(head, near_i.x, near_j.x, product.x),
            score(head, near_i.y, near_j.y, product.y),
            score(head, near_i.z, near_j.z, product.z),
            score(head, near_i.w, near_j.w, product.w),
        );
        slope = vec4(cap_slope(product.x), cap_slope(product.y), cap_slope(product.z), cap_slope(product.w));
        keep = vec4(
            kept(head, near_i.x, near_j.x),
            kept(head, near_i.y, near_j.y),
            kept(head, near_i.z, near_j.z),
            kept(head, near_i.w, near_j.w),
        );
        of_weight = of_weight * keep + vec4(
            weight_grad(head, near_i.x, near_j.x),
            weight_grad(head, near_i.y, near_j.y),
            weight_grad(head, near_i.z, near_j.z),
            weight_grad(head, near_i.w, near_j.w),
        );
    }
    scores = select(vec4(LOWEST), scores, seen);
    let p = select(exp(scores - lse), vec4(0.0), scores == vec4(LOWEST));
    let grad = select(p * (of_weight - delta) * slope, vec4(0.0), p == vec4(0.0));
    return Pairs(p * keep, grad);
}
