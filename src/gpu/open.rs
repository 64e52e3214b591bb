//! Opening a device, or taking over one that a program has.

use super::pipeline_cache::PipelineCache;
use super::{AdapterReport, Gpu, Inner, adapter, choose, recorder};
use crate::error::{Error, Result};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

fn experimental(wanted: bool) -> wgpu::ExperimentalFeatures {
    if !wanted {
        return wgpu::ExperimentalFeatures::disabled();
    }
    // SAFETY: of what is experimental only cooperative matrices are asked for, in the sizes and types that the adapter lists. Blocks
    // are loaded from workgroup memory, or from operands whose lines and inner axis are multiples of a block, the last one again
    // past the edge: inside in any case. A kernel serves a class of products after it was compared with the plain one on whole numbers.
    #[allow(unsafe_code, reason = "matrix units are to be had only so")]
    unsafe {
        wgpu::ExperimentalFeatures::enabled()
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
        let wanted = wgpu::Features::SHADER_F16
            | wgpu::Features::SHADER_INT64
            | wgpu::Features::SUBGROUP
            | wgpu::Features::TIMESTAMP_QUERY
            | wgpu::Features::PIPELINE_CACHE;
        // Only where a kernel of ours can use them.
        let matrices = if report.cooperative > 0 {
            wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX
        } else {
            wgpu::Features::empty()
        };
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("crossmodal"),
            required_features: adapter.features() & wanted | matrices,
            experimental_features: experimental(report.cooperative > 0),
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
        Ok(Self::assemble(&adapter, device, queue, report))
    }

    /// Computes on a device that the caller opened and goes on using. f16 tensors need its `SHADER_F16`
    /// feature, matrix units
    /// `EXPERIMENTAL_COOPERATIVE_MATRIX` too, some kernels `SUBGROUP` and `SHADER_INT64`, profiling `TIMESTAMP_QUERY`, compiled
    /// kernels on disk `PIPELINE_CACHE`; its limits are the limits
    /// here. The caller keeps its handler of uncaptured errors; its device-lost callback is replaced. The caller's
    /// own callbacks (of mapped buffers and of submitted work) must not call this `Gpu`: wgpu may run them while it
    /// submits.
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
        report.int64 = features.contains(wgpu::Features::SHADER_INT64);
        report.subgroups = features.contains(wgpu::Features::SUBGROUP);
        if !report.f16 || !features.contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX) {
            report.cooperative = 0;
        }
        report.timestamps = features.contains(wgpu::Features::TIMESTAMP_QUERY);
        report.max_buffer = limits.max_buffer_size;
        report.max_binding = limits.max_storage_buffer_binding_size;
        report.workgroup_memory = limits.max_compute_workgroup_storage_size;
        report.invocations = limits.max_compute_invocations_per_workgroup;
        Self::assemble(adapter, device, queue, report)
    }

    fn assemble(
        adapter: &wgpu::Adapter,
        device: wgpu::Device,
        queue: wgpu::Queue,
        report: AdapterReport,
    ) -> Gpu {
        let lost = Arc::new(Mutex::new(None));
        let seen = lost.clone();
        device.set_device_lost_callback(move |reason, message| {
            // Also where its owner destroyed it: a program's own device may go while tensors are there.
            let destroyed = reason == wgpu::DeviceLostReason::Destroyed;
            *seen.lock().expect("lost lock") =
                Some(if destroyed { "it was destroyed".into() } else { message });
        });
        let recorder = Mutex::new(recorder::Recorder::new(&device, &report));
        let pipeline_cache = PipelineCache::open(adapter, &device);
        Gpu(Arc::new(Inner {
            device,
            queue,
            report,
            pool: Arc::default(),
            pipelines: Mutex::default(),
            pipeline_cache,
            recorder,
            profile: Mutex::default(),
            readbacks: Mutex::default(),
            made: Default::default(),
            lost,
            poison: AtomicBool::new(false),
            choices: Mutex::default(),
        }))
    }
}
