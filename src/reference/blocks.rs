//! How N×M logits are cut into blocks. Both devices cut alike.

/// (First row, rows, first column, columns).
pub type LogitBlock = (usize, usize, usize, usize);

/// Rows and columns of a block of f32 in a scratch memory, of n × m logits: nearly square, because thin products are slow; at
/// least 1 × 1 whatever the budget.
///
/// ```
/// assert_eq!(crossmodal::reference::block_size((100, 100), 4 * 64), (8, 8));
/// ```
pub fn block_size((n, m): (usize, usize), scratch_bytes: usize) -> (usize, usize) {
    let elements = (scratch_bytes / 4).max(1);
    let side = elements.isqrt().max(1);
    let rows = n.min(side);
    let cols = m.min(elements / rows.max(1)).max(1);
    (n.min(elements / cols).max(1), cols)
}

/// The blocks in order.
///
/// ```
/// assert_eq!(crossmodal::reference::blocks((100, 100), 1 << 20).collect::<Vec<_>>(), [(0, 100, 0, 100)]);
/// ```
pub fn blocks((n, m): (usize, usize), scratch_bytes: usize) -> impl Iterator<Item = LogitBlock> {
    let (rows, cols) = block_size((n, m), scratch_bytes);
    let starts =
        move |whole: usize, each: usize| (0..whole).step_by(each).map(move |at| (at, each.min(whole - at)));
    starts(n, rows).flat_map(move |(r, rows)| starts(m, cols).map(move |(c, cols)| (r, rows, c, cols)))
}
