// Operands through workgroup memory: every invocation of the workgroup loads its share of both, and what comes next is on its way
// while the units work.

// Sixteen bytes behind each line: lines lie in different banks.
const STRIDE: u32 = FOURS + 2u;
const LINES_AT_ONCE: u32 = THREADS / FOURS;
const LOADS_OF_A: u32 = ROWS / LINES_AT_ONCE;
const LOADS_OF_B: u32 = COLS / LINES_AT_ONCE;

var<workgroup> lines_of_a: array<vec4<elem>, ROWS * STRIDE>;
var<workgroup> lines_of_b: array<vec4<elem>, COLS * STRIDE>;

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

struct Coming {
    a: Loads,
    b: Loads,
}

fn coming_at(tile: Tile, step: u32) -> Coming {
    let at = begins(tile, step) + tile.thread % FOURS;
    let line = tile.thread / FOURS;
    return Coming(loads_of_a(at.x, tile.row + line), loads_of_b(at.y, tile.col + line));
}

fn begin(tile: Tile) -> Coming {
    return coming_at(tile, 0u);
}

fn bring(tile: Tile, step: u32, coming: ptr<function, Coming>) {
    let to = tile.thread / FOURS * STRIDE + tile.thread % FOURS;
    workgroupBarrier();
    keep_a(to, (*coming).a);
    keep_b(to, (*coming).b);
    workgroupBarrier();
    // Behind the last step that one again.
    *coming = coming_at(tile, min(step + 1u, PRODUCTS * tile.steps - 1u));
}

fn left_at(tile: Tile, begin: u32, block: u32, p: u32) -> left_block {
    return coopLoadT<left_block>(&lines_of_a[(tile.down + block * SIDE) * STRIDE + p], STRIDE);
}

fn right_at(tile: Tile, begin: u32, block: u32, p: u32) -> right_block {
    return coopLoad<right_block>(&lines_of_b[(tile.across + block * SIDE) * STRIDE + p], STRIDE);
}
