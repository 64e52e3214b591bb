// Operands straight from global memory, through its caches: subgroups wait for no other. Rows and columns are multiples of a block's:
// one is inside or past the edge as a whole, where it is the last one again and is not written.

fn begin(tile: Tile) -> u32 {
    return 0u;
}

fn bring(tile: Tile, step: u32, coming: ptr<function, u32>) {}

fn left_at(tile: Tile, begin: u32, block: u32, p: u32) -> left_block {
    let line = min(tile.row + tile.down + block * SIDE, params.m - SIDE);
    let stride = params.a_row / 4u;
    return coopLoadT<left_block>(&a[begin + line * stride + p], stride);
}

fn right_at(tile: Tile, begin: u32, block: u32, p: u32) -> right_block {
    let line = min(tile.col + tile.across + block * SIDE, params.n - SIDE);
    let stride = params.b_col / 4u;
    return coopLoad<right_block>(&b[begin + line * stride + p], stride);
}
