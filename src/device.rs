//! Where tensors live and operations run.
//!
//! ```
//! use crossmodal::{DType, Device};
//! let device = Device::named("cpu")?;
//! assert_eq!((device.name(), device.supports(DType::F64)), ("cpu", true));
//! device.wait()?; // nothing to wait for on the CPU
//! # Ok::<(), crossmodal::Error>(())
//! ```

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
    /// Errors: [`Error::NoDevice`](crate::Error::NoDevice) with the devices there are,
    /// [`Error::Driver`](crate::Error::Driver) if the driver refuses.
    ///
    /// ```
    /// # #[cfg(feature = "gpu")] {
    /// use crossmodal::Device;
    /// let device = pollster::block_on(Device::named_async("auto"))?; // or `.await`
    /// assert!(!device.name().is_empty());
    /// # }
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    pub async fn named_async(asked: &str) -> Result<Device> {
        let word = asked.to_lowercase();
        if word == "cpu" {
            return Ok(Device::Cpu);
        }
        #[cfg(feature = "gpu")]
        {
            if word != "auto" {
                return Ok(Device::Gpu(Gpu::open(asked).await?));
            }
            match Gpu::open("gpu").await {
                Ok(gpu) => return Ok(Device::Gpu(gpu)),
                Err(crate::Error::NoDevice { .. }) => {}
                Err(e) => log::warn!("{e}; taking the CPU path"),
            }
            Ok(Device::Cpu)
        }
        #[cfg(not(feature = "gpu"))]
        match word.as_str() {
            "auto" => Ok(Device::Cpu),
            _ => Err(crate::Error::NoDevice {
                asked: asked.into(),
                reason: "this build has no `gpu` feature".into(),
                exist: "cpu".into(),
            }),
        }
    }

    /// The blocking twin of [`Device::named_async`].
    ///
    /// ```
    /// use crossmodal::{Device, Error};
    /// assert_eq!(Device::named("cpu")?, Device::Cpu);
    /// assert!(matches!(Device::named("no such device"), Err(Error::NoDevice { .. })));
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    #[cfg(not(target_arch = "wasm32"))]
    pub fn named(asked: &str) -> Result<Device> {
        crate::block_on(Self::named_async(asked))
    }

    /// What the variable `CROSSMODAL_DEVICE` names, `auto` where it is not set or empty. Errors: as
    /// [`Device::named_async`]. Example: [`Device`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn best() -> Result<Device> {
        let named = std::env::var("CROSSMODAL_DEVICE").unwrap_or_default();
        Self::named(if named.is_empty() { "auto" } else { &named })
    }

    /// `cpu` or the adapter's name.
    ///
    /// ```
    /// assert_eq!(crossmodal::Device::Cpu.name(), "cpu");
    /// ```
    pub fn name(&self) -> &str {
        match self {
            Device::Cpu => "cpu",
            Device::Gpu(gpu) => gpu.name(),
        }
    }

    /// Whether tensors of this type can live here: f64 on the CPU only, f16 where the GPU has it.
    ///
    /// ```
    /// use crossmodal::{DType, Device};
    /// assert!(Device::Cpu.supports(DType::F64));
    /// ```
    pub fn supports(&self, dtype: crate::DType) -> bool {
        match (self, dtype) {
            (Device::Cpu, _) => true,
            (Device::Gpu(_), crate::DType::F64) => false,
            (Device::Gpu(gpu), crate::DType::F16) => gpu.supports_f16(),
            (Device::Gpu(_), _) => true,
        }
    }

    /// Hands what is recorded to the driver without waiting; nothing to do on the CPU.
    ///
    /// ```
    /// use crossmodal::{DType, Device, Tensor, ops::exp};
    /// let device = Device::best()?;
    /// let y = exp(&Tensor::zeros(&device, &[4], DType::F32)?)?;
    /// device.submit()?; // the GPU works while the host goes on
    /// assert_eq!(y.to_vec::<f32>()?, [1.; 4]);
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    pub fn submit(&self) -> Result<()> {
        match self {
            Device::Cpu => Ok(()),
            Device::Gpu(gpu) => gpu.submit(),
        }
    }

    /// Waits until everything recorded is done; nothing to do on the CPU.
    ///
    /// ```
    /// use crossmodal::{DType, Device, Tensor, ops::exp};
    /// let device = Device::best()?;
    /// let (x, start) = (Tensor::zeros(&device, &[4], DType::F32)?, std::time::Instant::now());
    /// exp(&x)?;
    /// device.wait()?;
    /// println!("{:?}", start.elapsed());
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    #[cfg(not(target_arch = "wasm32"))]
    pub fn wait(&self) -> Result<()> {
        match self {
            Device::Cpu => Ok(()),
            Device::Gpu(gpu) => gpu.wait(),
        }
    }
}
