//! The dispatcher: the one place that knows wgpu.
//!
//! [`Gpu::open`] takes an adapter; tensors take buffers from its pool; operations record [`Kernel`]s;
//! [`Gpu::submit`] hands everything recorded so far to the driver at once. Nothing waits until something is read.
//!
//! ```
//! use crossmodal::{DType, Device, Tensor, ops::exp};
//! if let Ok(Device::Gpu(gpu)) = Device::named("gpu") {
//!     let x = Tensor::zeros(&Device::Gpu(gpu.clone()), &[4], DType::F32)?;
//!     assert_eq!(exp(&x)?.to_vec::<f32>()?, [1.; 4]);
//!     println!("{}: {:?}, {:?}", gpu.name(), gpu.counters(), gpu.memory());
//! }
//! # Ok::<(), crossmodal::Error>(())
//! ```

mod adapter;
pub(crate) mod cache;
mod choices;
pub(crate) mod kernel;
mod memory;
mod open;
mod pipeline;
mod pipeline_cache;
mod pool;
mod profile;
mod readback;
mod recorder;

pub use adapter::{AdapterReport, adapters, best, choose};
pub(crate) use kernel::Abilities;
pub use kernel::{Access, Binding, Field, Kernel, Variant};
pub(crate) use pool::Buffer;
pub use pool::MemoryUse;
pub use profile::Timing;

use crate::error::{Error, Result};
use kernel::Params;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

/// A GPU opened for computing. Cheap to clone; clones are the same device.
///
/// ```
/// use crossmodal::{Device, gpu::Gpu};
/// if let Ok(gpu) = pollster::block_on(Gpu::open("gpu")) {
///     assert_eq!(gpu, gpu.clone());
///     assert_eq!(Device::Gpu(gpu.clone()).name(), gpu.name());
/// }
/// ```
#[derive(Clone)]
pub struct Gpu(Arc<Inner>);

struct Inner {
    device: wgpu::Device,
    queue: wgpu::Queue,
    report: AdapterReport,
    pool: Arc<pool::Pool>,
    pipelines: Mutex<pipeline::Pipelines>,
    pipeline_cache: Option<pipeline_cache::PipelineCache>,
    recorder: Mutex<recorder::Recorder>,
    profile: Mutex<profile::Profile>,
    /// Small buffers that were read and may be again, by their sizes.
    readbacks: Mutex<Vec<wgpu::Buffer>>,
    made: Made,
    /// Set when the driver reports the device lost; every later call fails with it.
    lost: Arc<Mutex<Option<String>>>,
    poison: AtomicBool,
    choices: Mutex<choices::Choices>,
}

/// What was asked of the driver since the device was opened.
#[derive(Default)]
struct Made {
    buffers: AtomicU64,
    bind_groups: AtomicU64,
    pipelines: AtomicU64,
}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.name())
    }
}

impl PartialEq for Gpu {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Gpu {
    /// The adapter's name. Example: [`Gpu`].
    pub fn name(&self) -> &str {
        &self.0.report.name
    }

    /// What the adapter is and can do.
    ///
    /// ```
    /// use crossmodal::Device;
    /// if let Ok(Device::Gpu(gpu)) = Device::named("gpu") {
    ///     assert!(gpu.report().name == gpu.name() && !gpu.report().software);
    /// }
    /// ```
    pub fn report(&self) -> &AdapterReport {
        &self.0.report
    }

    pub(crate) fn abilities(&self) -> Abilities {
        let report = &self.0.report;
        Abilities {
            software: report.software,
            int64: report.int64,
            discrete: report.kind == "discrete gpu",
            subgroup_sizes: if report.subgroups { report.subgroup_sizes } else { (0, 0) },
            cooperative: report.cooperative,
            workgroup_memory: report.workgroup_memory,
            invocations: report.invocations,
            flops_at_once: report.flops_at_once(),
        }
    }

    pub(crate) fn supports_f16(&self) -> bool {
        self.0.report.f16
    }

    /// Runs `work` with errors of the driver caught and turned into ours.
    fn checked<T>(&self, what: &str, asked: u64, work: impl FnOnce() -> T) -> Result<T> {
        self.check_not_lost(what)?;
        let scopes =
            [wgpu::ErrorFilter::OutOfMemory, wgpu::ErrorFilter::Validation, wgpu::ErrorFilter::Internal]
                .map(|filter| self.0.device.push_error_scope(filter));
        let out = work();
        // Popping takes effect at once; natively the answer is there at once too. In a browser it comes later, and
        // the device's uncaptured handler and the next readback report what went wrong.
        let mut caught = None;
        for scope in scopes.into_iter().rev() {
            let popped = scope.pop();
            if cfg!(not(target_arch = "wasm32")) {
                caught = pollster::block_on(popped).or(caught);
            }
        }
        match caught {
            // A loss reaches no scope.
            None => self.check_not_lost(what).map(|()| out),
            Some(wgpu::Error::OutOfMemory { .. }) => {
                let MemoryUse { live, idle, .. } = self.memory();
                Err(Error::OutOfMemory { device: self.name().into(), asked, live, idle })
            }
            Some(e) => Err(self.driver_error(what, e.to_string())),
        }
    }

    fn check_not_lost(&self, what: &str) -> Result<()> {
        match &*self.0.lost.lock().expect("lost lock") {
            Some(message) => Err(self.driver_error(what, format!("the device is lost: {message}"))),
            None => Ok(()),
        }
    }

    fn driver_error(&self, what: &str, message: String) -> Error {
        Error::Driver { device: self.name().into(), what: what.into(), message }
    }

    /// Records a kernel. `groups` workgroups are numbered by one index, folded into two dimensions where it passes 65535:
    /// the shader calls `group_index` and returns where it is past its work. Zero groups record nothing.
    pub(crate) fn dispatch<P: Params>(
        &self,
        kernel: &Kernel,
        variant: Variant,
        params: &P,
        buffers: &[&Buffer],
        groups: u64,
    ) -> Result<()> {
        if groups == 0 {
            return Ok(());
        }
        for (i, binding) in kernel.bindings.iter().enumerate().filter(|(_, b)| b.access == Access::Write) {
            if let Some(j) = (0..buffers.len()).find(|&j| j != i && buffers[j].id == buffers[i].id) {
                let got = format!("the buffer of {}", kernel.bindings[j].name);
                return Err(Error::argument(
                    kernel.name,
                    binding.name,
                    "a buffer of its own: it is written",
                    got,
                ));
            }
        }
        let pipeline = self.pipeline(kernel, &variant)?;
        let group = self.bind_group(kernel, &pipeline, buffers)?;
        let bytes = bytemuck::bytes_of(params);
        let mut recorder = self.0.recorder.lock().expect("recorder lock");
        recorder.dispatch(kernel, pipeline, group, bytes, groups);
        // Under the same lock: another thread must not record beyond the last parameter slot.
        if recorder.is_full() { self.submit_locked(&mut recorder) } else { Ok(()) }
    }

    /// Hands what is recorded to the driver, if anything is; does not wait.
    ///
    /// ```
    /// use crossmodal::{DType, Device, Tensor, ops::exp};
    /// if let Ok(device @ Device::Gpu(gpu)) = &Device::named("gpu") {
    ///     exp(&Tensor::zeros(device, &[4], DType::F32)?)?;
    ///     gpu.submit()?;
    ///     assert_eq!(gpu.counters().submits, 1);
    /// }
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    pub fn submit(&self) -> Result<()> {
        self.submit_locked(&mut self.0.recorder.lock().expect("recorder lock"))
    }

    fn submit_locked(&self, recorder: &mut recorder::Recorder) -> Result<()> {
        if recorder.is_empty() {
            return self.check_not_lost("submitting commands");
        }
        let profile = &mut self.0.profile.lock().expect("profile lock");
        let done = self
            .checked("submitting commands", 0, || recorder.submit(&self.0.device, &self.0.queue, profile));
        if let Some(cache) = &self.0.pipeline_cache {
            cache.write_now_and_then();
        }
        if let Err(error) = &done {
            // What was recorded by whoever recorded it is gone: nobody may take what its buffers hold for a result.
            recorder.discard();
            profile.forget();
            self.0
                .lost
                .lock()
                .expect("lost lock")
                .get_or_insert(format!("an earlier submit failed: {error}"));
        }
        done
    }

    /// How often something happened since the device was opened. Example: [`Counters`].
    pub fn counters(&self) -> Counters {
        let Made { buffers, bind_groups, pipelines } = &self.0.made;
        Counters {
            buffers: buffers.load(Relaxed),
            bind_groups: bind_groups.load(Relaxed),
            pipelines: pipelines.load(Relaxed),
            ..self.0.recorder.lock().expect("recorder lock").counters
        }
    }
}

/// What a device did so far.
///
/// ```
/// use crossmodal::{DType, Device, Tensor, ops::exp};
/// if let Ok(device @ Device::Gpu(gpu)) = &Device::named("gpu") {
///     exp(&Tensor::zeros(device, &[4], DType::F32)?)?.to_vec::<f32>()?;
///     let counters = gpu.counters();
///     assert_eq!((counters.submits, counters.dispatches, counters.readbacks), (1, 1, 1));
///     assert_eq!((counters.pipelines, counters.bind_groups), (1, 1)); // a second time there is nothing to make
/// }
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Command buffers handed to the driver.
    pub submits: u64,
    /// Kernels recorded.
    pub dispatches: u64,
    /// Times the host waited for data.
    pub readbacks: u64,
    /// Buffers made: what is not reused.
    pub buffers: u64,
    /// Bind groups made.
    pub bind_groups: u64,
    /// Pipelines compiled.
    pub pipelines: u64,
}
