fn put_block(batch: u32, row: u32, col: u32, sums: mat4x4<f32>, first: bool, last: bool) {
    put_four(batch, row, col, sums[0], first, last);
    put_four(batch, row + 1u, col, sums[1], first, last);
    put_four(batch, row + 2u, col, sums[2], first, last);
    put_four(batch, row + 3u, col, sums[3], first, last);
}

fn tile_of_product(tile: u32, thread: u32) {
    let batch = tile / tiles_of_one();
    if batch >= params.batches { return; }
    let spot = spot_of(tile, thread);
    let origin = origins(batch);
    let row = spot.row + 4u * spot.down;
    let col = spot.col + 4u * spot.across;
    // A sum is one running f32 over RUN of the inner axis, and those sums are another.
    var begin = 0u;
    loop {
        let end = min(begin + RUN, params.inner);
        let sums = sum_of_run(thread, origin, spot, begin, end);
        let first = begin == 0u;
        let last = end == params.inner;
        put_block(batch, row, col, sums.near, first, last);
        put_block(batch, row, col + TILE_COLS / 2u, sums.right, first, last);
        put_block(batch, row + TILE_ROWS / 2u, col, sums.below, first, last);
        put_block(batch, row + TILE_ROWS / 2u, col + TILE_COLS / 2u, sums.far, first, last);
        begin = end;
        if begin >= params.inner { break; }
    }
}
