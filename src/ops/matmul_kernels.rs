//! The kernels of the matrix product, and what they are told.

use super::matmul_dispatch::INNER;
use crate::gpu::Kernel;
use crate::gpu::kernel::{Binding, params, read, write};

params! {
    pub(super) struct Params {
        batch_shape: [u32; 8],
        a_batch: [u32; 8],
        b_batch: [u32; 8],
        m: u32,
        n: u32,
        inner: u32,
        batches: u32,
        batch_rank: u32,
        a_row: u32,
        a_col: u32,
        b_row: u32,
        b_col: u32,
        a_offset: u32,
        b_offset: u32,
        out_offset: u32,
        first_group: u32,
        has_bias: u32,
        accumulate: u32,
        scale: f32,
        alpha: f32,
        beta: f32,
        a_part: u32,
        b_part: u32,
        padded: u32,
        first_row: u32,
        first_col: u32,
        pad0: u32,
    }
}

/// The sources of the kernels that read and write element by element, and of those that do four at a time.
macro_rules! source {
    ($($file:expr),*) => {
        concat!(
            include_str!("../../shaders/lib/grid.wgsl"),
            include_str!("../../shaders/lib/math.wgsl"),
            include_str!("../../shaders/lib/activation.wgsl"),
            include_str!("../../shaders/lib/outer.wgsl"),
            include_str!("../../shaders/matmul/problem.wgsl"),
            $(include_str!(concat!("../../shaders/", $file))),*
        )
    };
}

const BINDINGS: &[Binding] = &[read("a"), read("b"), write("out"), read("bias")];
const WITHOUT_BIAS: &[Binding] = &[read("a"), read("b"), write("out")];

const fn kernel(
    entry: &'static str,
    source: &'static str,
    constants: &'static [(&'static str, u32)],
) -> Kernel {
    Kernel { constants, ..Kernel::new::<Params>("matmul", entry, source, BINDINGS) }
}

/// The number of the activation that stands in the code.
pub(super) const ACTIVATION: &str = "ACTIVATION";
/// Whether sums are added to what is there.
pub(super) const ACCUMULATE: &str = "ACCUMULATE";
/// Whether neighbours in A, or in B, are neighbours along the inner axis.
pub(super) const A_ALONG_INNER: &str = "A_ALONG_INNER";
pub(super) const B_ALONG_INNER: &str = "B_ALONG_INNER";
pub(super) const TILE_ROWS: &str = "TILE_ROWS";
pub(super) const TILE_COLS: &str = "TILE_COLS";
/// Vectors behind each row of a tile in workgroup memory.
pub(super) const PAD: &str = "PAD";

const PLAIN: &[(&str, u32)] = &[(ACTIVATION, 0)];
const TILE: &[(&str, u32)] = &[
    (ACTIVATION, 0),
    (A_ALONG_INNER, 1),
    (B_ALONG_INNER, 0),
    (TILE_ROWS, 64),
    (TILE_COLS, 64),
    (PAD, 0),
    ("RUN", INNER as u32),
];

pub(super) const FORWARD: Kernel = kernel(
    "forward",
    source!("matmul/narrow.wgsl", "matmul/activated.wgsl", "matmul/put.wgsl", "matmul.wgsl"),
    PLAIN,
);
pub(super) const SMALL: Kernel = kernel(
    "small",
    source!("matmul/narrow.wgsl", "matmul/activated.wgsl", "matmul/put.wgsl", "matmul/small.wgsl"),
    PLAIN,
);
pub(super) const LANES: Kernel = Kernel {
    bindings: WITHOUT_BIAS,
    ..kernel("lanes", source!("matmul/narrow.wgsl", "matmul/lanes.wgsl"), &[(ACCUMULATE, 0)])
};
pub(super) const VECTOR: Kernel = kernel(
    "vector",
    source!("matmul/narrow.wgsl", "matmul/activated.wgsl", "matmul/put.wgsl", "matmul/vector.wgsl"),
    &[(ACTIVATION, 0), (A_ALONG_INNER, 1)],
);
pub(super) const TILED: Kernel = kernel(
    "tiled",
    source!(
        "matmul/narrow.wgsl",
        "matmul/activated.wgsl",
        "matmul/put.wgsl",
        "matmul/tiled.wgsl",
        "matmul/tiled_put.wgsl",
        "matmul/narrow_fours.wgsl"
    ),
    TILE,
);
/// Where everything contiguous begins at a multiple of four elements and has a multiple of four.
pub(super) const TILED_WIDE: Kernel = Kernel {
    unchecked: true,
    ..kernel(
        "tiled_wide",
        source!(
            "matmul/activated.wgsl",
            "matmul/tiled.wgsl",
            "matmul/tiled_put.wgsl",
            "matmul/wide_reads.wgsl",
            "matmul/wide_fours.wgsl"
        ),
        TILE,
    )
};

/// Which operand: 0 is A, 1 is B.
pub(super) const OPERAND: &str = "OPERAND";
/// Whether neighbours in the operand are neighbours along the inner axis.
pub(super) const ALONG_INNER: &str = "ALONG_INNER";
/// How many f16 an element is the sum of.
pub(super) const PARTS: &str = "PARTS";
/// Invocations of a subgroup.
pub(super) const LANES_OF_SUBGROUP: &str = "LANES";
pub(super) const SUBGROUPS_DOWN: &str = "SUBGROUPS_DOWN";
pub(super) const SUBGROUPS_ACROSS: &str = "SUBGROUPS_ACROSS";

/// Elements of the inner axis to a multiple of which operands are filled up for cooperative matrices.
pub(super) const PACKED: usize = 32;

pub(super) const LINE_SCALES: Kernel = Kernel {
    bindings: &[read("x"), write("out")],
    ..kernel(
        "line_scales",
        source!("matmul/operand.wgsl", "matmul/line_scales.wgsl"),
        &[(OPERAND, 0), (ALONG_INNER, 1)],
    )
};
pub(super) const PACK: Kernel = Kernel {
    bindings: &[read("x"), read("scales"), write("out")],
    ..kernel(
        "pack",
        source!("matmul/operand.wgsl", "matmul/pack.wgsl"),
        &[(OPERAND, 0), (ALONG_INNER, 1), (PARTS, 1)],
    )
};

/// The kernels of cooperative matrices: blocks of so many, operands through workgroup memory or straight from global memory.
macro_rules! cooperative {
    ($entry:literal, $blocks:literal, $how:literal) => {
        cooperative(
            $entry,
            source!(
                "matmul/activated.wgsl",
                $blocks,
                "matmul/cooperative.wgsl",
                $how,
                concat!("matmul/", $entry, ".wgsl")
            ),
        )
    };
}

pub(super) const STAGED_8: Kernel =
    cooperative!("staged_8", "matmul/blocks_8.wgsl", "matmul/cooperative_staged.wgsl");
pub(super) const STAGED_16: Kernel =
    cooperative!("staged_16", "matmul/blocks_16.wgsl", "matmul/cooperative_staged.wgsl");
pub(super) const DIRECT_8: Kernel =
    cooperative!("direct_8", "matmul/blocks_8.wgsl", "matmul/cooperative_direct.wgsl");
pub(super) const DIRECT_16: Kernel =
    cooperative!("direct_16", "matmul/blocks_16.wgsl", "matmul/cooperative_direct.wgsl");

const fn cooperative(entry: &'static str, source: &'static str) -> Kernel {
    const CONSTANTS: &[(&str, u32)] =
        &[(ACTIVATION, 0), (PARTS, 1), (LANES_OF_SUBGROUP, 32), (SUBGROUPS_DOWN, 1), (SUBGROUPS_ACROSS, 1)];
    const BINDINGS: &[Binding] =
        &[read("a"), read("b"), write("out"), read("bias"), read("a_scales"), read("b_scales")];
    Kernel { bindings: BINDINGS, ..kernel(entry, source, CONSTANTS) }
}

pub(super) const KERNELS: &[&Kernel] = &[
    &FORWARD,
    &SMALL,
    &LANES,
    &VECTOR,
    &TILED,
    &TILED_WIDE,
    &LINE_SCALES,
    &PACK,
    &STAGED_8,
    &STAGED_16,
    &DIRECT_8,
    &DIRECT_16,
];
