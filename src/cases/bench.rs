//! Cases timed: warm, on data that is not zero, the results read by no one.

use super::{Case, Run};
use crate::device::Device;
use crate::dtype::DType;
use crate::error::Result;
use std::time::{Duration, Instant};

/// How large the benches' tensors are.
///
/// ```
/// use crossmodal::{Device, cases::Scale};
/// assert_eq!(Scale::of(&Device::Cpu), Scale::Small);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// For the CPU path and software drivers: milliseconds a case.
    Small,
    /// For GPUs.
    Large,
}

impl Scale {
    /// What a device can do in a short time. Example: [`Scale`].
    pub fn of(device: &Device) -> Scale {
        #[cfg(feature = "gpu")]
        if let Device::Gpu(gpu) = device {
            return if gpu.report().software { Scale::Small } else { Scale::Large };
        }
        let _ = device;
        Scale::Small
    }

    pub(super) fn pick(self, small: usize, large: usize) -> usize {
        if self == Scale::Small { small } else { large }
    }
}

/// The times of one case.
///
/// ```
/// use crossmodal::{Device, cases::{Scale, TABLE, measure}};
/// let row = TABLE.iter().find(|row| row.op == "unary").unwrap();
/// let measurement = measure(&Device::Cpu, &(row.bench)(Scale::Small)[0])?;
/// assert!(measurement.runs >= 5 && measurement.median > 0. && measurement.bytes > 0.);
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measurement {
    /// Seconds of the first run: with it come compilation and memory.
    pub first: f64,
    /// The median of the later runs, in seconds.
    pub median: f64,
    /// How many later runs there were.
    pub runs: usize,
    /// Floating-point operations a second at the median; 0 where the case counts none.
    pub flops: f64,
    /// Bytes a second at the median, counting each input and each result once.
    pub bytes: f64,
}

/// Times a case in f32: one cold run, then 5 to 1000 warm ones for about half a second. Inputs are uploaded
/// before.
///
/// Errors: the device's. Example: [`Measurement`].
#[cfg(not(target_arch = "wasm32"))]
pub fn measure(device: &Device, case: &Case) -> Result<Measurement> {
    let run = Run::under_test(device, DType::F32);
    let inputs = case.inputs.iter().map(|input| run.tensor(input)).collect::<Result<Vec<_>>>()?;
    device.wait()?;
    let mut moved = 0;
    let mut once = || -> Result<f64> {
        let start = Instant::now();
        let outputs = (case.run)(&run, &inputs)?;
        device.wait()?;
        let seconds = start.elapsed().as_secs_f64();
        let sizes = inputs.iter().chain(outputs.iter().map(|(_, t)| t)).map(|t| t.len() * t.dtype().size());
        moved = sizes.sum();
        Ok(seconds)
    };
    let first = once()?;
    let (begin, mut times) = (Instant::now(), vec![]);
    while times.len() < 5 || (begin.elapsed() < Duration::from_millis(500) && times.len() < 1000) {
        times.push(once()?);
    }
    times.sort_by(f64::total_cmp);
    let median = times[times.len() / 2];
    let (flops, bytes) = (case.flops / median, moved as f64 / median);
    Ok(Measurement { first, median, runs: times.len(), flops, bytes })
}
