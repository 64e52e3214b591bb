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
pub(crate) mod kernel;
mod pipeline;
mod pool;
mod profile;
mod readback;
mod recorder;

pub use adapter::{AdapterReport, adapters, best, choose};
pub use kernel::{Access, Binding, Field, Kernel, Variant};
pub(crate) use pool::Buffer;
pub use pool::MemoryUse;
pub use profile::Timing;

use crate::error::{Error, Result};
use kernel::Params;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

/// The bits that [`Gpu::poison`] fills a fresh buffer with: NaN as f32 and as two f16. Signalling, so that arithmetic changes
/// it, and another one in every buffer, so that a copy does too: a guard band written with what was read from one shows.
fn poison_word(id: u64) -> u32 {
    0x7f80_7c00 | ((id % 63 + 1) << 16) as u32 | (id % 511 + 1) as u32
}
/// Bytes behind each tensor that poisoning also fills and [`Gpu::guard_is_intact`] checks.
const GUARD: u64 = 256;

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
    recorder: Mutex<recorder::Recorder>,
    profile: Mutex<profile::Profile>,
    /// Set when the driver reports the device lost; every later call fails with it.
    lost: Arc<Mutex<Option<String>>>,
    poison: AtomicBool,
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
    /// Opens the adapter that `asked` names: `gpu`, an index or a part of a name, see [`choose`]. Every call
    /// opens a device of its own. Errors: those of [`choose`]; the driver's.
    ///
    /// ```
    /// use crossmodal::{Error, gpu::Gpu};
    /// let error = pollster::block_on(Gpu::open("no such adapter")).unwrap_err(); // or `.await`
    /// assert!(matches!(error, Error::NoDevice { .. }));
    /// ```
    pub async fn open(asked: &str) -> Result<Gpu> {
        let mut found = adapter::enumerate().await;
        let reports: Vec<_> = found.iter().map(|(_, report)| report.clone()).collect();
        let (adapter, report) = found.swap_remove(choose(asked, &reports)?);
        Self::request(adapter, report).await
    }

    async fn request(adapter: wgpu::Adapter, report: AdapterReport) -> Result<Gpu> {
        let wanted = wgpu::Features::SHADER_F16 | wgpu::Features::TIMESTAMP_QUERY;
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("crossmodal"),
            required_features: adapter.features() & wanted,
            // The defaults are those of the weakest browser; ask for what the adapter really has.
            required_limits: adapter.limits(),
            memory_hints: wgpu::MemoryHints::Performance,
            ..Default::default()
        };
        let (device, queue) = adapter.request_device(&descriptor).await.map_err(|e| Error::Driver {
            device: report.name.clone(),
            what: "opening the device".into(),
            message: e.to_string(),
        })?;
        // The default handler panics. Errors inside a scope come back through it; what escapes is logged.
        device.on_uncaptured_error(Arc::new(|e: wgpu::Error| log::error!("uncaptured WebGPU error: {e}")));
        log::info!("opened {} ({}, {})", report.name, report.backend, report.driver);
        Ok(Self::assemble(device, queue, report))
    }

    /// Computes on a device that the caller opened and goes on using. f16 tensors need its `SHADER_F16`
    /// feature, profiling `TIMESTAMP_QUERY`; its limits are the limits here. The caller keeps its handler of
    /// uncaptured errors; its device-lost callback is replaced. The caller's own callbacks (of mapped buffers and of
    /// submitted work) must not call this `Gpu`: wgpu may run them while it submits.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use crossmodal::{DType, Device, Tensor, gpu::Gpu};
    /// let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    /// let adapter = instance.request_adapter(&Default::default()).await?;
    /// let (device, queue) = adapter.request_device(&Default::default()).await?;
    /// let gpu = Gpu::from_wgpu(&adapter, device.clone(), queue.clone()); // the caller keeps both
    /// let x = Tensor::zeros(&Device::Gpu(gpu), &[4], DType::F32)?;
    /// # Ok(()) }
    /// ```
    pub fn from_wgpu(adapter: &wgpu::Adapter, device: wgpu::Device, queue: wgpu::Queue) -> Gpu {
        let mut report = AdapterReport::new(0, adapter);
        let (features, limits) = (device.features(), device.limits());
        report.f16 = features.contains(wgpu::Features::SHADER_F16);
        report.timestamps = features.contains(wgpu::Features::TIMESTAMP_QUERY);
        report.max_buffer = limits.max_buffer_size;
        report.max_binding = limits.max_storage_buffer_binding_size;
        report.workgroup_memory = limits.max_compute_workgroup_storage_size;
        report.invocations = limits.max_compute_invocations_per_workgroup;
        Self::assemble(device, queue, report)
    }

    fn assemble(device: wgpu::Device, queue: wgpu::Queue, report: AdapterReport) -> Gpu {
        let lost = Arc::new(Mutex::new(None));
        let seen = lost.clone();
        device.set_device_lost_callback(move |reason, message| {
            // Also where its owner destroyed it: a program's own device may go while tensors are there.
            let destroyed = reason == wgpu::DeviceLostReason::Destroyed;
            *seen.lock().expect("lost lock") =
                Some(if destroyed { "it was destroyed".into() } else { message });
        });
        let recorder = Mutex::new(recorder::Recorder::new(&device));
        Gpu(Arc::new(Inner {
            device,
            queue,
            report,
            pool: Arc::default(),
            pipelines: Mutex::default(),
            recorder,
            profile: Mutex::default(),
            lost,
            poison: AtomicBool::new(false),
        }))
    }

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

    pub(crate) fn supports_f16(&self) -> bool {
        self.0.report.f16
    }

    /// Bytes held by tensors and by the pool.
    ///
    /// ```
    /// use crossmodal::{DType, Device, Tensor};
    /// if let Ok(Device::Gpu(gpu)) = Device::named("gpu") {
    ///     let x = Tensor::zeros(&Device::Gpu(gpu.clone()), &[1024], DType::F32)?;
    ///     assert_eq!(gpu.memory().live, 4096);
    ///     drop(x);
    ///     assert_eq!((gpu.memory().live, gpu.memory().idle), (0, 4096));
    /// }
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    pub fn memory(&self) -> MemoryUse {
        self.0.pool.memory()
    }

    /// Starts [`MemoryUse::peak`] anew.
    ///
    /// ```
    /// use crossmodal::{DType, Device, Tensor};
    /// if let Ok(Device::Gpu(gpu)) = Device::named("gpu") {
    ///     drop(Tensor::zeros(&Device::Gpu(gpu.clone()), &[1024], DType::F32)?);
    ///     gpu.trim();
    ///     gpu.reset_peak();
    ///     assert_eq!(gpu.memory().peak, 0);
    /// }
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    pub fn reset_peak(&self) {
        self.0.pool.reset_peak();
    }

    /// Gives idle buffers back to the driver. Example: [`Gpu::reset_peak`].
    pub fn trim(&self) {
        self.0.pool.trim();
        self.0.pipelines.lock().expect("pipeline lock").forget_bind_groups();
    }

    /// While on, every fresh tensor starts as NaN and has a guard band behind it: for verification.
    ///
    /// ```
    /// use crossmodal::{Device, Tensor};
    /// if let Ok(device @ Device::Gpu(gpu)) = &Device::named("gpu") {
    ///     gpu.poison(true);
    ///     assert_eq!(Tensor::scalar(device, 1f32)?.item()?, 1.); // what is written is as ever
    ///     gpu.poison(false);
    /// }
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    pub fn poison(&self, on: bool) {
        self.0.poison.store(on, Relaxed);
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

    /// Idle buffers may be what fills the memory, held by commands that are not done: where there is none left, lets both go
    /// and tries once more.
    fn with_room<T>(&self, allocate: impl Fn() -> Result<T>) -> Result<T> {
        match allocate() {
            Err(Error::OutOfMemory { .. }) => {
                #[cfg(not(target_arch = "wasm32"))]
                self.wait()?;
                self.trim();
                allocate()
            }
            other => other,
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

    /// Bytes that one binding may span, to whole elements of every type.
    pub(crate) fn piece_bytes(&self) -> u64 {
        self.0.report.max_buffer.min(self.0.report.max_binding) / 256 * 256
    }

    /// Buffers for `bytes` bytes: one, or pieces of [`Gpu::piece_bytes`] where no binding could span them all. Their content
    /// is whatever the last user left, NaN under [`Gpu::poison`].
    pub(crate) fn allocate(&self, what: &str, bytes: u64) -> Result<Vec<Buffer>> {
        let piece = self.piece_bytes();
        let pieces = bytes.div_ceil(piece).max(1);
        (0..pieces).map(|i| self.allocate_piece(what, piece.min(bytes - i * piece))).collect()
    }

    fn allocate_piece(&self, what: &str, bytes: u64) -> Result<Buffer> {
        let limit = self.0.report.max_buffer.min(self.0.report.max_binding);
        let poison = self.0.poison.load(Relaxed);
        let class = pool::size_class(bytes + if poison { GUARD } else { 0 }).min(limit / 4 * 4);
        let make = || {
            let descriptor = wgpu::BufferDescriptor {
                label: Some(what),
                size: class,
                usage: wgpu::BufferUsages::STORAGE
                    | wgpu::BufferUsages::COPY_SRC
                    | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            };
            self.checked(what, class, || self.0.device.create_buffer(&descriptor))
        };
        let buffer = self.with_room(|| self.0.pool.take(class, make))?;
        if poison {
            self.write(&buffer, bytemuck::cast_slice(&vec![poison_word(buffer.id); class as usize / 4]))?;
        }
        Ok(buffer)
    }

    #[cfg(all(feature = "verify", not(target_arch = "wasm32")))]
    /// Whether nothing wrote behind the first `bytes` bytes of a buffer allocated under [`Gpu::poison`].
    pub(crate) fn guard_is_intact(&self, buffer: &Buffer, bytes: u64) -> Result<bool> {
        let all = self.read_blocking(buffer, buffer.raw.size())?;
        let behind = bytes.next_multiple_of(4) as usize;
        let words = bytemuck::pod_collect_to_vec::<u8, u32>(&all[behind..]);
        Ok(words.iter().all(|&word| word == poison_word(buffer.id)))
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

    /// How often something happened since the device was opened: submits, dispatches, readbacks. Example:
    /// [`Counters`].
    pub fn counters(&self) -> Counters {
        self.0.recorder.lock().expect("recorder lock").counters
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
}
