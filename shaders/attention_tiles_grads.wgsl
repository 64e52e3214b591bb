// The gradients of attention for GPUs: that of the queries by tiles of 64 queries, those of keys and values by tiles of 64 keys,
// which make the probabilities once for both.

@group(0) @binding(5) var<storage, read> out_grad: array<vec4<f32>>;

// GRADS: which of the gradients of keys (1) and values (2) are made; both where neither is wider than 64.
// KEPT: whether ∂Sᵀ is left behind them, for a product that makes the gradient of the queries.

// What comes of a tile's products: weights behind dropout, and gradients of the products.
struct Made {
    weights: Pair,
    grads: Pair,
}

// ∂P of 64 queries and 64 keys, as query_key.
fn grad_value(head: Head, first_query: u32, first_key: u32, queries_at: u32, place: Place) -> Pair {
    let part = place.lane % 64u;
    let queries =
        head.out / 4u + min(four(first_query + part / 4u * 4u), vec4(params.queries - 1u)) * (params.out_row / 4u);
    let keys = head.v / 4u + min(four(first_key + part / 4u * 4u), vec4(params.keys - 1u)) * (params.v_row / 4u);
    var sums = Pair();
    for (var inner = 0u; inner < params.dv; inner += STEPS) {
        let column = inner / 4u + part % 4u;
        var block = mat4x4<f32>();
        let at = select(COLUMNS_AT - queries_at, queries_at, place.lane < 64u);
        if column < params.dv / 4u {
            if place.lane < 64u {
                let own = queries + column;
                block = mat4x4(out_grad[own.x], out_grad[own.y], out_grad[own.z], out_grad[own.w]);
            } else {
                let own = keys + column;
                block = mat4x4(v[own.x], v[own.y], v[own.z], v[own.w]);
            }
        }
        put(at, part, block);
        workgroupBarrier();
        multiply(&sums, place);
        workgroupBarrier();
    }
    return sums;
}

fn probabilities(products: mat4x4<f32>, lse: mat4x4<f32>) -> mat4x4<f32> {
    return mat4x4(
        exp(params.scale * products[0] - lse[0]),
        exp(params.scale * products[1] - lse[1]),
        exp(params.scale * products[2] - lse[2]),
        exp(params.scale * products[3] - lse[3]),
    );
}

// P ∘ (∂P - δ)
fn score_grads(weights: mat4x4<f32>, of_weights: mat4x4<f32>, delta: mat4x4<f32>) -> mat4x4<f32> {
    return mat4x4(
        weights[0] * (of_weights[0] - delta[0]),
        weights[1] * (of_weights[1] - delta[1]),
        weights[2] * (of_weights[2] - delta[2]),
        weights[3] * (of_weights[3] - delta[3]),
    );
}

// The first column of the products and of ∂P becomes weights and ∂S, and is the last one then.
fn column(head: Head, i: vec4<u32>, j: vec4<u32>, lse: vec4<f32>, delta: vec4<f32>, made: Made) -> Made {
    let own = pairs(head, i, j, lse, delta, made.weights.near[0], made.grads.near[0]);
    return Made(in_turn(made.weights, own.weights), in_turn(made.grads, own.grads));
}

// Whose rows are added up.
const KEYS: u32 = 0u;
const QUERIES: u32 = 1u;
const OUT_GRADS: u32 = 2u;

// Four columns of a row; zeros past the last row or column.
fn columns_of(rows: u32, head: Head, row: u32, column: u32) -> vec4<f32> {
    var values = vec4(0.0);
    if rows == KEYS {
        if row < params.keys && column < params.dh / 4u { values = k[(head.k + row * params.k_row) / 4u + column]; }
    } else if rows == QUERIES {
        if row < params.queries && column < params.dh / 4u { values = q[(head.q + row * params.q_row) / 4u + column]; }
    } else if row < params.queries && column < params.dv / 4u {
        values = out_grad[(head.out + row * params.out_row) / 4u + column];
    }
    return values;
}

// Adds the rows of a tile by their weights.
fn add_rows(
    sums: ptr<function, Sums>,
    rows: u32,
    head: Head,
    first: u32,
    chunk: u32,
    weights: Pair,
    everybody: bool,
    place: Place,
) {
    let wide = WIDTH / 4u;
    for (var quarter = 0u; quarter < 4u; quarter++) {
        put_weights(weights, place, quarter);
        for (var n = place.lane; n < STEPS * wide; n += 128u) {
            let row = first + column_of_step(quarter, n / wide);
            put_columns(n, columns_of(rows, head, row, chunk + n % wide), everybody);
        }
        gather_staged(sums, everybody, place);
    }
}

@group(0) @binding(8) var<storage, read_write> q_grad: array<vec4<f32>>;

fn store_query(head: Head, rows: vec4<u32>, column: u32, sums: mat4x4<f32>) {
    if column >= params.dh / 4u { return; }
    let turned = transpose(sums * params.scale);
    let at = (head.q + rows * params.q_row) / 4u + column;
    if rows.x < params.queries { q_grad[at.x] = turned[0]; }
    if rows.y < params.queries { q_grad[at.y] = turned[1]; }
    if rows.z < params.queries { q_grad[at.z] = turned[2]; }
    if rows.w < params.queries { q_grad[at.w] = turned[3]; }
}

// 64 queries of a head: ∂Q = scale ∂S K.
@compute @workgroup_size(128)
fn grad_q(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let chunks = (params.dh + WIDTH - 1u) / WIDTH;
    let tiles = (params.queries + SIDE - 1u) / SIDE;
    let unit = params.first_group + group_index(group, groups);
    let number = unit / chunks / tiles;
    if number >= params.batch * params.heads { return; }
    let head = head_of(number / params.heads, number % params.heads);
    let place = place_of(lane);
    let first_row = (tiles - 1u - unit / chunks % tiles) * SIDE;
    let last_row = min(first_row + SIDE, params.queries) - 1u;
    let chunk = unit % chunks * (WIDTH / 4u);
    let rows = four(first_row + place.row * 4u);
    let lse = lses(head, rows);
    let delta = deltas(head, rows);
    let end = plan[4u * last_row + 1u];
    let all_from = plan[4u * last_row];
    let all_end = plan[4u * first_row + 1u];
    if lane == 0u { odd = 0u; }
    var sums = Sums();
    for (var first = plan[4u * first_row]; first < end; first += SIDE) {
        let everybody = OPTIONS == 0u && first >= all_from && first + SIDE <= all_end;
        var made = Made(
            query_key(head, first_row, first, 0u, place), grad_value(head, first_row, first, 0u, place),
        );
        if everybody {
            let all_lse = mat4x4(lse, lse, lse, lse);
            let all_delta = mat4x4(delta, delta, delta, delta);
            made.grads.near = score_grads(probabilities(made.weights.near, all_lse), made.grads.near, all_delta);
            made.grads.far = score_grads(probabilities(made.weights.far, all_lse), made.grads.far, all_delta);
        } else {
            for (var n = 0u; n < 8u; n++) {
                made = column(head, rows, vec4(first + place.column * 4u + turn(n)), lse, delta, made);
            }
        }
        add_rows(&sums, KEYS, head, first, chunk, made.grads, everybody, place);
    }
    store_query(head, rows, chunk + place.column, sums.a);
    store_query(head, rows, chunk + place.column + 8u, sums.b);
    if WIDTH > 64u {
        store_query(head, rows, chunk + place.column + 16u, sums.c);
        store_query(head, rows, chunk + place.column + 24u, sums.d);
    }
}

// The gradient of the keys, that of the values behind it.
@group(0) @binding(8) var<storage, read_write> kv_grad: array<vec4<f32>>;

// Four columns of as many as `width` of the tile's keys, whose first begins at `at`.
fn store_key(at: u32, row: u32, width: u32, keys: vec4<u32>, column: u32, sums: mat4x4<f32>) {
    if column >= width / 4u { return; }
    let turned = transpose(sums);
    let own = (at + keys * row) / 4u + column;
    if keys.x < params.keys { kv_grad[own.x] = turned[0]; }
    if keys.y < params.keys { kv_grad[own.y] = turned[1]; }
    if keys.z < params.keys { kv_grad[own.z] = turned[2]; }
    if keys.w < params.keys { kv_grad[own.w] = turned[3]; }
}

fn store_keys(at: u32, row: u32, width: u32, keys: vec4<u32>, column: u32, sums: Sums, factor: f32) {
    store_key(at, row, width, keys, column, sums.a * factor);
    store_key(at, row, width, keys, column + 8u, sums.b * factor);
    if WIDTH > 64u {
        store_key(at, row, width, keys, column + 16u, sums.c * factor);
        store_key(at, row, width, keys, column + 24u, sums.d * factor);
    }
}

// Leaves ∂Sᵀ of four keys and four queries; `at` is the first key's.
fn keep(at: u32, grads: mat4x4<f32>) {
    let turned = transpose(grads);
    let next = params.heads / params.kv_heads * params.kept_row / 4u;
    kv_grad[at] = turned[0];
    kv_grad[at + next] = turned[1];
    kv_grad[at + 2u * next] = turned[2];
    kv_grad[at + 3u * next] = turned[3];
}

// What comes of a tile of 64 keys (rows) and 64 queries.
fn made_of_keys(head: Head, first: u32, first_key: u32, everybody: bool, place: Place) -> Made {
    var made = Made(query_key(head, first, first_key, COLUMNS_AT, place), Pair());
    if GRADS != 2u { made.grads = grad_value(head, first, first_key, COLUMNS_AT, place); }
    let query = first + place.column * 4u;
    if everybody {
        let lse = lses(head, four(query));
        let far_lse = lses(head, four(query + 32u));
        made.weights.near = probabilities(made.weights.near, mat4x4(vec4(lse.x), vec4(lse.y), vec4(lse.z), vec4(lse.w)));
        made.weights.far =
            probabilities(made.weights.far, mat4x4(vec4(far_lse.x), vec4(far_lse.y), vec4(far_lse.z), vec4(far_lse.w)));
        let d = deltas(head, four(query));
        let e = deltas(head, four(query + 32u));
        made.grads.near =
            score_grads(made.weights.near, made.grads.near, mat4x4(vec4(d.x), vec4(d.y), vec4(d.z), vec4(d.w)));
        made.grads.far =
            score_grads(made.weights.far, made.grads.far, mat4x4(vec4(e.x), vec4(e.y), vec4(e.z), vec4(e.w)));
        return made;
    }
    let keys = four(first_key + place.row * 4u);
    for (var n = 0u; n < 8u; n++) {
        let i = query + turn(n);
        made = column(head, vec4(i), keys, vec4(lse_of(head, i)), vec4(delta_of(head, i)), made);
    }
    return made;
}

// 64 keys: ∂K = scale ∂Sᵀ Q and ∂V = Pᵀ ∂O over the query heads of their group, in order.
@compute @workgroup_size(128)
fn grad_kv(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let width = select(params.dh, params.dv, GRADS == 2u);
    let chunks = (width + WIDTH - 1u) / WIDTH;
    let tiles = (params.keys + SIDE - 1u) / SIDE;
    let unit = params.first_group + group_index(group, groups);
    let number = unit / chunks / tiles;
    // Groups behind a run would leave ∂Sᵀ behind it.
    if unit >= params.end_group { return; }
    let b = number / params.kv_heads;
    let of_group = params.heads / params.kv_heads;
    let first_head = number % params.kv_heads * of_group;
    let end_head = first_head + of_group;
    let place = place_of(lane);
    let first_key = unit / chunks % tiles * SIDE;
    let chunk = unit % chunks * (WIDTH / 4u);
    // The plan's tiles are of 32 keys.
    let queries_at = params.tiles_at + 2u * params.query_tiles;
    let last_tile = min(first_key / 32u + 1u, params.key_tiles - 1u);
    let end = plan[queries_at + 2u * last_tile + 1u];
    if lane == 0u { odd = 0u; }
    var key_sums = Sums();
    var value_sums = Sums();
    for (var h = first_head; h < end_head; h++) {
        let head = head_of(b, h);
        for (var first = plan[queries_at + first_key / 32u * 2u]; first < end; first += SIDE) {
            let last = min(first + SIDE, params.queries) - 1u;
            let everybody = OPTIONS == 0u && first + SIDE <= params.queries && plan[4u * last] <= first_key
                && plan[4u * first + 1u] >= min(first_key + SIDE, params.keys);
            let made = made_of_keys(head, first, first_key, everybody, place);
            if GRADS != 1u { add_rows(&value_sums, OUT_GRADS, head, first, chunk, made.weights, everybody, place); }
            if KEPT > 0u && chunk == 0u {
                let key = (unit / chunks - params.kept_from) * SIDE + place.row * 4u;
                let row = key * of_group + h - first_head;
                let at = (params.kept_at + row * params.kept_row + first) / 4u + place.column;
                keep(at, made.grads.near);
                keep(at + 8u, made.grads.far);
            }
            if GRADS != 2u { add_rows(&key_sums, QUERIES, head, first, chunk, made.grads, everybody, place); }
        }
    }
    let own = head_of(b, first_head);
    let keys = four(first_key + place.row * 4u);
    let column = chunk + place.column;
    if GRADS != 2u { store_keys(own.k, params.k_row, params.dh, keys, column, key_sums, params.scale); }
    if GRADS != 1u {
        store_keys(params.value_grads_at + own.v, params.v_row, params.dv, keys, column, value_sums, 1.0);
    }
}
