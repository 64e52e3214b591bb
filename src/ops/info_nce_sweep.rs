//! The softmax losses on a GPU: a product for each block of similarities, and kernels around it.

use super::logit_blocks::{add_products, block_bytes, copied, scratch, similarities};
use super::{Reduce, ReduceOptions, dispatch, groups, parts, reduce};
use crate::device::Device;
use crate::dtype::DType;
use crate::error::Result;
use crate::gpu::kernel::{params, read, write};
use crate::gpu::{Gpu, Kernel, Variant};
use crate::reference::{InfoNce, LogitBlock, MASKED, Reduction, TargetKind};
use crate::tensor::Tensor;

const SOURCE: &str = concat!(
    include_str!("../../shaders/lib/grid.wgsl"),
    include_str!("../../shaders/lib/reduce.wgsl"),
    include_str!("../../shaders/lib/codes.wgsl"),
    include_str!("../../shaders/info_nce.wgsl")
);

params! {
    struct Params {
        rows: u32,
        cols: u32,
        first_row: u32,
        first_col: u32,
        m: u32,
        fresh: u32,
        flags: u32,
        smoothing: f32,
        hard_negatives: f32,
        count: u32,
        weight: f32,
    }
}

// As in the shader.
const SYMMETRIC: u32 = 1;
const DECOUPLED: u32 = 2;
const EXCLUDE_SELF: u32 = 4;
const SOFT: u32 = 8;
const NO_TARGETS: u32 = 16;
const OWN_COLUMNS: u32 = 32;
const MEAN: u32 = 64;
const PER_ROW: u32 = 128;

const KEEP_ROWS: Kernel =
    Kernel::new::<Params>("info_nce", "keep_rows", SOURCE, &[read("x"), read("codes"), write("kept")]);
const ROW_SWEEP: Kernel = Kernel::new::<Params>(
    "info_nce",
    "row_sweep",
    SOURCE,
    &[
        read("sims"),
        read("log_scale"),
        read("row_codes"),
        read("col_codes"),
        read("soft"),
        write("stats"),
        write("aims"),
    ],
);
const COLUMN_SWEEP: Kernel = Kernel { entry: "column_sweep", ..ROW_SWEEP };
const LINE_LOSSES: Kernel = Kernel::new::<Params>(
    "info_nce",
    "line_losses",
    SOURCE,
    &[read("line_stats"), read("line_aims"), read("log_scales"), write("lines")],
);
const COMBINE: Kernel = Kernel::new::<Params>(
    "info_nce",
    "combine",
    SOURCE,
    &[read("row_sums"), read("col_sums"), write("loss")],
);
const LINE_FACTORS: Kernel = Kernel::new::<Params>(
    "info_nce",
    "line_factors",
    SOURCE,
    &[
        read("line_stats"),
        read("line_aims"),
        read("log_scales"),
        read("line_losses_of"),
        read("counted"),
        read("upstream"),
        write("factors"),
    ],
);
const GRADIENT: Kernel = Kernel::new::<Params>(
    "info_nce",
    "gradient",
    SOURCE,
    &[
        read("row_factors"),
        read("col_factors"),
        read("row_codes"),
        read("col_codes"),
        read("soft"),
        read("log_factor"),
        write("block"),
    ],
);

pub(super) const KERNELS: &[&Kernel] =
    &[&KEEP_ROWS, &ROW_SWEEP, &COLUMN_SWEEP, &LINE_LOSSES, &COMBINE, &LINE_FACTORS, &GRADIENT];

fn params(problem: &InfoNce, (first_row, rows, first_col, cols): LogitBlock) -> Params {
    let flag = |yes: bool, flag: u32| if yes { flag } else { 0 };
    let flags = flag(problem.symmetric, SYMMETRIC)
        | flag(problem.decoupled, DECOUPLED)
        | flag(problem.exclude_self, EXCLUDE_SELF)
        | flag(problem.targets == TargetKind::Soft, SOFT)
        | flag(problem.targets == TargetKind::None, NO_TARGETS)
        | flag(problem.reduction == Reduction::Mean, MEAN)
        | flag(problem.reduction == Reduction::None, PER_ROW);
    Params {
        rows: rows as u32,
        cols: cols as u32,
        first_row: first_row as u32,
        first_col: first_col as u32,
        m: problem.m as u32,
        fresh: u32::from(first_col == 0),
        flags,
        smoothing: problem.smoothing as f32,
        hard_negatives: problem.hard_negatives as f32,
        count: 0,
        weight: if problem.symmetric { 0.5 } else { 1. },
    }
}

/// The block of the columns that each row has to itself.
fn own_columns(problem: &InfoNce) -> Params {
    let all = params(problem, (0, problem.n, 0, problem.k));
    Params { flags: (all.flags | OWN_COLUMNS) & !SYMMETRIC, fresh: 0, ..all }
}

pub(super) fn uninit(like: &Tensor, shape: &[usize]) -> Result<Tensor> {
    Tensor::uninit("info_nce", like.device(), shape, DType::F32)
}

/// What is known of the rows or of the columns after the sweep.
struct Lines {
    stats: Tensor,
    aims: Tensor,
    /// (Loss, whether it counts) of each.
    losses: Tensor,
    /// The sums of these.
    sums: Tensor,
}

impl Lines {
    fn new(like: &Tensor, count: usize) -> Result<Lines> {
        let of = |shape: &[usize]| uninit(like, shape);
        Ok(Lines {
            stats: of(&[count, 2])?,
            aims: of(&[count, 4])?,
            losses: of(&[count, 2])?,
            sums: of(&[2])?,
        })
    }

    /// The losses of all lines, from the statistics.
    fn finish(&mut self, gpu: &Gpu, problem: &InfoNce, log_scale: &Tensor) -> Result<()> {
        let count = self.stats.shape()[0];
        let params = Params { count: count as u32, ..params(problem, (0, 0, 0, 0)) };
        let tensors = [&self.stats, &self.aims, log_scale, &self.losses];
        dispatch(gpu, &LINE_LOSSES, Variant::of(DType::F32), &params, &tensors, groups(count, 256))?;
        self.sums = reduce(&self.losses, &ReduceOptions { kind: Reduce::Sum, axis: 0, keep_axis: false })?;
        Ok(())
    }

    /// What the gradient needs of each line.
    fn factors(&self, gpu: &Gpu, problem: &InfoNce, log_scale: &Tensor, upstream: &Tensor) -> Result<Tensor> {
        let count = self.stats.shape()[0];
        let factors = uninit(log_scale, &[count, 4])?;
        let params = Params { count: count as u32, ..params(problem, (0, 0, 0, 0)) };
        let Lines { stats, aims, losses, sums } = self;
        let tensors = [stats, aims, log_scale, losses, sums, upstream, &factors];
        dispatch(gpu, &LINE_FACTORS, Variant::of(DType::F32), &params, &tensors, groups(count, 256))?;
        Ok(factors)
    }

    fn into_kept(self) -> [Tensor; 4] {
        [self.stats, self.aims, self.losses, self.sums]
    }

    fn of_kept(kept: &[Tensor]) -> Lines {
        let [stats, aims, losses, sums] = kept else { unreachable!("four tensors are kept of lines") };
        Lines { stats: stats.clone(), aims: aims.clone(), losses: losses.clone(), sums: sums.clone() }
    }
}

/// The rows of a tensor, those that are masked as zeros; the tensor itself where none is.
pub(super) fn kept_rows(x: &Tensor, codes: &[u32]) -> Result<Tensor> {
    if !codes.contains(&MASKED) {
        return Ok(x.clone());
    }
    let cols = x.shape()[1];
    match x.device() {
        Device::Cpu => Tensor::from_vec(&Device::Cpu, x.shape(), crate::cpu::kept_rows(x, codes)),
        Device::Gpu(gpu) => {
            let out = uninit(x, x.shape())?;
            let codes = Tensor::from_slice(x.device(), &[codes.len()], codes)?;
            let work = |rows: usize| {
                let params = Params {
                    count: (rows * cols) as u32,
                    ..params(&InfoNce::diagonal(0, 0, 0, false), (0, rows, 0, cols))
                };
                (params, groups(rows * cols, 256))
            };
            let variant = Variant::of(DType::F32);
            if out.is_empty() {
                return Ok(out);
            }
            parts::dispatch_items(gpu, &KEEP_ROWS, variant, x.shape()[0], &[x, &codes, &out], work)?;
            Ok(out)
        }
    }
}

/// The codes of the rows and of the columns on the device.
fn codes(like: &Tensor, problem: &InfoNce) -> Result<[Tensor; 2]> {
    let upload = |codes: &[u32]| Tensor::from_slice(like.device(), &[codes.len()], codes);
    Ok([upload(&problem.rows)?, upload(&problem.cols)?])
}

/// The loss `[1]`, or that of each row `[n]`, and what the backward needs.
pub(super) fn forward(
    gpu: &Gpu,
    [x, y, log_scale]: [&Tensor; 3],
    [extra, soft]: [Option<&Tensor>; 2],
    problem: &InfoNce,
    scratch_bytes: usize,
) -> Result<(Tensor, Vec<Tensor>)> {
    let (x, y) = (&kept_rows(x, &problem.rows)?, &kept_rows(y, &problem.cols)?);
    let [row_codes, col_codes] = codes(x, problem)?;
    let mut rows = Lines::new(x, problem.n)?;
    let mut cols = if problem.symmetric { Some(Lines::new(x, problem.m)?) } else { None };
    let bytes = block_bytes(gpu, scratch_bytes);
    let scratch = scratch(x, (problem.n, problem.m), bytes)?;
    let variant = || Variant::of(DType::F32);
    // What a kernel does not look at still has to be bound.
    let soft = soft.unwrap_or(log_scale);
    let mut kept_sims = None;
    for block in problem.blocks(bytes) {
        let (first_row, rows_now, _, cols_now) = block;
        let sims = &similarities(gpu, [x, y], &scratch, block)?;
        let params = params(problem, block);
        let tensors = [sims, log_scale, &row_codes, &col_codes, soft, &rows.stats, &rows.aims];
        dispatch(gpu, &ROW_SWEEP, variant(), &params, &tensors, rows_now as u64)?;
        if let Some(cols) = &cols {
            let params = Params { fresh: u32::from(first_row == 0), ..params };
            let tensors = [sims, log_scale, &row_codes, &col_codes, soft, &cols.stats, &cols.aims];
            dispatch(gpu, &COLUMN_SWEEP, variant(), &params, &tensors, groups(cols_now, 64))?;
        }
        // The only block: it can be kept.
        kept_sims = ((rows_now, cols_now) == (problem.n, problem.m)).then(|| sims.clone());
    }
    if let Some(extra) = extra.filter(|extra| !extra.is_empty()) {
        let params = own_columns(problem);
        let tensors = [extra, log_scale, &row_codes, &row_codes, soft, &rows.stats, &rows.aims];
        dispatch(gpu, &ROW_SWEEP, variant(), &params, &tensors, problem.n as u64)?;
    }
    rows.finish(gpu, problem, log_scale)?;
    if let Some(cols) = &mut cols {
        cols.finish(gpu, problem, log_scale)?;
    }
    let loss = combine(gpu, &rows, cols.as_ref(), problem)?;
    let mut kept: Vec<_> = rows.into_kept().into();
    kept.extend(cols.into_iter().flat_map(Lines::into_kept));
    kept.extend([row_codes, col_codes]);
    kept.extend(kept_sims);
    Ok((loss, kept))
}

fn combine(gpu: &Gpu, rows: &Lines, cols: Option<&Lines>, problem: &InfoNce) -> Result<Tensor> {
    let per_row = problem.reduction == Reduction::None;
    let count = if per_row { problem.n } else { 1 };
    let loss = uninit(&rows.stats, &[count])?;
    let part = |lines: &Lines| if per_row { lines.losses.clone() } else { lines.sums.clone() };
    let (of_rows, of_cols) = (part(rows), part(cols.unwrap_or(rows)));
    let params = Params { count: count as u32, ..params(problem, (0, 0, 0, 0)) };
    let tensors = [&of_rows, &of_cols, &loss];
    dispatch(gpu, &COMBINE, Variant::of(DType::F32), &params, &tensors, groups(count, 256))?;
    Ok(loss)
}

/// The gradients of x and of y, where they are needed, and of what each row has to itself.
#[allow(clippy::too_many_arguments, reason = "what the forward takes, and what came of it")]
pub(super) fn backward(
    gpu: &Gpu,
    [x, y, log_scale]: [&Tensor; 3],
    [extra, soft]: [Option<&Tensor>; 2],
    kept: &[Tensor],
    upstream: &Tensor,
    [needs_x, needs_y]: [bool; 2],
    problem: &InfoNce,
    scratch_bytes: usize,
) -> Result<[Option<Tensor>; 3]> {
    let (of_lines, rest) = kept.split_at(if problem.symmetric { 8 } else { 4 });
    let factors: Vec<_> = of_lines
        .chunks(4)
        .map(|lines| Lines::of_kept(lines).factors(gpu, problem, log_scale, upstream))
        .collect::<Result<_>>()?;
    let (row_factors, col_factors) = (&factors[0], factors.last().expect("there are rows"));
    let [row_codes, col_codes] = &rest[..2] else { unreachable!("the codes are kept") };
    let soft = soft.unwrap_or(log_scale);
    let turn = |params: &Params, block: &Tensor| {
        let tensors = [row_factors, col_factors, row_codes, col_codes, soft, log_scale, block];
        let groups = groups((params.rows * params.cols) as usize, 256);
        dispatch(gpu, &GRADIENT, Variant::of(DType::F32), params, &tensors, groups)
    };
    let (x, y) = (&kept_rows(x, &problem.rows)?, &kept_rows(y, &problem.cols)?);
    let sum = |like: &Tensor, needed: bool| needed.then(|| uninit(like, like.shape())).transpose();
    let (mut dx, mut dy) = (sum(x, needs_x)?, sum(y, needs_y)?);
    let bytes = block_bytes(gpu, scratch_bytes);
    let scratch = if rest.len() > 2 { None } else { Some(scratch(x, (problem.n, problem.m), bytes)?) };
    for block in problem.blocks(bytes) {
        let sims = &match (&scratch, rest.get(2)) {
            (Some(scratch), _) => similarities(gpu, [x, y], scratch, block)?,
            (None, kept) => copied(kept.expect("what is not made again was kept"))?,
        };
        turn(&params(problem, block), sims)?;
        add_products(gpu, sims, [x, y], [&mut dx, &mut dy], block)?;
    }
    let dextra = match extra {
        Some(extra) if !extra.is_empty() => {
            let block = copied(extra)?;
            turn(&own_columns(problem), &block)?;
            Some(block)
        }
        other => other.cloned(),
    };
    Ok([dx, dy, dextra])
}
