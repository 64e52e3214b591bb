//! One GPU for all tests of a program, whose kernels are compiled once.

use crossmodal::Device;
use std::sync::OnceLock;

/// The device of [`gpu`](crate::common::gpu), the same each time: for tests that neither change kernels nor count.
pub(crate) fn gpu() -> Device {
    static GPU: OnceLock<Device> = OnceLock::new();
    GPU.get_or_init(crate::common::gpu).clone()
}
