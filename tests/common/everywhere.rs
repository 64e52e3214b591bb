//! Tests of what holds on every device.

use crossmodal::{DType, Device};

/// Every device in every type of full width.
pub(crate) fn everywhere(check: impl Fn(&Device, DType)) {
    check(&Device::Cpu, DType::F64);
    check(&Device::Cpu, DType::F32);
    check(&crate::common::gpu(), DType::F32);
}
