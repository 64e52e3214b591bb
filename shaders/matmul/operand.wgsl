// The operand that is looked at: the rows of A, or the columns of B.
fn operand_lines() -> u32 {
    return select(params.n, params.m, OPERAND == 0u);
}

fn operand_origin(batch: u32) -> u32 {
    return select(origins(batch).y, origins(batch).x, OPERAND == 0u);
}

fn line_stride() -> u32 {
    return select(params.b_col, params.a_row, OPERAND == 0u);
}

fn inner_stride() -> u32 {
    return select(params.b_row, params.a_col, OPERAND == 0u);
}
