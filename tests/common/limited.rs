//! The tests' adapter with tighter limits.

use crossmodal::Device;
use crossmodal::gpu::Gpu;

/// What kernels of their own need.
const WANTED: wgpu::Features =
    wgpu::Features::SHADER_F16.union(wgpu::Features::SUBGROUP).union(wgpu::Features::SHADER_INT64);

/// The tests' adapter, opened with limits that a weaker driver would have: wgpu refuses what passes them.
pub(crate) fn limited(tighten: impl FnOnce(&mut wgpu::Limits)) -> Device {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::PRIMARY));
    let name = crate::common::gpu().name().to_string();
    let adapter = adapters.into_iter().find(|adapter| adapter.get_info().name == name).unwrap();
    let mut limits = adapter.limits();
    tighten(&mut limits);
    let descriptor = wgpu::DeviceDescriptor {
        required_features: adapter.features() & WANTED,
        required_limits: limits,
        ..Default::default()
    };
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).unwrap();
    Device::Gpu(Gpu::from_wgpu(&adapter, device, queue))
}
