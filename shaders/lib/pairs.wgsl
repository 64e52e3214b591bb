// Rows of f32 by pairs of numbers, for drivers on a CPU: there a load costs more than anything else, and one of 64 bits what one of 32
// does. A row that begins or ends within a pair shares it with the next one.
struct Params { rows: u32, cols: u32 }
@group(0) @binding(0) var<uniform> params: Params;

// The lowest finite f32: a maximum's start. WGSL has no infinity.
const LOWEST: f32 = -3.4028234e38;
const MINUS_INFINITY: u32 = 0xff800000u;

// Which numbers of a pair are of the row that begins with number `first`.
fn is_inside(pair: u32, first: u32) -> vec2<bool> {
    let col = 2u * pair - first;
    return vec2(col, col + 1u) < vec2(params.cols);
}

// A pair's numbers, others for those that are not of the row.
fn numbers(pair: u64, inside: vec2<bool>, others: u32) -> vec2<f32> {
    return bitcast<vec2<f32>>(select(vec2(others), vec2(u32(pair), u32(pair >> 32u)), inside));
}
