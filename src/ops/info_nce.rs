//! InfoNCE and its relatives, the softmax losses of contrastive learning, without ever storing the N×M logits (but in
//! f64, which is the plain definition).
//!
//! Similarities are computed block by block, `Cr × Cc` at a time, into scratch memory of a fixed budget. The forward merges
//! each block's row and column (maximum, sum) into running log-sum-exps: one sweep for both. The backward computes each block
//! again, turns it into the gradient in place and adds its two products to the gradients of x and of y, in a fixed order:
//! four products in all, forward and backward, and O(N + M) beyond the scratch. Where all similarities fit into the scratch
//! they are kept for the backward instead: three products.
//!
//! Targets, masks and further negatives are inputs to these kernels, not kernels of their own; see [`InfoNceOptions`].
//!
//! ```
//! use crossmodal::{Device, Tensor, autograd::Tape, ops::{InfoNceOptions, info_nce::INFO_NCE}};
//! let tape = Tape::new();
//! let x = tape.leaf(&Tensor::from_slice(&Device::Cpu, &[2, 2], &[1f32, 0., 0., 1.])?);
//! let log_scale = tape.leaf(&Tensor::scalar(&Device::Cpu, 0f32)?);
//! let loss = tape.apply(&INFO_NCE, InfoNceOptions::default(), &[&x, &x, &log_scale])?;
//! let gradients = tape.backward(&loss)?;
//! assert!(gradients.get(&log_scale).unwrap().item()? < 0.); // a larger scale would lower the loss
//! # Ok::<(), crossmodal::Error>(())
//! ```

pub use super::info_nce_options::{InfoNceOptions, Targets};

use super::info_nce_options::{check_options, refuse};
use super::info_nce_sweep as sweep;
use super::line_codes::{codes, kept_rows};
use super::{
    Forward, Reduce, ReduceOptions, Rule, Saved, cast, check_floats, check_shape, expect_inputs, host, mul,
    reduce, stats_dtype,
};
use crate::cpu;
use crate::device::Device;
use crate::dtype::DType;
use crate::error::Result;
use crate::gpu::Kernel;
use crate::reference::{self, InfoNce, Reduction, TargetKind};
use crate::tensor::Tensor;

/// The kernels of this operation. Example: [`Kernel`].
pub const KERNELS: &[&Kernel] = super::info_nce_kernels::KERNELS;

/// How the tape calls [`info_nce`]: inputs x, y, log_scale and, if each row has negatives to itself, their similarities
/// `[n, k]` with it (`⟨x_i, n_ij⟩`, a batched [`matmul`](super::matmul())). Example: [the module](self).
pub const INFO_NCE: Rule<InfoNceOptions> = Rule {
    name: "info_nce",
    forward: |options, inputs| {
        expect_inputs("info_nce", inputs, 3..=4)?;
        forward(inputs, options)
    },
    backward,
};

/// The InfoNCE loss (van den Oord et al., 2018; symmetric as in CLIP, Radford et al., 2021), a scalar:
/// `mean_i(lse_j L_ij − L_ii)`, or `½` of that plus `½` of the same over columns, with `L = eᵗ X Yᵀ`, `t` = `log_scale []`.
/// With [other options](InfoNceOptions) `mean_i(lse_j Z_ij − Σ_j T_ij L_ij)`, Z being L with the bonus of hard negatives and
/// without positives if decoupled, T the targets; each mean over the rows that count, a row without any competitor being 0.
///
/// `x [n, d]` and `y [m, d]` are embeddings, usually after [`l2_normalize`](super::l2_normalize()). Rows of y beyond n are
/// negatives: those of a queue, or without a partner. The temperature is fixed when `log_scale` is a constant, learned when it
/// is a leaf of the tape; `t = ln(1/τ)`. Non-finite input in rows that are not masked is carried through on the CPU and
/// unspecified on a GPU. Errors: not two axes, or `log_scale` has one; no rows; widths differ; `m < n` on the diagonal; an
/// option's size or range; options that exclude each other; types or devices differ.
///
/// ```
/// use crossmodal::{Device, Tensor, ops::{InfoNceOptions, info_nce}};
/// let x = Tensor::from_slice(&Device::Cpu, &[2, 2], &[1f32, 0., 0., 1.])?;
/// let log_scale = Tensor::scalar(&Device::Cpu, 0f32)?;
/// let loss = info_nce(&x, &x, &log_scale, &InfoNceOptions::default())?.item()?;
/// assert!((loss - (1. + (-1f64).exp()).ln()).abs() < 1e-6);
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn info_nce(x: &Tensor, y: &Tensor, log_scale: &Tensor, options: &InfoNceOptions) -> Result<Tensor> {
    Ok(forward(&[x, y, log_scale], options)?.outputs.remove(0))
}

/// The problem that inputs and options pose.
fn check(inputs: &[&Tensor], options: &InfoNceOptions) -> Result<InfoNce> {
    let (x, y, log_scale) = (inputs[0], inputs[1], inputs[2]);
    check_floats("info_nce", &[("x", x), ("y", y), ("log_scale", log_scale)])?;
    check_shape("info_nce", "log_scale", log_scale, &[])?;
    let ([n, d], [m, _]) = (x.shape(), y.shape()) else {
        return refuse("x and y", "two axes each", format!("shapes {:?} and {:?}", x.shape(), y.shape()));
    };
    let (n, m, d) = (*n, *m, *d);
    for (argument, tensor) in [("x", x), ("y", y)] {
        if tensor.shape()[0] == 0 && (argument == "x" || !matches!(options.targets, Targets::Diagonal)) {
            return refuse(argument, "at least one row", format!("shape {:?}", tensor.shape()));
        }
    }
    if matches!(options.targets, Targets::Diagonal) && m < n {
        check_shape("info_nce", "y", y, &[n, d])?;
    }
    check_shape("info_nce", "y", y, &[m, d])?;
    let k = match inputs.get(3) {
        None => 0,
        Some(extra) => {
            check_floats("info_nce", &[("x", x), ("extra", extra)])?;
            let [_, k] = extra.shape()[..] else {
                return refuse("extra", format!("shape [{n}, k]"), format!("{:?}", extra.shape()));
            };
            check_shape("info_nce", "extra", extra, &[n, k])?;
            k
        }
    };
    check_options(x, (n, m), options)?;
    let [rows, cols] = codes(&options.targets, [&options.keep_rows, &options.keep_cols], [n, m]);
    let targets = match options.targets {
        Targets::Diagonal | Targets::Classes { .. } => TargetKind::Codes,
        Targets::Soft(_) => TargetKind::Soft,
        Targets::None => TargetKind::None,
    };
    let InfoNceOptions { symmetric, smoothing, decoupled, hard_negatives, exclude_self, reduction, .. } =
        *options;
    Ok(InfoNce {
        n,
        m,
        d,
        k,
        symmetric,
        targets,
        rows,
        cols,
        smoothing,
        decoupled,
        hard_negatives,
        exclude_self,
        reduction,
    })
}

/// The inputs of every precision but f64: in f32.
struct Wide {
    x: Tensor,
    y: Tensor,
    log_scale: Tensor,
    extra: Option<Tensor>,
    soft: Option<Tensor>,
}

fn widened(inputs: &[&Tensor], options: &InfoNceOptions) -> Result<Wide> {
    let wide = |tensor: &Tensor| cast(tensor, stats_dtype(tensor.dtype()));
    let soft = if let Targets::Soft(soft) = &options.targets { Some(wide(soft)?) } else { None };
    let extra = inputs.get(3).map(|extra| wide(extra)).transpose()?;
    Ok(Wide { x: wide(inputs[0])?, y: wide(inputs[1])?, log_scale: wide(inputs[2])?, extra, soft })
}

/// The elements of an f64 tensor; none of one that is not there.
fn elements(tensor: Option<&Tensor>) -> Vec<f64> {
    tensor.map_or(vec![], |tensor| tensor.f64s().into_owned())
}

fn shape(problem: &InfoNce) -> &[usize] {
    if problem.reduction == Reduction::None { std::slice::from_ref(&problem.n) } else { &[] }
}

fn forward(inputs: &[&Tensor], options: &InfoNceOptions) -> Result<Forward> {
    let problem = check(inputs, options)?;
    let dtype = inputs[0].dtype();
    let Wide { x, y, log_scale, extra, soft } = widened(inputs, options)?;
    let scratch = options.scratch_bytes;
    if dtype == DType::F64 {
        let (extra, soft) = (elements(extra.as_ref()), elements(soft.as_ref()));
        let loss = reference::info_nce(&x.f64s(), &y.f64s(), log_scale.f64s()[0], &extra, &soft, &problem);
        return Ok(Forward::one(host(shape(&problem), dtype, loss)?));
    }
    let others = [extra.as_ref(), soft.as_ref()];
    let (loss, kept) = match x.device() {
        Device::Cpu => {
            let (loss, kept) = cpu::info_nce([&x, &y, &log_scale], others, &problem, scratch)?;
            (host(shape(&problem), dtype, loss)?, kept)
        }
        Device::Gpu(gpu) => {
            let (loss, kept) = sweep::forward(gpu, [&x, &y, &log_scale], others, &problem, options.means())?;
            (cast(&loss.reshape(shape(&problem))?, dtype)?, kept)
        }
    };
    Ok(Forward { outputs: vec![loss], kept })
}

fn backward(options: &InfoNceOptions, saved: &Saved<'_>) -> Result<Vec<Option<Tensor>>> {
    let inputs: Vec<_> = saved.inputs.iter().collect();
    let problem = check(&inputs, options)?;
    let dtype = inputs[0].dtype();
    let Wide { x, y, log_scale, extra, soft } = widened(&inputs, options)?;
    if dtype == DType::F64 {
        let (t, upstream) = (log_scale.f64s()[0], saved.grad().f64s());
        let (extra, soft) = (elements(extra.as_ref()), elements(soft.as_ref()));
        let all = reference::info_nce_backward(&x.f64s(), &y.f64s(), t, &extra, &soft, &upstream, &problem);
        let all = [all.x, all.y, vec![all.log_scale], all.extra];
        let tensor = |(input, values): (&&Tensor, _)| host(input.shape(), dtype, values).map(Some);
        return inputs.iter().zip(all).map(tensor).collect();
    }
    let upstream = cast(saved.grad(), DType::F32)?;
    // The gradient of the scale is made of that of x.
    let needs = [saved.needs[0] || saved.needs[2], saved.needs[1]];
    let (three, others) = ([&x, &y, &log_scale], [extra.as_ref(), soft.as_ref()]);
    let scratch = options.scratch_bytes;
    let [dx, dy, dextra] = match x.device() {
        Device::Cpu => {
            cpu::info_nce_backward(three, others, saved.kept, &upstream, needs, &problem, scratch)?
        }
        Device::Gpu(gpu) => {
            sweep::backward(gpu, three, others, saved.kept, &upstream, needs, &problem, options.means())?
        }
    };
    // ∂t = ⟨X, ∂X⟩ and the same of what rows have to themselves: no pass over the logits.
    let dt = match (&dx, saved.needs[2]) {
        (Some(dx), true) => {
            let x = kept_rows(&x, &problem.rows)?;
            let dt = dot(&x, dx)?;
            let own = extra.as_ref().zip(dextra.as_ref());
            let own =
                own.map(|(extra, dextra)| dot(&kept_rows(extra, &problem.rows)?, dextra)).transpose()?;
            Some(own.map_or(Ok(dt.clone()), |own| super::add(&dt, &own))?)
        }
        _ => None,
    };
    let mut all = vec![dx, dy, dt];
    all.extend((inputs.len() == 4).then_some(dextra));
    all.into_iter().map(|gradient| gradient.map(|gradient| cast(&gradient, dtype)).transpose()).collect()
}

/// `⟨a, b⟩` over all elements, a scalar.
pub(super) fn dot(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if a.device() == &Device::Cpu {
        return host(&[], DType::F32, vec![cpu::dot(&cpu::f32s(a), &cpu::f32s(b))]);
    }
    let sum = ReduceOptions { kind: Reduce::Sum, axis: 0, keep_axis: false };
    reduce(&mul(a, b)?.reshape(&[a.len()])?, &sum)
}
