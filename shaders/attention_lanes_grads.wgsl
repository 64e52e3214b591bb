// The gradients of attention for drivers on a CPU: that of the queries by blocks of 32 queries, those of keys and values by blocks of
// 32 keys.

@group(0) @binding(5) var<storage, read> out_grad: array<u64>;

// GRADS: which of the gradients of keys (1) and values (2) are made; both where neither is wider than 64.
// KEPT: whether ∂Sᵀ is left behind them, for a product that makes the gradient of the queries.

// The products of 32 queries and 32 keys, where rows are queries. Behind the last query and the last key stands the last one again.
fn query_key(head: Head, rows: vec4<u32>, first_key: u32, lane: u32) -> Half {
    let a = (head.q + min(rows, vec4(params.queries - 1u)) * params.q_row) / 2u;
    let b = (head.k + min(first_key + lane + 8u * four(0u), vec4(params.keys - 1u)) * params.k_row) / 2u;
    var sums = Half();
    for (var c = 0u; c < params.dh / 2u; c++) {
        let columns = eight(k[b.x + c], k[b.y + c], k[b.z + c], k[b.w + c]);
        sums = add_twice(sums, columns, eight(q[a.x + c], q[a.y + c], q[a.z + c], q[a.w + c]));
    }
    return sums;
}

// ∂P of 32 queries and 32 keys.
fn grad_value(head: Head, rows: vec4<u32>, first_key: u32, lane: u32) -> Half {
    let a = (head.out + min(rows, vec4(params.queries - 1u)) * params.out_row) / 2u;
    let b = (head.v + min(first_key + lane + 8u * four(0u), vec4(params.keys - 1u)) * params.v_row) / 2u;
    var sums = Half();
    for (var c = 0u; c < params.dv / 2u; c++) {
        let columns = eight(v[b.x + c], v[b.y + c], v[b.z + c], v[b.w + c]);
        sums = add_twice(sums, columns, eight(out_grad[a.x + c], out_grad[a.y + c], out_grad[a.z + c], out_grad[a.w + c]));
    }
    return sums;
}

// Products of 32 keys, which are rows, and 32 queries.
fn key_query(head: Head, rows: vec4<u32>, first_query: u32, lane: u32) -> Half {
    let a = (head.k + min(rows, vec4(params.keys - 1u)) * params.k_row) / 2u;
    let b = (head.q + min(first_query + lane + 8u * four(0u), vec4(params.queries - 1u)) * params.q_row) / 2u;
    var sums = Half();
    for (var c = 0u; c < params.dh / 2u; c++) {
        let columns = eight(q[b.x + c], q[b.y + c], q[b.z + c], q[b.w + c]);
        sums = add_twice(sums, columns, eight(k[a.x + c], k[a.y + c], k[a.z + c], k[a.w + c]));
    }
    return sums;
}

fn value_grad(head: Head, rows: vec4<u32>, first_query: u32, lane: u32) -> Half {
    let a = (head.v + min(rows, vec4(params.keys - 1u)) * params.v_row) / 2u;
    let b = (head.out + min(first_query + lane + 8u * four(0u), vec4(params.queries - 1u)) * params.out_row) / 2u;
    var sums = Half();
    for (var c = 0u; c < params.dv / 2u; c++) {
        let columns = eight(out_grad[b.x + c], out_grad[b.y + c], out_grad[b.z + c], out_grad[b.w + c]);
        sums = add_twice(sums, columns, eight(v[a.x + c], v[a.y + c], v[a.z + c], v[a.w + c]));
    }
    return sums;
}

// Sums, and what spoils a row: 0 times what is not finite is not 0, but only for rows that have a weight for it.
struct Sums {
    all: Block,
    spoiled: vec4<f32>,
}

fn add_sound(sums: Sums, columns: Eight, rows: vec4<f32>, everybody: bool) -> Sums {
    var values = columns;
    var spoiled = sums.spoiled;
    if !everybody {
        values = Eight(sound(columns.evens), sound(columns.odds));
        spoiled = select(spoiled, spoiled + subgroupAdd(unsound(columns, values)), rows != vec4(0.0));
    }
    return Sums(add(sums.all, values, rows), spoiled);
}

@group(0) @binding(8) var<storage, read_write> q_grad: array<f32>;

// 32 queries of a head: ∂Q = scale ∂S K.
@compute @workgroup_size(8)
fn grad_q(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let chunks = (params.dh + COLUMNS - 1u) / COLUMNS;
    let tiles = (params.queries + ROWS - 1u) / ROWS;
    let unit = params.first_group + group_index(group, groups);
    let number = unit / chunks / tiles;
    if number >= params.batch * params.heads { return; }
    let head = head_of(number / params.heads, number % params.heads);
    let first_row = (tiles - 1u - unit / chunks % tiles) * ROWS;
    let last_row = min(first_row + ROWS, params.queries) - 1u;
    let chunk = unit % chunks * COLUMNS;
    let rows = four(first_row + lane * 4u);
    let own_pairs = column_pairs(chunk, params.dh, lane);
    let lse = lses(head, rows);
    let delta = deltas(head, rows);
    let end = plan[4u * last_row + 1u];
    let all_from = plan[4u * last_row];
    let all_end = plan[4u * first_row + 1u];
    var sums = Sums();
    for (var first = plan[4u * first_row]; first < end; first += OTHERS) {
        let everybody = OPTIONS == 0u && first >= all_from && first + OTHERS <= all_end;
        var products = query_key(head, rows, first, lane);
        var of_weights = grad_value(head, rows, first, lane);
        for (var n = 0u; n < OTHERS; n += 4u) {
            var near_products = products.m0;
            var near_weights = of_weights.m0;
            for (var key = first + n; key < first + n + 4u; key++) {
                var grads = exp(params.scale * near_products[0] - lse) * (near_weights[0] - delta);
                if !everybody {
                    grads = pairs(head, rows, vec4(key), lse, delta, near_products[0], near_weights[0]).grads;
                }
                let at = (head.k + min(key, params.keys - 1u) * params.k_row) / 2u + own_pairs;
                sums = add_sound(sums, eight(k[at.x], k[at.y], k[at.z], k[at.w]), grads, everybody);
                near_products = columns_on(near_products, near_products[0]);
                near_weights = columns_on(near_weights, near_weights[0]);
            }
            products = half_in_turn(products, near_products);
            of_weights = half_in_turn(of_weights, near_weights);
        }
    }
    for (var n = 0u; n < 16u; n++) {
        var own = sums.all.evens.m0;
        let first = chunk + first_column(n);
        for (var column = first; column < min(first + 8u, params.dh); column += 2u) {
            let at = head.q + rows * params.q_row + column;
            let result = params.scale * own[0] + sums.spoiled;
            if rows.x < params.queries { q_grad[at.x] = result.x; }
            if rows.y < params.queries { q_grad[at.y] = result.y; }
            if rows.z < params.queries { q_grad[at.z] = result.z; }
            if rows.w < params.queries { q_grad[at.w] = result.w; }
            own = columns_on(own, own[0]);
        }
        sums.all = in_turn(sums.all, own);
    }
}

// The gradient of the keys, that of the values behind it.
@group(0) @binding(8) var<storage, read_write> kv_grad: array<f32>;

fn store_keys(at: vec4<u32>, keys: vec4<u32>, chunk: u32, width: u32, sums: Sums, factor: f32) {
    var all = sums.all;
    for (var n = 0u; n < 16u; n++) {
        var own = all.evens.m0;
        let first = chunk + first_column(n);
        for (var column = first; column < min(first + 8u, width); column += 2u) {
            let result = factor * own[0] + sums.spoiled;
            if keys.x < params.keys { kv_grad[at.x + column] = result.x; }
            if keys.y < params.keys { kv_grad[at.y + column] = result.y; }
            if keys.z < params.keys { kv_grad[at.z + column] = result.z; }
            if keys.w < params.keys { kv_grad[at.w + column] = result.w; }
            own = columns_on(own, own[0]);
        }
        all = in_turn(all, own);
    }
}

// 32 keys: ∂K = scale ∂Sᵀ Q and ∂V = Pᵀ ∂O over the query heads of their group, in order.
@compute @workgroup_size(8)
fn grad_kv(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let width = select(params.dh, params.dv, GRADS == 2u);
    let chunks = (width + COLUMNS - 1u) / COLUMNS;
    let unit = params.first_group + group_index(group, groups);
    let number = unit / chunks / params.key_tiles;
    // Groups behind a run would leave ∂Sᵀ behind it.
    if unit >= params.end_group { return; }
    let b = number / params.kv_heads;
    let of_group = params.heads / params.kv_heads;
    let first_head = number % params.kv_heads * of_group;
    let tile = unit / chunks % params.key_tiles;
    let first_key = tile * ROWS;
    let chunk = unit % chunks * COLUMNS;
    let keys = four(first_key + lane * 4u);
    let key_pairs = column_pairs(chunk, params.dh, lane);
    let value_pairs = column_pairs(chunk, params.dv, lane);
    let queries_at = params.tiles_at + 2u * (params.query_tiles + tile);
    let end = plan[queries_at + 1u];
    var key_sums = Sums();
    var value_sums = Sums();
    for (var h = first_head; h < first_head + of_group; h++) {
        let head = head_of(b, h);
        for (var first = plan[queries_at]; first < end; first += OTHERS) {
            let last = min(first + OTHERS, params.queries) - 1u;
            let everybody = OPTIONS == 0u && first + OTHERS <= params.queries && plan[4u * last] <= first_key
                && plan[4u * first + 1u] >= min(first_key + ROWS, params.keys);
            var products = key_query(head, keys, first, lane);
            var of_weights = Half();
            if GRADS != 2u { of_weights = value_grad(head, keys, first, lane); }
            for (var n = 0u; n < OTHERS; n += 4u) {
                var near_products = products.m0;
                var near_weights = of_weights.m0;
                for (var i = first + n; i < first + n + 4u; i++) {
                    let lse = vec4(lse_of(head, i));
                    let delta = vec4(delta_of(head, i));
                    let p = exp(params.scale * near_products[0] - lse);
                    var own = Pairs(p, p * (near_weights[0] - delta));
                    if !everybody {
                        own = pairs(head, vec4(i), keys, lse, delta, near_products[0], near_weights[0]);
                    }
                    if KEPT > 0u && chunk == 0u {
                        let key = (unit / chunks - params.kept_from) * ROWS + four(lane * 4u);
                        let at = params.kept_at + (key * of_group + h - first_head) * params.kept_row + i;
                        kv_grad[at.x] = own.grads.x;
                        kv_grad[at.y] = own.grads.y;
                        kv_grad[at.z] = own.grads.z;
                        kv_grad[at.w] = own.grads.w;
                    }
                    if GRADS != 2u {
                        let at = (head.q + min(i, params.queries - 1u) * params.q_row) / 2u + key_pairs;
                        let columns = eight(q[at.x], q[at.y], q[at.z], q[at.w]);
                        key_sums = add_sound(key_sums, columns, own.grads, everybody);
                    }
                    if GRADS != 1u {
                        let at = (head.out + min(i, params.queries - 1u) * params.out_row) / 2u + value_pairs;
                        let columns = eight(out_grad[at.x], out_grad[at.y], out_grad[at.z], out_grad[at.w]);
                        value_sums = add_sound(value_sums, columns, own.weights, everybody);
                    }
                    near_products = columns_on(near_products, near_products[0]);
                    near_weights = columns_on(near_weights, near_weights[0]);
                }
                products = half_in_turn(products, near_products);
                of_weights = half_in_turn(of_weights, near_weights);
            }
        }
    }
    let own = head_of(b, first_head);
    if GRADS != 2u {
        store_keys(own.k + keys * params.k_row, keys, chunk, params.dh, key_sums, params.scale);
    }
    if GRADS != 1u {
        store_keys(params.value_grads_at + own.v + keys * params.v_row, keys, chunk, params.dv, value_sums, 1.0);
    }
}
