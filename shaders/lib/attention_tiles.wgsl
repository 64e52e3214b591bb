// Tiles of 64 queries by 64 keys, 128 invocations to each: an invocation has four rows next to each other and two times four
// columns. A matrix of sums is four columns, each of four rows, so that what belongs to rows is one vector. Products go through
// workgroup memory, 16 of their inner axis at a time. All widths are multiples of four.
@group(0) @binding(1) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> k: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read> v: array<vec4<f32>>;

// WIDTH: columns of a result that a workgroup has: 64 or 128.
// OPTIONS: whether there is more to a score than its product and which run of keys a query sees.

const SIDE: u32 = 64u;
const STEPS: u32 = 16u;
// From one step of the inner axis to the next: 16 vectors, and one against bank conflicts.
const STRIDE: u32 = 17u;
// Where the columns' operand begins, behind that of the rows.
const COLUMNS_AT: u32 = 272u;

var<workgroup> staged: array<vec4<f32>, 800>;
var<workgroup> partial: array<vec4<f32>, 128>;
// Whether a value that is not finite was met where not everybody sees everybody: 0 times it is not 0.
var<workgroup> odd: u32;

// Where an invocation's rows and columns stand in a tile, in vectors.
struct Place {
    lane: u32,
    row: u32,
    column: u32,
}

fn place_of(lane: u32) -> Place {
    return Place(lane, lane / 8u, lane % 8u);
}

// The two times four columns of a tile.
struct Pair {
    near: mat4x4<f32>,
    far: mat4x4<f32>,
}

// The columns of a result: 32 apart, the last two where it is 128 wide.
struct Sums {
    a: mat4x4<f32>,
    b: mat4x4<f32>,
    c: mat4x4<f32>,
    d: mat4x4<f32>,
}

fn four(first: u32) -> vec4<u32> {
    return first + vec4(0u, 1u, 2u, 3u);
}

// sums + rows columnsᵀ
fn outer(sums: mat4x4<f32>, columns: vec4<f32>, rows: vec4<f32>) -> mat4x4<f32> {
    return mat4x4(
        fma(vec4(columns.x), rows, sums[0]),
        fma(vec4(columns.y), rows, sums[1]),
        fma(vec4(columns.z), rows, sums[2]),
        fma(vec4(columns.w), rows, sums[3]),
    );
}

fn weighed(weights: vec4<f32>, value: f32) -> vec4<f32> {
    return select(vec4(0.0), weights * value, weights != vec4(0.0));
}

// As outer, where rows are of weights: what has none leaves no trace, NaN neither.
fn outer_weighed(sums: mat4x4<f32>, columns: vec4<f32>, rows: vec4<f32>) -> mat4x4<f32> {
    return mat4x4(
        sums[0] + weighed(rows, columns.x),
        sums[1] + weighed(rows, columns.y),
        sums[2] + weighed(rows, columns.z),
        sums[3] + weighed(rows, columns.w),
    );
}

// Four rows of 16 of the inner axis, for a step of it each.
fn put(at: u32, part: u32, block: mat4x4<f32>) {
    let turned = transpose(block);
    let first = at + part % 4u * 4u * STRIDE + part / 4u;
    staged[first] = turned[0];
    staged[first + STRIDE] = turned[1];
    staged[first + 2u * STRIDE] = turned[2];
    staged[first + 3u * STRIDE] = turned[3];
}

fn multiply_step(sums: ptr<function, Pair>, place: Place, step: u32) {
    let rows = staged[step * STRIDE + place.row];
    let at = COLUMNS_AT + step * STRIDE + place.column;
    (*sums).near = outer((*sums).near, staged[at], rows);
    (*sums).far = outer((*sums).far, staged[at + 8u], rows);
}

// What is staged, rows times columns. Not a loop: drivers do not unroll one.
fn multiply(sums: ptr<function, Pair>, place: Place) {
    multiply_step(sums, place, 0u);
    multiply_step(sums, place, 1u);
    multiply_step(sums, place, 2u);
    multiply_step(sums, place, 3u);
    multiply_step(sums, place, 4u);
    multiply_step(sums, place, 5u);
    multiply_step(sums, place, 6u);
    multiply_step(sums, place, 7u);
    multiply_step(sums, place, 8u);
    multiply_step(sums, place, 9u);
    multiply_step(sums, place, 10u);
    multiply_step(sums, place, 11u);
    multiply_step(sums, place, 12u);
    multiply_step(sums, place, 13u);
    multiply_step(sums, place, 14u);
    multiply_step(sums, place, 15u);
}

fn gather_step(sums: ptr<function, Sums>, place: Place, step: u32) {
    let rows = staged[step * STRIDE + place.row];
    let at = COLUMNS_AT + step * (WIDTH / 4u) + place.column;
    (*sums).a = outer((*sums).a, staged[at], rows);
    (*sums).b = outer((*sums).b, staged[at + 8u], rows);
    if WIDTH > 64u {
        (*sums).c = outer((*sums).c, staged[at + 16u], rows);
        (*sums).d = outer((*sums).d, staged[at + 24u], rows);
    }
}

// What is staged, weights times columns.
fn gather(sums: ptr<function, Sums>, place: Place) {
    gather_step(sums, place, 0u);
    gather_step(sums, place, 1u);
    gather_step(sums, place, 2u);
    gather_step(sums, place, 3u);
    gather_step(sums, place, 4u);
    gather_step(sums, place, 5u);
    gather_step(sums, place, 6u);
    gather_step(sums, place, 7u);
    gather_step(sums, place, 8u);
    gather_step(sums, place, 9u);
    gather_step(sums, place, 10u);
    gather_step(sums, place, 11u);
    gather_step(sums, place, 12u);
    gather_step(sums, place, 13u);
    gather_step(sums, place, 14u);
    gather_step(sums, place, 15u);
}

fn gather_weighed(sums: ptr<function, Sums>, place: Place) {
    for (var step = 0u; step < STEPS; step++) {
        let rows = staged[step * STRIDE + place.row];
        let at = COLUMNS_AT + step * (WIDTH / 4u) + place.column;
        (*sums).a = outer_weighed((*sums).a, staged[at], rows);
        (*sums).b = outer_weighed((*sums).b, staged[at + 8u], rows);
        if WIDTH > 64u {
            (*sums).c = outer_weighed((*sums).c, staged[at + 16u], rows);
            (*sums).d = outer_weighed((*sums).d, staged[at + 24u], rows);
        }
    }
}

// A quarter of a tile's weights: two of every four columns of one half, so that each invocation has two.
fn put_weights(weights: Pair, place: Place, quarter: u32) {
    var one = weights.near[0];
    var two = weights.near[1];
    if quarter == 1u { one = weights.near[2]; two = weights.near[3]; }
    if quarter == 2u { one = weights.far[0]; two = weights.far[1]; }
    if quarter == 3u { one = weights.far[2]; two = weights.far[3]; }
    let at = place.column * 2u * STRIDE + place.row;
    staged[at] = one;
    staged[at + STRIDE] = two;
}

// Which column of a tile is the step of a quarter.
fn column_of_step(quarter: u32, step: u32) -> u32 {
    return quarter / 2u * 32u + step / 2u * 4u + quarter % 2u * 2u + step % 2u;
}

fn is_odd(values: vec4<f32>) -> bool {
    return any((bitcast<vec4<u32>>(values) & vec4(0x7f800000u)) == vec4(0x7f800000u));
}

// Puts a vector of a row where gather finds it. Of a step past the tile's last row it is 0.
fn put_columns(at: u32, values: vec4<f32>, everybody: bool) {
    staged[COLUMNS_AT + at] = values;
    if !everybody && is_odd(values) { odd = 1u; }
}

// Adds what is staged, weights times columns.
fn gather_staged(sums: ptr<function, Sums>, everybody: bool, place: Place) {
    workgroupBarrier();
    if !everybody && odd > 0u {
        gather_weighed(sums, place);
    } else {
        gather(sums, place);
    }
    workgroupBarrier();
}

// The products of 64 queries and 64 keys; rows are the queries, or the keys. Behind the last query and the last key stands the
// last one once more.
fn query_key(head: Head, first_query: u32, first_key: u32, queries_at: u32, place: Place) -> Pair {
    let part = place.lane % 64u;
    let queries = head.q / 4u + min(four(first_query + part / 4u * 4u), vec4(params.queries - 1u)) * (params.q_row / 4u);
    let keys = head.k / 4u + min(four(first_key + part / 4u * 4u), vec4(params.keys - 1u)) * (params.k_row / 4u);
    var sums = Pair();
    for (var inner = 0u; inner < params.dh; inner += STEPS) {
        let column = inner / 4u + part % 4u;
        var block = mat4x4<f32>();
        let at = select(COLUMNS_AT - queries_at, queries_at, place.lane < 64u);
        if column < params.dh / 4u {
            if place.lane < 64u {
                let own = queries + column;
                block = mat4x4(q[own.x], q[own.y], q[own.z], q[own.w]);
            } else {
                let own = keys + column;
                block = mat4x4(k[own.x], k[own.y], k[own.z], k[own.w]);
            }
        }
        put(at, part, block);
        workgroupBarrier();
        multiply(&sums, place);
        workgroupBarrier();
    }
    return sums;
}

// The sum of what the eight invocations of each row have. There is a barrier between two of these.
fn rows_sum(own: vec4<f32>, place: Place) -> vec4<f32> {
    partial[place.column * 16u + place.row] = own;
    workgroupBarrier();
    var sum = vec4(0.0);
    for (var x = 0u; x < 8u; x++) {
        sum += partial[x * 16u + place.row];
    }
    return sum;
}

fn rows_max(own: vec4<f32>, place: Place) -> vec4<f32> {
    partial[place.column * 16u + place.row] = own;
    workgroupBarrier();
    var largest = own;
    for (var x = 0u; x < 8u; x++) {
        largest = max(largest, partial[x * 16u + place.row]);
    }
    return largest;
}

// The columns one place on, the first one's new value last: a loop goes through all of them by the first one's name.
fn in_turn(all: Pair, last: vec4<f32>) -> Pair {
    return Pair(
        mat4x4(all.near[1], all.near[2], all.near[3], all.far[0]),
        mat4x4(all.far[1], all.far[2], all.far[3], last),
    );
}

// How many columns the n-th is from an invocation's first.
fn turn(n: u32) -> u32 {
    return n / 4u * 32u + n % 4u;
}
