//! Which kernels a device cannot run.

use crossmodal::gpu::{AdapterReport, Kernel};

/// Whether a device has what the kernel is made for: one subgroup of eight, matrix units of its size, 64-bit integers of a driver on
/// a CPU.
pub(crate) fn can_run(report: &AdapterReport, kernel: &Kernel) -> bool {
    let of_eight = report.subgroups && report.subgroup_sizes == (8, 8);
    match (kernel.name, kernel.entry) {
        ("matmul", "lanes") => of_eight,
        ("matmul", "staged_8" | "direct_8") => report.cooperative == 8,
        ("matmul", "staged_16" | "direct_16") => report.cooperative == 16,
        ("softmax_lanes" | "attention_lanes" | "attention_lanes_grads", _) => {
            of_eight && report.software && report.int64
        }
        ("log_sum_exp_lanes", _) => report.software && report.int64,
        _ => true,
    }
}
