//! The kernels of the softmax losses, and what they are told.

use super::line_codes;
use super::matmul_dispatch::INNER;
use super::matmul_kernels as matmul;
use crate::dtype::DType;
use crate::gpu::kernel::{Binding, params, read, write};
use crate::gpu::{Kernel, Variant};
use crate::reference::{InfoNce, LogitBlock, Reduction, TargetKind};

const SOURCE: &str = concat!(
    include_str!("../../shaders/lib/grid.wgsl"),
    include_str!("../../shaders/lib/reduce.wgsl"),
    include_str!("../../shaders/lib/codes.wgsl"),
    include_str!("../../shaders/info_nce.wgsl")
);

params! {
    pub(super) struct Params {
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
        rows_each: u32,
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
/// The soft weights that are bound are those of the block alone.
pub(super) const SOFT_OF_BLOCK: u32 = 256;

/// Whether nothing but the usual is asked for, see the shader.
const SIMPLE: &str = "SIMPLE";

const fn kernel(entry: &'static str, bindings: &'static [Binding]) -> Kernel {
    Kernel { constants: &[(SIMPLE, 0)], ..Kernel::new::<Params>("info_nce", entry, SOURCE, bindings) }
}

/// The variant of a kernel that is told these parameters.
pub(super) fn variant(params: &Params) -> Variant {
    Variant::of(DType::F32).with(SIMPLE, u32::from(is_simple(params)))
}

/// Whether each row's own column is its target and nothing is masked, left out or given a bonus.
pub(super) fn is_simple(params: &Params) -> bool {
    let unusual = !(SYMMETRIC | MEAN | PER_ROW);
    params.flags & unusual == 0 && params.hard_negatives == 0.
}

pub(super) const ROW_SWEEP: Kernel = kernel(
    "row_sweep",
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
pub(super) const COLUMN_SWEEP: Kernel = Kernel { entry: "column_sweep", ..ROW_SWEEP };
pub(super) const MERGE_COLUMNS: Kernel = kernel(
    "merge_columns",
    &[read("part_stats"), read("log_scale"), read("part_aims"), write("merged_stats"), write("merged_aims")],
);
pub(super) const LINE_LOSSES: Kernel =
    kernel("line_losses", &[read("line_stats"), read("line_aims"), read("log_scales"), write("lines")]);
pub(super) const COMBINE: Kernel = kernel("combine", &[read("row_sums"), read("col_sums"), write("loss")]);
pub(super) const LINE_FACTORS: Kernel = kernel(
    "line_factors",
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
pub(super) const GRADIENT: Kernel = kernel(
    "gradient",
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

/// Whether there are losses of columns, in the kernels that make their block themselves.
pub(super) const OF_COLUMNS: &str = "SYMMETRIC";

/// A kernel that makes a tile of similarities and does something else with it than to store it.
macro_rules! tiled {
    ($entry:literal, $bindings:expr, $($between:literal),*) => {
        Kernel {
            constants: &[
                (OF_COLUMNS, 1),
                (matmul::A_ALONG_INNER, 1),
                (matmul::B_ALONG_INNER, 1),
                (matmul::TILE_ROWS, 64),
                (matmul::TILE_COLS, 64),
                (matmul::PAD, 0),
                ("RUN", INNER as u32),
            ],
            unchecked: true,
            ..Kernel::new::<matmul::Params>(
                "info_nce",
                $entry,
                concat!(
                    include_str!("../../shaders/lib/grid.wgsl"),
                    include_str!("../../shaders/lib/outer.wgsl"),
                    include_str!("../../shaders/matmul/problem.wgsl"),
                    include_str!("../../shaders/matmul/tiled.wgsl"),
                    include_str!("../../shaders/matmul/wide_reads.wgsl"),
                    $(include_str!(concat!("../../shaders/matmul/", $between, ".wgsl")),)*
                    include_str!(concat!("../../shaders/info_nce/", $entry, ".wgsl"))
                ),
                $bindings,
            )
        }
    };
}

pub(super) const TILED_SWEEP: Kernel = tiled!(
    "tiled_sweep",
    &[
        read("a"),
        read("b"),
        read("log_scale"),
        write("row_stats"),
        write("row_aims"),
        write("col_stats"),
        write("col_aims"),
    ],
);
pub(super) const TILED_GRADIENT: Kernel = tiled!(
    "tiled_gradient",
    &[read("a"), read("b"), read("row_factors"), read("col_factors"), read("log_scale"), write("out")],
    "tiled_put"
);

pub(super) const KERNELS: &[&Kernel] = &[
    &ROW_SWEEP,
    &COLUMN_SWEEP,
    &MERGE_COLUMNS,
    &LINE_LOSSES,
    &COMBINE,
    &LINE_FACTORS,
    &GRADIENT,
    &TILED_SWEEP,
    &TILED_GRADIENT,
];

/// What every kernel is told, of one block.
pub(super) fn params(problem: &InfoNce, (first_row, rows, first_col, cols): LogitBlock) -> Params {
    let flag = |yes: bool, flag: u32| if yes { flag } else { 0 };
    let flags = flag(problem.symmetric, SYMMETRIC)
        | flag(problem.decoupled, DECOUPLED)
        | flag(problem.exclude_self, EXCLUDE_SELF)
        | flag(problem.targets == TargetKind::Soft, SOFT)
        | flag(problem.targets == TargetKind::None, NO_TARGETS)
        | flag(problem.reduction == Reduction::Mean, MEAN)
        | flag(problem.reduction == Reduction::None, PER_ROW)
        | line_codes::flags(&problem.rows, &problem.cols);
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
        rows_each: 0,
    }
}

/// A block of the columns that each row has to itself, which stand behind those that all rows share.
pub(super) fn own_columns(problem: &InfoNce, block: LogitBlock) -> Params {
    let shared = params(problem, block);
    Params { flags: (shared.flags | OWN_COLUMNS) & !SYMMETRIC, fresh: 0, ..shared }
}
