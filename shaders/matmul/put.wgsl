@group(0) @binding(4) var<storage, read> bias: array<elem>;

// Writes the sum of one element.
fn put(batch: u32, row: u32, col: u32, sum: f32) {
    if row >= params.m || col >= params.n { return; }
    let at = params.out_offset + (batch * params.m + row) * params.n + col;
    var value = sum * params.scale;
    if params.accumulate == 1u { value += f32(out[at]); }
    if params.has_bias == 1u { value += f32(bias[col]); }
    out[at] = elem_out(activated(value));
}
