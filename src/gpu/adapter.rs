//! Which adapters there are, what they can do, and which one is meant.

use crate::error::{Error, Result};

/// What an adapter is and what of it matters here.
///
/// ```
/// for report in pollster::block_on(crossmodal::gpu::adapters()) {
///     println!("{}: {} ({}, {})", report.index, report.name, report.backend, report.kind);
///     assert_eq!(report.software, report.kind == "software");
/// }
/// ```
#[derive(Debug, Clone)]
pub struct AdapterReport {
    /// Its place in [`adapters`]' list; 0 after [`Gpu::from_wgpu`](super::Gpu::from_wgpu).
    pub index: usize,
    /// The name the driver gives.
    pub name: String,
    /// `vulkan`, `metal`, `dx12` or `webgpu`.
    pub backend: String,
    /// `discrete gpu`, `integrated gpu`, `virtual gpu`, `software` or `other`.
    pub kind: &'static str,
    /// The driver and its version.
    pub driver: String,
    /// Whether it is a software implementation on the CPU.
    pub software: bool,
    /// 16-bit floats in shaders.
    pub f16: bool,
    /// 64-bit integers in shaders.
    pub int64: bool,
    /// Subgroup operations.
    pub subgroups: bool,
    /// The smallest and the largest number of invocations in a subgroup.
    pub subgroup_sizes: (u32, u32),
    /// The side of the square blocks that its matrix units multiply, f16 in and f32 out: 8 or 16; 0 without them, or where subgroups
    /// differ in size.
    pub cooperative: u32,
    /// Timestamps for profiling.
    pub timestamps: bool,
    /// Bytes one buffer may have.
    pub max_buffer: u64,
    /// Bytes one binding may span: a larger tensor lies in pieces.
    pub max_binding: u64,
    /// Bytes of memory a workgroup shares.
    pub workgroup_memory: u32,
    /// Invocations of a workgroup.
    pub invocations: u32,
}

impl AdapterReport {
    pub(super) fn new(index: usize, adapter: &wgpu::Adapter) -> Self {
        let (info, features, limits) = (adapter.get_info(), adapter.features(), adapter.limits());
        let kind = match info.device_type {
            wgpu::DeviceType::DiscreteGpu => "discrete gpu",
            wgpu::DeviceType::IntegratedGpu => "integrated gpu",
            wgpu::DeviceType::VirtualGpu => "virtual gpu",
            wgpu::DeviceType::Cpu => "software",
            wgpu::DeviceType::Other => "other",
        };
        AdapterReport {
            index,
            name: info.name,
            backend: info.backend.to_str().to_string(),
            kind,
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_string(),
            software: info.device_type == wgpu::DeviceType::Cpu,
            f16: features.contains(wgpu::Features::SHADER_F16),
            int64: features.contains(wgpu::Features::SHADER_INT64),
            subgroups: features.contains(wgpu::Features::SUBGROUP),
            subgroup_sizes: (info.subgroup_min_size, info.subgroup_max_size),
            cooperative: cooperative(adapter),
            timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
            max_buffer: limits.max_buffer_size,
            max_binding: limits.max_storage_buffer_binding_size,
            workgroup_memory: limits.max_compute_workgroup_storage_size,
            invocations: limits.max_compute_invocations_per_workgroup,
        }
    }

    /// Floating-point operations in one dispatch: a desktop driver resets the device after about two seconds. A fifth of a
    /// second at 100 GFLOP/s, a slow GPU; a discrete one is ten times as fast.
    pub(super) fn flops_at_once(&self) -> f64 {
        if self.kind == "discrete gpu" { 2e11 } else { 2e10 }
    }
}

/// The larger of the square blocks that shaders can name, if the adapter lists it for f16 in and f32 sums.
fn cooperative(adapter: &wgpu::Adapter) -> u32 {
    let info = adapter.get_info();
    let features = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX | wgpu::Features::SHADER_F16;
    // A kernel has to know how many invocations share a block.
    if !adapter.features().contains(features) || info.subgroup_min_size != info.subgroup_max_size {
        return 0;
    }
    let listed = adapter.cooperative_matrix_properties();
    let is = |side: u32| {
        listed.iter().any(|one| {
            (one.m_size, one.n_size, one.k_size) == (side, side, side)
                && one.ab_type == wgpu::CooperativeScalarType::F16
                && one.cr_type == wgpu::CooperativeScalarType::F32
        })
    };
    [16, 8].into_iter().find(|&side| is(side)).unwrap_or(0)
}

/// Every adapter of the compiled-in backends, in the driver's order, with its report.
pub(super) async fn enumerate() -> Vec<(wgpu::Adapter, AdapterReport)> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapters = instance.enumerate_adapters(wgpu::Backends::PRIMARY).await;
    adapters
        .into_iter()
        .enumerate()
        .map(|(index, adapter)| {
            let report = AdapterReport::new(index, &adapter);
            (adapter, report)
        })
        .collect()
}

/// Every adapter on this machine.
///
/// ```
/// let adapters = pollster::block_on(crossmodal::gpu::adapters()); // or `.await`
/// assert!(adapters.iter().enumerate().all(|(i, adapter)| adapter.index == i));
/// ```
pub async fn adapters() -> Vec<AdapterReport> {
    enumerate().await.into_iter().map(|(_, report)| report).collect()
}

/// The index of the adapter that `auto` prefers: discrete before integrated before virtual before other;
/// never a software one.
///
/// ```
/// use crossmodal::gpu::{adapters, best};
/// let adapters = pollster::block_on(adapters());
/// assert!(best(&adapters).is_none_or(|i| !adapters[i].software));
/// assert_eq!(best(&[]), None);
/// ```
pub fn best(reports: &[AdapterReport]) -> Option<usize> {
    let order = ["discrete gpu", "integrated gpu", "virtual gpu", "other"];
    order.iter().find_map(|kind| reports.iter().position(|r| r.kind == *kind))
}

/// The index that `gpu`, a number or a part of a name, driver or backend stands for, in capitals or not: the
/// first that fits.
///
/// Errors: [`Error::NoDevice`].
///
/// ```
/// use crossmodal::gpu::{adapters, choose};
/// let adapters = pollster::block_on(adapters());
/// for adapter in &adapters {
///     assert_eq!(choose(&adapter.index.to_string(), &adapters)?, adapter.index);
/// }
/// assert!(choose("gpu", &[]).is_err());
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn choose(asked: &str, reports: &[AdapterReport]) -> Result<usize> {
    let refuse = |reason: &str| Error::NoDevice {
        asked: asked.to_string(),
        reason: reason.to_string(),
        exist: std::iter::once("cpu".to_string())
            .chain(reports.iter().map(|r| format!("{} ({}, {}, {})", r.index, r.name, r.backend, r.kind)))
            .collect::<Vec<_>>()
            .join(", "),
    };
    let part = asked.to_lowercase();
    if part == "gpu" {
        let software =
            "there is only a software driver, many times slower than the CPU path; name it to use it";
        let none = if reports.is_empty() { "this machine has no GPU driver" } else { software };
        return best(reports).ok_or_else(|| refuse(none));
    }
    if let Some(index) = asked.parse().ok().filter(|&index: &usize| index < reports.len()) {
        return Ok(index);
    }
    if asked.is_empty() {
        return Err(refuse("the name is empty"));
    }
    let hit =
        |r: &AdapterReport| format!("{} {} {}", r.name, r.driver, r.backend).to_lowercase().contains(&part);
    reports
        .iter()
        .position(hit)
        .ok_or_else(|| refuse("no adapter has this number, or this in its name, driver or backend"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(index: usize, name: &str, kind: &'static str) -> AdapterReport {
        AdapterReport {
            index,
            name: name.into(),
            backend: "vulkan".into(),
            kind,
            driver: String::new(),
            software: kind == "software",
            f16: false,
            int64: false,
            subgroups: false,
            subgroup_sizes: (0, 0),
            cooperative: 0,
            timestamps: false,
            max_buffer: 0,
            max_binding: 0,
            workgroup_memory: 0,
            invocations: 0,
        }
    }

    #[test]
    fn auto_takes_the_strongest_and_never_a_software_driver() {
        let all = [
            report(0, "llvmpipe", "software"),
            report(1, "Iris", "integrated gpu"),
            report(2, "RTX", "discrete gpu"),
        ];
        assert_eq!(best(&all), Some(2));
        assert_eq!(best(&all[..1]), None);
        assert_eq!(choose("gpu", &all).unwrap(), 2);
        assert_eq!(choose("LLVM", &all).unwrap(), 0);
        assert_eq!(choose("1", &all).unwrap(), 1);
    }

    #[test]
    fn a_device_that_is_not_there_is_named_with_those_that_are() {
        let all = [report(0, "llvmpipe", "software")];
        let text = choose("gpu", &all).unwrap_err().to_string();
        assert!(text.contains("software driver") && text.contains("llvmpipe"), "{text}");
        assert!(choose("3", &all).unwrap_err().to_string().contains("no adapter has this number"));
        assert!(choose("", &all).unwrap_err().to_string().contains("the name is empty"));
        assert!(choose("radeon", &all).unwrap_err().to_string().contains("radeon"));
    }
}
