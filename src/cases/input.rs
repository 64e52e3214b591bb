//! Inputs of cases: the same numbers every time.

use crate::device::Device;
use crate::dtype::{DType, HostData};
use crate::error::Result;
use crate::shape::count;
use crate::tensor::Tensor;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A tensor to be, in f64.
#[derive(Debug, Clone)]
pub struct Input {
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its elements.
    pub values: Vec<f64>,
}

/// A generator whose stream depends on the name alone.
fn generator(seed: &str, shape: &[usize]) -> ChaCha8Rng {
    // FNV-1a, so that each name and shape has numbers of its own.
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    let bytes = seed.bytes().chain(shape.iter().flat_map(|n| n.to_le_bytes()));
    ChaCha8Rng::seed_from_u64(bytes.fold(0xcbf2_9ce4_8422_2325, step))
}

impl Input {
    /// Uniform in `±range`.
    pub fn uniform(seed: &str, shape: &[usize], range: f64) -> Input {
        let mut random = generator(seed, shape);
        let values = (0..count(shape)).map(|_| random.random_range(-range..=range)).collect();
        Input { shape: shape.to_vec(), values }
    }

    /// Whole numbers in ±4: products and sums of them are exact in f32.
    pub fn integers(seed: &str, shape: &[usize]) -> Input {
        let mut random = generator(seed, shape);
        let values = (0..count(shape)).map(|_| f64::from(random.random_range(-4i32..=4))).collect();
        Input { shape: shape.to_vec(), values }
    }

    /// Rows of length one, as `l2_normalize` would make them.
    pub fn unit_rows(seed: &str, rows: usize, cols: usize) -> Input {
        let input = Self::uniform(seed, &[rows, cols], 1.);
        Input { values: crate::reference::l2_normalize(&input.values, cols).0, ..input }
    }

    /// Given numbers.
    pub fn of(shape: &[usize], values: &[f64]) -> Input {
        Input { shape: shape.to_vec(), values: values.to_vec() }
    }

    /// The shape filled by a function of the position.
    pub fn fill(mut self, f: impl Fn(usize) -> f64) -> Input {
        self.values = (0..count(&self.shape)).map(f).collect();
        self
    }

    /// Every element changed.
    pub fn map(mut self, f: impl Fn(usize, f64) -> f64) -> Input {
        self.values.iter_mut().enumerate().for_each(|(i, v)| *v = f(i, *v));
        self
    }
}

/// Where a case runs. On the reference's side values are rounded to the type under test first and then widened, so that
/// both sides see the same numbers.
#[derive(Debug, Clone)]
pub struct Run {
    /// The device.
    pub device: Device,
    /// The type of tensors: the one under test, or f64.
    pub dtype: DType,
    /// The type under test.
    pub rounded: DType,
}

impl Run {
    /// The device's own run.
    pub fn under_test(device: &Device, dtype: DType) -> Run {
        Run { device: device.clone(), dtype, rounded: dtype }
    }

    /// The reference for a run in `dtype`.
    pub fn reference(dtype: DType) -> Run {
        Run { device: Device::Cpu, dtype: DType::F64, rounded: dtype }
    }

    /// An input as a tensor.
    pub fn tensor(&self, input: &Input) -> Result<Tensor> {
        let rounded = HostData::from_f64(self.rounded, input.values.clone());
        Tensor::from_f64(&self.device, &input.shape, self.dtype, rounded.to_f64().into_owned())
    }

    /// The floating-point type to cast to: f16 where the device has it, from f16 to f32. The reference stays in f64.
    pub fn other_float(&self) -> DType {
        match self.dtype {
            DType::F64 => DType::F64,
            DType::F32 if self.device.supports(DType::F16) => DType::F16,
            _ => DType::F32,
        }
    }

    /// As [`Run::tensor`], in the given type where that is not the type under test.
    pub fn tensor_as(&self, input: &Input, dtype: DType) -> Result<Tensor> {
        let rounded = HostData::from_f64(self.rounded, input.values.clone());
        Tensor::from_f64(&self.device, &input.shape, dtype, rounded.to_f64().into_owned())
    }
}
