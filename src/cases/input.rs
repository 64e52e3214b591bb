//! Inputs of cases: the same numbers every time.

use crate::device::Device;
use crate::dtype::{DType, HostData};
use crate::error::Result;
use crate::shape::count;
use crate::tensor::Tensor;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::cell::Cell;
use std::time::{Duration, Instant};

/// A tensor to be, in f64.
///
/// ```
/// use crossmodal::cases::Input;
/// let ramp = Input::of(&[4], &[]).fill(|i| i as f64);
/// assert_eq!(ramp.clone().map(|i, v| v * v - i as f64).values, [0., 0., 2., 6.]);
/// let random = Input::uniform("x", &[2, 3], 0.5);
/// assert!(random.values == Input::uniform("x", &[2, 3], 0.5).values);
/// assert!(random.values.iter().all(|v| v.abs() <= 0.5));
/// ```
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

thread_local! {
    static APART: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Does what a case must do once before it can run, in a time that is none of the operation's.
pub(super) fn apart<T>(work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let out = work();
    APART.set(APART.get() + start.elapsed());
    out
}

/// The time that this thread has spent [`apart`], from 0 again.
pub(super) fn take_apart() -> Duration {
    APART.take()
}

impl Input {
    /// Uniform in `±range`. Example: [`Input`].
    pub fn uniform(seed: &str, shape: &[usize], range: f64) -> Input {
        let mut random = generator(seed, shape);
        let values = (0..count(shape)).map(|_| random.random_range(-range..=range)).collect();
        Input { shape: shape.to_vec(), values }
    }

    /// Whole numbers in ±4: products and sums of them are exact in f32.
    ///
    /// ```
    /// let input = crossmodal::cases::Input::integers("x", &[100]);
    /// assert!(input.values.iter().all(|v| v.fract() == 0. && v.abs() <= 4.));
    /// ```
    pub fn integers(seed: &str, shape: &[usize]) -> Input {
        let mut random = generator(seed, shape);
        let values = (0..count(shape)).map(|_| f64::from(random.random_range(-4i32..=4))).collect();
        Input { shape: shape.to_vec(), values }
    }

    /// Rows of length one, as `l2_normalize` would make them.
    ///
    /// ```
    /// let row = crossmodal::cases::Input::unit_rows("x", 1, 8).values;
    /// assert!((row.iter().map(|v| v * v).sum::<f64>() - 1.).abs() < 1e-12);
    /// ```
    pub fn unit_rows(seed: &str, rows: usize, cols: usize) -> Input {
        let input = Self::uniform(seed, &[rows, cols], 1.);
        Input { values: crate::reference::l2_normalize(&input.values, cols).0, ..input }
    }

    /// Given numbers. Example: [`Input`].
    pub fn of(shape: &[usize], values: &[f64]) -> Input {
        Input { shape: shape.to_vec(), values: values.to_vec() }
    }

    /// The shape filled by a function of the position. Example: [`Input`].
    pub fn fill(mut self, f: impl Fn(usize) -> f64) -> Input {
        self.values = (0..count(&self.shape)).map(f).collect();
        self
    }

    /// Every element changed by a function of its position and value. Example: [`Input`].
    pub fn map(mut self, f: impl Fn(usize, f64) -> f64) -> Input {
        self.values.iter_mut().enumerate().for_each(|(i, v)| *v = f(i, *v));
        self
    }
}

/// Where a case runs. On the reference's side values are rounded to the type under test first and then widened, so that
/// both sides see the same numbers.
///
/// ```
/// use crossmodal::{DType, Device, cases::{Input, Run}};
/// let input = Input::of(&[1], &[0.1]);
/// let (device, reference) = (Run::under_test(&Device::Cpu, DType::F32), Run::reference(DType::F32));
/// let (got, want) = (device.tensor(&input)?, reference.tensor(&input)?);
/// assert_eq!((got.dtype(), want.dtype()), (DType::F32, DType::F64));
/// assert_eq!((got.item()?, want.item()?), (f64::from(0.1f32), f64::from(0.1f32)));
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// The device.
    pub device: Device,
    /// The type of tensors: the one under test, or f64.
    pub dtype: DType,
    /// The type under test.
    pub rounded: DType,
}

impl Run {
    /// The device's own run. Example: [`Run`].
    pub fn under_test(device: &Device, dtype: DType) -> Run {
        Run { device: device.clone(), dtype, rounded: dtype }
    }

    /// The reference for a run in `dtype`. Example: [`Run`].
    pub fn reference(dtype: DType) -> Run {
        Run { device: Device::Cpu, dtype: DType::F64, rounded: dtype }
    }

    /// An input as a tensor. Errors: the device's. Example: [`Run`].
    pub fn tensor(&self, input: &Input) -> Result<Tensor> {
        self.tensor_as(input, self.dtype)
    }

    /// The floating-point type to cast to: f16 where the device has it, from f16 to f32. The reference stays in f64.
    ///
    /// ```
    /// use crossmodal::{DType, Device, cases::Run};
    /// assert_eq!(Run::under_test(&Device::Cpu, DType::F32).other_float(), DType::F16);
    /// assert_eq!(Run::reference(DType::F32).other_float(), DType::F64);
    /// ```
    pub fn other_float(&self) -> DType {
        match self.dtype {
            DType::F64 => DType::F64,
            DType::F32 if self.device.supports(DType::F16) => DType::F16,
            _ => DType::F32,
        }
    }

    /// As [`Run::tensor`], in the given type where that is not the type under test.
    ///
    /// ```
    /// use crossmodal::{DType, Device, cases::{Input, Run}};
    /// let run = Run::under_test(&Device::Cpu, DType::F16);
    /// assert_eq!(run.tensor_as(&Input::of(&[1], &[0.1]), DType::F32)?.item()?, 0.0999755859375);
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    pub fn tensor_as(&self, input: &Input, dtype: DType) -> Result<Tensor> {
        let rounded = HostData::from_f64(self.rounded, input.values.clone());
        if dtype == self.rounded {
            return Tensor::from_host(&self.device, &input.shape, rounded);
        }
        Tensor::from_f64(&self.device, &input.shape, dtype, rounded.to_f64().into_owned())
    }
}
