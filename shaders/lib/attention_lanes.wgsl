// Blocks of 32 rows by 64 columns, one subgroup of eight invocations to each, for drivers on a CPU, where each number loaded costs
// as much as dozens of products: an invocation has four rows whole, and the numbers of the columns go around by subgroupBroadcast.
// A matrix is four columns, each of four rows. What is written out here stands again wherever it is used, and a driver has to compile
// it: products are made of half a block at a time, and loops go over matrices by taking them in turn.
@group(0) @binding(1) var<storage, read> q: array<f32>;
@group(0) @binding(2) var<storage, read> k: array<f32>;
@group(0) @binding(7) var<storage, read> v: array<f32>;

// OPTIONS: whether there is more to a score than its product and which run of keys a query sees.

const ROWS: u32 = 32u;
const COLUMNS: u32 = 64u;
// The keys, or queries, whose products are made at once.
const OTHERS: u32 = 32u;

struct Block {
    m0: mat4x4<f32>,
    m1: mat4x4<f32>,
    m2: mat4x4<f32>,
    m3: mat4x4<f32>,
    m4: mat4x4<f32>,
    m5: mat4x4<f32>,
    m6: mat4x4<f32>,
    m7: mat4x4<f32>,
    m8: mat4x4<f32>,
    m9: mat4x4<f32>,
    ma: mat4x4<f32>,
    mb: mat4x4<f32>,
    mc: mat4x4<f32>,
    md: mat4x4<f32>,
    me: mat4x4<f32>,
    mf: mat4x4<f32>,
}

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

// What an invocation loads of 64 columns: its own and those 8, 16, … behind.
struct Eight {
    near: vec4<f32>,
    far: vec4<f32>,
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

// Adds four numbers of the rows times the 32 or 64 of the columns.
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

fn add(sums: Block, columns: Eight, rows: vec4<f32>) -> Block {
    return Block(
        add_low(sums.m0, columns.near.x, rows),
        add_high(sums.m1, columns.near.x, rows),
        add_low(sums.m2, columns.near.y, rows),
        add_high(sums.m3, columns.near.y, rows),
        add_low(sums.m4, columns.near.z, rows),
        add_high(sums.m5, columns.near.z, rows),
        add_low(sums.m6, columns.near.w, rows),
        add_high(sums.m7, columns.near.w, rows),
        add_low(sums.m8, columns.far.x, rows),
        add_high(sums.m9, columns.far.x, rows),
        add_low(sums.ma, columns.far.y, rows),
        add_high(sums.mb, columns.far.y, rows),
        add_low(sums.mc, columns.far.z, rows),
        add_high(sums.md, columns.far.z, rows),
        add_low(sums.me, columns.far.w, rows),
        add_high(sums.mf, columns.far.w, rows),
    );
}

// The matrices one place on, and one behind them: a loop goes through all of them by the first one's name.
fn in_turn(all: Block, last: mat4x4<f32>) -> Block {
    return Block(
        all.m1, all.m2, all.m3, all.m4, all.m5, all.m6, all.m7, all.m8,
        all.m9, all.ma, all.mb, all.mc, all.md, all.me, all.mf, last,
    );
}

fn half_in_turn(all: Half, last: mat4x4<f32>) -> Half {
    return Half(all.m1, all.m2, all.m3, all.m4, all.m5, all.m6, all.m7, last);
}

fn columns_on(own: mat4x4<f32>, last: vec4<f32>) -> mat4x4<f32> {
    return mat4x4(own[1], own[2], own[3], last);
}

fn times(own: mat4x4<f32>, rows: vec4<f32>) -> mat4x4<f32> {
    return mat4x4(own[0] * rows, own[1] * rows, own[2] * rows, own[3] * rows);
}

fn all_times(all: Block, rows: vec4<f32>) -> Block {
    return Block(
        times(all.m0, rows), times(all.m1, rows),
        times(all.m2, rows), times(all.m3, rows),
        times(all.m4, rows), times(all.m5, rows),
        times(all.m6, rows), times(all.m7, rows),
        times(all.m8, rows), times(all.m9, rows),
        times(all.ma, rows), times(all.mb, rows),
        times(all.mc, rows), times(all.md, rows),
        times(all.me, rows), times(all.mf, rows),
    );
}

// What is finite of some numbers.
fn sound(values: vec4<f32>) -> vec4<f32> {
    return select(values, vec4(0.0), (bitcast<vec4<u32>>(values) & vec4(0x7f800000u)) == vec4(0x7f800000u));
}
