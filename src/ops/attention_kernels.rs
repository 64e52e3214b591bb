//! stub
pub(super) const KERNELS: &[&crate::gpu::Kernel] = &[];
