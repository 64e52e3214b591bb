//! Pipelines by kernel and variant, bind groups by the buffers they name: each made once.

use super::pipeline_cache::PipelineCache;
use super::{Access, Buffer, Gpu, Kernel, Variant};
use crate::error::Result;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Bind groups kept before all are dropped: a training step needs well under a hundred.
const MAX_BIND_GROUPS: usize = 4096;

pub(super) struct Pipeline {
    pub(super) raw: wgpu::ComputePipeline,
    layout: wgpu::BindGroupLayout,
    /// Stable number, the first half of a bind group's key.
    id: u64,
    /// What was compiled: with another hook it is looked at again.
    #[cfg(feature = "verify")]
    compiled: (Kernel, String),
}

/// A change that a test makes to a kernel's source.
type SourceHook = Arc<dyn Fn(&Kernel, &str) -> String + Send + Sync>;

#[derive(Default)]
pub(super) struct Pipelines {
    pipelines: HashMap<(&'static str, &'static str, Variant), Arc<Pipeline>>,
    groups: HashMap<(u64, Vec<u64>), wgpu::BindGroup>,
    /// Pipelines made so far, forgotten ones too.
    made: u64,
    hook: Option<SourceHook>,
}

/// The kernel's source as it is compiled.
fn hooked(hook: &Option<SourceHook>, kernel: &Kernel, variant: &Variant) -> String {
    let source = kernel.code(variant);
    hook.as_ref().map_or(source.clone(), |hook| hook(kernel, &source))
}

impl Pipelines {
    /// Whether kernels are compiled as a test changes them.
    pub(super) fn is_hooked(&self) -> bool {
        self.hook.is_some()
    }

    pub(super) fn forget_bind_groups(&mut self) {
        self.groups.clear();
    }
}

impl Gpu {
    /// Rewrites every kernel's source before it is compiled, and forgets what was compiled of another one: with it a test plants
    /// a fault and sees whether verification finds it. `None` takes it away again.
    ///
    /// ```
    /// use crossmodal::{Device, Tensor, gpu::Kernel, ops::exp};
    /// if let Ok(device @ Device::Gpu(gpu)) = &Device::named("gpu") {
    ///     let fault = |_: &Kernel, source: &str| source.replace("out[i] =", "out[i] = 1 +");
    ///     gpu.set_source_hook(Some(std::sync::Arc::new(fault)));
    ///     assert_eq!(exp(&Tensor::scalar(device, 0f32)?)?.item()?, 2.); // 1 too many
    ///     gpu.set_source_hook(None);
    /// }
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    #[cfg(feature = "verify")]
    pub fn set_source_hook(&self, hook: Option<SourceHook>) {
        let mut pipelines = self.0.pipelines.lock().expect("pipeline lock");
        pipelines
            .pipelines
            .retain(|(.., variant), own| own.compiled.1 == hooked(&hook, &own.compiled.0, variant));
        pipelines.groups.clear();
        pipelines.hook = hook;
    }

    pub(super) fn pipeline(&self, kernel: &Kernel, variant: &Variant) -> Result<Arc<Pipeline>> {
        let mut cache = self.0.pipelines.lock().expect("pipeline lock");
        let key = (kernel.name, kernel.entry, variant.clone());
        if let Some(pipeline) = cache.pipelines.get(&key) {
            return Ok(pipeline.clone());
        }
        let source = hooked(&cache.hook, kernel, variant);
        let what = format!("compiling {}/{}", kernel.name, kernel.entry);
        let id = cache.made;
        cache.made += 1;
        self.0.made.pipelines.fetch_add(1, Relaxed);
        // What a test has changed is nothing to keep on disk.
        let disk = self.0.pipeline_cache.as_ref().filter(|_| cache.hook.is_none());
        let compile = || self.compile(kernel, source, id, disk.map(PipelineCache::raw));
        let pipeline = Arc::new(self.checked(&what, 0, compile)?);
        disk.inspect(|disk| disk.has_more());
        cache.pipelines.insert(key, pipeline.clone());
        Ok(pipeline)
    }

    fn compile(
        &self,
        kernel: &Kernel,
        source: String,
        id: u64,
        cache: Option<&wgpu::PipelineCache>,
    ) -> Pipeline {
        let device = &self.0.device;
        // An explicit layout: an automatic one cannot have dynamic offsets.
        let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some(kernel.name),
            entries: &layout_entries(kernel),
        });
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(kernel.name),
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let module = self.module(kernel, source.as_str());
        let raw = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(kernel.name),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some(kernel.entry),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &[],
                // Every kernel writes workgroup memory before it reads it.
                zero_initialize_workgroup_memory: false,
            },
            cache,
        });
        Pipeline {
            raw,
            layout,
            id,
            #[cfg(feature = "verify")]
            compiled: (*kernel, source),
        }
    }

    fn module(&self, kernel: &Kernel, source: &str) -> wgpu::ShaderModule {
        let descriptor = wgpu::ShaderModuleDescriptor {
            label: Some(kernel.name),
            source: wgpu::ShaderSource::Wgsl(source.into()),
        };
        if !kernel.unchecked {
            return self.0.device.create_shader_module(descriptor);
        }
        // SAFETY: a kernel asks for this only where `tests/indices.rs` proves that its indices into workgroup memory stay
        // inside and its loops end; accesses to buffers are kept inside by the driver (robust buffer access).
        #[allow(unsafe_code, reason = "an eighth faster where indices are proved")]
        unsafe {
            self.0.device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked())
        }
    }

    pub(super) fn bind_group(
        &self,
        kernel: &Kernel,
        pipeline: &Pipeline,
        buffers: &[&Buffer],
    ) -> Result<wgpu::BindGroup> {
        assert_eq!(buffers.len(), kernel.bindings.len(), "{}: every binding gets a buffer", kernel.name);
        let mut cache = self.0.pipelines.lock().expect("pipeline lock");
        let key = (pipeline.id, buffers.iter().map(|b| b.id).collect::<Vec<_>>());
        if let Some(group) = cache.groups.get(&key) {
            return Ok(group.clone());
        }
        let slots = self.0.recorder.lock().expect("recorder lock").slot_buffer().clone();
        let parameters = wgpu::BindGroupEntry {
            binding: 0,
            resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                buffer: &slots,
                offset: 0,
                size: std::num::NonZeroU64::new(kernel.params_size.next_multiple_of(16) as u64),
            }),
        };
        let storage = buffers.iter().zip(1..).map(|(buffer, binding)| wgpu::BindGroupEntry {
            binding,
            resource: buffer.raw.as_entire_binding(),
        });
        let entries: Vec<_> = std::iter::once(parameters).chain(storage).collect();
        self.0.made.bind_groups.fetch_add(1, Relaxed);
        let group = self.checked("binding buffers", 0, || {
            self.0.device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some(kernel.name),
                layout: &pipeline.layout,
                entries: &entries,
            })
        })?;
        if cache.groups.len() >= MAX_BIND_GROUPS {
            cache.groups.clear();
        }
        cache.groups.insert(key, group.clone());
        Ok(group)
    }
}

fn layout_entries(kernel: &Kernel) -> Vec<wgpu::BindGroupLayoutEntry> {
    let entry = |binding, ty, has_dynamic_offset| wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset, min_binding_size: None },
        count: None,
    };
    let storage = kernel.bindings.iter().zip(1..).map(|(binding, index)| {
        entry(index, wgpu::BufferBindingType::Storage { read_only: binding.access == Access::Read }, false)
    });
    std::iter::once(entry(0, wgpu::BufferBindingType::Uniform, true)).chain(storage).collect()
}
