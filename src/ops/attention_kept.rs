//! The gradients by five products instead of seven, where everybody sees everybody: the kernel of keys and values leaves ∂Sᵀ behind
//! its gradients, a run of tiles of keys at a time, for which the scratch has room, and ∂Q is one more product, of what it left and the
//! keys.

use super::attention_dispatch::uninit;
use super::attention_plan::Part;
use super::logit_blocks::block_bytes;
use super::matmul_dispatch::{self, Product};
use super::matmul_ways::Way;
use super::transpose;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::reference::{Attention, AttentionLayout, MatmulShape};
use crate::tensor::Tensor;
use std::ops::Range;

/// Queries that a family goes over at a time, or twice as many. Rows of ∂Sᵀ are a multiple of it, so that whole tiles are left
/// without a test.
const ROW: usize = 64;

/// Tiles of keys that keep a device busy; where a run has fewer, though there are more, seven products take less time.
fn enough(gpu: &Gpu) -> usize {
    if gpu.abilities().software { 16 } else { 256 }
}

/// How much of a part is kept at a time: whole batches, or whole heads of keys of one, or some tiles of keys of one head.
pub(super) struct Kept {
    batches: usize,
    heads: usize,
    tiles: usize,
    /// Keys of a tile, tiles of a head.
    side: usize,
    of_head: usize,
    /// Elements of a row of ∂Sᵀ.
    pub row: usize,
    sizes: Attention,
}

/// A run of tiles of keys.
pub(super) struct Run {
    batches: Range<usize>,
    heads: Range<usize>,
    tiles: Range<usize>,
}

impl Kept {
    /// With tiles of `side` keys; none where a pair may not be seen, or the scratch or a binding behind `gradients` elements has no
    /// room for enough tiles.
    pub(super) fn of(gpu: &Gpu, part: &Part<'_>, side: usize, gradients: usize) -> Option<Kept> {
        let options = &part.whole.options;
        let ordered = options.causal.is_some() || options.window.is_some() || options.sequences.is_some();
        let sizes = part.sizes.clone();
        let (of_head, row) = (sizes.keys.div_ceil(side), sizes.queries.next_multiple_of(ROW));
        let behind = (gpu.piece_bytes() as usize).saturating_sub(4 * gradients);
        let bytes = block_bytes(gpu, options.scratch_bytes).min(behind);
        let room = bytes / (4 * side * row * sizes.group()).max(1);
        let all = sizes.batch * sizes.kv_heads * of_head;
        if ordered || all == 0 || row == 0 || room == 0 {
            return None;
        }
        let of_batch = sizes.kv_heads * of_head;
        let (batches, heads, tiles) = if room >= of_batch {
            ((room / of_batch).min(sizes.batch), sizes.kv_heads, of_head)
        } else if room >= of_head {
            (1, room / of_head, of_head)
        } else {
            (1, 1, room)
        };
        if batches * heads * tiles < all.min(enough(gpu)) {
            return None;
        }
        Some(Kept { batches, heads, tiles, side, of_head, row, sizes })
    }

    /// Elements of the scratch.
    pub(super) fn len(&self) -> usize {
        self.batches * self.heads * self.tiles * self.side * self.row * self.sizes.group()
    }

    /// In order; tiles of a head one after the other.
    pub(super) fn runs(&self) -> Vec<Run> {
        let of = |count: usize, each: usize| {
            (0..count).step_by(each).map(move |first| first..count.min(first + each))
        };
        let mut runs = vec![];
        for batches in of(self.sizes.batch, self.batches) {
            for heads in of(self.sizes.kv_heads, self.heads) {
                let own = |tiles| Run { batches: batches.clone(), heads: heads.clone(), tiles };
                runs.extend(of(self.of_head, self.tiles).map(own));
            }
        }
        runs
    }

    /// The tiles of a run among those of all batches and heads.
    pub(super) fn tiles(&self, run: &Run) -> Range<usize> {
        let first = (run.batches.start * self.sizes.kv_heads + run.heads.start) * self.of_head;
        let lines = run.batches.len() * run.heads.len();
        first + run.tiles.start..first + (lines - 1) * self.of_head + run.tiles.end
    }

    /// Memory for ∂Q as the products write it, head by head.
    pub(super) fn uninit_dq(&self, like: &Tensor) -> Result<Tensor> {
        let Attention { batch, heads, queries, dh, .. } = self.sizes;
        uninit(like, &[batch, heads, queries, dh])
    }

    /// Adds `scale ∂S K` of a run to ∂Q; writes it where the run begins a head. ∂Sᵀ begins at element `first` of `left`.
    pub(super) fn add_to_queries(
        &self,
        gpu: &Gpu,
        run: &Run,
        (left, first): (&Tensor, usize),
        k: &Tensor,
        dq: &Tensor,
        scale: f64,
    ) -> Result<()> {
        let Attention { kv_heads, heads, queries, keys, dh, .. } = self.sizes;
        let (group, [_, [k_batch, k_head, k_row], ..]) = (self.sizes.group(), self.sizes.places());
        let (first_key, end_key) = (run.tiles.start * self.side, keys.min(run.tiles.end * self.side));
        let key = group * self.row;
        let of_head = run.tiles.len() * self.side * key;
        let shape = MatmulShape {
            m: queries,
            n: dh,
            k: end_key - first_key,
            batch: vec![run.batches.len(), run.heads.len(), group],
            a_batch: vec![kv_heads * of_head, of_head, self.row],
            b_batch: vec![k_batch, k_head, 0],
            a_strides: (1, key),
            b_strides: (k_row, 1),
        };
        // Where attention goes by lanes the product does, however small a run is.
        let way = Some(Way::Lanes).filter(|way| self.side < ROW && way.serves(&gpu.abilities(), &shape));
        let product = Product {
            scale,
            way,
            accumulate: first_key > 0,
            a_offset: first,
            b_offset: run.batches.start * k_batch + run.heads.start * k_head + first_key * k_row,
            out_offset: (run.batches.start * heads + run.heads.start * group) * queries * dh,
            ..Product::default()
        };
        matmul_dispatch::dispatch(gpu, left, k, dq, &shape, &product)
    }

    /// ∂Q in the layout of the problem.
    pub(super) fn in_layout(&self, dq: &Tensor, layout: AttentionLayout) -> Result<Tensor> {
        let Attention { batch, heads, queries, dh, .. } = self.sizes;
        match layout {
            AttentionLayout::Heads => Ok(dq.clone()),
            AttentionLayout::Packed { .. } => {
                transpose(dq, &[0, 2, 1, 3])?.reshape(&[batch, queries, heads * dh])
            }
        }
    }
}
