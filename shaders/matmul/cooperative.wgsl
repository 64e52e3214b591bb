// A tile of the product to a workgroup, four by four blocks of it to a subgroup, by the device's matrix units: f16 in, f32 sums.
// Both operands are lines of f16 along the inner axis (pack.wgsl) or lie so already. They come through workgroup memory,
// DEPTH at a time, and what comes next is on its way while the units work.
// Of operands in two parts the products of the small ones with the large ones come first, then those of the large ones.
@group(0) @binding(1) var<storage, read> a: array<vec4<elem>>;
@group(0) @binding(2) var<storage, read> b: array<vec4<elem>>;
@group(0) @binding(3) var<storage, read_write> out: array<vec4<elem_out>>;
@group(0) @binding(4) var<storage, read> bias: array<elem_out>;
@group(0) @binding(5) var<storage, read> a_scales: array<f32>;
@group(0) @binding(6) var<storage, read> b_scales: array<f32>;

const THREADS: u32 = LANES * SUBGROUPS_DOWN * SUBGROUPS_ACROSS;
const ROWS: u32 = 4u * SIDE * SUBGROUPS_DOWN;
const COLS: u32 = 4u * SIDE * SUBGROUPS_ACROSS;
const DEPTH: u32 = 2u * SIDE;
const FOURS: u32 = DEPTH / 4u;
// Sixteen bytes behind each line: lines lie in different banks.
const STRIDE: u32 = FOURS + 2u;
const LINES_AT_ONCE: u32 = THREADS / FOURS;
const LOADS_OF_A: u32 = ROWS / LINES_AT_ONCE;
const LOADS_OF_B: u32 = COLS / LINES_AT_ONCE;
// Which product of parts.
const PRODUCTS: u32 = select(1u, 3u, PARTS == 2u);
const BLOCK_FOURS: u32 = SIDE * SIDE / 4u;

var<workgroup> lines_of_a: array<vec4<elem>, ROWS * STRIDE>;
var<workgroup> lines_of_b: array<vec4<elem>, COLS * STRIDE>;
var<workgroup> sums: array<vec4<f32>, SUBGROUPS_DOWN * SUBGROUPS_ACROSS * BLOCK_FOURS>;

// Eight vectors of an operand on their way to workgroup memory.
struct Loads {
    v0: vec4<elem>,
    v1: vec4<elem>,
    v2: vec4<elem>,
    v3: vec4<elem>,
    v4: vec4<elem>,
    v5: vec4<elem>,
    v6: vec4<elem>,
    v7: vec4<elem>,
}

// Lines past the edge are the last one again, and are not written.
fn a_at(start: u32, line: u32, load: u32) -> vec4<elem> {
    if load >= LOADS_OF_A { return vec4<elem>(); }
    return a[start + min(line + load * LINES_AT_ONCE, params.m - 1u) * (params.a_row / 4u)];
}

fn b_at(start: u32, line: u32, load: u32) -> vec4<elem> {
    if load >= LOADS_OF_B { return vec4<elem>(); }
    return b[start + min(line + load * LINES_AT_ONCE, params.n - 1u) * (params.b_col / 4u)];
}

fn loads_of_a(start: u32, line: u32) -> Loads {
    return Loads(
        a_at(start, line, 0u), a_at(start, line, 1u), a_at(start, line, 2u), a_at(start, line, 3u),
        a_at(start, line, 4u), a_at(start, line, 5u), a_at(start, line, 6u), a_at(start, line, 7u),
    );
}

fn loads_of_b(start: u32, line: u32) -> Loads {
    return Loads(
        b_at(start, line, 0u), b_at(start, line, 1u), b_at(start, line, 2u), b_at(start, line, 3u),
        b_at(start, line, 4u), b_at(start, line, 5u), b_at(start, line, 6u), b_at(start, line, 7u),
    );
}

fn keep_a(at: u32, x: Loads) {
    let step = LINES_AT_ONCE * STRIDE;
    lines_of_a[at] = x.v0;
    if LOADS_OF_A > 1u { lines_of_a[at + step] = x.v1; }
    if LOADS_OF_A > 2u { lines_of_a[at + 2u * step] = x.v2; lines_of_a[at + 3u * step] = x.v3; }
    if LOADS_OF_A > 4u {
        lines_of_a[at + 4u * step] = x.v4; lines_of_a[at + 5u * step] = x.v5;
        lines_of_a[at + 6u * step] = x.v6; lines_of_a[at + 7u * step] = x.v7;
    }
}

fn keep_b(at: u32, x: Loads) {
    let step = LINES_AT_ONCE * STRIDE;
    lines_of_b[at] = x.v0;
    if LOADS_OF_B > 1u { lines_of_b[at + step] = x.v1; }
    if LOADS_OF_B > 2u { lines_of_b[at + 2u * step] = x.v2; lines_of_b[at + 3u * step] = x.v3; }
    if LOADS_OF_B > 4u {
        lines_of_b[at + 4u * step] = x.v4; lines_of_b[at + 5u * step] = x.v5;
        lines_of_b[at + 6u * step] = x.v6; lines_of_b[at + 7u * step] = x.v7;
    }
}

// Four neighbouring sums. The powers of two that the lines were multiplied by go again, the one that makes it smaller first.
fn put_sums(batch: u32, row: u32, col: u32, four: vec4<f32>) {
    if row >= params.m || col >= params.n { return; }
    let at = (params.out_offset + (batch * params.m + row) * params.n + col) / 4u;
    var value = four;
    if PARTS == 2u {
        let of_row = vec4(1.0 / a_scales[batch * params.m + row]);
        let line = batch * params.n + col;
        let of_cols = 1.0 / vec4(b_scales[line], b_scales[line + 1u], b_scales[line + 2u], b_scales[line + 3u]);
        value = value * min(of_row, of_cols) * max(of_row, of_cols);
    }
    value *= params.scale;
    if params.accumulate == 1u { value += vec4<f32>(out[at]); }
    if params.has_bias == 1u {
        value += vec4(f32(bias[col]), f32(bias[col + 1u]), f32(bias[col + 2u]), f32(bias[col + 3u]));
    }
    if ACTIVATION > 0u {
        value = vec4(activated(value.x), activated(value.y), activated(value.z), activated(value.w));
    }
    out[at] = vec4<elem_out>(value);
}

// One block out of workgroup memory.
fn put_block(batch: u32, row: u32, col: u32, subgroup: u32, lane: u32) {
    workgroupBarrier();
    for (var i = lane; i < BLOCK_FOURS; i += LANES) {
        put_sums(batch, row + i / (SIDE / 4u), col + i % (SIDE / 4u) * 4u, sums[subgroup * BLOCK_FOURS + i]);
    }
    workgroupBarrier();
}

fn tile_of_product(tile: u32, thread: u32, subgroup: u32, lane: u32) {
    let tiles_across = (params.n + COLS - 1u) / COLS;
    let tiles_down = (params.m + ROWS - 1u) / ROWS;
    let batch = tile / (tiles_across * tiles_down);
    // Matrix units may not stand behind a return: past the last product everything is past the edge.
    let own_row = tile % (tiles_across * tiles_down) / tiles_across * ROWS;
    let row = select(params.m, own_row, batch < params.batches);
    let col = tile % tiles_across * COLS;
    let origin = origins(batch) / 4u;
    let line = thread / FOURS;
    let four = thread % FOURS;
    let to = line * STRIDE + four;
    let down = subgroup / SUBGROUPS_ACROSS * 4u * SIDE;
    let across = subgroup % SUBGROUPS_ACROSS * 4u * SIDE;

    var s00 = sum_block(); var s01 = sum_block(); var s02 = sum_block(); var s03 = sum_block();
    var s10 = sum_block(); var s11 = sum_block(); var s12 = sum_block(); var s13 = sum_block();
    var s20 = sum_block(); var s21 = sum_block(); var s22 = sum_block(); var s23 = sum_block();
    var s30 = sum_block(); var s31 = sum_block(); var s32 = sum_block(); var s33 = sum_block();

    let steps = params.inner / DEPTH;
    // The first product of parts is of A's second.
    let a_first = origin.x + four + select(0u, params.a_part / 4u, PARTS == 2u);
    var next_a = loads_of_a(a_first, row + line);
    var next_b = loads_of_b(origin.y + four, col + line);
    for (var step = 0u; step < PRODUCTS * steps; step++) {
        workgroupBarrier();
        keep_a(to, next_a);
        keep_b(to, next_b);
        workgroupBarrier();
        let coming = min(step + 1u, PRODUCTS * steps - 1u);
        let product = coming / steps;
        let at = coming % steps * FOURS + four;
        let a_part = select(0u, params.a_part / 4u, PARTS == 2u && product == 0u);
        let b_part = select(0u, params.b_part / 4u, PARTS == 2u && product == 1u);
        next_a = loads_of_a(origin.x + a_part + at, row + line);
        next_b = loads_of_b(origin.y + b_part + at, col + line);
        for (var p = 0u; p < FOURS; p += SIDE / 4u) {
            let a0 = coopLoadT<left_block>(&lines_of_a[down * STRIDE + p], STRIDE);
            let a1 = coopLoadT<left_block>(&lines_of_a[(down + SIDE) * STRIDE + p], STRIDE);
            let a2 = coopLoadT<left_block>(&lines_of_a[(down + 2u * SIDE) * STRIDE + p], STRIDE);
            let a3 = coopLoadT<left_block>(&lines_of_a[(down + 3u * SIDE) * STRIDE + p], STRIDE);
            let b0 = coopLoad<right_block>(&lines_of_b[across * STRIDE + p], STRIDE);
            s00 = coopMultiplyAdd(a0, b0, s00); s10 = coopMultiplyAdd(a1, b0, s10);
            s20 = coopMultiplyAdd(a2, b0, s20); s30 = coopMultiplyAdd(a3, b0, s30);
            let b1 = coopLoad<right_block>(&lines_of_b[(across + SIDE) * STRIDE + p], STRIDE);
            s01 = coopMultiplyAdd(a0, b1, s01); s11 = coopMultiplyAdd(a1, b1, s11);
            s21 = coopMultiplyAdd(a2, b1, s21); s31 = coopMultiplyAdd(a3, b1, s31);
            let b2 = coopLoad<right_block>(&lines_of_b[(across + 2u * SIDE) * STRIDE + p], STRIDE);
            s02 = coopMultiplyAdd(a0, b2, s02); s12 = coopMultiplyAdd(a1, b2, s12);
            s22 = coopMultiplyAdd(a2, b2, s22); s32 = coopMultiplyAdd(a3, b2, s32);
            let b3 = coopLoad<right_block>(&lines_of_b[(across + 3u * SIDE) * STRIDE + p], STRIDE);
            s03 = coopMultiplyAdd(a0, b3, s03); s13 = coopMultiplyAdd(a1, b3, s13);
            s23 = coopMultiplyAdd(a2, b3, s23); s33 = coopMultiplyAdd(a3, b3, s33);
        }
    }
    let r = row + down;
    let c = col + across;
    let own = subgroup * BLOCK_FOURS;
    let wide = SIDE / 4u;
    let t00 = s00; coopStoreT(t00, &sums[own], wide); put_block(batch, r, c, subgroup, lane);
    let t01 = s01; coopStoreT(t01, &sums[own], wide); put_block(batch, r, c + SIDE, subgroup, lane);
    let t02 = s02; coopStoreT(t02, &sums[own], wide); put_block(batch, r, c + 2u * SIDE, subgroup, lane);
    let t03 = s03; coopStoreT(t03, &sums[own], wide); put_block(batch, r, c + 3u * SIDE, subgroup, lane);
    let t10 = s10; coopStoreT(t10, &sums[own], wide); put_block(batch, r + SIDE, c, subgroup, lane);
    let t11 = s11; coopStoreT(t11, &sums[own], wide); put_block(batch, r + SIDE, c + SIDE, subgroup, lane);
    let t12 = s12; coopStoreT(t12, &sums[own], wide); put_block(batch, r + SIDE, c + 2u * SIDE, subgroup, lane);
    let t13 = s13; coopStoreT(t13, &sums[own], wide); put_block(batch, r + SIDE, c + 3u * SIDE, subgroup, lane);
    let t20 = s20; coopStoreT(t20, &sums[own], wide); put_block(batch, r + 2u * SIDE, c, subgroup, lane);
    let t21 = s21; coopStoreT(t21, &sums[own], wide); put_block(batch, r + 2u * SIDE, c + SIDE, subgroup, lane);
    let t22 = s22; coopStoreT(t22, &sums[own], wide); put_block(batch, r + 2u * SIDE, c + 2u * SIDE, subgroup, lane);
    let t23 = s23; coopStoreT(t23, &sums[own], wide); put_block(batch, r + 2u * SIDE, c + 3u * SIDE, subgroup, lane);
    let t30 = s30; coopStoreT(t30, &sums[own], wide); put_block(batch, r + 3u * SIDE, c, subgroup, lane);
    let t31 = s31; coopStoreT(t31, &sums[own], wide); put_block(batch, r + 3u * SIDE, c + SIDE, subgroup, lane);
    let t32 = s32; coopStoreT(t32, &sums[own], wide); put_block(batch, r + 3u * SIDE, c + 2u * SIDE, subgroup, lane);
    let t33 = s33; coopStoreT(t33, &sums[own], wide); put_block(batch, r + 3u * SIDE, c + 3u * SIDE, subgroup, lane);
}
