//! Tensors: a shape, an element type and row-major storage on a device.
//!
//! ```
//! use crossmodal::{DType, Device, Tensor};
//! let x = Tensor::zeros(&Device::Cpu, &[2, 3], DType::F16)?;
//! assert_eq!((x.shape(), x.dtype(), x.device()), (&[2, 3][..], DType::F16, &Device::Cpu));
//! assert_eq!(x.to_f64_vec()?, [0.; 6]);
//! # Ok::<(), crossmodal::Error>(())
//! ```

use crate::device::Device;
use crate::dtype::{DType, Element, HostData};
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
    /// A tensor of `data` on `device`.
    ///
    /// Errors: `data` does not have as many elements as `shape`; more than 8 axes; 2³² elements or more; the
    /// device lacks the type or the memory. Example: [`Tensor`].
    pub fn from_slice<T: Element>(device: &Device, shape: &[usize], data: &[T]) -> Result<Tensor> {
        Self::from_vec(device, shape, data.to_vec())
    }

    /// As [`Tensor::from_slice`], taking the memory over on the CPU.
    ///
    /// ```
    /// use crossmodal::{Device, Tensor};
    /// let x = Tensor::from_vec(&Device::Cpu, &[2], vec![1u32, 2])?;
    /// assert!(Tensor::from_vec(&Device::Cpu, &[3], vec![1u32, 2]).is_err());
    /// assert_eq!(x.to_vec::<u32>()?, [1, 2]);
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    pub fn from_vec<T: Element>(device: &Device, shape: &[usize], data: Vec<T>) -> Result<Tensor> {
        Self::from_host(device, shape, T::wrap(data))
    }

    /// A tensor of one value without axes.
    ///
    /// ```
    /// use crossmodal::{Device, Tensor};
    /// let t = Tensor::scalar(&Device::Cpu, 2.5f32)?;
    /// assert_eq!((t.shape().len(), t.item()?), (0, 2.5));
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    pub fn scalar<T: Element>(device: &Device, value: T) -> Result<Tensor> {
        Self::from_vec(device, &[], vec![value])
    }

    /// The values rounded to `dtype`; u32 drops the fraction. Errors: as [`Tensor::from_slice`].
    ///
    /// ```
    /// use crossmodal::{DType, Device, Tensor};
    /// let x = Tensor::from_f64(&Device::Cpu, &[2], DType::F16, vec![0.1, 1.])?;
    /// assert_eq!(x.to_f64_vec()?, [0.0999755859375, 1.]);
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    pub fn from_f64(device: &Device, shape: &[usize], dtype: DType, values: Vec<f64>) -> Result<Tensor> {
        Self::from_host(device, shape, HostData::from_f64(dtype, values))
    }

    /// A tensor of host memory of whichever type it has. Errors: as [`Tensor::from_slice`].
    ///
    /// ```
    /// use crossmodal::{DType, Device, Tensor, dtype::HostData};
    /// let x = Tensor::from_host(&Device::Cpu, &[2, 1], HostData::F64(vec![1., 2.]))?;
    /// assert_eq!((x.dtype(), x.to_vec::<f64>()?), (DType::F64, vec![1., 2.]));
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    pub fn from_host(device: &Device, shape: &[usize], data: HostData) -> Result<Tensor> {
        let dtype = data.dtype();
        let elements = data.bytes().len() / dtype.size();
        check("Tensor", device, shape, dtype)?;
        if elements != count(shape) {
            let expected = format!("{} elements for shape {shape:?}", count(shape));
            return Err(Error::argument("Tensor", "data", expected, elements));
        }
        let storage = match device {
            Device::Cpu => Storage::Host(Arc::new(data)),
            Device::Gpu(gpu) => {
                let pieces = gpu.allocate("a tensor", data.bytes().len() as u64)?;
                for (piece, bytes) in pieces.iter().zip(data.bytes().chunks(gpu.piece_bytes() as usize)) {
                    gpu.write(piece, bytes)?;
                }
                Storage::Gpu(Arc::new(pieces))
            }
        };
        Ok(Tensor { shape: shape.to_vec(), dtype, device: device.clone(), storage })
    }

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

    /// The elements on the host; waits for the device. Errors: `T` is not the tensor's type; the driver's.
    ///
    /// ```
    /// use crossmodal::{Device, Tensor};
    /// let x = Tensor::from_slice(&Device::Cpu, &[2], &[1f32, 2.])?;
    /// assert_eq!(x.to_vec::<f32>()?, [1., 2.]);
    /// assert!(x.to_vec::<f64>().is_err());
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    #[cfg(not(target_arch = "wasm32"))]
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        self.expect_dtype(T::DTYPE)?;
        Ok(T::peek(&*self.host()?).cloned().unwrap_or_default())
    }

    /// The elements on the host, for callers that must not block. Errors: as [`Tensor::to_vec`].
    ///
    /// ```
    /// # #[cfg(feature = "gpu")] {
    /// use crossmodal::{Device, Tensor};
    /// let x = Tensor::from_slice(&Device::Cpu, &[2], &[1f32, 2.])?;
    /// assert_eq!(pollster::block_on(x.to_vec_async::<f32>())?, [1., 2.]); // or `.await`
    /// # }
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    pub async fn to_vec_async<T: Element>(&self) -> Result<Vec<T>> {
        self.expect_dtype(T::DTYPE)?;
        match (&self.storage, &self.device) {
            (Storage::Gpu(pieces), Device::Gpu(gpu)) => {
                let mut bytes = Vec::with_capacity(self.bytes() as usize);
                for (piece, size) in pieces.iter().zip(self.piece_sizes(gpu)) {
                    bytes.extend(gpu.read(piece, size).await?);
                }
                Ok(bytemuck::pod_collect_to_vec(&bytes))
            }
            (Storage::Host(data), _) => Ok(T::peek(data).cloned().unwrap_or_default()),
            _ => unreachable!("a GPU buffer on the CPU"),
        }
    }

    /// The elements on the host, widened to f64; waits for the device.
    ///
    /// ```
    /// use crossmodal::{Device, Tensor};
    /// let x = Tensor::from_slice(&Device::Cpu, &[2], &[3u32, 4])?;
    /// assert_eq!(x.to_f64_vec()?, [3., 4.]);
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    #[cfg(not(target_arch = "wasm32"))]
    pub fn to_f64_vec(&self) -> Result<Vec<f64>> {
        Ok(self.host()?.to_f64().into_owned())
    }

    /// The elements on the host in their own type; waits for the device.
    ///
    /// ```
    /// use crossmodal::{Device, Tensor, dtype::HostData};
    /// let x = Tensor::from_slice(&Device::Cpu, &[2], &[3u32, 4])?;
    /// assert!(matches!(x.to_host()?, HostData::U32(values) if values == [3, 4]));
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    #[cfg(not(target_arch = "wasm32"))]
    pub fn to_host(&self) -> Result<HostData> {
        Ok(self.host()?.into_owned())
    }

    /// The one element of a tensor of one element; waits for the device. Errors: it has more or none.
    ///
    /// ```
    /// use crossmodal::{Device, Tensor};
    /// assert_eq!(Tensor::from_slice(&Device::Cpu, &[1, 1], &[7f32])?.item()?, 7.);
    /// assert!(Tensor::from_slice(&Device::Cpu, &[2], &[7f32, 8.])?.item().is_err());
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    #[cfg(not(target_arch = "wasm32"))]
    pub fn item(&self) -> Result<f64> {
        match self.to_f64_vec()?.as_slice() {
            [value] => Ok(*value),
            _ => Err(Error::argument("item", "self", "one element", format!("shape {:?}", self.shape))),
        }
    }

    /// The tensor on another device, itself if it is there already; waits for the one it comes from. Errors:
    /// as [`Tensor::from_slice`]; the driver's.
    ///
    /// ```
    /// use crossmodal::{Device, Tensor};
    /// let x = Tensor::from_slice(&Device::Cpu, &[2], &[1f32, 2.])?;
    /// if let Ok(gpu) = Device::named("gpu") {
    ///     assert_eq!(x.to_device(&gpu)?.device(), &gpu);
    /// }
    /// assert_eq!(x.to_device(&Device::Cpu)?.to_vec::<f32>()?, [1., 2.]);
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    #[cfg(not(target_arch = "wasm32"))]
    pub fn to_device(&self, device: &Device) -> Result<Tensor> {
        if *device == self.device {
            return Ok(self.clone());
        }
        Self::from_host(device, &self.shape, self.host()?.into_owned())
    }

    #[cfg(not(target_arch = "wasm32"))]
    fn host(&self) -> Result<Cow<'_, HostData>> {
        match (&self.storage, &self.device) {
            (Storage::Gpu(pieces), Device::Gpu(gpu)) => {
                let mut bytes = Vec::with_capacity(self.bytes() as usize);
                for (piece, size) in pieces.iter().zip(self.piece_sizes(gpu)) {
                    bytes.extend(gpu.read_blocking(piece, size)?);
                }
                Ok(Cow::Owned(HostData::from_bytes(self.dtype, &bytes)))
            }
            (Storage::Host(data), _) => Ok(Cow::Borrowed(data)),
            _ => unreachable!("a GPU buffer on the CPU"),
        }
    }

    fn expect_dtype(&self, dtype: DType) -> Result<()> {
        if self.dtype == dtype {
            return Ok(());
        }
        Err(Error::argument("to_vec", "T", self.dtype, dtype))
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
