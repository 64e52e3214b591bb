//! The softmax losses on a GPU: a product for each block of similarities, and kernels around it.

use super::info_nce_kernels::{
    COLUMN_SWEEP, COMBINE, GRADIENT, LINE_FACTORS, LINE_LOSSES, MERGE_COLUMNS, Params, ROW_SWEEP,
    SOFT_OF_BLOCK, own_columns, params, variant,
};
use super::info_nce_tiled as tiled;
use super::line_codes::{kept_rows, on_device};
use super::logit_blocks::{
    Means, add_products, block_bytes, block_of, copied, put_block, scratch, similarities, uninit,
};
use super::{Reduce, ReduceOptions, dispatch, groups, reduce, ways};
use crate::dtype::DType;
use crate::error::Result;
use crate::gpu::{Gpu, Variant};
use crate::reference::{InfoNce, LogitBlock, Reduction, blocks};
use crate::tensor::Tensor;

/// Entries of a block for a workgroup of the gradient.
const RUNS: usize = 4 * 256;

/// What is known of the rows or of the columns after the sweep.
pub(super) struct Lines {
    pub(super) stats: Tensor,
    pub(super) aims: Tensor,
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

/// The loss `[1]`, or that of each row `[n]`, and what the backward needs.
pub(super) fn forward(
    gpu: &Gpu,
    [x, y, log_scale]: [&Tensor; 3],
    [extra, soft]: [Option<&Tensor>; 2],
    problem: &InfoNce,
    means: Means,
) -> Result<(Tensor, Vec<Tensor>)> {
    let (x, y) = (&kept_rows(x, &problem.rows)?, &kept_rows(y, &problem.cols)?);
    let (row_codes, col_codes) = (on_device(&problem.rows, log_scale)?, on_device(&problem.cols, log_scale)?);
    let mut rows = Lines::new(x, problem.n)?;
    let mut cols = if problem.symmetric { Some(Lines::new(x, problem.m)?) } else { None };
    let bytes = block_bytes(gpu, means.scratch_bytes);
    let mut kept_sims = None;
    let one_block = problem.blocks(bytes).nth(1).is_none();
    let way = sweep_way(gpu, [x, y], problem, means, one_block);
    // Tiles need no memory for a block.
    let size = if way == Sweep::Tiled { (1, 1) } else { (problem.n, problem.m) };
    let scratch = scratch(x, size, bytes)?;
    for block in problem.blocks(bytes) {
        let (first_row, rows_now, _, cols_now) = block;
        if way == Sweep::Tiled {
            tiled::sweep(gpu, [x, y, log_scale], (&rows, cols.as_ref()), problem, block)?;
            continue;
        }
        let sims = &similarities(gpu, [x, y], &scratch, block, means.precision)?;
        let (soft, soft_flag) = &weights(soft, log_scale, block)?;
        let params = params(problem, block);
        let params = Params { flags: params.flags | soft_flag, ..params };
        let tensors = [sims, log_scale, &row_codes, &col_codes, soft, &rows.stats, &rows.aims];
        dispatch(gpu, &ROW_SWEEP, variant(&params), &params, &tensors, rows_now as u64)?;
        if let Some(cols) = &cols {
            let params = Params { fresh: u32::from(first_row == 0), ..params };
            let rows_each = if way == Sweep::Chunks { ROWS_EACH } else { params.rows };
            sweep_columns(gpu, params, rows_each, [sims, log_scale, &row_codes, &col_codes, soft], cols)?;
        }
        // The only block: it can be kept.
        kept_sims = ((rows_now, cols_now) == (problem.n, problem.m)).then(|| sims.clone());
    }
    if let Some(extra) = extra.filter(|extra| !extra.is_empty()) {
        let whole = (problem.n, problem.k);
        // In parts where no binding spans it.
        for block in blocks(whole, if extra.is_split() { bytes } else { usize::MAX }) {
            let own = &if extra.is_split() { block_of(extra, block)? } else { extra.clone() };
            let params = own_columns(problem, block);
            let tensors = [own, log_scale, &row_codes, &row_codes, log_scale, &rows.stats, &rows.aims];
            dispatch(gpu, &ROW_SWEEP, variant(&params), &params, &tensors, block.1 as u64)?;
        }
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

/// How statistics are found.
#[derive(Clone, Copy, PartialEq)]
enum Sweep {
    /// By the kernel that makes the similarities.
    Tiled,
    /// In a block of them, its columns in chunks of so many rows: on a GPU many invocations share a column.
    Chunks,
    /// In a block of them, each column by one invocation: where a driver runs on a CPU chunks would only be more to merge.
    Whole,
}

/// Rows of a chunk.
const ROWS_EACH: u32 = 128;

/// What suits a device; verification goes the other ways too. A block that is the only one is worth storing: the backward takes it.
fn sweep_way(gpu: &Gpu, inputs: [&Tensor; 2], problem: &InfoNce, means: Means, one_block: bool) -> Sweep {
    let all = match (gpu.abilities().software, one_block) {
        (true, _) => [Sweep::Whole, Sweep::Chunks, Sweep::Tiled],
        (false, true) => [Sweep::Chunks, Sweep::Tiled, Sweep::Whole],
        (false, false) => [Sweep::Tiled, Sweep::Chunks, Sweep::Whole],
    };
    match all[ways::choose(all.len())] {
        Sweep::Tiled if !tiled::serves(gpu, inputs, problem, means) => Sweep::Chunks,
        way => way,
    }
}

/// The statistics of a block's columns, merged with what there is of them.
fn sweep_columns(
    gpu: &Gpu,
    params: Params,
    mut rows_each: u32,
    tensors: [&Tensor; 5],
    cols: &Lines,
) -> Result<()> {
    // The parts of all chunks lie in one tensor.
    if u64::from(params.rows.div_ceil(rows_each)) * u64::from(params.cols) * 16 > gpu.piece_bytes() {
        rows_each = params.rows;
    }
    let chunks = params.rows.div_ceil(rows_each);
    let params = Params { rows_each, count: chunks, ..params };
    let (parts, width) = ((chunks * params.cols) as usize, groups(params.cols as usize, 64));
    let (stats, aims) = (uninit(&cols.stats, &[parts, 2])?, uninit(&cols.stats, &[parts, 4])?);
    let swept = [&tensors[..], &[&stats, &aims]].concat();
    dispatch(gpu, &COLUMN_SWEEP, variant(&params), &params, &swept, u64::from(chunks) * width)?;
    let merged = [&stats, tensors[1], &aims, &cols.stats, &cols.aims];
    dispatch(gpu, &MERGE_COLUMNS, variant(&params), &params, &merged, width)
}

/// The soft weights of a block as a kernel takes them, and the flag that says which these are. What it does not look at still
/// has to be bound.
fn weights(soft: Option<&Tensor>, unused: &Tensor, block: LogitBlock) -> Result<(Tensor, u32)> {
    match soft {
        Some(soft) if soft.is_split() => Ok((block_of(soft, block)?, SOFT_OF_BLOCK)),
        other => Ok((other.unwrap_or(unused).clone(), 0)),
    }
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
    means: Means,
) -> Result<[Option<Tensor>; 3]> {
    let (of_lines, rest) = kept.split_at(if problem.symmetric { 8 } else { 4 });
    let factors: Vec<_> = of_lines
        .chunks(4)
        .map(|lines| Lines::of_kept(lines).factors(gpu, problem, log_scale, upstream))
        .collect::<Result<_>>()?;
    let (row_factors, col_factors) = (&factors[0], factors.last().expect("there are rows"));
    let [row_codes, col_codes] = &rest[..2] else { unreachable!("the codes are kept") };
    let turn = |params: &Params, soft: &Tensor, block: &Tensor| {
        let tensors = [row_factors, col_factors, row_codes, col_codes, soft, log_scale, block];
        let groups = groups((params.rows * params.cols) as usize, RUNS);
        dispatch(gpu, &GRADIENT, variant(params), params, &tensors, groups)
    };
    let (x, y) = (&kept_rows(x, &problem.rows)?, &kept_rows(y, &problem.cols)?);
    let sum = |like: &Tensor, needed: bool| needed.then(|| uninit(like, like.shape())).transpose();
    let (mut dx, mut dy) = (sum(x, needs_x)?, sum(y, needs_y)?);
    let bytes = block_bytes(gpu, means.scratch_bytes);
    let scratch = if rest.len() > 2 { None } else { Some(scratch(x, (problem.n, problem.m), bytes)?) };
    let software = gpu.abilities().software;
    // Tiles that leave as gradients, or similarities that become gradients in a second pass.
    let tiles = [!software, software][ways::choose(2)] && tiled::serves(gpu, [x, y], problem, means);
    for block in problem.blocks(bytes) {
        if let (true, Some(scratch)) = (tiles && block.3.is_multiple_of(4), &scratch) {
            let factors = [row_factors, col_factors];
            tiled::gradient(gpu, [x, y, log_scale], factors, problem.symmetric, scratch, block)?;
            add_products(gpu, scratch, [x, y], [&mut dx, &mut dy], block, means.precision)?;
            continue;
        }
        let sims = &match (&scratch, rest.get(2)) {
            (Some(scratch), _) => similarities(gpu, [x, y], scratch, block, means.precision)?,
            (None, kept) => copied(kept.expect("what is not made again was kept"))?,
        };
        let (soft, soft_flag) = &weights(soft, log_scale, block)?;
        let params = params(problem, block);
        turn(&Params { flags: params.flags | soft_flag, ..params }, soft, sims)?;
        add_products(gpu, sims, [x, y], [&mut dx, &mut dy], block, means.precision)?;
    }
    let own = |params: &Params, block: &Tensor| turn(params, log_scale, block);
    let dextra = extra.map(|extra| own_gradient(extra, problem, bytes, own)).transpose()?;
    Ok([dx, dy, dextra])
}

/// The gradient of what each row has to itself; `turn` makes it of a block in place.
fn own_gradient(
    extra: &Tensor,
    problem: &InfoNce,
    bytes: usize,
    turn: impl Fn(&Params, &Tensor) -> Result<()>,
) -> Result<Tensor> {
    if !extra.is_split() {
        let whole = copied(extra)?;
        turn(&own_columns(problem, (0, problem.n, 0, problem.k)), &whole)?;
        return Ok(whole);
    }
    let mut all = uninit(extra, extra.shape())?;
    for block in blocks((problem.n, problem.k), bytes) {
        let part = block_of(extra, block)?;
        turn(&own_columns(problem, block), &part)?;
        put_block(&part, &mut all, block)?;
    }
    Ok(all)
}
