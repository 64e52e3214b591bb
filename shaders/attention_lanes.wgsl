// Attention for drivers on a CPU: the forward by blocks of 32 queries, the keys that any of them sees 64 at a time.

@group(0) @binding(5) var<storage, read_write> out: array<f32>;
@group(0) @binding(6) var<storage, read_write> lse: array<u32>;

// The scores of a block, and the largest of each row.
struct Scores {
    all: Block,
    largest: vec4<f32>,
}

// The n-th column of a block's matrices stands for key 8 (n / 8) + n % 8: they are in order.
fn scores(head: Head, rows: vec4<u32>, first: u32, products: Block, everybody: bool, before: vec4<f32>) -> Scores {
    let begins = vec4(plan[4u * rows.x], plan[4u * rows.y], plan[4u * rows.z], plan[4u * rows.w]);
    let ends = vec4(plan[4u * rows.x + 1u], plan[4u * rows.y + 1u], plan[4u * rows.z + 1u], plan[4u * rows.w + 1u]);
    var all = products;
    var largest = before;
    for (var n = 0u; n < COLUMNS; n += 4u) {
        var own = times(all.m0, vec4(params.scale));
        if !everybody {
            own = all.m0;
            for (var key = first + n; key < first + n + 4u; key++) {
                let seen = (vec4(key) >= begins) & (vec4(key) < ends);
                var score_of = params.scale * own[0];
                if OPTIONS > 0u {
                    score_of = vec4(
                        score(head, rows.x, key, own[0].x),
                        score(head, rows.y, key, own[0].y),
                        score(head, rows.z, key, own[0].z),
                        score(head, rows.w, key, own[0].w),
                    );
                }
                own = columns_on(own, select(vec4(LOWEST), score_of, seen));
            }
        }
        largest = max(largest, max(max(own[0], own[1]), max(own[2], own[3])));
        all = in_turn(all, own);
    }
    return Scores(all, largest);
}

fn exponential(scores: vec4<f32>, largest: vec4<f32>) -> vec4<f32> {
    return select(exp(scores - largest), vec4(0.0), scores == vec4(LOWEST));
}

@compute @workgroup_size(8)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let chunks = (params.dv + COLUMNS - 1u) / COLUMNS;
    let tiles = (params.queries + ROWS - 1u) / ROWS;
    let unit = params.first_group + group_index(group, groups);
    let number = unit / chunks / tiles;
    if number >= params.batch * params.heads { return; }
    let head = head_of(number / params.heads, number % params.heads);
    // Under an order the last tiles have most to do: they begin.
    let first_row = (tiles - 1u - unit / chunks % tiles) * ROWS;
    let last_row = min(first_row + ROWS, params.queries) - 1u;
    let chunk = unit % chunks * COLUMNS;
    let rows = four(first_row + lane * 4u);
    let near_rows = min(rows, vec4(params.queries - 1u));
    let near = min(chunk + lane + 8u * four(0u), vec4(params.dv - 1u));
    let far = min(chunk + lane + 8u * four(4u), vec4(params.dv - 1u));
    // Neither end of what queries see descends from one to the next.
    let end = plan[4u * last_row + 1u];
    let all_from = plan[4u * last_row];
    let all_end = plan[4u * first_row + 1u];
    var largest = vec4(LOWEST);
    var sum = vec4(0.0);
    var spoiled = vec4(0.0);
    var sums = Block();
    for (var first = plan[4u * first_row]; first < end; first += COLUMNS) {
        let everybody = OPTIONS == 0u && first >= all_from && first + COLUMNS <= all_end;
        let own = scores(head, near_rows, first, query_key(head, rows, first, lane), everybody, largest);
        let carried = exp(largest - own.largest);
        largest = own.largest;
        sum *= carried;
        sums = all_times(sums, carried);
        var weights = own.all;
        for (var n = 0u; n < COLUMNS; n += 4u) {
            var four_keys = weights.m0;
            for (var key = first + n; key < first + n + 4u; key++) {
                var p = exponential(four_keys[0], largest);
                sum += p;
                if OPTIONS > 0u && has(DROPOUT) {
                    p *= vec4(
                        kept(head, rows.x, key), kept(head, rows.y, key), kept(head, rows.z, key), kept(head, rows.w, key),
                    );
                }
                four_keys = columns_on(four_keys, four_keys[0]);
                let at = head.v + min(key, params.keys - 1u) * params.v_row;
                let a = at + near;
                let b = at + far;
                var values = Eight(vec4(v[a.x], v[a.y], v[a.z], v[a.w]), vec4(v[b.x], v[b.y], v[b.z], v[b.w]));
                if !everybody {
                    // 0 times what is not finite is not 0: it spoils the rows that see it, and no other.
                    let sound_values = Eight(sound(values.near), sound(values.far));
                    let own_odd = dot(values.near - sound_values.near, vec4(1.0)) + dot(values.far - sound_values.far, vec4(1.0));
                    values = sound_values;
                    spoiled = select(spoiled, spoiled + subgroupAdd(own_odd), p != vec4(0.0));
                }
                sums = add(sums, values, p);
            }
            weights = in_turn(weights, four_keys);
        }
    }
    let something = sum > vec4(0.0);
    let inverse = select(vec4(0.0), 1.0 / sum, something);
    for (var n = 0u; n < COLUMNS; n += 4u) {
        var own = times(sums.m0, inverse);
        for (var column = chunk + n; column < min(chunk + n + 4u, params.dv); column++) {
            let at = head.out + rows * params.out_row + column;
            let result = own[0] + spoiled;
            if rows.x < params.queries { out[at.x] = result.x; }
            if rows.y < params.queries { out[at.y] = result.y; }
            if rows.z < params.queries { out[at.z] = result.z; }
            if rows.w < params.queries { out[at.w] = result.w; }
            own = columns_on(own, own[0]);
        }
        sums = in_turn(sums, own);
    }
    if chunk > 0u { return; }
    let bits = select(vec4(NOTHING), bitcast<vec4<u32>>(largest + log(sum)), something);
    if rows.x < params.queries { lse[head.line + rows.x] = bits.x; }
    if rows.y < params.queries { lse[head.line + rows.y] = bits.y; }
    if rows.z < params.queries { lse[head.line + rows.z] = bits.z; }
    if rows.w < params.queries { lse[head.line + rows.w] = bits.w; }
}
