//! Attention on a GPU: whole, or by batches and groups of heads where a tensor is more than a binding spans.

use super::attention::{Attended, Upstream, Wide};
use super::attention_dispatch as one;
use super::attention_plan::Part;
use super::concat::{concat, slice};
use super::{add, parts};
use crate::dtype::DType;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::reference::{Attention, AttentionLayout, AttentionWeights};
use crate::tensor::Tensor;
use std::ops::Range;

/// Which axes of a tensor are the batches and the heads; none where they share it.
#[derive(Clone, Copy)]
struct Axes {
    batch: Option<usize>,
    heads: Option<usize>,
    /// Elements of the axis to a head.
    each: usize,
    /// Whether the heads are those of keys and values.
    kv: bool,
}

impl Axes {
    /// A tensor in the problem's layout.
    fn of(problem: &Attention, each: usize, kv: bool) -> Axes {
        match problem.options.layout {
            AttentionLayout::Heads => Axes { batch: Some(0), heads: Some(1), each: 1, kv },
            AttentionLayout::Packed { .. } => Axes { batch: Some(0), heads: Some(2), each, kv },
        }
    }

    fn of_weights(problem: &Attention) -> Axes {
        let heads = (problem.options.weights == AttentionWeights::PerHead).then_some(1);
        Axes { heads, ..LINES }
    }

    fn of_bias(problem: &Attention) -> Axes {
        let [batch, heads, ..] = problem.bias.unwrap_or([1; 4]);
        Axes { batch: (batch != 1).then_some(0), heads: (heads != 1).then_some(1), ..LINES }
    }

    /// What a part has of a tensor.
    fn cut(self, x: &Tensor, part: &Part<'_>) -> Result<Tensor> {
        let group = if self.kv { part.whole.group() } else { 1 };
        let heads = part.heads.start / group * self.each..part.heads.end / group * self.each;
        let mut x = x.clone();
        for (axis, range) in [(self.batch, &part.batch), (self.heads, &heads)] {
            if let Some(axis) = axis.filter(|&axis| x.shape()[axis] != range.len()) {
                x = slice(&x, axis, range)?;
            }
        }
        Ok(x)
    }
}

/// Log-sum-exps.
const LINES: Axes = Axes { batch: Some(0), heads: Some(1), each: 1, kv: false };

/// Results of parts that lie along an axis, or that add up.
fn join(made: Vec<Tensor>, axis: Option<usize>) -> Result<Tensor> {
    match axis {
        Some(axis) if made.len() > 1 => concat(&made.iter().collect::<Vec<_>>(), axis),
        _ => {
            let mut made = made.into_iter();
            let first = made.next().expect("there is a part");
            made.try_fold(first, |sum, part| add(&sum, &part))
        }
    }
}

/// Runs of `each` of `0..n`.
fn runs(n: usize, each: usize) -> impl Iterator<Item = Range<usize>> {
    (0..n).step_by(each).map(move |first| first..n.min(first + each))
}

/// What `run` gives, for all at once or part by part. `axes` are those of the results.
fn in_parts(
    gpu: &Gpu,
    problem: &Attention,
    is_split: bool,
    axes: &[Axes],
    mut run: impl FnMut(&Part<'_>) -> Result<Vec<Option<Tensor>>>,
) -> Result<Vec<Option<Tensor>>> {
    let bytes = |part: Part<'_>| (part.largest() * DType::F32.size()) as u64;
    let all = Part::all(problem);
    if !is_split && bytes(Part::all(problem)) <= gpu.piece_bytes() {
        return run(&all);
    }
    let most = gpu.piece_bytes().min(parts::PART_BYTES);
    let (mut batches, mut heads) = (problem.batch, problem.kv_heads);
    while batches > 1 && bytes(Part::new(problem, 0..batches, 0..heads)) > most {
        batches = batches.div_ceil(2);
    }
    while heads > 1 && bytes(Part::new(problem, 0..batches, 0..heads)) > most {
        heads = heads.div_ceil(2);
    }
    // The results of parts: by batches, by heads, by result.
    let mut made = vec![];
    for batch in runs(problem.batch, batches) {
        let of_heads = runs(problem.kv_heads, heads).map(|kv| run(&Part::new(problem, batch.clone(), kv)));
        let of_heads = of_heads.collect::<Result<Vec<_>>>()?;
        made.push(joined(of_heads, axes.iter().map(|axes| axes.heads))?);
    }
    joined(made, axes.iter().map(|axes| axes.batch))
}

/// The results of several parts, each by its axis.
fn joined(
    mut parts: Vec<Vec<Option<Tensor>>>,
    axes: impl Iterator<Item = Option<usize>>,
) -> Result<Vec<Option<Tensor>>> {
    let count = parts.first().map_or(0, Vec::len);
    let own = |(i, axis): (usize, Option<usize>)| {
        let of_result: Option<Vec<_>> = parts.iter_mut().map(|part| part[i].take()).collect();
        of_result.map(|made| join(made, axis)).transpose()
    };
    axes.take(count).enumerate().map(own).collect()
}

impl Wide {
    fn is_split(&self) -> bool {
        let bias = self.bias.as_ref().is_some_and(Tensor::is_split);
        [&self.q, &self.k, &self.v].into_iter().any(Tensor::is_split) || bias
    }

    fn cut(&self, part: &Part<'_>) -> Result<Wide> {
        let [q, k, v, bias] = axes_of_inputs(part.whole);
        Ok(Wide {
            q: q.cut(&self.q, part)?,
            k: k.cut(&self.k, part)?,
            v: v.cut(&self.v, part)?,
            bias: self.bias.as_ref().map(|own| bias.cut(own, part)).transpose()?,
        })
    }
}

fn axes_of_inputs(problem: &Attention) -> [Axes; 4] {
    let (dh, dv) = (problem.dh, problem.dv);
    let of = |each: usize, kv: bool| Axes::of(problem, each, kv);
    [of(dh, false), of(dh, true), of(dv, true), Axes::of_bias(problem)]
}

/// In f32.
pub(super) fn forward(gpu: &Gpu, inputs: &Wide, problem: &Attention) -> Result<Attended> {
    let axes = [Axes::of(problem, problem.dv, false), LINES, Axes::of_weights(problem)];
    let run = |part: &Part<'_>| one::forward(gpu, &inputs.cut(part)?, part);
    let mut made = in_parts(gpu, problem, inputs.is_split(), &axes, run)?.into_iter();
    let mut next = || made.next().flatten();
    let (out, lse, weights) = (next(), next(), next());
    Ok(Attended { out: out.expect("a result"), lse: lse.expect("log-sum-exps"), weights })
}

/// The gradients of the inputs, where they are needed.
pub(super) fn backward(
    gpu: &Gpu,
    inputs: &Wide,
    [out, lse]: [&Tensor; 2],
    upstream: &Upstream,
    needs: &[bool],
    problem: &Attention,
) -> Result<Vec<Option<Tensor>>> {
    let (of_out, of_weights) = (Axes::of(problem, problem.dv, false), Axes::of_weights(problem));
    let weights_split = upstream.weights.as_ref().is_some_and(Tensor::is_split);
    let is_split = inputs.is_split() || out.is_split() || lse.is_split() || weights_split;
    in_parts(gpu, problem, is_split, &axes_of_inputs(problem), |part| {
        let weights = upstream.weights.as_ref().map(|grad| of_weights.cut(grad, part)).transpose()?;
        let own =
            Upstream { out: of_out.cut(&upstream.out, part)?, lse: LINES.cut(&upstream.lse, part)?, weights };
        let results = [&of_out.cut(out, part)?, &LINES.cut(lse, part)?];
        one::backward(gpu, &inputs.cut(part)?, results, &own, needs, part)
    })
}
