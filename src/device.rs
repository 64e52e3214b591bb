//! Where tensors live and operations run.

use crate::error::Result;
use crate::gpu::Gpu;

/// The CPU path or one GPU. Cheap to clone; every tensor carries its own.
///
/// ```
/// let device = crossmodal::Device::best()?; // a real GPU where there is one, else the CPU path
/// println!("{}", device.name());
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub enum Device {
    /// Plain Rust on the host, threaded where it carries work.
    Cpu,
    /// A GPU through WebGPU.
    Gpu(Gpu),
}

impl Device {
    /// The device that `asked` names: `auto` (a real GPU, else the CPU path), `cpu`, `gpu` (a real GPU or an error), an index
    /// of [`adapters`](crate::gpu::adapters), or a part of an adapter's name, driver or backend.
    ///
    /// Errors: [`Error::NoDevice`](crate::Error::NoDevice) with the devices there are, [`Error::Driver`](crate::Error::Driver) if the driver refuses.
    pub async fn named_async(asked: &str) -> Result<Device> {
        if asked == "cpu" {
            return Ok(Device::Cpu);
        }
        #[cfg(feature = "gpu")]
        {
            if asked == "auto" && crate::gpu::best(&crate::gpu::adapters().await).is_none() {
                return Ok(Device::Cpu);
            }
            let asked = if asked == "auto" { "gpu" } else { asked };
            Ok(Device::Gpu(Gpu::open(asked).await?))
        }
        #[cfg(not(feature = "gpu"))]
        match asked {
            "auto" => Ok(Device::Cpu),
            _ => Err(crate::Error::NoDevice {
                asked: asked.into(),
                reason: "this build has no `gpu` feature".into(),
                exist: "cpu".into(),
            }),
        }
    }

    /// The blocking twin of [`Device::named_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn named(asked: &str) -> Result<Device> {
        crate::block_on(Self::named_async(asked))
    }

    /// What the variable `CROSSMODAL_DEVICE` names, `auto` where it is not set or empty.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn best() -> Result<Device> {
        let named = std::env::var("CROSSMODAL_DEVICE").unwrap_or_default();
        Self::named(if named.is_empty() { "auto" } else { &named })
    }

    /// `cpu` or the adapter's name.
    pub fn name(&self) -> &str {
        match self {
            Device::Cpu => "cpu",
            Device::Gpu(gpu) => gpu.name(),
        }
    }

    /// Whether tensors of this type can live here: f64 on the CPU only, f16 where the GPU has it.
    pub fn supports(&self, dtype: crate::DType) -> bool {
        match (self, dtype) {
            (Device::Cpu, _) => true,
            (Device::Gpu(_), crate::DType::F64) => false,
            (Device::Gpu(gpu), crate::DType::F16) => gpu.supports_f16(),
            (Device::Gpu(_), _) => true,
        }
    }

    /// Hands what is recorded to the driver without waiting; nothing to do on the CPU.
    pub fn submit(&self) -> Result<()> {
        match self {
            Device::Cpu => Ok(()),
            Device::Gpu(gpu) => gpu.submit(),
        }
    }

    /// Waits until everything recorded is done; nothing to do on the CPU.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn wait(&self) -> Result<()> {
        match self {
            Device::Cpu => Ok(()),
            Device::Gpu(gpu) => gpu.wait(),
        }
    }
}
