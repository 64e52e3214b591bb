// Attention for GPUs: the forward by tiles of 64 queries, the keys that any of them sees 64 at a time.

@group(0) @binding(5) var<storage, read_write> out: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> lse: array<u32>;

// The scores of a tile where somebody does not see somebody, or there is more to them than products: column by column, in turn.
fn scores(head: Head, rows: vec4<u32>, first: u32, products: Pair) -> Pair {
    let begins = vec4(plan[4u * rows.x], plan[4u * rows.y], plan[4u * rows.z], plan[4u * rows.w]);
    let ends = vec4(plan[4u * rows.x + 1u], plan[4u * rows.y + 1u], plan[4u * rows.z + 1u], plan[4u * rows.w + 1u]);
    var all = products;
    for (var n = 0u; n < 8u; n++) {
        let key = first + turn(n);
        let seen = (vec4(key) >= begins) & (vec4(key) < ends);
        var own = params.scale * all.near[0];
        if OPTIONS > 0u {
            own = vec4(
                score(head, rows.x, key, all.near[0].x),
                score(head, rows.y, key, all.near[0].y),
                score(head, rows.z, key, all.near[0].z),
                score(head, rows.w, key, all.near[0].w),
            );
        }
        all = in_turn(all, select(vec4(LOWEST), own, seen));
    }
    return all;
}

// What dropout leaves of the weights.
fn dropped(head: Head, rows: vec4<u32>, first: u32, weights: Pair) -> Pair {
    var all = weights;
    for (var n = 0u; n < 8u; n++) {
        let key = first + turn(n);
        let own = vec4(
            kept(head, rows.x, key), kept(head, rows.y, key), kept(head, rows.z, key), kept(head, rows.w, key),
        );
        all = in_turn(all, all.near[0] * own);
    }
    return all;
}

fn exponentials(scores: mat4x4<f32>, largest: vec4<f32>) -> mat4x4<f32> {
    return mat4x4(
        exp(scores[0] - largest),
        exp(scores[1] - largest),
        exp(scores[2] - largest),
        exp(scores[3] - largest),
    );
}

// Those of a row that sees nothing yet are 1.
fn exponentials_of_seen(scores: mat4x4<f32>, largest: vec4<f32>) -> mat4x4<f32> {
    let lowest = vec4(LOWEST);
    let all = exponentials(scores, largest);
    return mat4x4(
        select(all[0], vec4(0.0), scores[0] == lowest),
        select(all[1], vec4(0.0), scores[1] == lowest),
        select(all[2], vec4(0.0), scores[2] == lowest),
        select(all[3], vec4(0.0), scores[3] == lowest),
    );
}

fn columns_max(own: mat4x4<f32>) -> vec4<f32> {
    return max(max(own[0], own[1]), max(own[2], own[3]));
}

fn columns_sum(own: mat4x4<f32>) -> vec4<f32> {
    return (own[0] + own[1]) + (own[2] + own[3]);
}

fn scaled(own: mat4x4<f32>, rows: vec4<f32>) -> mat4x4<f32> {
    return mat4x4(own[0] * rows, own[1] * rows, own[2] * rows, own[3] * rows);
}

// Adds the values of a tile's keys by their weights.
fn add_values(sums: ptr<function, Sums>, head: Head, first: u32, chunk: u32, weights: Pair, everybody: bool, place: Place) {
    let wide = WIDTH / 4u;
    for (var quarter = 0u; quarter < 4u; quarter++) {
        put_weights(weights, place, quarter);
        for (var n = place.lane; n < STEPS * wide; n += 128u) {
            let key = first + column_of_step(quarter, n / wide);
            let column = chunk + n % wide;
            var values = vec4(0.0);
            if key < params.keys && column < params.dv / 4u {
                values = v[(head.v + key * params.v_row) / 4u + column];
            }
            put_columns(n, values, everybody);
        }
        gather_staged(sums, everybody, place);
    }
}

fn store(head: Head, rows: vec4<u32>, column: u32, sums: mat4x4<f32>) {
    if column >= params.dv / 4u { return; }
    let turned = transpose(sums);
    let at = (head.out + rows * params.out_row) / 4u + column;
    if rows.x < params.queries { out[at.x] = turned[0]; }
    if rows.y < params.queries { out[at.y] = turned[1]; }
    if rows.z < params.queries { out[at.z] = turned[2]; }
    if rows.w < params.queries { out[at.w] = turned[3]; }
}

@compute @workgroup_size(128)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let chunks = (params.dv + WIDTH - 1u) / WIDTH;
    let tiles = (params.queries + SIDE - 1u) / SIDE;
    let unit = params.first_group + group_index(group, groups);
    let number = unit / chunks / tiles;
    if number >= params.batch * params.heads { return; }
    let head = head_of(number / params.heads, number % params.heads);
    let place = place_of(lane);
    // Under an order the last tiles have most to do: they begin.
    let first_row = (tiles - 1u - unit / chunks % tiles) * SIDE;
    let last_row = min(first_row + SIDE, params.queries) - 1u;
    let chunk = unit % chunks * (WIDTH / 4u);
    let rows = four(first_row + place.row * 4u);
    let near_rows = min(rows, vec4(params.queries - 1u));
    // Neither end of what queries see descends from one to the next.
    let end = plan[4u * last_row + 1u];
    let all_from = plan[4u * last_row];
    let all_end = plan[4u * first_row + 1u];
    if lane == 0u { odd = 0u; }
    var largest = vec4(LOWEST);
    var sum = vec4(0.0);
    var sums = Sums();
    for (var first = plan[4u * first_row]; first < end; first += SIDE) {
        let everybody = OPTIONS == 0u && first >= all_from && first + SIDE <= all_end;
        var own = query_key(head, first_row, first, 0u, place);
        if everybody {
            own.near = own.near * params.scale;
            own.far = own.far * params.scale;
        } else {
            own = scores(head, near_rows, first + place.column * 4u, own);
        }
        let before = largest;
        largest = max(before, rows_max(max(columns_max(own.near), columns_max(own.far)), place));
        let carried = exp(before - largest);
        if everybody {
            own = Pair(exponentials(own.near, largest), exponentials(own.far, largest));
        } else {
            own = Pair(exponentials_of_seen(own.near, largest), exponentials_of_seen(own.far, largest));
        }
        sum = fma(sum, carried, columns_sum(own.near) + columns_sum(own.far));
        if OPTIONS > 0u && has(DROPOUT) {
            own = dropped(head, near_rows, first + place.column * 4u, own);
        }
        sums = Sums(
            scaled(sums.a, carried), scaled(sums.b, carried), scaled(sums.c, carried), scaled(sums.d, carried),
        );
        add_values(&sums, head, first, chunk, own, everybody, place);
    }
    sum = rows_sum(sum, place);
    let something = sum > vec4(0.0);
    let inverse = select(vec4(0.0), 1.0 / sum, something);
    store(head, rows, chunk + place.column, scaled(sums.a, inverse));
    store(head, rows, chunk + place.column + 8u, scaled(sums.b, inverse));
    if WIDTH > 64u {
        store(head, rows, chunk + place.column + 16u, scaled(sums.c, inverse));
        store(head, rows, chunk + place.column + 24u, scaled(sums.d, inverse));
    }
    if chunk + place.column > 0u { return; }
    let bits = select(vec4(NOTHING), bitcast<vec4<u32>>(largest + log(sum)), something);
    if rows.x < params.queries { lse[head.line + rows.x] = bits.x; }
    if rows.y < params.queries { lse[head.line + rows.y] = bits.y; }
    if rows.z < params.queries { lse[head.line + rows.z] = bits.z; }
    if rows.w < params.queries { lse[head.line + rows.w] = bits.w; }
}
