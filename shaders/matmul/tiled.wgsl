// A tile of TILE_ROWS by TILE_COLS to a workgroup, eight rows by eight columns to an invocation. The operands come through
// workgroup memory, DEPTH of the inner axis at a time, as vectors of four rows and of four columns.
// PAD vectors behind each row of those keep invocations that store side by side out of each other's way, where there is room.
const DEPTH: u32 = 16u;
const THREADS: u32 = TILE_ROWS * TILE_COLS / 64u;
const FOURS_DOWN: u32 = TILE_ROWS / 4u;
const FOURS_ACROSS: u32 = TILE_COLS / 4u;
const A_STRIDE: u32 = FOURS_DOWN + PAD;
const B_STRIDE: u32 = FOURS_ACROSS + PAD;
// Blocks of four by four in the operands' tiles: at most two for each invocation.
const BLOCKS_OF_A: u32 = FOURS_DOWN * DEPTH / 4u;
const BLOCKS: u32 = BLOCKS_OF_A + FOURS_ACROSS * DEPTH / 4u;

var<workgroup> rows_of_a: array<vec4<f32>, DEPTH * A_STRIDE>;
var<workgroup> columns_of_b: array<vec4<f32>, DEPTH * B_STRIDE>;

// How many there are from `first` on.
fn left(size: u32, first: u32) -> u32 {
    return size - min(first, size);
}

// A block of A as four vectors of rows, or of B as four vectors of columns, one for each of the inner axis. Past the end of the
// inner axis there are zeros; rows and columns past the edge are whatever, and are not written.
fn block(number: u32, origin: vec2<u32>, row: u32, col: u32, inner: u32) -> mat4x4<f32> {
    if number < BLOCKS_OF_A {
        if A_ALONG_INNER == 1u {
            let p = inner + number % (DEPTH / 4u) * 4u;
            let lines = min(row + number / (DEPTH / 4u) * 4u + vec4(0u, 1u, 2u, 3u), vec4(params.m - 1u));
            let at = origin.x + p + lines * params.a_row;
            let rest = left(params.inner, p);
            return transpose(mat4x4(a_four(at.x, rest), a_four(at.y, rest), a_four(at.z, rest), a_four(at.w, rest)));
        }
        let p = inner + number / FOURS_DOWN * 4u;
        let first = row + number % FOURS_DOWN * 4u;
        let at = origin.x + first + p * params.a_col;
        let rest = left(params.m, first);
        return mat4x4(
            a_four(at, select(0u, rest, p < params.inner)),
            a_four(at + params.a_col, select(0u, rest, p + 1u < params.inner)),
            a_four(at + 2u * params.a_col, select(0u, rest, p + 2u < params.inner)),
            a_four(at + 3u * params.a_col, select(0u, rest, p + 3u < params.inner)),
        );
    }
    let own = number - BLOCKS_OF_A;
    if B_ALONG_INNER == 1u {
        let p = inner + own % (DEPTH / 4u) * 4u;
        let lines = min(col + own / (DEPTH / 4u) * 4u + vec4(0u, 1u, 2u, 3u), vec4(params.n - 1u));
        let at = origin.y + p + lines * params.b_col;
        let rest = left(params.inner, p);
        return transpose(mat4x4(b_four(at.x, rest), b_four(at.y, rest), b_four(at.z, rest), b_four(at.w, rest)));
    }
    let p = inner + own / FOURS_ACROSS * 4u;
    let first = col + own % FOURS_ACROSS * 4u;
    let at = origin.y + first + p * params.b_row;
    let rest = left(params.n, first);
    return mat4x4(
        b_four(at, select(0u, rest, p < params.inner)),
        b_four(at + params.b_row, select(0u, rest, p + 1u < params.inner)),
        b_four(at + 2u * params.b_row, select(0u, rest, p + 2u < params.inner)),
        b_four(at + 3u * params.b_row, select(0u, rest, p + 3u < params.inner)),
    );
}

// Where the four vectors of a block begin, at the start of the inner axis. Vectors past the edge are the last one again: where
// vectors are whole none is half past it, and none of those is written.
fn starts(number: u32, origin: vec2<u32>, row: u32, col: u32) -> vec4<u32> {
    let four = vec4(0u, 1u, 2u, 3u);
    if number < BLOCKS_OF_A {
        if A_ALONG_INNER == 1u {
            let lines = min(row + number / (DEPTH / 4u) * 4u + four, vec4(params.m - 1u));
            return origin.x + number % (DEPTH / 4u) * 4u + lines * params.a_row;
        }
        let first = min(row + number % FOURS_DOWN * 4u, params.m - 4u);
        return origin.x + first + (number / FOURS_DOWN * 4u + four) * params.a_col;
    }
    let own = number - BLOCKS_OF_A;
    if B_ALONG_INNER == 1u {
        let lines = min(col + own / (DEPTH / 4u) * 4u + four, vec4(params.n - 1u));
        return origin.y + own % (DEPTH / 4u) * 4u + lines * params.b_col;
    }
    let first = min(col + own % FOURS_ACROSS * 4u, params.n - 4u);
    return origin.y + first + (own / FOURS_ACROSS * 4u + four) * params.b_row;
}

// A block that is inside along the inner axis, from there.
fn inner_block(number: u32, starts: vec4<u32>, inner: u32) -> mat4x4<f32> {
    if number < BLOCKS_OF_A {
        let at = starts + inner * select(params.a_col, 1u, A_ALONG_INNER == 1u);
        let values = mat4x4(a_whole(at.x), a_whole(at.y), a_whole(at.z), a_whole(at.w));
        if A_ALONG_INNER == 1u { return transpose(values); }
        return values;
    }
    let at = starts + inner * select(params.b_row, 1u, B_ALONG_INNER == 1u);
    let values = mat4x4(b_whole(at.x), b_whole(at.y), b_whole(at.z), b_whole(at.w));
    if B_ALONG_INNER == 1u { return transpose(values); }
    return values;
}

// Puts a block to its place in workgroup memory.
fn keep(number: u32, values: mat4x4<f32>) {
    if number < BLOCKS_OF_A {
        let p = select(number / FOURS_DOWN, number % (DEPTH / 4u), A_ALONG_INNER == 1u) * 4u;
        let at = p * A_STRIDE + select(number % FOURS_DOWN, number / (DEPTH / 4u), A_ALONG_INNER == 1u);
        rows_of_a[at] = values[0];
        rows_of_a[at + A_STRIDE] = values[1];
        rows_of_a[at + 2u * A_STRIDE] = values[2];
        rows_of_a[at + 3u * A_STRIDE] = values[3];
        return;
    }
    let own = number - BLOCKS_OF_A;
    let p = select(own / FOURS_ACROSS, own % (DEPTH / 4u), B_ALONG_INNER == 1u) * 4u;
    let at = p * B_STRIDE + select(own % FOURS_ACROSS, own / (DEPTH / 4u), B_ALONG_INNER == 1u);
    columns_of_b[at] = values[0];
    columns_of_b[at + B_STRIDE] = values[1];
    columns_of_b[at + 2u * B_STRIDE] = values[2];
    columns_of_b[at + 3u * B_STRIDE] = values[3];
}

// What an invocation sums: four rows near and far by four columns near and far.
struct Sums {
    near: mat4x4<f32>,
    right: mat4x4<f32>,
    below: mat4x4<f32>,
    far: mat4x4<f32>,
}

fn step(sums: Sums, p: u32, down: u32, across: u32) -> Sums {
    let x = rows_of_a[p * A_STRIDE + down];
    let x_below = rows_of_a[p * A_STRIDE + FOURS_DOWN / 2u + down];
    let y = columns_of_b[p * B_STRIDE + across];
    let y_right = columns_of_b[p * B_STRIDE + FOURS_ACROSS / 2u + across];
    return Sums(
        add_outer(sums.near, x, y),
        add_outer(sums.right, x, y_right),
        add_outer(sums.below, x_below, y),
        add_outer(sums.far, x_below, y_right),
    );
}

// A tile of a product, and which fours of its rows and columns an invocation sums: those numbers, and half a tile on.
struct Spot {
    row: u32,
    col: u32,
    down: u32,
    across: u32,
}

fn tiles_across() -> u32 {
    return (params.n + TILE_COLS - 1u) / TILE_COLS;
}

fn tiles_of_one() -> u32 {
    return tiles_across() * ((params.m + TILE_ROWS - 1u) / TILE_ROWS);
}

fn spot_of(tile: u32, thread: u32) -> Spot {
    let of_one = tile % tiles_of_one();
    // Thirty-two invocations that run together read four vectors of rows and a half or a quarter of the columns': few enough
    // for workgroup memory to give them at once.
    let lanes = TILE_COLS / 16u;
    let lane = thread % (4u * lanes);
    let part = thread / (4u * lanes);
    return Spot(
        of_one / tiles_across() * TILE_ROWS,
        of_one % tiles_across() * TILE_COLS,
        part / 2u * 4u + lane / lanes,
        part % 2u * lanes + lane % lanes,
    );
}

fn sum_of_run(thread: u32, origin: vec2<u32>, spot: Spot, begin: u32, end: u32) -> Sums {
    var sums = Sums();
    let first_starts = starts(thread, origin, spot.row, spot.col);
    let second_starts = starts(thread + THREADS, origin, spot.row, spot.col);
    for (var inner = begin; inner < end; inner += DEPTH) {
        var first: mat4x4<f32>;
        var second = mat4x4<f32>();
        // All steps but perhaps the last: without questions.
        if WHOLE && inner + DEPTH <= end {
            first = inner_block(thread, first_starts, inner);
            if BLOCKS > THREADS { second = inner_block(thread + THREADS, second_starts, inner); }
        } else {
            first = block(thread, origin, spot.row, spot.col, inner);
            if BLOCKS > THREADS { second = block(thread + THREADS, origin, spot.row, spot.col, inner); }
        }
        workgroupBarrier();
        keep(thread, first);
        if BLOCKS > THREADS { keep(thread + THREADS, second); }
        workgroupBarrier();
        // Written out: as a loop this is an eighth slower.
        sums = step(sums, 0u, spot.down, spot.across);
        sums = step(sums, 1u, spot.down, spot.across);
        sums = step(sums, 2u, spot.down, spot.across);
        sums = step(sums, 3u, spot.down, spot.across);
        sums = step(sums, 4u, spot.down, spot.across);
        sums = step(sums, 5u, spot.down, spot.across);
        sums = step(sums, 6u, spot.down, spot.across);
        sums = step(sums, 7u, spot.down, spot.across);
        sums = step(sums, 8u, spot.down, spot.across);
        sums = step(sums, 9u, spot.down, spot.across);
        sums = step(sums, 10u, spot.down, spot.across);
        sums = step(sums, 11u, spot.down, spot.across);
        sums = step(sums, 12u, spot.down, spot.across);
        sums = step(sums, 13u, spot.down, spot.across);
        sums = step(sums, 14u, spot.down, spot.across);
        sums = step(sums, 15u, spot.down, spot.across);
    }
    return sums;
}
