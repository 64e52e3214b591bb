//! What a part of a problem is, and what its kernels read beside the tensors.

use super::attention_kernels::TILE;
use crate::error::Result;
use crate::reference::{Attention, AttentionLayout, AttentionWeights, Mask, spans};
use crate::shape::count;
use crate::tensor::Tensor;
use std::ops::Range;

/// Some batches and heads of a problem: all of them, but where a tensor is more than a binding spans.
pub(super) struct Part<'a> {
    pub whole: &'a Attention,
    pub batch: Range<usize>,
    /// Of the queries: whole groups.
    pub heads: Range<usize>,
    /// The sizes of the part.
    pub sizes: Attention,
}

impl<'a> Part<'a> {
    pub(super) fn new(whole: &'a Attention, batch: Range<usize>, kv_heads: Range<usize>) -> Part<'a> {
        let heads = kv_heads.start * whole.group()..kv_heads.end * whole.group();
        let own = |size: usize, range: &Range<usize>| if size == 1 { 1 } else { range.len() };
        let bias = whole.bias.map(|[b, h, i, j]| [own(b, &batch), own(h, &heads), i, j]);
        let sizes = Attention {
            batch: batch.len(),
            heads: heads.len(),
            kv_heads: kv_heads.len(),
            bias,
            ..whole.clone()
        };
        Part { whole, batch, heads, sizes }
    }

    pub(super) fn all(whole: &'a Attention) -> Part<'a> {
        Part::new(whole, 0..whole.batch, 0..whole.kv_heads)
    }

    /// The same with other widths.
    pub(super) fn with_widths(&self, dh: usize, dv: usize) -> Part<'a> {
        let sizes = Attention { dh, dv, ..self.sizes.clone() };
        Part { whole: self.whole, batch: self.batch.clone(), heads: self.heads.clone(), sizes }
    }

    pub(super) fn out_shape(&self) -> Vec<usize> {
        let Attention { batch, heads, queries, dv, .. } = self.sizes;
        match self.whole.options.layout {
            AttentionLayout::Heads => vec![batch, heads, queries, dv],
            AttentionLayout::Packed { .. } => vec![batch, queries, heads * dv],
        }
    }

    /// Elements of the largest tensor that a kernel of this part binds.
    pub(super) fn largest(&self) -> usize {
        let Attention { batch, heads, kv_heads, queries, keys, dh, dv, .. } = self.sizes;
        let widest = dh.max(dv).next_multiple_of(4);
        let weights = self.sizes.weights_shape().map_or(0, |shape| count(&shape));
        let masks = self.sizes.options.pair_mask.as_ref().map_or(0, |mask| {
            let [b, h] = self.pair_axes(mask).map(|axis| axis.len());
            b * h * queries * keys / 32
        });
        [
            batch * heads * queries * widest.max(2),
            // The gradients of keys and values lie behind each other.
            2 * batch * kv_heads * keys * widest,
            self.sizes.bias.map_or(0, |bias| count(&bias)) + weights,
            4 * queries + keys + batch * keys / 32 + masks,
        ]
        .into_iter()
        .max()
        .unwrap_or(0)
    }

    /// The batches and heads of a mask of pairs that are this part's.
    fn pair_axes(&self, mask: &Mask) -> [Range<usize>; 2] {
        let own = |size: usize, range: &Range<usize>| if size == 1 { 0..1 } else { range.clone() };
        [own(mask.shape[0], &self.batch), own(mask.shape[1], &self.heads)]
    }
}

/// Numbers on the device, as the shader describes them, and where each sort of them begins.
pub(super) struct Plan {
    pub tensor: Tensor,
    pub tiles_at: u32,
    pub slopes_at: u32,
    pub rows_at: u32,
    pub key_mask_at: u32,
    pub pair_mask_at: u32,
    /// Lines of a mask of pairs from one batch and from one head to the next.
    pub pair_strides: [u32; 2],
}

/// Bits, 32 to a word.
fn pack(words: &mut Vec<u32>, bits: impl Iterator<Item = bool>) {
    let first = words.len();
    for (i, bit) in bits.enumerate() {
        if i % 32 == 0 {
            words.push(0);
        }
        words[first + i / 32] |= u32::from(bit) << (i % 32);
    }
}

impl Plan {
    /// On the device of `like`.
    pub(super) fn new(like: &Tensor, part: &Part<'_>) -> Result<Plan> {
        let (whole, options) = (part.whole, &part.whole.options);
        let spans = spans(whole);
        let mut words = Vec::with_capacity(4 * spans.len() + whole.keys / 8);
        let mut places = vec![u32::MAX; whole.queries];
        if options.weights != AttentionWeights::None {
            whole.rows().into_iter().zip(0..).for_each(|(row, place)| places[row] = place);
        }
        for (span, place) in spans.iter().zip(places) {
            words.extend([span.keys.start as u32, span.keys.end as u32, span.position as u32, place]);
        }
        let tiles_at = words.len() as u32;
        // Neither end of the spans descends.
        for tile in spans.chunks(TILE) {
            let first = tile[0].keys.start;
            words.extend([first as u32, tile[tile.len() - 1].keys.end.max(first) as u32]);
        }
        for first in (0..whole.keys).step_by(TILE) {
            let begin = spans.partition_point(|span| span.keys.end <= first);
            let end = spans.partition_point(|span| span.keys.start < first + TILE);
            words.extend([begin as u32, end.max(begin) as u32]);
        }
        let slopes_at = words.len() as u32;
        if let Some(alibi) = &options.alibi {
            let own = &alibi.slopes[part.heads.clone()];
            words.extend(own.iter().map(|slope| (*slope as f32).to_bits()));
        }
        let rows_at = words.len() as u32;
        if let Some(rows) = &options.rows {
            words.extend(rows.iter().map(|&row| row as u32));
        } else if options.weights != AttentionWeights::None {
            words.extend(0..whole.queries as u32);
        }
        let key_mask_at = words.len() as u32;
        if let Some(mask) = &options.key_mask {
            let own = part.batch.start * whole.keys..part.batch.end * whole.keys;
            pack(&mut words, own.map(|at| mask.keeps(at)));
        }
        let (pair_mask_at, mut pair_strides) = (words.len() as u32, [0; 2]);
        if let Some(mask) = &options.pair_mask {
            let [batch, heads] = part.pair_axes(mask);
            let stride = |size: usize, lines: usize| if size == 1 { 0 } else { lines as u32 };
            pair_strides =
                [stride(mask.shape[0], heads.len() * whole.queries), stride(mask.shape[1], whole.queries)];
            let lines = whole.queries * whole.keys;
            let lines = batch.flat_map(|b| {
                let of_batch = b * mask.shape[1];
                (of_batch + heads.start) * lines..(of_batch + heads.end) * lines
            });
            pack(&mut words, lines.map(|at| mask.keeps(at)));
        }
        let tensor = Tensor::from_vec(like.device(), &[words.len()], words)?;
        Ok(Plan { tensor, tiles_at, slopes_at, rows_at, key_mask_at, pair_mask_at, pair_strides })
    }
}
