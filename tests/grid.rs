//! Dispatches beyond one dimension of the grid: the cases again on devices that allow few workgroups in a dimension, so that
//! small tensors fold as tensors of millions of rows do elsewhere.
#![cfg(all(feature = "gpu", feature = "verify"))]

mod common;
#[path = "common/limited.rs"]
mod limited;
#[path = "common/rows.rs"]
mod rows;
#[path = "common/runs.rs"]
mod runs;

use crossmodal::cases::{self, Case, Row, Verdict};
use crossmodal::gpu::{Gpu, Kernel};
use crossmodal::{DType, Device};
use std::sync::Arc;

/// Workgroups that a dimension may have: no case of an operation takes more than their square, and some take more than them.
/// With the most elements of an input of those cases.
fn grid(op: &str) -> (u32, usize) {
    match op {
        "attention" => (11, 30_976),
        "adamw" | "cast" | "concat" | "dropout" | "keep_rows" | "l2_normalize" | "unary" => (2, 1024),
        "log_softmax" | "log_sum_exp" | "softmax" => (9, 5280),
        "reduce" => (3, 2304),
        "copy" => (3, 32_768),
        "layer_norm" => (6, 33 * 769),
        "top_k" => (2, 6300),
        "binary" => (4, 4096),
        "transpose" => (6, 9216),
        "gather" => (7, 12_544),
        "cosine_similarity" => (9, 20_736),
        "matmul" => (13, 43_264),
        "info_nce" | "siglip" => (17, 73_984),
        "clip_global_norm" => (65, 66 * 16_384),
        _ => panic!("{op}: how many workgroups do its cases take?"),
    }
}

/// Kernels that fold in no case, and why.
const NOT_FOLDED: &[(&str, &str, &str)] = &[
    ("clip_global_norm", "total_norm", "it is one workgroup"),
    ("info_nce", "column_sweep", "64 columns are a workgroup: its block's rows pass the grid before"),
    ("info_nce", "merge_columns", "64 columns are a workgroup: its block's rows pass the grid before"),
    ("info_nce", "line_losses", "256 rows are a workgroup: its block's rows pass the grid before"),
    ("info_nce", "line_factors", "256 rows are a workgroup: its block's rows pass the grid before"),
    (
        "info_nce",
        "tiled_sweep",
        "128 rows by 128 columns are a workgroup: the merge's lines pass the grid before",
    ),
    (
        "info_nce",
        "tiled_gradient",
        "128 rows by 128 columns are a workgroup: the lines' factors pass the grid before",
    ),
    ("info_nce", "combine", "256 rows are a workgroup: its block's rows pass the grid before"),
    (
        "log_sum_exp_lanes",
        "forward",
        "several rows are a workgroup: those of the plain kernel, one each, pass the grid before",
    ),
];

fn cases_within(row: &Row, most: usize) -> Vec<Case> {
    // Of the gather of 70000 rows it is the result that is large.
    let fits =
        |case: &Case| case.inputs.iter().all(|input| input.values.len() <= most) && case.name != "70000 rows";
    (row.cases)().into_iter().filter(fits).collect()
}

fn failed(device: &Device, row: &Row, cases: &[Case]) -> Option<Verdict> {
    let runs =
        [DType::F32, DType::F16].into_iter().flat_map(|dtype| cases.iter().map(move |case| (case, dtype)));
    let mut verdicts = runs.filter_map(|(case, dtype)| cases::verify_case(device, row.op, case, dtype));
    verdicts.find(|verdict| !verdict.passed())
}

/// From now on these kernels take the first dimension's number for the whole one.
fn count_in_one_dimension(gpu: &Gpu, kernels: Vec<&'static Kernel>) {
    gpu.set_source_hook(Some(Arc::new(move |compiled: &Kernel, source: &str| {
        let is_one = kernels.iter().any(|own| (own.name, own.entry) == (compiled.name, compiled.entry));
        if is_one { source.replace("group.y * groups.x + group.x", "group.x") } else { source.to_string() }
    })));
}

/// Every case passes; and where a kernel takes the first dimension's number for the whole one, a case fails: it is folded.
#[test]
fn every_kernel_gives_the_same_in_two_dimensions() {
    rows::every_row(|row| {
        let start = std::time::Instant::now();
        let (groups, most) = grid(row.op);
        let device = limited::limited(|limits| limits.max_compute_workgroups_per_dimension = groups);
        let Device::Gpu(gpu) = &device else { unreachable!("it is a GPU") };
        let cases = cases_within(row, most);
        let is_excused = |kernel: &&Kernel| {
            !runs::can_run(gpu.report(), kernel)
                || NOT_FOLDED.iter().any(|not| (not.0, not.1) == (kernel.name, kernel.entry))
        };
        let (excused, folded): (Vec<_>, Vec<_>) = row.kernels.iter().copied().partition(is_excused);
        // Those that fold in no case are without the second dimension at once: were one folded, a case would fail.
        count_in_one_dimension(gpu, excused);
        assert_eq!(failed(&device, row, &cases), None, "{groups} workgroups in a dimension");
        for kernel in folded {
            count_in_one_dimension(gpu, vec![kernel]);
            let own = (kernel.name, kernel.entry);
            assert!(failed(&device, row, &cases).is_some(), "{own:?}: folded in no case");
        }
        eprintln!("{:20} {} cases, {:.1?}", row.op, cases.len(), start.elapsed());
    });
}
