//! How time and memory grow with a size, over a decade of it.

use super::{Bench, Limits, measure};
use crate::cases::{Run, attention, contrastive};
use crate::device::Device;
use crate::error::Result;
use crate::ops::{AttentionOptions, Precision};

/// Times and memory of one operation at sizes of a decade.
///
/// ```
/// use crossmodal::cases::Growth;
/// let (sizes, seconds) = (vec![10, 20, 40], vec![1., 4., 16.]);
/// let peaks = Some(vec![100, 200, 400]);
/// let growth = Growth { op: "info_nce", size: "pairs", sizes, seconds, peaks, expected: (2., 1.) };
/// assert!((growth.of_time() - 2.).abs() < 1e-9 && (growth.of_memory().unwrap() - 1.).abs() < 1e-9);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Growth {
    /// The operation, forward and backward.
    pub op: &'static str,
    /// What grows.
    pub size: &'static str,
    /// How large it is.
    pub sizes: Vec<usize>,
    /// The seconds of the fastest run at each.
    pub seconds: Vec<f64>,
    /// The most bytes that tensors held on the device at each, inputs and gradients among them; a CPU keeps no account.
    pub peaks: Option<Vec<u64>>,
    /// The exponents of time and of memory that the algorithm has.
    pub expected: (f64, f64),
}

impl Growth {
    /// The exponent of time. Example: [`Growth`].
    pub fn of_time(&self) -> f64 {
        exponent(&self.sizes, &self.seconds)
    }

    /// The exponent of memory. Example: [`Growth`].
    pub fn of_memory(&self) -> Option<f64> {
        let peaks = self.peaks.as_ref()?;
        Some(exponent(&self.sizes, &peaks.iter().map(|&bytes| bytes as f64).collect::<Vec<_>>()))
    }
}

/// The power of the size with which values grow: the slope of the least-squares line through their logarithms.
///
/// ```
/// let cubes = [1., 8., 27., 64.];
/// assert!((crossmodal::cases::exponent(&[1, 2, 3, 4], &cubes) - 3.).abs() < 1e-9);
/// ```
pub fn exponent(sizes: &[usize], values: &[f64]) -> f64 {
    let x: Vec<_> = sizes.iter().map(|&size| (size as f64).ln()).collect();
    let y: Vec<_> = values.iter().map(|value| value.ln()).collect();
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    let (x_mean, y_mean) = (mean(&x), mean(&y));
    let covariance: f64 = x.iter().zip(&y).map(|(x, y)| (x - x_mean) * (y - y_mean)).sum();
    covariance / x.iter().map(|x| (x - x_mean).powi(2)).sum::<f64>()
}

/// Five sizes of a decade, up to the given one: multiples of 8, so that no size has tails that others lack.
fn decade(largest: usize) -> Vec<usize> {
    let size = |step: i32| largest as f64 / 10f64.powf(f64::from(step) / 4.);
    (0..5).rev().map(|step| (size(step) / 8.).round().max(1.) as usize * 8).collect()
}

/// Bytes of a block of similarities, the same at all sizes and little beside the inputs: of those of the smallest a quarter.
fn scratch(elements: usize) -> usize {
    elements.clamp(1 << 14, 4 << 20)
}

/// The growth of [`info_nce`](crate::ops::info_nce()) with its pairs and with their width, and of
/// [`attention`](crate::ops::attention()) with its length, without a scratch, forward and backward, the largest taking about `seconds` a run.
///
/// Errors: the device's.
///
/// ```no_run
/// use crossmodal::{Device, cases::{Limits, growth}};
/// let device = Device::best()?;
/// for growth in growth(&device, &Limits::measure(&device)?, 1.)? {
///     println!("{} by {}: {:.2}, {:?}", growth.op, growth.size, growth.of_time(), growth.of_memory());
/// }
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[cfg(not(target_arch = "wasm32"))]
pub fn growth(device: &Device, limits: &Limits, seconds: f64) -> Result<Vec<Growth>> {
    // Products do better at squares than in these: a third of the best is what they may reach.
    let flops = seconds * limits.product / 3.;
    let side = |each: f64| (flops / each).sqrt();
    // Sizes that differ, also where a device is that slow.
    let pairs = decade(side(8. * 64.).max(320.) as usize);
    let (widths, of_widths) = (decade(1024), (side(8. * 1024.) as usize / 8 * 8).max(64));
    let lengths = decade(side(14. * 64. * 4.).max(320.) as usize);
    let (of_pairs, of_width) = (scratch(pairs[0] * 64), scratch(of_widths * widths[0]));
    let by_pairs = |n| contrastive::info_nce_of((n, 64), of_pairs, true, Precision::Strict);
    let by_width = |d| contrastive::info_nce_of((of_widths, d), of_width, true, Precision::Strict);
    // Without a scratch, which grows with the pairs until it is full.
    let alone = || AttentionOptions { scratch_bytes: 0, ..AttentionOptions::default() };
    let by_length = |length| attention::attention_by((1, 4), (length, length, 64), alone(), true);
    Ok(vec![
        series(device, ("info_nce", "pairs"), pairs, (2., 1.), &by_pairs)?,
        series(device, ("info_nce", "width"), widths, (1., 1.), &by_width)?,
        series(device, ("attention", "length"), lengths, (2., 1.), &by_length)?,
    ])
}

fn series(
    device: &Device,
    (op, size): (&'static str, &'static str),
    sizes: Vec<usize>,
    expected: (f64, f64),
    bench: &dyn Fn(usize) -> Bench,
) -> Result<Growth> {
    let (mut seconds, mut peaks) = (vec![], vec![]);
    for &size in &sizes {
        let bench = bench(size);
        seconds.push(measure(device, &bench)?.fastest);
        peaks.extend(peak(device, &bench)?);
    }
    let peaks = (peaks.len() == sizes.len()).then_some(peaks);
    Ok(Growth { op, size, sizes, seconds, peaks, expected })
}

/// The most bytes that a warm run holds.
fn peak(device: &Device, bench: &Bench) -> Result<Option<u64>> {
    #[cfg(feature = "gpu")]
    if let Device::Gpu(gpu) = device {
        let (case, run) = (bench.case(), Run::under_test(device, bench.dtype));
        let inputs = case.inputs.iter().map(|input| run.tensor(input)).collect::<Result<Vec<_>>>()?;
        // The first run makes the upstream gradients.
        drop((case.run)(&run, &inputs)?);
        gpu.wait()?;
        gpu.trim();
        gpu.reset_peak();
        drop((case.run)(&run, &inputs)?);
        gpu.wait()?;
        return Ok(Some(gpu.memory().peak));
    }
    let _ = (device, bench);
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fit_finds_exact_powers() {
        let sizes = [100, 178, 316, 562, 1000];
        for power in [-1., 0., 0.5, 1., 2., 3.] {
            let values = sizes.map(|size| 7e-9 * (size as f64).powf(power));
            assert!((exponent(&sizes, &values) - power).abs() < 1e-12, "{power}");
        }
        // What is off by a factor at either end alike moves the line, not its slope.
        let noisy = [1., 2., 4., 8., 16.].map(|v: f64| v * if v == 4. { 1.1 } else { 1. });
        assert!((exponent(&[1, 2, 4, 8, 16], &noisy) - 1.).abs() < 1e-12);
    }

    #[test]
    fn a_decade_is_five_sizes_a_factor_of_ten_apart() {
        assert_eq!(decade(1024), [104, 184, 320, 576, 1024]);
        assert_eq!(decade(3)[4], 8);
    }
}
