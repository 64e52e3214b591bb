// What the gradients of attention are made of, and columns of the tensors. Those past the edge read the last one.
@group(0) @binding(5) var<storage, read> out_grad: array<f32>;
@group(0) @binding(6) var<storage, read> stats_of: array<u32>;
@group(0) @binding(7) var<storage, read> v: array<f32>;

fn q_columns(at: u32, columns: vec4<u32>) -> vec4<f32> {
    let c = at + min(columns, vec4(params.dh - 1u));
    return vec4(q[c.x], q[c.y], q[c.z], q[c.w]);
}

fn k_columns(at: u32, columns: vec4<u32>) -> vec4<f32> {
    let c = at + min(columns, vec4(params.dh - 1u));
    return vec4(k[c.x], k[c.y], k[c.z], k[c.w]);
}

fn v_columns(at: u32, columns: vec4<u32>) -> vec4<f32> {
    let c = at + min(columns, vec4(params.dv - 1u));
    return vec4(v[c.x], v[c.y], v[c.z], v[c.w]);
}

fn out_grad_columns(at: u32, columns: vec4<u32>) -> vec4<f32> {
    let c = at + min(columns, vec4(params.dv - 1u));
    return vec4(out_grad[c.x], out_grad[c.y], out_grad[c.z], out_grad[c.w]);
}

fn lse_of_rows(head: Head, rows: vec4<u32>) -> vec4<f32> {
    let at = 2u * (head.line + min(rows, vec4(params.queries - 1u)));
    return vec4(finite(stats_of[at.x]), finite(stats_of[at.y]), finite(stats_of[at.z]), finite(stats_of[at.w]));
}

// ∂S = P ∘ (∂P - δ) of 32 queries and 32 keys; of the products where `of_products`.
fn score_grads(head: Head, rows: vec4<u32>, columns: vec4<u32>, of_products: bool) -> mat4x4<f32> {
    let products = query_key(head, rows, columns);
    var all = probabilities(head, rows, columns, lse_of_rows(head, rows), products);
    let own = min(rows, vec4(params.queries - 1u));
    let a = head.out + own * params.out_row;
    let b = head.v + min(columns, vec4(params.keys - 1u)) * params.v_row;
    var values = mat4x4<f32>();
    for (var p = 0u; p < params.dv; p++) {
        let left = vec4(out_grad[a.x + p], out_grad[a.y + p], out_grad[a.z + p], out_grad[a.w + p]);
        values = add_outer(values, left, vec4(v[b.x + p], v[b.y + p], v[b.z + p], v[b.w + p]));
    }
    for (var n = 0u; n < 16u; n++) {
        let r = n / 4u;
        let c = n % 4u;
        let p = all[r][c];
        if p == 0.0 { continue; }
        let of_p = values[r][c] * kept(head, rows[r], columns[c]) + weight_grad(head, rows[r], columns[c]);
        let of_score = p * (of_p - bitcast<f32>(stats_of[2u * (head.line + own[r]) + 1u]));
        all[r][c] = of_score * select(1.0, cap_slope(products[r][c]), of_products);
    }
    return all;
}

