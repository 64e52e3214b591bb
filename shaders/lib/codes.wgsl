// What a row or column is: its class, or one of these.
// Of no class: a negative only.
const NO_CLASS: u32 = 0xfffffffeu;
// Not there at all.
const MASKED: u32 = 0xffffffffu;

// Flags: the rows, or the columns, have codes. Without, each has its own number for one.
const ROW_CODES: u32 = 0x10000u;
const COL_CODES: u32 = 0x20000u;

// The shader has `params.flags`, `row_codes` and `col_codes`.
fn has(flag: u32) -> bool { return (params.flags & flag) != 0u; }

fn row_code_at(i: u32) -> u32 {
    if has(ROW_CODES) { return row_codes[i]; }
    return i;
}

fn col_code_at(j: u32) -> u32 {
    if has(COL_CODES) { return col_codes[j]; }
    return j;
}

fn same_class(row_code: u32, col_code: u32) -> bool {
    return row_code == col_code && row_code < NO_CLASS;
}
