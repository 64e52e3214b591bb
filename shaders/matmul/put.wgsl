@group(0) @binding(4) var<storage, read> bias: array<elem>;

// Writes the sum of one element.
fn put(batch: u32, row: u32, col: u32, sum: f32) {
    put_part(batch, row, col, sum, true, true);
}

// The same of a part of the inner axis: later ones add to the first, the last one is followed by bias and activation.
fn put_part(batch: u32, row: u32, col: u32, sum: f32, first: bool, last: bool) {
    if row >= params.m || col >= params.n { return; }
    let at = params.out_offset + (batch * params.m + row) * params.n + col;
    var value = sum * params.scale;
    if !first || params.accumulate == 1u { value += f32(out[at]); }
    if last && params.has_bias == 1u { value += f32(bias[col]); }
    if ACTIVATION > 0u && last { value = activated(value); }
    out[at] = elem_out(value);
}
