//! Which kernels a device cannot run.

use crossmodal::gpu::{AdapterReport, Kernel};

/// Whether a device has what the kernel is made for: one subgroup of eight, or matrix units of its size.
pub(crate) fn can_run(report: &AdapterReport, kernel: &Kernel) -> bool {
    match kernel.entry {
        "lanes" => report.subgroups && report.subgroup_sizes == (8, 8),
        "staged_8" | "direct_8" => report.cooperative == 8,
        "staged_16" | "direct_16" => report.cooperative == 16,
        _ => true,
    }
}
