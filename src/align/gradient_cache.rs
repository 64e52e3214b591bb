//! A batch that goes through the heads in parts (gradient caching, Gao et al., 2021).

use super::side::Side;
use super::trainer::{Step, Trainer};
use crate::autograd::Tape;
use crate::error::Result;
use crate::ops::{add, concat, split};
use crate::tensor::Tensor;

impl Trainer {
    /// The loss of a batch and the gradients of all parameters, with the memory of a part of the batch: all embeddings without a tape,
    /// the gradient of the loss by them, then each part once more, backward from its own rows of that gradient.
    pub(super) fn in_parts(&mut self, batch: &[u32]) -> Result<Step> {
        let unit = self.recipe.objective.unit();
        let parts: Vec<_> = batch.chunks(batch.len().div_ceil(self.recipe.accum).max(1)).collect();
        let cached = |(number, side): (usize, &Side)| -> Result<Tensor> {
            let tape = Tape::no_grad();
            let bound = self.parameters.on(&tape);
            let embed = |(i, part): (usize, &&[u32])| {
                let dropout = self.dropout(number, i * parts[0].len());
                Ok(side.embed(&self.device, &tape, &bound, part, unit, dropout)?.value().clone())
            };
            by_view(&parts.iter().enumerate().map(embed).collect::<Result<Vec<_>>>()?, side.views.len())
        };
        let tape = Tape::new();
        let bound = self.parameters.on(&tape);
        let cached = self.sides.iter().enumerate().map(|side| Ok(tape.leaf(&cached(side)?)));
        let embeddings = cached.collect::<Result<Vec<_>>>()?;
        let loss = self.loss(&tape, &bound, &embeddings, batch)?;
        let all = tape.backward(&loss)?;
        let mut gradients = bound.gradients(&all);
        for (number, (side, embeddings)) in self.sides.iter().zip(&embeddings).enumerate() {
            let Some(gradient) = all.get(embeddings).filter(|_| !side.network.is_fixed()) else {
                continue;
            };
            let sizes: Vec<_> = parts.iter().map(|part| part.len()).collect();
            let of_parts = by_part(gradient, &sizes, side.views.len())?;
            for (i, (part, gradient)) in parts.iter().zip(of_parts).enumerate() {
                let tape = Tape::new();
                let bound = self.parameters.on(&tape);
                let dropout = self.dropout(number, i * parts[0].len());
                let z = side.embed(&self.device, &tape, &bound, part, unit, dropout)?;
                let own = bound.gradients(&tape.backward_from(&z, &gradient)?);
                for (sum, own) in gradients.iter_mut().zip(own) {
                    *sum = match (sum.take(), own) {
                        (Some(sum), Some(own)) => Some(add(&sum, &own)?),
                        (sum, own) => sum.or(own),
                    };
                }
            }
        }
        Ok((loss.value().clone(), gradients))
    }
}

/// Embeddings of parts of a batch, each with its views one behind the other, as those of the whole batch.
fn by_view(parts: &[Tensor], views: usize) -> Result<Tensor> {
    let split_views = |part: &Tensor| split(part, 0, &vec![part.shape()[0] / views; views]);
    let parts = parts.iter().map(split_views).collect::<Result<Vec<_>>>()?;
    let all: Vec<_> = (0..views).flat_map(|view| parts.iter().map(move |part| &part[view])).collect();
    concat(&all, 0)
}

/// The other way round.
fn by_part(whole: &Tensor, sizes: &[usize], views: usize) -> Result<Vec<Tensor>> {
    let pieces = split(whole, 0, &sizes.repeat(views))?;
    let part =
        |i: usize| concat(&(0..views).map(|view| &pieces[view * sizes.len() + i]).collect::<Vec<_>>(), 0);
    (0..sizes.len()).map(part).collect()
}
