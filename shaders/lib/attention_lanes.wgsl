// Blocks of 32 rows by 64 columns, one subgroup of eight invocations to each, for drivers on a CPU, where each number loaded costs
// as much as dozens of products: an invocation has four rows whole, and the numbers of the columns go around by subgroupBroadcast.
// A matrix is four columns, each of four rows. What is written out here stands again wherever it is used, and a driver has to compile
// it: products are made of half a block at a time, and loops go over matrices by taking them in turn.
// Numbers come in pairs, as 64-bit integers: a load costs what it costs whether of 32 bits or of 64. Widths are even.
@group(0) @binding(1) var<storage, read> q: array<u64>;
@group(0) @binding(2) var<storage, read> k: array<u64>;
@group(0) @binding(7) var<storage, read> v: array<u64>;

// OPTIONS: whether there is more to a score than its product and which run of keys a query sees.

const ROWS: u32 = 32u;
const COLUMNS: u32 = 64u;
// The keys, or queries, whose products are made at once.
const OTHERS: u32 = 32u;

struct Half {
    m0: mat4x4<f32>,
    m1: mat4x4<f32>,
    m2: mat4x4<f32>,
    m3: mat4x4<f32>,
    m4: mat4x4<f32>,
    m5: mat4x4<f32>,
    m6: mat4x4<f32>,
    m7: mat4x4<f32>,
}

// The even columns of a block and the odd ones.
struct Block {
    evens: Half,
    odds: Half,
}

// Four pairs of numbers. Of the 64 columns of a block an invocation has its own pair and those 8, 16 and 24 pairs behind.
struct Eight {
    evens: vec4<f32>,
    odds: vec4<f32>,
}

fn eight(a: u64, b: u64, c: u64, d: u64) -> Eight {
    return Eight(
        bitcast<vec4<f32>>(vec4(u32(a), u32(b), u32(c), u32(d))),
        bitcast<vec4<f32>>(vec4(u32(a >> 32u), u32(b >> 32u), u32(c >> 32u), u32(d >> 32u))),
    );
}

// The pairs of a row's columns from `chunk` on that an invocation has; behind the last pair stands the last one again.
fn column_pairs(chunk: u32, width: u32, lane: u32) -> vec4<u32> {
    return min(chunk / 2u + lane + 8u * four(0u), vec4(width / 2u - 1u));
}

// The first column of a block's matrix; its others are each two further.
fn first_column(matrix: u32) -> u32 {
    return matrix % 8u / 2u * 16u + matrix % 2u * 8u + matrix / 8u;
}

fn four(first: u32) -> vec4<u32> {
    return first + vec4(0u, 1u, 2u, 3u);
}

fn add_low(sums: mat4x4<f32>, own: f32, rows: vec4<f32>) -> mat4x4<f32> {
    return mat4x4(
        fma(vec4(subgroupBroadcast(own, 0u)), rows, sums[0]),
        fma(vec4(subgroupBroadcast(own, 1u)), rows, sums[1]),
        fma(vec4(subgroupBroadcast(own, 2u)), rows, sums[2]),
        fma(vec4(subgroupBroadcast(own, 3u)), rows, sums[3]),
    );
}

fn add_high(sums: mat4x4<f32>, own: f32, rows: vec4<f32>) -> mat4x4<f32> {
    return mat4x4(
        fma(vec4(subgroupBroadcast(own, 4u)), rows, sums[0]),
        fma(vec4(subgroupBroadcast(own, 5u)), rows, sums[1]),
        fma(vec4(subgroupBroadcast(own, 6u)), rows, sums[2]),
        fma(vec4(subgroupBroadcast(own, 7u)), rows, sums[3]),
    );
}

// Adds four numbers of the rows times the 32 of the columns.
fn add_half(sums: Half, columns: vec4<f32>, rows: vec4<f32>) -> Half {
    return Half(
        add_low(sums.m0, columns.x, rows),
        add_high(sums.m1, columns.x, rows),
        add_low(sums.m2, columns.y, rows),
        add_high(sums.m3, columns.y, rows),
        add_low(sums.m4, columns.z, rows),
        add_high(sums.m5, columns.z, rows),
        add_low(sums.m6, columns.w, rows),
        add_high(sums.m7, columns.w, rows),
    );
}

// The same of pairs along the axis that is summed: the first ones, then the second ones.
fn add_twice(sums: Half, columns: Eight, rows: Eight) -> Half {
    return add_half(add_half(sums, columns.evens, rows.evens), columns.odds, rows.odds);
}

// Adds four numbers of the rows times the 64 of the columns.
fn add(sums: Block, columns: Eight, rows: vec4<f32>) -> Block {
    return Block(add_half(sums.evens, columns.evens, rows), add_half(sums.odds, columns.odds, rows));
}

// The matrices one place on, and one behind them: a loop goes through all of them by the first one's name.
fn half_in_turn(all: Half, last: mat4x4<f32>) -> Half {
    return Half(all.m1, all.m2, all.m3, all.m4, all.m5, all.m6, all.m7, last);
}

fn in_turn(all: Block, last: mat4x4<f32>) -> Block {
    return Block(half_in_turn(all.evens, all.odds.m0), half_in_turn(all.odds, last));
}

fn columns_on(own: mat4x4<f32>, last: vec4<f32>) -> mat4x4<f32> {
    return mat4x4(own[1], own[2], own[3], last);
}

fn times(own: mat4x4<f32>, rows: vec4<f32>) -> mat4x4<f32> {
    return mat4x4(own[0] * rows, own[1] * rows, own[2] * rows, own[3] * rows);
}

fn half_times(all: Half, rows: vec4<f32>) -> Half {
    return Half(
        times(all.m0, rows), times(all.m1, rows),
        times(all.m2, rows), times(all.m3, rows),
        times(all.m4, rows), times(all.m5, rows),
        times(all.m6, rows), times(all.m7, rows),
    );
}

fn all_times(all: Block, rows: vec4<f32>) -> Block {
    return Block(half_times(all.evens, rows), half_times(all.odds, rows));
}

// What is finite of some numbers.
fn sound(values: vec4<f32>) -> vec4<f32> {
    return select(values, vec4(0.0), (bitcast<vec4<u32>>(values) & vec4(0x7f800000u)) == vec4(0x7f800000u));
}

// The sum of what is not.
fn unsound(all: Eight, sound: Eight) -> f32 {
    return dot(all.evens - sound.evens, vec4(1.0)) + dot(all.odds - sound.odds, vec4(1.0));
}
