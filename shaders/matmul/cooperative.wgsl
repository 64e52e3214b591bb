// A tile of the product to a workgroup, four by four blocks of it to a subgroup, by the device's matrix units: f16 in, f32 sums.
// Both operands are lines of f16 along the inner axis (pack.wgsl) or lie so already. How they come to the units is another
// file's: `begin` and `bring` say what happens before the first step of DEPTH and before each, `left_at` and `right_at` give
// a subgroup's blocks.
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
// Products of parts.
const PRODUCTS: u32 = select(1u, 3u, PARTS == 2u);
const BLOCK_FOURS: u32 = SIDE * SIDE / 4u;

var<workgroup> sums: array<vec4<f32>, SUBGROUPS_DOWN * SUBGROUPS_ACROSS * BLOCK_FOURS>;

// A workgroup's tile and an invocation's place in it. Where operands begin is counted in vectors of four.
struct Tile {
    begin: vec2<u32>,
    // The tile's first row and column.
    row: u32,
    col: u32,
    // The subgroup's first ones, from there.
    down: u32,
    across: u32,
    thread: u32,
    // Of the inner axis, for each product of parts.
    steps: u32,
}

// Where both operands begin at a step: of the first product A's second part, of the second B's.
fn begins(tile: Tile, step: u32) -> vec2<u32> {
    let product = step / tile.steps;
    let a_part = select(0u, params.a_part / 4u, PARTS == 2u && product == 0u);
    let b_part = select(0u, params.b_part / 4u, PARTS == 2u && product == 1u);
    return tile.begin + vec2(a_part, b_part) + step % tile.steps * FOURS;
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

fn tile_of_product(number: u32, thread: u32, subgroup: u32, lane: u32) {
    let tiles_across = (params.n + COLS - 1u) / COLS;
    let tiles_down = (params.m + ROWS - 1u) / ROWS;
    let batch = number / (tiles_across * tiles_down);
    // Matrix units may not stand behind a return: past the last product everything is past the edge.
    let own_row = number % (tiles_across * tiles_down) / tiles_across * ROWS;
    let row = select(params.m, own_row, batch < params.batches);
    let col = number % tiles_across * COLS;
    let down = subgroup / SUBGROUPS_ACROSS * 4u * SIDE;
    let across = subgroup % SUBGROUPS_ACROSS * 4u * SIDE;
    let steps = params.inner / DEPTH;
    let tile = Tile(origins(batch) / 4u, row, col, down, across, thread, steps);

    var s00 = sum_block(); var s01 = sum_block(); var s02 = sum_block(); var s03 = sum_block();
    var s10 = sum_block(); var s11 = sum_block(); var s12 = sum_block(); var s13 = sum_block();
    var s20 = sum_block(); var s21 = sum_block(); var s22 = sum_block(); var s23 = sum_block();
    var s30 = sum_block(); var s31 = sum_block(); var s32 = sum_block(); var s33 = sum_block();

    var coming = begin(tile);
    for (var step = 0u; step < PRODUCTS * steps; step++) {
        bring(tile, step, &coming);
        let begin = begins(tile, step);
        for (var p = 0u; p < FOURS; p += SIDE / 4u) {
            let a0 = left_at(tile, begin.x, 0u, p);
            let a1 = left_at(tile, begin.x, 1u, p);
            let a2 = left_at(tile, begin.x, 2u, p);
            let a3 = left_at(tile, begin.x, 3u, p);
            let b0 = right_at(tile, begin.y, 0u, p);
            s00 = coopMultiplyAdd(a0, b0, s00); s10 = coopMultiplyAdd(a1, b0, s10);
            s20 = coopMultiplyAdd(a2, b0, s20); s30 = coopMultiplyAdd(a3, b0, s30);
            let b1 = right_at(tile, begin.y, 1u, p);
            s01 = coopMultiplyAdd(a0, b1, s01); s11 = coopMultiplyAdd(a1, b1, s11);
            s21 = coopMultiplyAdd(a2, b1, s21); s31 = coopMultiplyAdd(a3, b1, s31);
            let b2 = right_at(tile, begin.y, 2u, p);
            s02 = coopMultiplyAdd(a0, b2, s02); s12 = coopMultiplyAdd(a1, b2, s12);
            s22 = coopMultiplyAdd(a2, b2, s22); s32 = coopMultiplyAdd(a3, b2, s32);
            let b3 = right_at(tile, begin.y, 3u, p);
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
