//! How long each kernel took, by the device's own timestamps.

use super::Gpu;
use crate::error::{Error, Result};

/// The time of one dispatch.
///
/// ```
/// use crossmodal::{DType, Device, Tensor, ops::exp};
/// if let Ok(device @ Device::Gpu(gpu)) = &Device::named("gpu") && gpu.report().timestamps {
///     gpu.start_profile()?;
///     exp(&Tensor::zeros(device, &[1024], DType::F32)?)?;
///     let timings = gpu.finish_profile()?;
///     assert_eq!((timings.len(), timings[0].kernel), (1, "unary"));
/// }
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Timing {
    /// The kernel's name.
    pub kernel: &'static str,
    /// Seconds on the device.
    pub seconds: f64,
}

/// Dispatches that one query set can time.
const CAPACITY: u32 = 2048;

#[derive(Default)]
pub(super) struct Profile {
    set: Option<wgpu::QuerySet>,
    names: Vec<&'static str>,
    /// Timestamps of the submits so far, mappable, with the names they belong to.
    done: Vec<(wgpu::Buffer, Vec<&'static str>)>,
}

impl Profile {
    pub(super) fn is_on(&self) -> bool {
        self.set.is_some()
    }

    /// Drops the stamps of a submit that failed.
    pub(super) fn forget(&mut self) {
        self.names.clear();
    }

    /// The two queries around the next pass, while profiling is on.
    pub(super) fn stamp(&mut self, name: &'static str) -> Option<wgpu::ComputePassTimestampWrites<'_>> {
        let query_set = self.set.as_ref()?;
        let first = 2 * self.names.len() as u32;
        self.names.push(name);
        Some(wgpu::ComputePassTimestampWrites {
            query_set,
            beginning_of_pass_write_index: Some(first),
            end_of_pass_write_index: Some(first + 1),
        })
    }

    /// Encodes fetching this submit's timestamps.
    pub(super) fn resolve(&mut self, device: &wgpu::Device, encoder: &mut wgpu::CommandEncoder) {
        let Some(set) = &self.set else { return };
        if self.names.is_empty() {
            return;
        }
        let count = 2 * self.names.len() as u32;
        let buffer = |label, usage| {
            let size = u64::from(count) * 8;
            device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(label),
                size,
                usage,
                mapped_at_creation: false,
            })
        };
        let resolved = buffer("timestamps", wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC);
        let mappable =
            buffer("timestamps for reading", wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ);
        encoder.resolve_query_set(set, 0..count, &resolved, 0);
        encoder.copy_buffer_to_buffer(&resolved, 0, &mappable, 0, None);
        self.done.push((mappable, std::mem::take(&mut self.names)));
    }
}

impl Gpu {
    /// Starts timing every dispatch; each then gets a pass of its own, which itself costs a little. Errors:
    /// the device has no timestamps. Example: [`Timing`].
    pub fn start_profile(&self) -> Result<()> {
        if !self.0.report.timestamps {
            return Err(Error::argument(
                "start_profile",
                "device",
                "one with timestamp queries",
                self.name(),
            ));
        }
        self.submit()?;
        let set = self.checked("making a query set", 0, || {
            self.0.device.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("profile"),
                ty: wgpu::QueryType::Timestamp,
                count: CAPACITY,
            })
        })?;
        *self.0.profile.lock().expect("profile lock") = Profile { set: Some(set), ..Default::default() };
        Ok(())
    }

    /// Stops timing, waits, and returns the time of every dispatch since [`Gpu::start_profile`], in order.
    /// Example: [`Timing`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn finish_profile(&self) -> Result<Vec<Timing>> {
        self.submit()?;
        let profile = std::mem::take(&mut *self.0.profile.lock().expect("profile lock"));
        let period = f64::from(self.0.queue.get_timestamp_period()) * 1e-9;
        let mut out = vec![];
        for (mappable, names) in profile.done {
            let receiver = self.map(&mappable);
            self.poll()?;
            let ticks: Vec<u64> =
                bytemuck::pod_collect_to_vec(&pollster::block_on(self.mapped_bytes(mappable, receiver))?);
            out.extend(
                names
                    .into_iter()
                    .zip(ticks.chunks_exact(2))
                    .map(|(kernel, t)| Timing { kernel, seconds: t[1].saturating_sub(t[0]) as f64 * period }),
            );
        }
        Ok(out)
    }
}
