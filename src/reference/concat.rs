//! Copies between a tensor and its slices along an axis.

/// A copy of `rows` runs of `length` elements between tensors in which the runs lie at different strides.
///
/// ```
/// use crossmodal::reference::{Block, copy_block};
/// // The second column of a 2 × 2 matrix.
/// let block = Block { rows: 2, length: 1, from_stride: 2, from_offset: 1, to_stride: 1, to_offset: 0 };
/// let mut column = [0; 2];
/// copy_block(&[1, 2, 3, 4], &mut column, &block);
/// assert_eq!(column, [2, 4]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// How many runs.
    pub rows: usize,
    /// Elements in a run.
    pub length: usize,
    /// Elements between the starts of two runs in the source.
    pub from_stride: usize,
    /// Where the first run starts in the source.
    pub from_offset: usize,
    /// Elements between the starts of two runs in the target.
    pub to_stride: usize,
    /// Where the first run starts in the target.
    pub to_offset: usize,
}

/// Copies a block. Example: [`Block`].
pub fn copy_block<T: Copy>(from: &[T], to: &mut [T], block: &Block) {
    for row in 0..block.rows {
        let source = &from[row * block.from_stride + block.from_offset..][..block.length];
        to[row * block.to_stride + block.to_offset..][..block.length].copy_from_slice(source);
    }
}
