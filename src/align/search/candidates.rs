//! Which rows a GPU thinks are the most similar, and how sure that is.
//!
//! A GPU's products are f32, summed in its own way. With both sides scaled to a length of at most one the error of a sum of d of
//! them is at most `d u` (Cauchy and Schwarz bound the sum of their sizes by 1), so that every row that it leaves out is bounded by
//! the last one that it lists. What might still belong among the best is looked at on the host.

use super::{SearchOptions, Similarity};
use crate::cpu::search::{Best, Corpus, Queries, scan, similarity_of};
use crate::device::Device;
use crate::error::Result;
use crate::io::Features;
use crate::ops::top_k::SLOTS;
use crate::ops::{MatmulOptions, matmul, top_k};
use crate::tensor::Tensor;
use rayon::prelude::*;
use std::collections::HashSet;

/// Queries in one product.
const QUERIES_AT_ONCE: usize = 1024;

/// About as many rows as a list of candidates is made of: one query over a large corpus still keeps many workgroups busy.
const SEGMENT: usize = 4096;

/// Candidates beyond `k`: where rows are not copies of each other one of them is far enough below the k-th.
const SPARE: usize = 16;

/// The queries on the device.
pub(super) struct Candidates {
    device: Device,
    similarity: Similarity,
    /// Blocks of queries scaled to length one, in f32.
    blocks: Vec<Tensor>,
    lengths: Vec<f64>,
    /// Entries of a list, and the rows of which it is made.
    listed: usize,
    segment: usize,
    part_rows: usize,
    row_bytes: usize,
    /// How far a product of the device may be off.
    error: f64,
}

/// The queries as they came, with the divisors of their similarities.
pub(super) struct Exact<'a> {
    pub rows: &'a [f32],
    pub norms: &'a [f64],
    pub cols: usize,
}

/// What a device lists of one part of the corpus for a block of queries: `each` candidates of every segment, in order.
struct Listed {
    scores: Vec<f32>,
    places: Vec<u32>,
    segments: usize,
    segment_rows: usize,
    each: usize,
}

impl Candidates {
    pub(super) fn new(
        device: &Device,
        queries: &Features,
        lengths: &[f64],
        options: &SearchOptions,
    ) -> Result<Candidates> {
        let (cols, listed) = (queries.cols, options.k + SPARE);
        let unit = scaled(&queries.values, cols, |row| lengths[row]);
        let block = |rows: &[f32]| Tensor::from_slice(device, &[rows.len() / cols, cols], rows);
        let blocks = unit.chunks(QUERIES_AT_ONCE * cols).map(block).collect::<Result<Vec<_>>>()?;
        // The scaled row on the host, while it is uploaded, and on the device; a score and what is listed of it.
        let row_bytes = 12 * cols + 8 * queries.rows.clamp(1, QUERIES_AT_ONCE);
        Ok(Candidates {
            device: device.clone(),
            similarity: options.similarity,
            blocks,
            lengths: lengths.to_vec(),
            listed,
            // As many as the kernel goes through in whole pieces.
            segment: (SEGMENT / (SLOTS - listed)) * (SLOTS - listed),
            part_rows: (options.scratch_bytes / row_bytes).max(1),
            row_bytes,
            // WGSL rounds either way, so a rounding is 2u; some for the inputs' own roundings, and what a device flushes to 0.
            error: 2. * (cols + 16) as f64 * 2f64.powi(-24) + 1e-30,
        })
    }

    pub(super) fn row_bytes(&self) -> usize {
        self.row_bytes
    }

    /// Offers rows of the corpus to every query: all that could be among its best.
    pub(super) fn search(
        &self,
        queries: &Exact<'_>,
        corpus: Corpus<'_>,
        lengths: &[f64],
        best: &mut [Best],
    ) -> Result<()> {
        let rows = lengths.len();
        let mut from = 0;
        while from < rows {
            // Whole segments, then what is left of one.
            let most = self.part_rows.min(rows - from);
            let to = from + if most > self.segment { most / self.segment * self.segment } else { most };
            let part = corpus.part(from, to, queries.cols);
            self.search_part(queries, part, &lengths[from..to], best)?;
            from = to;
        }
        Ok(())
    }

    fn search_part(
        &self,
        queries: &Exact<'_>,
        part: Corpus<'_>,
        lengths: &[f64],
        best: &mut [Best],
    ) -> Result<()> {
        // Inner products keep the rows' proportions: all are divided by the longest row's length.
        let longest = lengths.iter().fold(0f64, |most, &length| most.max(length));
        let (on_device, unit) = match self.similarity {
            Similarity::Cosine => (scaled(part.rows, queries.cols, |row| lengths[row]), None),
            Similarity::InnerProduct => (scaled(part.rows, queries.cols, |_| longest), Some(longest)),
        };
        let on_device = Tensor::from_vec(&self.device, &[lengths.len(), queries.cols], on_device)?;
        let mut first = 0;
        for block in &self.blocks {
            let listed = self.list(block, &on_device)?;
            let range = first..first + block.shape()[0];
            let each = |(i, best): (usize, &mut Best)| {
                let query = first + i;
                let scale = unit.map_or(1., |longest| longest * self.lengths[query]);
                self.look(queries, query, part, &listed, i, scale, best);
            };
            best[range.clone()].par_iter_mut().enumerate().for_each(each);
            first = range.end;
        }
        Ok(())
    }

    /// The device's candidates.
    fn list(&self, block: &Tensor, corpus: &Tensor) -> Result<Listed> {
        let (queries, rows) = (block.shape()[0], corpus.shape()[0]);
        let options = MatmulOptions { transpose_b: true, ..MatmulOptions::default() };
        let scores = matmul(block, corpus, None, &options)?;
        let segment_rows = if rows % self.segment == 0 { self.segment } else { rows };
        let segments = rows / segment_rows;
        let (scores, places) = top_k(&scores.reshape(&[queries * segments, segment_rows])?, self.listed)?;
        let each = scores.shape()[1];
        Ok(Listed { scores: scores.to_vec()?, places: places.to_vec()?, segments, segment_rows, each })
    }

    /// Offers one query its candidates, and the rest of each segment where one of the rest could be better.
    #[allow(clippy::too_many_arguments, reason = "one query of one block over one part")]
    fn look(
        &self,
        queries: &Exact<'_>,
        query: usize,
        part: Corpus<'_>,
        listed: &Listed,
        in_block: usize,
        scale: f64,
        best: &mut Best,
    ) {
        let cols = queries.cols;
        let own = &queries.rows[query * cols..][..cols];
        // No similarity of a row is above this, if the device's is at most `score`.
        let most = |score: f32| ((f64::from(score) + self.error) * scale) as f32;
        let loses = |score: f32, best: &Best| best.floor().is_some_and(|(least, _)| most(score) < least);
        let of_segment = |segment: usize| {
            let at = (in_block * listed.segments + segment) * listed.each;
            (&listed.scores[at..][..listed.each], &listed.places[at..][..listed.each])
        };
        for segment in 0..listed.segments {
            let (scores, places) = of_segment(segment);
            for (&score, &place) in scores.iter().zip(places) {
                if loses(score, best) {
                    break;
                }
                let at = segment * listed.segment_rows + place as usize;
                let row = &part.rows[at * cols..][..cols];
                let exact = similarity_of(own, row, queries.norms[query] * part.norms[at]);
                best.offer(exact, part.first + at as u32);
            }
            best.settle();
        }
        let rest: Vec<_> = (0..listed.segments)
            .filter(|&segment| {
                let (scores, _) = of_segment(segment);
                listed.each < listed.segment_rows && !loses(scores[listed.each - 1], best)
            })
            .collect();
        if rest.is_empty() {
            return;
        }
        log::debug!("search: query {query}: {} segments are looked at on the host", rest.len());
        let alone = Queries::new(own, &queries.norms[query..=query], cols);
        for segment in rest {
            let (from, to) = (segment * listed.segment_rows, (segment + 1) * listed.segment_rows);
            let mut own = best.branch();
            scan(&alone, 0, part.part(from, to, cols), std::slice::from_mut(&mut own));
            // The listed ones have been offered, or lose.
            let known: HashSet<u32> =
                of_segment(segment).1.iter().map(|place| part.first + from as u32 + place).collect();
            let unknown = own.entries().into_iter().filter(|(_, row)| !known.contains(row));
            unknown.for_each(|(score, row)| best.offer(score, row));
            best.settle();
        }
    }
}

/// Rows divided by a length, in f64, and rounded; rows of length 0 stay.
fn scaled(rows: &[f32], cols: usize, length: impl Fn(usize) -> f64 + Sync) -> Vec<f32> {
    let mut out = rows.to_vec();
    out.par_chunks_mut(cols).enumerate().with_min_len(256).for_each(|(row, values)| {
        let length = length(row);
        if length > 0. {
            values.iter_mut().for_each(|v| *v = (f64::from(*v) / length) as f32);
        }
    });
    out
}
