//! Between the host's memory and tensors.

use super::{Storage, Tensor, check};
use crate::device::Device;
use crate::dtype::{DType, Element, HostData};
use crate::error::{Error, Result};
use crate::shape::count;
#[cfg(not(target_arch = "wasm32"))]
use std::borrow::Cow;
use std::sync::Arc;

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
}
