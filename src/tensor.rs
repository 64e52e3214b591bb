//! Tensors: a shape, an element type and row-major storage on a device.
//!
//! ```
//! use crossmodal::{DType, Device, Tensor};
//! let x = Tensor::zeros(&Device::Cpu, &[2, 3], DType::F16)?;
//! assert_eq!((x.shape(), x.dtype(), x.device()), (&[2, 3][..], DType::F16, &Device::Cpu));
//! assert_eq!(x.to_f64_vec()?, [0.; 6]);
//! # Ok::<(), crossmodal::Error>(())
//! ```

mod host;

use crate::device::Device;
use crate::dtype::{DType, HostData};
use crate::error::{Error, Result};
use crate::gpu::{Buffer, Gpu};
use crate::shape::{MAX_RANK, count};
use std::borrow::Cow;
use std::sync::Arc;

/// A dense row-major array on a device. Cheap to clone: clones share the storage, which operations never change in place,
/// except the optimiser's step, which copies first if it is shared.
///
/// ```
/// use crossmodal::{Device, Tensor};
/// let x = Tensor::from_slice(&Device::Cpu, &[2, 3], &[1f32, 2., 3., 4., 5., 6.])?;
/// assert_eq!(x.shape(), [2, 3]);
/// assert_eq!(x.reshape(&[3, 2])?.to_vec::<f32>()?[5], 6.);
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Clone)]
pub struct Tensor {
    shape: Vec<usize>,
    dtype: DType,
    device: Device,
    storage: Storage,
}

#[derive(Clone)]
enum Storage {
    Host(Arc<HostData>),
    /// One buffer, or pieces of [`Gpu::piece_bytes`](crate::gpu::Gpu) where no binding spans the whole.
    Gpu(Arc<Vec<Buffer>>),
}

impl std::fmt::Debug for Tensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tensor({} {:?} on {})", self.dtype, self.shape, self.device.name())
    }
}

impl Tensor {
    /// A tensor of zeros.
    ///
    /// ```
    /// use crossmodal::{DType, Device, Tensor};
    /// assert_eq!(Tensor::zeros(&Device::Cpu, &[2], DType::U32)?.to_vec::<u32>()?, [0, 0]);
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    pub fn zeros(device: &Device, shape: &[usize], dtype: DType) -> Result<Tensor> {
        if let Device::Gpu(gpu) = device {
            let out = Self::uninit("zeros", device, shape, dtype)?;
            out.pieces().iter().zip(out.piece_sizes(gpu)).for_each(|(piece, bytes)| gpu.clear(piece, bytes));
            return Ok(out);
        }
        check("zeros", device, shape, dtype)?;
        Self::from_host(device, shape, HostData::from_bytes(dtype, &vec![0; count(shape) * dtype.size()]))
    }

    /// A GPU tensor that a kernel is about to fill.
    pub(crate) fn uninit(op: &'static str, device: &Device, shape: &[usize], dtype: DType) -> Result<Tensor> {
        check(op, device, shape, dtype)?;
        let Device::Gpu(gpu) = device else {
            return Self::zeros(device, shape, dtype);
        };
        let pieces = gpu.allocate(op, (count(shape) * dtype.size()) as u64)?;
        Ok(Tensor {
            shape: shape.to_vec(),
            dtype,
            device: device.clone(),
            storage: Storage::Gpu(Arc::new(pieces)),
        })
    }

    /// The sizes of the axes.
    ///
    /// ```
    /// use crossmodal::{DType, Device, Tensor};
    /// let x = Tensor::zeros(&Device::Cpu, &[2, 3], DType::F32)?;
    /// assert_eq!((x.shape(), x.len(), x.is_empty()), (&[2, 3][..], 6, false));
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The number of elements. Example: [`Tensor::shape`].
    pub fn len(&self) -> usize {
        count(&self.shape)
    }

    /// Whether it has no elements. Example: [`Tensor::shape`].
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The element type. Example: [`tensor`](crate::tensor).
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Where it lives. Example: [`tensor`](crate::tensor).
    pub fn device(&self) -> &Device {
        &self.device
    }

    fn bytes(&self) -> u64 {
        (self.len() * self.dtype.size()) as u64
    }

    /// The same elements under another shape, sharing the storage. Errors: the counts differ; more than 8
    /// axes.
    ///
    /// ```
    /// use crossmodal::{Device, Tensor};
    /// let x = Tensor::from_slice(&Device::Cpu, &[4], &[1f32, 2., 3., 4.])?;
    /// assert_eq!(x.reshape(&[2, 2])?.shape(), [2, 2]);
    /// assert!(x.reshape(&[3]).is_err());
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    pub fn reshape(&self, shape: &[usize]) -> Result<Tensor> {
        check("reshape", &self.device, shape, self.dtype)?;
        if count(shape) != self.len() {
            return Err(Error::argument(
                "reshape",
                "shape",
                format!("{} elements", self.len()),
                format!("{shape:?}"),
            ));
        }
        Ok(Tensor { shape: shape.to_vec(), ..self.clone() })
    }

    /// The GPU storage; operations ask for it only where the device is a GPU.
    pub(crate) fn pieces(&self) -> &[Buffer] {
        match &self.storage {
            Storage::Gpu(pieces) => pieces,
            Storage::Host(_) => unreachable!("a CPU tensor has no buffers"),
        }
    }

    /// Whether no binding of its device spans it, so that a kernel sees it in parts only.
    pub(crate) fn is_split(&self) -> bool {
        matches!(&self.storage, Storage::Gpu(pieces) if pieces.len() > 1)
    }

    /// The bytes of each piece.
    fn piece_sizes(&self, gpu: &Gpu) -> impl Iterator<Item = u64> + use<> {
        let (whole, piece) = (self.bytes(), gpu.piece_bytes());
        (0..).map(move |i| piece.min(whole.saturating_sub(i * piece)))
    }

    /// The one buffer that a kernel binds. Errors: the tensor is split.
    pub(crate) fn buffer(&self, op: &str, binding: &str) -> Result<&Buffer> {
        match (self.pieces(), &self.device) {
            ([buffer], _) => Ok(buffer),
            (_, Device::Gpu(gpu)) => Err(Error::Limit {
                device: gpu.name().to_string(),
                what: format!("{op}: binding {binding}"),
                asked: self.bytes(),
                available: gpu.piece_bytes(),
            }),
            (_, Device::Cpu) => unreachable!("a GPU buffer on the CPU"),
        }
    }

    /// The host storage; operations ask for it only where the device is the CPU.
    pub(crate) fn data(&self) -> &HostData {
        match &self.storage {
            Storage::Host(data) => data,
            Storage::Gpu(_) => unreachable!("a GPU tensor has no host data"),
        }
    }

    /// The host storage widened to f64, as the definitions in `reference` take it.
    pub(crate) fn f64s(&self) -> Cow<'_, [f64]> {
        self.data().to_f64()
    }

    /// The host storage for writing, copied first if it is shared.
    pub(crate) fn host_mut(&mut self) -> &mut HostData {
        match &mut self.storage {
            Storage::Host(data) => Arc::make_mut(data),
            Storage::Gpu(_) => unreachable!("a GPU tensor has no host data"),
        }
    }

    /// Makes the GPU storage this tensor's own, copying it if it is shared, so that a kernel may write it in place.
    pub(crate) fn own_buffer(&mut self, op: &'static str) -> Result<()> {
        let (Storage::Gpu(pieces), Device::Gpu(gpu)) = (&self.storage, &self.device) else { return Ok(()) };
        if Arc::strong_count(pieces) > 1 {
            let own = gpu.allocate(op, self.bytes())?;
            for ((from, to), bytes) in pieces.iter().zip(&own).zip(self.piece_sizes(gpu)) {
                gpu.copy(from, to, bytes);
            }
            self.storage = Storage::Gpu(Arc::new(own));
        }
        Ok(())
    }

    /// Whether nothing was written behind this tensor's elements, if [`Gpu::poison`](crate::gpu::Gpu::poison)
    /// was on when it was made; waits for the device. True on the CPU.
    ///
    /// ```
    /// use crossmodal::{Device, Tensor};
    /// assert!(Tensor::scalar(&Device::Cpu, 1f32)?.guard_is_intact()?);
    /// if let Ok(device @ Device::Gpu(gpu)) = &Device::named("gpu") {
    ///     gpu.poison(true);
    ///     assert!(Tensor::scalar(device, 1f32)?.guard_is_intact()?);
    ///     gpu.poison(false);
    /// }
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    #[cfg(all(feature = "gpu", feature = "verify", not(target_arch = "wasm32")))]
    pub fn guard_is_intact(&self) -> Result<bool> {
        match (&self.storage, &self.device) {
            (Storage::Gpu(pieces), Device::Gpu(gpu)) => {
                let intact = |(piece, size)| gpu.guard_is_intact(piece, size);
                pieces.iter().zip(self.piece_sizes(gpu)).map(intact).try_fold(true, |all, one| Ok(all & one?))
            }
            _ => Ok(true),
        }
    }
}

/// What every tensor must satisfy before memory is asked for.
pub(crate) fn check(op: &'static str, device: &Device, shape: &[usize], dtype: DType) -> Result<()> {
    if shape.len() > MAX_RANK {
        return Err(Error::argument(op, "shape", format!("at most {MAX_RANK} axes"), format!("{shape:?}")));
    }
    // Counting an empty axis as 1: strides and parts of the shape must fit too.
    let elements = shape.iter().try_fold(1usize, |n, &size| n.checked_mul(size.max(1)));
    if elements.is_none_or(|n| u32::try_from(n).is_err()) {
        return Err(Error::argument(op, "shape", "fewer than 2^32 elements", format!("{shape:?}")));
    }
    if !device.supports(dtype) {
        let expected =
            if dtype == DType::F64 { "f32, or f16 where it has it (f64 is for the CPU)" } else { "f32" };
        return Err(Error::argument(op, "dtype", format!("{expected} on {}", device.name()), dtype));
    }
    Ok(())
}
