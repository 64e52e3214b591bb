//! Operations: one file each, with options, shape checks, kernels, forward, backward and the constant rule by
//! which the tape calls them ([`adamw`](mod@adamw), [`clip_global_norm`](mod@clip_global_norm) and [`top_k`](mod@top_k) have
//! neither backward nor rule). Each is one function that runs on either device.
//!
//! NaN and infinite elements are not refused. On the CPU they are carried through as the formula has it (a maximum over an axis
//! with a NaN is NaN); on a GPU what they give is unspecified, because WGSL lets a device assume that they do not occur.
//!
//! ```
//! use crossmodal::{Device, Tensor, ops::{add, l2_normalize, relu}};
//! let x = Tensor::from_slice(&Device::Cpu, &[1, 2], &[3f32, -4.])?;
//! let y = l2_normalize(&add(&relu(&x)?, &x)?)?; // [6, -4] to length one
//! assert!((y.to_vec::<f32>()?[0] - 6. / 52f32.sqrt()).abs() < 1e-6);
//! # Ok::<(), crossmodal::Error>(())
//! ```
//!
//! # Tolerance
//!
//! How far a result in f32, on a GPU or the CPU path, may be from the definition in f64. `crossmodal verify` and the tests hold every
//! device to it; the reasons are in `cases` (feature `verify`). Sums and products of whole numbers that f32 holds are exact everywhere.
//! `u = 2⁻²⁴` is half a unit in the last place (ulp) of 1; "absolute" errors do not shrink with the result; inputs and upstream
//! gradients are of size 1 at most where it does not say `r`, `r` is the largest input's size and `n` a row's length.
//!
//! | operation | result | gradients |
//! |---|---|---|
//! | `cast`, `concat`, `split`, `gather`, `transpose`, `copy` | exact | exact; `gather` sums repeated rows |
//! | `top_k` | exact, indices too | |
//! | `binary` | 1 ulp | 1 ulp; a sum of k of them `2 (k + 4) u` absolute and 1 ulp more |
//! | `unary`: relu, clamp | exact | exact |
//! | `unary`: shift | 1 ulp | exact |
//! | `unary`: scale | 1 ulp | 1 ulp |
//! | `unary`: exp | 8 + 3 r ulp | the same |
//! | `unary`: log | 4 ulp and `8 u` absolute | 4 ulp |
//! | `unary`: power | 8 + 3 · 5.2 ulp for logarithms of the result up to 5.2 | the same |
//! | `dropout` | 1 ulp; what is dropped is 0 | 1 ulp |
//! | `unary`: tanh, sigmoid, softplus, gelu | 62 ulp | 62 ulp; gelu's `8 u` absolute more |
//! | `reduce` of k elements | sum and mean `(k + 4) u` absolute and 1 ulp; maximum exact | 2 ulp |
//! | `softmax` | 8 + 3 min(2r, 88) + √n ulp | the same, and twice that many ulp of 1 absolute |
//! | `log_softmax` | 32 + √n ulp of 1 and `8 r u`, absolute | `3 √n` times that and `(n + 4) u`, absolute, and 3 ulp |
//! | `log_sum_exp` | 32 + √n ulp of 1 and `2 (r + 8) u`, absolute | as `softmax`'s result |
//! | `l2_normalize` | 8 + √n ulp | 9 + √n ulp and `(n + 20) u` absolute, for rows of length 1 or more |
//! | `layer_norm`, `rms_norm` of k rows of least deviation σ (root mean square), where no element is more than `a σ` from the mean or the first of its row (from 0) | `E = (8 + √n) a` ulp of 1 absolute and 1 ulp | of x `(1 + a) E / σ` and `(n + 4) u / σ` absolute and 8 + √n ulp, of the weight `√k E` and `(k + 4) a u` absolute, of the bias `(k + 4) u` absolute, and 1 ulp |
//! | `cosine_similarity` of `[n, d]` and `[m, d]` | `(√d + 20) u` absolute and 1 ulp | `(max(n, m, d) + 20) u` absolute and 1 ulp |
//! | `matmul`, sums of k products | `(k + 4) u` absolute and 1 ulp; an activation `32 u` more | `(2 k + 136) u` absolute and 1 ulp |
//! | `info_nce` of `[n, d]` and `[m, d]`, `s = eᵗ` | `2 L + P` absolute and 3 ulp, where `L = (√d + 4) s u` is a logit's error and `P = 2 L + (136 + √m) u` a probability's | of x and y `2 s P / n`, of t `s P` absolute, and 3 ulp; sums and losses per row n times that |
//! | `siglip` | `m (L + 136 u)` absolute and 4 ulp, L with `s + abs b` for s; sums and rows n times that | s times that |
//! | `attention`, inputs in `±r`, `s` its scale, M = `2 s √dh r² + 1` (and a slope's bias) a score's size, `c = 1 / (1 − p)` under dropout | `2 L + c P` absolute and 4 ulp, where `L = (√dh + 8) M u` is a score's error (a cap's tanh 62 ulp more) and `P = 2 L + (16 + 12 M + √keys) u` a probability's | `G max(s, 1) r √q` for q queries to a head of keys, of the bias `G √q` for q that share it, absolute, and 4 ulp, where `G = (2 c √dv + 2) (2 P + 2 (√dv + 4) u)` |
//! | `adamw` | 16 ulp and `8 u` absolute | |
//! | `clip_global_norm` of k elements | 16 + √k / 8 ulp | |
//!
//! In f16 the rounding of the result comes on top, half a unit in its last place on the CPU and a whole one on a GPU (WGSL leaves open
//! which neighbour is taken), and so do four of those of every intermediate result that is stored.

mod rule;
pub(crate) use rule::expect_inputs;
pub use rule::{Forward, Rule, Saved};

pub mod adamw;
pub mod attention;
mod attention_blocks;
mod attention_check;
mod attention_dispatch;
mod attention_kept;
mod attention_kernels;
mod attention_parts;
mod attention_plan;
pub mod binary;
pub mod cast;
pub mod clip_global_norm;
pub mod concat;
#[cfg(feature = "verify")]
pub mod copy;
pub mod cosine_similarity;
pub mod dropout;
pub mod gather;
pub mod info_nce;
mod info_nce_kernels;
mod info_nce_options;
mod info_nce_sweep;
mod info_nce_tiled;
pub mod keep_rows;
pub mod l2_normalize;
pub mod layer_norm;
mod line_codes;
pub mod log_softmax;
pub mod log_sum_exp;
mod logit_blocks;
pub mod matmul;
mod matmul_cooperative;
mod matmul_dispatch;
mod matmul_kernels;
mod matmul_parts;
mod matmul_tune;
mod matmul_ways;
mod parts;
pub mod reduce;
mod row_lanes;
mod rows;
pub mod siglip;
pub mod softmax;
pub mod top_k;
pub mod transpose;
pub mod unary;
pub(crate) mod ways;

pub use crate::reference::Reduction;
pub use adamw::{AdamwStep, adamw};
pub use attention::{
    Alibi, Attended, AttentionLayout, AttentionOptions, AttentionWeights, Corner, Mask, Polarity, Sequences,
    Window, attention,
};
pub use binary::{Binary, add, binary, mul, sub};
pub use cast::cast;
pub use clip_global_norm::clip_global_norm;
pub(crate) use concat::overwrite;
pub use concat::{concat, split};
pub use cosine_similarity::{Pairing, cosine_similarity};
pub use dropout::{Dropout, dropout};
pub use gather::{Indices, gather};
pub use info_nce::{InfoNceOptions, Targets, info_nce};
pub use keep_rows::keep_rows;
pub use l2_normalize::l2_normalize;
pub use layer_norm::{layer_norm, rms_norm};
pub use log_softmax::log_softmax;
pub use log_sum_exp::log_sum_exp;
pub use matmul::{MatmulOptions, Precision, matmul};
pub use reduce::{Reduce, ReduceOptions, reduce};
pub use siglip::{SiglipOptions, siglip};
pub use softmax::softmax;
pub use top_k::top_k;
pub use transpose::transpose;
pub use unary::{Unary, exp, gelu, log, relu, scale, sigmoid, tanh, unary};

use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::gpu::kernel::Params;
use crate::gpu::{Gpu, Kernel, Variant};
use crate::tensor::Tensor;

/// Refuses tensors that are not floating-point, not of one type, or not on one device.
fn check_floats(op: &'static str, tensors: &[(&'static str, &Tensor)]) -> Result<()> {
    let (_, first) = tensors[0];
    for (argument, tensor) in tensors {
        if !tensor.dtype().is_float() {
            return Err(Error::argument(op, *argument, "a floating-point tensor", tensor.dtype()));
        }
        if tensor.dtype() != first.dtype() {
            let expected = format!("{} as the first tensor", first.dtype());
            return Err(Error::argument(op, *argument, expected, tensor.dtype()));
        }
        check_device(op, argument, tensor, first.device())?;
    }
    Ok(())
}

fn check_device(op: &'static str, argument: &'static str, tensor: &Tensor, expected: &Device) -> Result<()> {
    if tensor.device() == expected {
        return Ok(());
    }
    let (expected, got) = (expected.name().to_string(), tensor.device().name().to_string());
    Err(Error::Devices { op, argument, expected, got })
}

fn check_shape(op: &'static str, argument: &'static str, tensor: &Tensor, expected: &[usize]) -> Result<()> {
    if tensor.shape() == expected {
        return Ok(());
    }
    Err(Error::argument(op, argument, format!("shape {expected:?}"), format!("{:?}", tensor.shape())))
}

/// The type in which statistics of a tensor are kept: f32 for f16, which would round them.
fn stats_dtype(dtype: DType) -> DType {
    if dtype == DType::F64 { DType::F64 } else { DType::F32 }
}

/// A CPU result, rounded once to `dtype`.
fn host(shape: &[usize], dtype: DType, values: Vec<f64>) -> Result<Tensor> {
    Tensor::from_f64(&Device::Cpu, shape, dtype, values)
}

/// Records a kernel that goes through whole tensors once. Errors: one of them is more than a binding spans; the driver's.
fn dispatch<P: Params>(
    gpu: &Gpu,
    kernel: &Kernel,
    variant: Variant,
    params: &P,
    tensors: &[&Tensor],
    groups: u64,
) -> Result<()> {
    let bytes: usize = tensors.iter().map(|tensor| tensor.len() * tensor.dtype().size()).sum();
    dispatch_counted(gpu, kernel, variant, params, tensors, groups, work_of_bytes(bytes))
}

/// What moving so many bytes counts for, in floating-point operations: a slow GPU moves one in the time of ten of those.
fn work_of_bytes(bytes: usize) -> f64 {
    10. * bytes as f64
}

/// As [`dispatch`] where the work, in floating-point operations, is more or less than moving the tensors once.
fn dispatch_counted<P: Params>(
    gpu: &Gpu,
    kernel: &Kernel,
    variant: Variant,
    params: &P,
    tensors: &[&Tensor],
    groups: u64,
    work: f64,
) -> Result<()> {
    let pairs = tensors.iter().zip(kernel.bindings);
    let buffers = pairs.map(|(tensor, binding)| tensor.buffer(kernel.name, binding.name));
    gpu.dispatch(kernel, variant, params, &buffers.collect::<Result<Vec<_>>>()?, groups)?;
    gpu.count_work(work)
}

/// Workgroups of `each` invocations for `count` elements.
fn groups(count: usize, each: usize) -> u64 {
    count.div_ceil(each) as u64
}

/// A shape or strides as kernels take them.
fn pad8(values: &[usize]) -> [u32; 8] {
    std::array::from_fn(|i| values.get(i).map_or(0, |&v| v as u32))
}
