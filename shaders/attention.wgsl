// Attention by tiles. Each kernel that gives columns has CHUNK of them to a workgroup, and makes the scores again for each chunk.

@group(0) @binding(5) var<storage, read_write> out: array<f32>;
@group(0) @binding(6) var<storage, read_write> lse: array<u32>;

// 32 queries of a head against the keys that any of them sees: a running maximum and sum for each (online softmax).
@compute @workgroup_size(8, 8)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) thread: vec3<u32>,
) {
    let chunks = (params.dv + CHUNK - 1u) / CHUNK;
    let unit = params.first_group + group_index(group, groups);
    let number = unit / chunks / params.query_tiles;
    if number >= params.batch * params.heads { return; }
    let head = head_of(number / params.heads, number % params.heads);
    let own_tile = unit / chunks % params.query_tiles;
    let rows = rows_of(own_tile * TILE, thread);
    let near_columns = columns_of(unit % chunks * CHUNK, thread);
    let end = plan[params.tiles_at + 2u * own_tile + 1u];
    var largest = vec4(LOWEST);
    var sum = vec4(0.0);
    var near = mat4x4<f32>();
    var far = mat4x4<f32>();
    for (var first = plan[params.tiles_at + 2u * own_tile]; first < end; first += TILE) {
        let columns = columns_of(first, thread);
        var weights = query_key(head, rows, columns);
        var own_largest = vec4(LOWEST);
        for (var n = 0u; n < 16u; n++) {
            let r = n / 4u;
            let s = score(head, rows[r], columns[n % 4u], weights[r][n % 4u]);
            weights[r][n % 4u] = s;
            own_largest[r] = max(own_largest[r], s);
        }
        let before = largest;
        largest = max(before, rows_max(own_largest, thread));
        let carried = exp(before - largest);
        sum *= carried;
        for (var n = 0u; n < 16u; n++) {
            let r = n / 4u;
            let s = weights[r][n % 4u];
            let p = select(exp(s - largest[r]), 0.0, s == LOWEST);
            sum[r] += p;
            weights[r][n % 4u] = p * kept(head, rows[r], columns[n % 4u]);
        }
        share(weights, thread);
        workgroupBarrier();
        near = mat4x4(near[0] * carried.x, near[1] * carried.y, near[2] * carried.z, near[3] * carried.w);
        far = mat4x4(far[0] * carried.x, far[1] * carried.y, far[2] * carried.z, far[3] * carried.w);
        for (var key = 0u; key < TILE; key++) {
            let at = head.v + min(first + key, params.keys - 1u) * params.v_row;
            let own = tile_column(key, thread);
            near = add_weighed(near, own, v_columns(at, near_columns));
            far = add_weighed(far, own, v_columns(at, near_columns + 32u));
        }
        workgroupBarrier();
    }
    sum = rows_sum(sum, thread);
    for (var n = 0u; n < 32u; n++) {
        let r = n / 8u;
        let column = near_columns[0] + n % 8u * 8u;
        if rows[r] >= params.queries || column >= params.dv { continue; }
        let total = select(far[r][n % 4u], near[r][n % 4u], n % 8u < 4u);
        out[head.out + rows[r] * params.out_row + column] = select(0.0, total / sum[r], sum[r] > 0.0);
    }
    for (var r = 0u; r < 4u; r++) {
        if near_columns[0] > 0u || rows[r] >= params.queries { continue; }
        lse[head.line + rows[r]] = select(NOTHING, bitcast<u32>(largest[r] + log(sum[r])), sum[r] > 0.0);
    }
}

@group(0) @binding(5) var<storage, read> lse_of: array<u32>;
@group(0) @binding(6) var<storage, read_write> weights: array<f32>;

// 32 of the chosen queries against 32 keys: of one head, or the mean of all.
@compute @workgroup_size(8, 8)
fn weigh(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) thread: vec3<u32>,
) {
    let row_tiles = (params.weight_rows + TILE - 1u) / TILE;
    let unit = params.first_group + group_index(group, groups);
    let number = unit / params.key_tiles / row_tiles;
    let of_batch = select(1u, params.heads, params.weight_head > 0u);
    if number >= params.batch * of_batch { return; }
    let b = number / of_batch;
    let first_head = number % of_batch;
    let places = rows_of(unit / params.key_tiles % row_tiles * TILE, thread);
    let columns = columns_of(unit % params.key_tiles * TILE, thread);
    // Those past the last one are made for nothing, and not written.
    let own_rows = params.rows_at + min(places, vec4(params.weight_rows - 1u));
    let rows = vec4(plan[own_rows.x], plan[own_rows.y], plan[own_rows.z], plan[own_rows.w]);
    let end_head = first_head + params.heads / of_batch;
    var sums = mat4x4<f32>();
    for (var h = first_head; h < end_head; h++) {
        let head = head_of(b, h);
        let lines = head.line + min(rows, vec4(params.queries - 1u));
        let own = vec4(
            finite(lse_of[lines.x]), finite(lse_of[lines.y]), finite(lse_of[lines.z]), finite(lse_of[lines.w]),
        );
        sums += probabilities(head, rows, columns, own, query_key(head, rows, columns));
    }
    let line = b * params.weight_batch + first_head * params.weight_head;
    for (var n = 0u; n < 16u; n++) {
        let place = places[n / 4u];
        let column = columns[n % 4u];
        if place >= params.weight_rows || column >= params.keys { continue; }
        weights[(line + place) * params.keys + column] = params.weight_part * sums[n / 4u][n % 4u];
    }
}

@group(0) @binding(1) var<storage, read> result: array<f32>;
@group(0) @binding(2) var<storage, read> result_grad: array<f32>;
@group(0) @binding(3) var<storage, read> lse_grad: array<f32>;
@group(0) @binding(4) var<storage, read> lse_bits: array<u32>;
@group(0) @binding(5) var<storage, read_write> stats: array<u32>;

// For each query its log-sum-exp, and rowsum(∂O ∘ O) - ∂LSE as bits.
@compute @workgroup_size(64)
fn delta(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let line = group_index(group, groups) * 64u + lane;
    if line >= params.batch * params.heads * params.queries { return; }
    let number = line / params.queries;
    let head = head_of(number / params.heads, number % params.heads);
    let at = head.out + line % params.queries * params.out_row;
    var sum = 0.0;
    for (var c = 0u; c < params.dv; c++) {
        sum = fma(result[at + c], result_grad[at + c], sum);
    }
    stats[2u * line] = lse_bits[line];
    stats[2u * line + 1u] = bitcast<u32>(sum - lse_grad[line]);
}

// Adds rowsum(P ∘ ∂A).
@compute @workgroup_size(8, 8)
fn delta_of_weights(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) thread: vec3<u32>,
) {
    let unit = params.first_group + group_index(group, groups);
    let number = unit / params.query_tiles;
    if number >= params.batch * params.heads { return; }
    let head = head_of(number / params.heads, number % params.heads);
    let own_tile = unit % params.query_tiles;
    let rows = rows_of(own_tile * TILE, thread);
    let lines = 2u * (head.line + min(rows, vec4(params.queries - 1u)));
    let own_lse = vec4(finite(stats[lines.x]), finite(stats[lines.y]), finite(stats[lines.z]), finite(stats[lines.w]));
    let end = plan[params.tiles_at + 2u * own_tile + 1u];
    var sum = vec4(0.0);
    for (var first = plan[params.tiles_at + 2u * own_tile]; first < end; first += TILE) {
        let columns = columns_of(first, thread);
        let p = probabilities(head, rows, columns, own_lse, query_key(head, rows, columns));
        for (var n = 0u; n < 16u; n++) {
            let r = n / 4u;
            if p[r][n % 4u] == 0.0 { continue; }
            sum[r] += p[r][n % 4u] * weight_grad(head, rows[r], columns[n % 4u]);
        }
    }
    sum = rows_sum(sum, thread);
    for (var r = 0u; r < 4u; r++) {
        if thread.x > 0u || rows[r] >= params.queries { continue; }
        stats[lines[r] + 1u] = bitcast<u32>(bitcast<f32>(stats[lines[r] + 1u]) + sum[r]);
    }
}

@group(0) @binding(8) var<storage, read_write> q_grad: array<f32>;

// 32 queries of a head: ∂Q = scale ∂S K.
@compute @workgroup_size(8, 8)
fn grad_q(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) thread: vec3<u32>,
) {
    let chunks = (params.dh + CHUNK - 1u) / CHUNK;
    let unit = params.first_group + group_index(group, groups);
    let number = unit / chunks / params.query_tiles;
    if number >= params.batch * params.heads { return; }
    let head = head_of(number / params.heads, number % params.heads);
    let own_tile = unit / chunks % params.query_tiles;
    let rows = rows_of(own_tile * TILE, thread);
    let near_columns = columns_of(unit % chunks * CHUNK, thread);
    let end = plan[params.tiles_at + 2u * own_tile + 1u];
    var near = mat4x4<f32>();
    var far = mat4x4<f32>();
    for (var first = plan[params.tiles_at + 2u * own_tile]; first < end; first += TILE) {
        share(score_grads(head, rows, columns_of(first, thread), true), thread);
        workgroupBarrier();
        for (var key = 0u; key < TILE; key++) {
            let at = head.k + min(first + key, params.keys - 1u) * params.k_row;
            let own = tile_column(key, thread);
            near = add_weighed(near, own, k_columns(at, near_columns));
            far = add_weighed(far, own, k_columns(at, near_columns + 32u));
        }
        workgroupBarrier();
    }
    for (var n = 0u; n < 32u; n++) {
        let r = n / 8u;
        let column = near_columns[0] + n % 8u * 8u;
        if rows[r] >= params.queries || column >= params.dh { continue; }
        let total = select(far[r][n % 4u], near[r][n % 4u], n % 8u < 4u);
        q_grad[head.q + rows[r] * params.q_row + column] = params.scale * total;
    }
}

@group(0) @binding(8) var<storage, read_write> k_grad: array<f32>;

// 32 keys: ∂K = scale ∂Sᵀ Q over the query heads of their group, in order.
@compute @workgroup_size(8, 8)
fn grad_k(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) thread: vec3<u32>,
) {
    let chunks = (params.dh + CHUNK - 1u) / CHUNK;
    let unit = params.first_group + group_index(group, groups);
    let number = unit / chunks / params.key_tiles;
    if number >= params.batch * params.kv_heads { return; }
    let b = number / params.kv_heads;
    let of_group = params.heads / params.kv_heads;
    let first_head = number % params.kv_heads * of_group;
    let end_head = first_head + of_group;
    let own_tile = unit / chunks % params.key_tiles;
    let near_columns = columns_of(unit % chunks * CHUNK, thread);
    let queries_at = params.tiles_at + 2u * (params.query_tiles + own_tile);
    let end = plan[queries_at + 1u];
    var near = mat4x4<f32>();
    var far = mat4x4<f32>();
    for (var h = first_head; h < end_head; h++) {
        let head = head_of(b, h);
        for (var first = plan[queries_at]; first < end; first += TILE) {
            share(score_grads(head, rows_of(first, thread), columns_of(own_tile * TILE, thread), true), thread);
            workgroupBarrier();
            for (var query = 0u; query < TILE; query++) {
                let at = head.q + min(first + query, params.queries - 1u) * params.q_row;
                let own = tile_row(query, thread);
                near = add_weighed(near, own, q_columns(at, near_columns));
                far = add_weighed(far, own, q_columns(at, near_columns + 32u));
            }
            workgroupBarrier();
        }
    }
    let own_k = head_of(b, first_head).k;
    let keys = rows_of(own_tile * TILE, thread);
    for (var n = 0u; n < 32u; n++) {
        let r = n / 8u;
        let column = near_columns[0] + n % 8u * 8u;
        if keys[r] >= params.keys || column >= params.dh { continue; }
        let total = select(far[r][n % 4u], near[r][n % 4u], n % 8u < 4u);
        k_grad[own_k + keys[r] * params.k_row + column] = params.scale * total;
    }
}

@group(0) @binding(7) var<storage, read_write> v_grad: array<f32>;

// 32 keys: ∂V = Pᵀ ∂O over the query heads of their group, in order.
@compute @workgroup_size(8, 8)
fn grad_v(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) thread: vec3<u32>,
) {
    let chunks = (params.dv + CHUNK - 1u) / CHUNK;
    let unit = params.first_group + group_index(group, groups);
    let number = unit / chunks / params.key_tiles;
    if number >= params.batch * params.kv_heads { return; }
    let b = number / params.kv_heads;
    let of_group = params.heads / params.kv_heads;
    let first_head = number % params.kv_heads * of_group;
    let end_head = first_head + of_group;
    let own_tile = unit / chunks % params.key_tiles;
    let columns = columns_of(own_tile * TILE, thread);
    let near_columns = columns_of(unit % chunks * CHUNK, thread);
    let queries_at = params.tiles_at + 2u * (params.query_tiles + own_tile);
    let end = plan[queries_at + 1u];
    var near = mat4x4<f32>();
    var far = mat4x4<f32>();
    for (var h = first_head; h < end_head; h++) {
        let head = head_of(b, h);
        for (var first = plan[queries_at]; first < end; first += TILE) {
            let rows = rows_of(first, thread);
            let products = query_key(head, rows, columns);
            var dropped = probabilities(head, rows, columns, lse_of_rows(head, rows), products);
            for (var n = 0u; n < 16u; n++) {
                dropped[n / 4u][n % 4u] *= kept(head, rows[n / 4u], columns[n % 4u]);
            }
            share(dropped, thread);
            workgroupBarrier();
            for (var query = 0u; query < TILE; query++) {
                let at = head.out + min(first + query, params.queries - 1u) * params.out_row;
                let own = tile_row(query, thread);
                near = add_weighed(near, own, out_grad_columns(at, near_columns));
                far = add_weighed(far, own, out_grad_columns(at, near_columns + 32u));
            }
            workgroupBarrier();
        }
    }
    let own_v = head_of(b, first_head).v;
    let keys = rows_of(own_tile * TILE, thread);
    for (var n = 0u; n < 32u; n++) {
        let r = n / 8u;
        let column = near_columns[0] + n % 8u * 8u;
        if keys[r] >= params.keys || column >= params.dv { continue; }
        let total = select(far[r][n % 4u], near[r][n % 4u], n % 8u < 4u);
        v_grad[own_v + keys[r] * params.v_row + column] = total;
    }
}

@group(0) @binding(8) var<storage, read_write> bias_grad: array<f32>;

// A tile of the bias: ∂S of the batches, heads, queries and keys that share it, step by step. Where it is one for all queries or
// all keys, the tile's rows or columns are summed at the end.
@compute @workgroup_size(8, 8)
fn grad_bias(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) thread: vec3<u32>,
) {
    let down = select(params.query_tiles, 1u, has(SUM_QUERIES));
    let across = select(params.key_tiles, 1u, has(SUM_KEYS));
    let unit = params.first_group + group_index(group, groups);
    let number = unit / across / down;
    if number >= params.bias_batches * params.bias_heads { return; }
    let down_steps = params.query_tiles / down;
    let across_steps = params.key_tiles / across;
    let head_steps = params.heads / params.bias_heads;
    var sums = mat4x4<f32>();
    for (var step = params.first_step; step < params.end_step; step++) {
        let own_head = step / across_steps / down_steps;
        // One of each pair of summands is 0: an axis is shared or it is not.
        let h = number % params.bias_heads + own_head % head_steps;
        let b = number / params.bias_heads + own_head / head_steps;
        let row_tile = unit / across % down + step / across_steps % down_steps;
        let column_tile = unit % across + step % across_steps;
        let rows = rows_of(row_tile * TILE, thread);
        sums += score_grads(head_of(b, h), rows, columns_of(column_tile * TILE, thread), false);
    }
    share(sums, thread);
    workgroupBarrier();
    let rows = rows_of(unit / across % down * TILE, thread);
    let columns = columns_of(unit % across * TILE, thread);
    let tall = select(1u, TILE, has(SUM_QUERIES));
    let wide = select(1u, TILE, has(SUM_KEYS));
    let end_row = select(params.queries, 1u, has(SUM_QUERIES));
    let end_column = select(params.keys, 1u, has(SUM_KEYS));
    for (var n = 0u; n < 16u; n++) {
        let row = rows[n / 4u];
        let column = columns[n % 4u];
        if row >= end_row || column >= end_column { continue; }
        let corner = row % TILE * TILE + column % TILE;
        var sum = 0.0;
        for (var m = 0u; m < tall * wide; m++) {
            sum += tile[corner + m / wide * TILE + m % wide];
        }
        let place = number / params.bias_heads * params.bias_batch + number % params.bias_heads * params.bias_head;
        let at = place + row * params.bias_row + column * params.bias_key;
        if params.first_step > 0u { sum += bias_grad[at]; }
        bias_grad[at] = sum;
    }
}
