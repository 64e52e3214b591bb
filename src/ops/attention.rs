//! Attention, fused: the probabilities are never stored unless they are asked for (but in f64, which is the plain definition).
//!
//! The forward goes over the keys in tiles with a running maximum and sum for each query (online softmax); the backward makes the
//! probabilities again from the log-sum-exps, once by tiles of queries for ∂q and once by tiles of keys for ∂k and ∂v, each
//! summed in a fixed order; on a GPU, where everybody sees everybody, by tiles of keys alone, whose gradients of the scores wait for ∂q
//! in a scratch of a size that the caller can set. Beside that memory is O(length · width). A tile that no pair of the order, the
//! window or the sequences touches is skipped.
//!
//! On a GPU a query without keys has the log-sum-exp −∞ by its bits: kernels write and test them as whole numbers, because WGSL lets
//! a device assume that no number is infinite. A bias of −∞ is told by its bits too.
//!
//! ```
//! use crossmodal::{Device, Tensor, autograd::Tape, ops::{AttentionOptions, attention::ATTENTION}};
//! let tape = Tape::new();
//! let of = |v: &[f32]| Tensor::from_slice(&Device::Cpu, &[1, 1, 2, 1], v).map(|v| tape.leaf(&v));
//! let (q, k, v) = (of(&[0., 0.])?, of(&[1., 2.])?, of(&[3., 5.])?);
//! let attended = tape.apply_all(&ATTENTION, AttentionOptions::default(), &[&q, &k, &v])?; // result, log-sum-exps
//! assert_eq!(attended[0].value().to_vec::<f32>()?, [4., 4.]);
//! let gradients = tape.backward_from(&attended[0], attended[0].value())?;
//! assert_eq!(gradients.get(&v).unwrap().to_vec::<f32>()?, [4., 4.]); // half of each query's
//! # Ok::<(), crossmodal::Error>(())
//! ```

pub use crate::reference::{
    Alibi, AttentionLayout, AttentionOptions, AttentionWeights, Corner, Mask, Polarity, Sequences, Window,
};

use super::attention_check::check;
use super::attention_kernels as kernels;
use super::attention_parts as on_gpu;
use super::{Forward, Rule, Saved, cast, expect_inputs, host, stats_dtype};
use crate::cpu;
use crate::device::Device;
use crate::dtype::{DType, Element};
use crate::error::Result;
use crate::gpu::Kernel;
use crate::reference::{self, Attention, AttentionResult};
use crate::tensor::Tensor;

/// The kernels of this operation. Example: [`Kernel`].
pub const KERNELS: &[&Kernel] = kernels::KERNELS;

/// How the tape calls [`attention`]: inputs q, k, v and perhaps a bias; results, by
/// [`Tape::apply_all`](crate::autograd::Tape::apply_all), those of [`Attended`] in order. The backward honours the gradients of all
/// of them. Example: [the module](self).
pub const ATTENTION: Rule<AttentionOptions> = Rule {
    name: "attention",
    forward: |options, inputs| {
        expect_inputs("attention", inputs, 3..=4)?;
        let (q, k, v, bias) = (inputs[0], inputs[1], inputs[2], inputs.get(3).copied());
        let (Attended { out, lse, weights }, before) = attend(q, k, v, bias, options)?;
        Ok(Forward { outputs: [out, lse].into_iter().chain(weights).collect(), kept: vec![before] })
    },
    backward,
};

/// What [`attention`] gives.
///
/// ```
/// use crossmodal::{Device, Tensor, ops::{AttentionOptions, attention}};
/// let x = Tensor::from_slice(&Device::Cpu, &[1, 1, 1, 2], &[1f32, 1.])?;
/// let attended = attention(&x, &x, &x, None, &AttentionOptions { scale: Some(1.), ..Default::default() })?;
/// assert_eq!((attended.out.to_vec::<f32>()?, attended.lse.item()?), (vec![1., 1.], 2.)); // one key: its value and its score
/// assert!(attended.weights.is_none());
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Attended {
    /// The values weighted, of the shape of q with the width of v.
    pub out: Tensor,
    /// The log-sum-exp of each query's scores `[batch, heads, queries]`, −∞ where it sees no key; f32 where the inputs are f16.
    pub lse: Tensor,
    /// The probabilities before dropout, if they are asked for.
    pub weights: Option<Tensor>,
}

/// Scaled dot-product attention (Vaswani et al., 2017): `O = softmax(S) V` with `S = α Q Kᵀ`, or `cap · tanh(α Q Kᵀ / cap)` with a
/// cap, plus biases, α = `1/√dh` by default, the softmax over the keys that a query sees.
///
/// `q [batch, heads, queries, dh]`, `k [batch, kv_heads, keys, dh]`, `v [batch, kv_heads, keys, dv]`, or heads side by side
/// ([`AttentionLayout::Packed`]); widths 1 to 256. `heads` is a multiple of `kv_heads`: groups of query heads share keys and values
/// (grouped queries, Ainslie et al., 2023). `bias [batch or 1, heads or 1, queries or 1, keys or 1]` is added to the scores and has a
/// gradient; −∞ in it is a mask. Fused as FlashAttention is (Dao et al., 2022; Dao, 2023).
///
/// A query that sees no key gives 0, weights of 0 and no gradient. What is masked leaves no trace, NaN neither; other non-finite
/// input is carried through on the CPU and unspecified on a GPU. Errors: shapes, heads or widths that do not fit; an option's
/// size or range; types or devices differ; a head of one batch is more than a GPU's binding spans.
///
/// ```
/// use crossmodal::{Device, Tensor, ops::{AttentionOptions, attention}};
/// let q = Tensor::from_slice(&Device::Cpu, &[1, 1, 1, 1], &[1f32])?;
/// let k = Tensor::from_slice(&Device::Cpu, &[1, 1, 2, 1], &[0f32, 3f32.ln()])?;
/// let v = Tensor::from_slice(&Device::Cpu, &[1, 1, 2, 1], &[0f32, 4.])?;
/// let attended = attention(&q, &k, &v, None, &AttentionOptions::default())?;
/// assert!((attended.out.item()? - 3.).abs() < 1e-6); // weights of 1/4 and 3/4
/// assert!((attended.lse.item()? - 4f64.ln()).abs() < 1e-6);
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    bias: Option<&Tensor>,
    options: &AttentionOptions,
) -> Result<Attended> {
    Ok(attend(q, k, v, bias, options)?.0)
}

/// Attention, and its result before a rounding to f16.
fn attend(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    bias: Option<&Tensor>,
    options: &AttentionOptions,
) -> Result<(Attended, Tensor)> {
    let problem = check(q, k, v, bias, options)?;
    let dtype = q.dtype();
    let out_shape = out_shape(q, &problem);
    let lse_shape = [problem.batch, problem.heads, problem.queries];
    let weights_shape = problem.weights_shape();
    if dtype == DType::F64 {
        let [q, k, v] = [q, k, v].map(|x| x.f64s());
        let bias = bias.map(|bias| bias.f64s()).unwrap_or_default();
        let AttentionResult { out, lse, weights } = reference::attention(&q, &k, &v, &bias, &problem);
        let weights = weights_shape.map(|shape| host(&shape, dtype, weights)).transpose()?;
        let out = host(&out_shape, dtype, out)?;
        return Ok((Attended { out: out.clone(), lse: host(&lse_shape, dtype, lse)?, weights }, out));
    }
    let inputs = &Wide::new(q, k, v, bias)?;
    let Attended { out, lse, weights } = match q.device() {
        Device::Cpu => {
            let (out, lse) = cpu::attention(inputs.slices(), &problem);
            let weights = weights_shape.map(|shape| {
                let values = cpu::attention_weights(inputs.slices(), &lse, &problem);
                cpu::tensor(&shape, DType::F32, values)
            });
            let weights = weights.transpose()?;
            let (out, lse) =
                (cpu::tensor(&out_shape, DType::F32, out)?, cpu::tensor(&lse_shape, DType::F32, lse)?);
            Attended { out, lse, weights }
        }
        Device::Gpu(gpu) => on_gpu::forward(gpu, inputs, &problem)?,
    };
    let weights = weights.map(|weights| cast(&weights, dtype)).transpose()?;
    Ok((Attended { out: cast(&out, dtype)?, lse, weights }, out))
}

fn out_shape(q: &Tensor, problem: &Attention) -> Vec<usize> {
    let mut shape = q.shape().to_vec();
    match shape.len() {
        4 => shape[3] = problem.dv,
        _ => shape[2] = problem.heads * problem.dv,
    }
    shape
}

/// The inputs in f32.
pub(super) struct Wide {
    pub q: Tensor,
    pub k: Tensor,
    pub v: Tensor,
    pub bias: Option<Tensor>,
}

impl Wide {
    fn new(q: &Tensor, k: &Tensor, v: &Tensor, bias: Option<&Tensor>) -> Result<Wide> {
        let wide = |x: &Tensor| cast(x, stats_dtype(x.dtype()));
        Ok(Wide { q: wide(q)?, k: wide(k)?, v: wide(v)?, bias: bias.map(wide).transpose()? })
    }

    /// On the CPU.
    fn slices(&self) -> [&[f32]; 4] {
        fn slice(x: &Tensor) -> &[f32] {
            f32::peek(x.data()).map_or(&[], Vec::as_slice)
        }
        [slice(&self.q), slice(&self.k), slice(&self.v), self.bias.as_ref().map_or(&[], slice)]
    }
}

/// The gradients of an operation's results, none of which is missing but perhaps that of the weights.
pub(super) struct Upstream {
    pub out: Tensor,
    pub lse: Tensor,
    pub weights: Option<Tensor>,
}

impl Upstream {
    fn new(saved: &Saved<'_>) -> Result<Upstream> {
        let of = |i: usize| match &saved.grads[i] {
            Some(grad) => cast(grad, stats_dtype(grad.dtype())),
            None => {
                let like = &saved.outputs[i];
                Tensor::zeros(like.device(), like.shape(), stats_dtype(like.dtype()))
            }
        };
        let weights = saved.grads.get(2).and_then(Option::as_ref);
        let weights = weights.map(|grad| cast(grad, stats_dtype(grad.dtype()))).transpose()?;
        Ok(Upstream { out: of(0)?, lse: of(1)?, weights })
    }
}

fn backward(options: &AttentionOptions, saved: &Saved<'_>) -> Result<Vec<Option<Tensor>>> {
    let (q, k, v, bias) = (&saved.inputs[0], &saved.inputs[1], &saved.inputs[2], saved.inputs.get(3));
    let problem = check(q, k, v, bias, options)?;
    let (dtype, upstream) = (q.dtype(), Upstream::new(saved)?);
    let shapes = saved.inputs.iter().map(Tensor::shape);
    if dtype == DType::F64 {
        let [q, k, v] = [q, k, v].map(|x| x.f64s());
        let bias = bias.map(|bias| bias.f64s()).unwrap_or_default();
        let of_weights = upstream.weights.as_ref().map(|grad| grad.f64s()).unwrap_or_default();
        let grads = [&*upstream.out.f64s(), &*upstream.lse.f64s(), &*of_weights];
        let all = reference::attention_backward(&q, &k, &v, &bias, grads, &problem);
        return shapes.zip(all).map(|(shape, values)| host(shape, dtype, values).map(Some)).collect();
    }
    let inputs = &Wide::new(q, k, v, bias.map(|bias| bias as _))?;
    let lse = &saved.outputs[1];
    match q.device() {
        Device::Cpu => {
            let of_weights = upstream.weights.as_ref().map(cpu::f32s).unwrap_or_default();
            let grads = [&*cpu::f32s(&upstream.out), &*cpu::f32s(&upstream.lse), &*of_weights];
            let wants_bias = saved.needs.get(3) == Some(&true);
            let slices = inputs.slices();
            let all = cpu::attention_backward(slices, &cpu::f32s(lse), grads, wants_bias, &problem);
            let wanted = |(i, (shape, values)): (usize, (&[usize], Vec<f32>))| match saved.needs[i] {
                true => cpu::tensor(shape, dtype, values).map(Some),
                false => Ok(None),
            };
            shapes.zip(all).enumerate().map(wanted).collect()
        }
        Device::Gpu(gpu) => {
            // δ is a sum of products of O.
            let results = [&saved.kept[0], lse];
            let all = on_gpu::backward(gpu, inputs, results, &upstream, saved.needs, &problem)?;
            all.into_iter().map(|grad| grad.map(|grad| cast(&grad, dtype)).transpose()).collect()
        }
    }
}
