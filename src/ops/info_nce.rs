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

use super::info_nce_sweep as sweep;
use super::{
    Forward, Reduce, ReduceOptions, Rule, Saved, cast, check_floats, check_shape, expect_inputs, host, mul,
    reduce, stats_dtype,
};
use crate::cpu;
use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::gpu::Kernel;
use crate::reference::{self, InfoNce, MASKED, NO_CLASS, Reduction, TargetKind};
use crate::tensor::Tensor;
use std::collections::HashMap;
use std::sync::Arc;

/// The kernels of this operation. Example: [`Kernel`].
pub const KERNELS: &[&Kernel] = sweep::KERNELS;

/// What belongs to what.
///
/// ```
/// use crossmodal::{Device, Tensor, ops::{InfoNceOptions, Targets, info_nce}};
/// let x = Tensor::from_slice(&Device::Cpu, &[3, 2], &[1f32, 0., 1., 0., 0., 1.])?;
/// // Rows 0 and 1 are of one class: each has two positives.
/// let targets = Targets::Classes { rows: [7, 7, 9].into(), cols: [7, 7, 9].into() };
/// let loss = info_nce(&x, &x, &Tensor::scalar(&Device::Cpu, 9f32)?, &InfoNceOptions { targets, ..Default::default() })?;
/// assert!((loss.item()? - 2f64.ln() * 2. / 3.).abs() < 1e-3); // they share their probability, row 2 has its own
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone)]
pub enum Targets {
    /// Column i is the positive of row i; further columns are negatives only.
    Diagonal,
    /// The positives of a row are the columns of its class, each with the same weight. A negative class is none: such a row
    /// has no positive and does not count, such a column is a negative only.
    Classes {
        /// The class of each row of x.
        rows: Arc<[i64]>,
        /// The class of each row of y.
        cols: Arc<[i64]>,
    },
    /// Weights `[n, m]` of at least 0, of x's type and on its device: of each row, and of each column where the loss is
    /// symmetric, those that are not masked are scaled to sum to one. No gradient is taken of them. (It is the caller who
    /// stores N×M elements here.)
    Soft(Tensor),
    /// Nothing: the loss of a row is its log-sum-exp alone.
    None,
}

/// Which softmax loss it is, and how much scratch memory the blocks may take.
///
/// The options combine, but for pairs without a meaning, which are refused: smoothing or soft targets with `decoupled`, soft
/// targets with `hard_negatives`, the diagonal with `exclude_self`, smoothing, `decoupled` and `hard_negatives` without targets, a
/// symmetric loss per row of different numbers of rows and columns.
///
/// ```
/// use crossmodal::{Device, Tensor, ops::{InfoNceOptions, info_nce}};
/// let x = Tensor::from_slice(&Device::Cpu, &[1, 2], &[1f32, 0.])?;
/// let y = Tensor::from_slice(&Device::Cpu, &[2, 2], &[1f32, 0., 0., 1.])?; // row 1 is a negative only
/// let one_way = InfoNceOptions { symmetric: false, ..Default::default() };
/// let loss = info_nce(&x, &y, &Tensor::scalar(&Device::Cpu, 0f32)?, &one_way)?.item()?;
/// assert!((loss - (1. + (-1f64).exp()).ln()).abs() < 1e-6);
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct InfoNceOptions {
    /// Rows against columns and columns against rows (CLIP), or rows against columns alone.
    pub symmetric: bool,
    /// What belongs to what.
    pub targets: Targets,
    /// Which rows of x there are, the others being masked: no loss, no negative, no gradient, whatever is in them.
    pub keep_rows: Option<Arc<[bool]>>,
    /// Which rows of y there are. A row of x whose positives are all masked counts as masked.
    pub keep_cols: Option<Arc<[bool]>>,
    /// Label smoothing `ε` in [0, 1): that part of the target is spread over all entries of a row.
    pub smoothing: f64,
    /// Positives are left out of the log-sum-exp (decoupled contrastive learning, Yeh et al., 2022).
    pub decoupled: bool,
    /// Hard negatives: `α` times its similarity is added to each negative's logit, without a gradient.
    pub hard_negatives: f64,
    /// x and y are one set: row i is no partner of itself (SupCon, Khosla et al., 2020).
    pub exclude_self: bool,
    /// Mean, sum, or a loss per row.
    pub reduction: Reduction,
    /// Bytes of scratch for one block of similarities. The answer does not depend on it beyond rounding.
    pub scratch_bytes: usize,
}

impl Default for InfoNceOptions {
    fn default() -> Self {
        InfoNceOptions {
            symmetric: true,
            targets: Targets::Diagonal,
            keep_rows: None,
            keep_cols: None,
            smoothing: 0.,
            decoupled: false,
            hard_negatives: 0.,
            exclude_self: false,
            reduction: Reduction::Mean,
            scratch_bytes: 16 << 20,
        }
    }
}

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

fn refuse<T>(
    argument: &'static str,
    expected: impl std::fmt::Display,
    got: impl std::fmt::Display,
) -> Result<T> {
    Err(Error::argument("info_nce", argument, expected, got))
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
    let (rows, cols) = codes(&options.targets, [&options.keep_rows, &options.keep_cols], [n, m]);
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

fn check_options(x: &Tensor, (n, m): (usize, usize), options: &InfoNceOptions) -> Result<()> {
    let length = |argument, expected: usize, got: Option<usize>| match got {
        Some(got) if got != expected => refuse(argument, format!("{expected} elements"), got),
        _ => Ok(()),
    };
    length("keep_rows", n, options.keep_rows.as_ref().map(|keep| keep.len()))?;
    length("keep_cols", m, options.keep_cols.as_ref().map(|keep| keep.len()))?;
    let (smoothing, hard) = (options.smoothing, options.hard_negatives);
    if !(0. ..1.).contains(&smoothing) {
        return refuse("smoothing", "0 to less than 1", format!("{smoothing:?}"));
    }
    if !(0. ..=1e6).contains(&hard) {
        return refuse("hard_negatives", "0 to 1e6", format!("{hard:?}"));
    }
    if options.symmetric && options.reduction == Reduction::None && n != m {
        return refuse("reduction", "a mean or a sum where rows and columns differ in number", "none");
    }
    if options.exclude_self && n != m {
        return refuse("exclude_self", "x and y to be one set", format!("{n} and {m} rows"));
    }
    let exclusive =
        |yes: bool, argument, expected: &str| if yes { refuse(argument, expected, "both") } else { Ok(()) };
    let on =
        "the targets to be on the logits that compete: smoothing has no meaning where positives are left out";
    exclusive(options.decoupled && smoothing > 0., "smoothing", on)?;
    match &options.targets {
        Targets::Diagonal => {
            let expected = "classes as targets, since it leaves out the diagonal";
            exclusive(options.exclude_self, "exclude_self", expected)
        }
        Targets::Classes { rows, cols } => {
            length("rows", n, Some(rows.len()))?;
            length("cols", m, Some(cols.len()))
        }
        Targets::Soft(soft) => {
            check_floats("info_nce", &[("x", x), ("targets", soft)])?;
            check_shape("info_nce", "targets", soft, &[n, m])?;
            let expected = "targets that say which columns are positives: soft ones do not";
            exclusive(options.decoupled, "decoupled", expected)?;
            exclusive(hard > 0., "hard_negatives", expected)
        }
        Targets::None => {
            let expected =
                "targets: without any there is nothing to smooth, to leave out or to tell negatives by";
            exclusive(options.decoupled, "decoupled", expected)?;
            exclusive(hard > 0., "hard_negatives", expected)?;
            exclusive(smoothing > 0., "smoothing", expected)
        }
    }
}

/// The codes of rows and columns.
pub(super) fn codes(
    targets: &Targets,
    keep: [&Option<Arc<[bool]>>; 2],
    [n, m]: [usize; 2],
) -> (Vec<u32>, Vec<u32>) {
    let (mut rows, mut cols) = match targets {
        Targets::Diagonal => {
            let InfoNce { rows, cols, .. } = InfoNce::diagonal(n, m, 0, true);
            (rows, cols)
        }
        Targets::Classes { rows, cols } => {
            let mut classes = HashMap::new();
            let mut code = |&class: &i64| {
                let next = classes.len() as u32;
                if class < 0 { NO_CLASS } else { *classes.entry(class).or_insert(next) }
            };
            (rows.iter().map(&mut code).collect(), cols.iter().map(&mut code).collect())
        }
        Targets::Soft(_) | Targets::None => (vec![NO_CLASS; n], vec![NO_CLASS; m]),
    };
    for (codes, keep) in [(&mut rows, keep[0]), (&mut cols, keep[1])] {
        let masked = keep.iter().flat_map(|keep| keep.iter()).zip(codes).filter(|(keep, _)| !**keep);
        masked.for_each(|(_, code)| *code = MASKED);
    }
    (rows, cols)
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
            let (loss, kept) = sweep::forward(gpu, [&x, &y, &log_scale], others, &problem, scratch)?;
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
            sweep::backward(gpu, three, others, saved.kept, &upstream, needs, &problem, scratch)?
        }
    };
    // ∂t = ⟨X, ∂X⟩ and the same of what rows have to themselves: no pass over the logits.
    let dt = match (&dx, saved.needs[2]) {
        (Some(dx), true) => {
            let x = sweep::kept_rows(&x, &problem.rows)?;
            let dt = dot(&x, dx)?;
            let own = extra.as_ref().zip(dextra.as_ref());
            let own = own
                .map(|(extra, dextra)| dot(&sweep::kept_rows(extra, &problem.rows)?, dextra))
                .transpose()?;
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
