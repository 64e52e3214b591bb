//! Tensors that no binding of their device spans, worked on in parts that one does.
//!
//! Such a tensor lies in several buffers (`Tensor::is_split`). A part is copied out, the operation runs on it as on any
//! other tensor, and its result is copied to its place.

use super::concat::{put, slice};
use crate::dtype::DType;
use crate::error::Result;
use crate::gpu::kernel::Params;
use crate::gpu::{Access, Gpu, Kernel, Variant};
use crate::shape::count;
use crate::tensor::Tensor;
use std::ops::Range;

/// Bytes of a part: enough to keep a device busy, little beside the tensors that need parts.
pub(super) const PART_BYTES: u64 = 32 << 20;

/// Whether one of these tensors, or a result of this shape and type, is more than a binding spans.
pub(super) fn needed(gpu: &Gpu, tensors: &[&Tensor], shape: &[usize], dtype: DType) -> bool {
    tensors.iter().any(|tensor| tensor.is_split()) || (count(shape) * dtype.size()) as u64 > gpu.piece_bytes()
}

/// Items that go through at once, where one has so many bytes in the widest tensor.
pub(super) fn items_at_once(gpu: &Gpu, item_bytes: usize) -> usize {
    (PART_BYTES.min(gpu.piece_bytes()) as usize / item_bytes.max(1)).max(1)
}

/// All items, as many in turn as go through at once.
pub(super) fn ranges(
    gpu: &Gpu,
    items: usize,
    item_bytes: usize,
) -> impl Iterator<Item = Range<usize>> + use<> {
    let each = items_at_once(gpu, item_bytes);
    (0..items).step_by(each).map(move |first| first..items.min(first + each))
}

/// Results whose rows, along their first axis, are those that `part` gives for ranges of rows, one behind the other. There is
/// at least one row.
pub(super) fn in_rows<const K: usize>(
    gpu: &Gpu,
    rows: usize,
    row_bytes: usize,
    mut part: impl FnMut(&Range<usize>) -> Result<[Tensor; K]>,
) -> Result<[Tensor; K]> {
    let mut whole = [const { None }; K];
    for range in ranges(gpu, rows, row_bytes) {
        for (whole, part) in whole.iter_mut().zip(part(&range)?) {
            let whole = match whole {
                Some(whole) => whole,
                None => {
                    let shape = [&[rows], &part.shape()[1..]].concat();
                    whole.insert(Tensor::uninit("parts", part.device(), &shape, part.dtype())?)
                }
            };
            put(&part, whole, 0, range.start)?;
        }
    }
    Ok(whole.map(|whole| whole.expect("there is a row")))
}

/// A tensor with as many axes as `rank`, which it broadcasts to: without its first ones of size 1, or with more of them.
pub(super) fn aligned(x: &Tensor, rank: usize) -> Result<Tensor> {
    let own = x.shape();
    let missing = vec![1; rank.saturating_sub(own.len())];
    x.reshape(&[&missing, &own[own.len().saturating_sub(rank)..]].concat())
}

/// The rows of a tensor that broadcasts along its first axis, or not.
pub(super) fn broadcast_rows(x: &Tensor, range: &Range<usize>) -> Result<Tensor> {
    if x.shape()[0] == 1 { Ok(x.clone()) } else { slice(x, 0, range) }
}

/// Dispatches a kernel of which each item touches as many elements of a tensor, one item's behind the other's: whole, or in
/// parts where a tensor is split. `work` gives parameters and workgroups for a number of items. Errors: one item is more than
/// a binding spans.
pub(super) fn dispatch_items<P: Params>(
    gpu: &Gpu,
    kernel: &Kernel,
    variant: Variant,
    items: usize,
    tensors: &[&Tensor],
    work: impl Fn(usize) -> (P, u64),
) -> Result<()> {
    if !tensors.iter().any(|tensor| tensor.is_split()) {
        let (params, groups) = work(items);
        return super::dispatch(gpu, kernel, variant, &params, tensors, groups);
    }
    let each = |tensor: &Tensor| tensor.len() / items;
    let widest = tensors.iter().map(|tensor| each(tensor) * tensor.dtype().size()).max().unwrap_or(0);
    for range in ranges(gpu, items, widest) {
        let part = |tensor: &&Tensor| slice(&tensor.reshape(&[items, each(tensor)])?, 0, &range);
        let parts = tensors.iter().map(part).collect::<Result<Vec<_>>>()?;
        let (params, groups) = work(range.len());
        super::dispatch(gpu, kernel, variant.clone(), &params, &parts.iter().collect::<Vec<_>>(), groups)?;
        for ((tensor, part), binding) in tensors.iter().zip(&parts).zip(kernel.bindings) {
            if binding.access == Access::Write {
                put(part, &mut tensor.reshape(&[items, each(tensor)])?, 0, range.start)?;
            }
        }
    }
    Ok(())
}
