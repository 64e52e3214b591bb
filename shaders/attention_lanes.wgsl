// Attention for drivers on a CPU: the forward by blocks of 32 queries, the keys that any of them sees 32 at a time.

@group(0) @binding(5) var<storage, read_write> out: array<f32>;
@group(0) @binding(6) var<storage, read_write> lse: array<u32>;

// TALL: a workgroup has twice as many rows: an invocation four more, 32 behind its first ones. Keys and values are loaded once for
// both.

// Four rows of an invocation on their way over the keys.
struct Rows {
    numbers: vec4<u32>,
    largest: vec4<f32>,
    sum: vec4<f32>,
    // What keys spoil that are not finite.
    spoiled: vec4<f32>,
    sums: Block,
}

fn rows_from(first: u32) -> Rows {
    return Rows(four(first), vec4(LOWEST), vec4(0.0), vec4(0.0), Block());
}

struct Products {
    low: Half,
    high: Half,
}

// The products of queries and 32 keys. Behind the last query and the last key stands the last one again.
fn query_key(head: Head, rows: vec4<u32>, first_key: u32, lane: u32) -> Products {
    let a = (head.q + min(rows, vec4(params.queries - 1u)) * params.q_row) / 2u;
    let b = (head.q + min(rows + ROWS, vec4(params.queries - 1u)) * params.q_row) / 2u;
    let keys = (head.k + min(first_key + lane + 8u * four(0u), vec4(params.keys - 1u)) * params.k_row) / 2u;
    var low = Half();
    var high = Half();
    for (var c = 0u; c < params.dh / 2u; c++) {
        let columns = eight(k[keys.x + c], k[keys.y + c], k[keys.z + c], k[keys.w + c]);
        low = add_twice(low, columns, eight(q[a.x + c], q[a.y + c], q[a.z + c], q[a.w + c]));
        if TALL > 0u { high = add_twice(high, columns, eight(q[b.x + c], q[b.y + c], q[b.z + c], q[b.w + c])); }
    }
    return Products(low, high);
}

// The scores of a block: the largest of each row is what the sums so far are carried over to.
fn scores(own: ptr<function, Rows>, head: Head, first: u32, products: Half, everybody: bool) -> Half {
    let rows = min((*own).numbers, vec4(params.queries - 1u));
    let begins = vec4(plan[4u * rows.x], plan[4u * rows.y], plan[4u * rows.z], plan[4u * rows.w]);
    let ends = vec4(plan[4u * rows.x + 1u], plan[4u * rows.y + 1u], plan[4u * rows.z + 1u], plan[4u * rows.w + 1u]);
    let before = (*own).largest;
    var all = products;
    var largest = before;
    for (var n = 0u; n < OTHERS; n += 4u) {
        var keys = times(all.m0, vec4(params.scale));
        if !everybody {
            keys = all.m0;
            for (var key = first + n; key < first + n + 4u; key++) {
                let seen = (vec4(key) >= begins) & (vec4(key) < ends);
                var value = params.scale * keys[0];
                if OPTIONS > 0u {
                    value = vec4(
                        score(head, rows.x, key, keys[0].x),
                        score(head, rows.y, key, keys[0].y),
                        score(head, rows.z, key, keys[0].z),
                        score(head, rows.w, key, keys[0].w),
                    );
                }
                keys = columns_on(keys, select(vec4(LOWEST), value, seen));
            }
        }
        largest = max(largest, max(max(keys[0], keys[1]), max(keys[2], keys[3])));
        all = half_in_turn(all, keys);
    }
    let carried = exp(before - largest);
    (*own).largest = largest;
    (*own).sum *= carried;
    (*own).sums = all_times((*own).sums, carried);
    return all;
}

// Adds a key's values by their weights. 0 times what is not finite is not 0: it spoils the rows that see it, and no other.
fn add_key(own: ptr<function, Rows>, head: Head, key: u32, scores: vec4<f32>, values: Eight, odd: f32, everybody: bool) {
    var p = select(exp(scores - (*own).largest), vec4(0.0), scores == vec4(LOWEST));
    (*own).sum += p;
    if OPTIONS > 0u && has(DROPOUT) {
        let rows = (*own).numbers;
        p *= vec4(kept(head, rows.x, key), kept(head, rows.y, key), kept(head, rows.z, key), kept(head, rows.w, key));
    }
    if !everybody { (*own).spoiled = select((*own).spoiled, (*own).spoiled + odd, p != vec4(0.0)); }
    (*own).sums = add((*own).sums, values, p);
}

fn store(own: Rows, head: Head, chunk: u32) {
    let rows = own.numbers;
    let something = own.sum > vec4(0.0);
    let inverse = select(vec4(0.0), 1.0 / own.sum, something);
    var sums = own.sums;
    for (var n = 0u; n < 16u; n++) {
        var columns = times(sums.evens.m0, inverse);
        let first = chunk + first_column(n);
        for (var column = first; column < min(first + 8u, params.dv); column += 2u) {
            let at = head.out + rows * params.out_row + column;
            let result = columns[0] + own.spoiled;
            if rows.x < params.queries { out[at.x] = result.x; }
            if rows.y < params.queries { out[at.y] = result.y; }
            if rows.z < params.queries { out[at.z] = result.z; }
            if rows.w < params.queries { out[at.w] = result.w; }
            columns = columns_on(columns, columns[0]);
        }
        sums = in_turn(sums, columns);
    }
    if chunk > 0u { return; }
    let bits = select(vec4(NOTHING), bitcast<vec4<u32>>(own.largest + log(own.sum)), something);
    if rows.x < params.queries { lse[head.line + rows.x] = bits.x; }
    if rows.y < params.queries { lse[head.line + rows.y] = bits.y; }
    if rows.z < params.queries { lse[head.line + rows.z] = bits.z; }
    if rows.w < params.queries { lse[head.line + rows.w] = bits.w; }
}

@compute @workgroup_size(8)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let height = ROWS + TALL * ROWS;
    let chunks = (params.dv + COLUMNS - 1u) / COLUMNS;
    let tiles = (params.queries + height - 1u) / height;
    let unit = params.first_group + group_index(group, groups);
    let number = unit / chunks / tiles;
    if number >= params.batch * params.heads { return; }
    let head = head_of(number / params.heads, number % params.heads);
    // Under an order the last tiles have most to do: they begin.
    let first_row = (tiles - 1u - unit / chunks % tiles) * height;
    let last_row = min(first_row + height, params.queries) - 1u;
    let chunk = unit % chunks * COLUMNS;
    let own_pairs = column_pairs(chunk, params.dv, lane);
    // Neither end of what queries see descends from one to the next.
    let end = plan[4u * last_row + 1u];
    let all_from = plan[4u * last_row];
    let all_end = plan[4u * first_row + 1u];
    var low = rows_from(first_row + lane * 4u);
    var high = rows_from(first_row + lane * 4u + ROWS);
    for (var first = plan[4u * first_row]; first < end; first += OTHERS) {
        let everybody = OPTIONS == 0u && first >= all_from && first + OTHERS <= all_end;
        let products = query_key(head, low.numbers, first, lane);
        var low_scores = scores(&low, head, first, products.low, everybody);
        var high_scores = products.high;
        if TALL > 0u { high_scores = scores(&high, head, first, products.high, everybody); }
        for (var n = 0u; n < OTHERS; n += 4u) {
            var low_keys = low_scores.m0;
            var high_keys = high_scores.m0;
            for (var key = first + n; key < first + n + 4u; key++) {
                let at = (head.v + min(key, params.keys - 1u) * params.v_row) / 2u + own_pairs;
                var values = eight(v[at.x], v[at.y], v[at.z], v[at.w]);
                var odd = 0.0;
                if !everybody {
                    let whole = Eight(sound(values.evens), sound(values.odds));
                    odd = subgroupAdd(unsound(values, whole));
                    values = whole;
                }
                add_key(&low, head, key, low_keys[0], values, odd, everybody);
                low_keys = columns_on(low_keys, low_keys[0]);
                if TALL > 0u {
                    add_key(&high, head, key, high_keys[0], values, odd, everybody);
                    high_keys = columns_on(high_keys, high_keys[0]);
                }
            }
            low_scores = half_in_turn(low_scores, low_keys);
            high_scores = half_in_turn(high_scores, high_keys);
        }
    }
    store(low, head, chunk);
    if TALL > 0u { store(high, head, chunk); }
}
