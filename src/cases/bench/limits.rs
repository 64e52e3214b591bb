//! What a device can do, measured: by which the benches are measured.

use super::{Bench, is_software, measure};
use crate::cases::{Case, Input, Tolerance, products};
use crate::device::Device;
use crate::error::Result;
use crate::ops::copy;
use rayon::prelude::*;
use std::time::Instant;

/// A device's limits as this library can reach them.
///
/// ```
/// use crossmodal::cases::{Limits, TABLE};
/// let limits = Limits { copy: 2e9, way: "scalar", product: 1e9, side: 256 };
/// assert_eq!((limits.percent_of_copy(1e9), limits.percent_of_product(1e9)), (50., 100.));
/// let row = TABLE.iter().find(|row| row.op == "matmul").unwrap();
/// let square = &(row.bench)()[0]; // 64 by 64: the product takes longer than its matrices
/// assert_eq!(limits.seconds(square), 2. * 64f64.powi(3) / 1e9);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Bytes a second, read and written, of the best way to copy.
    pub copy: f64,
    /// That way: a kernel of [`copy`](mod@crate::ops::copy), or `threads` on the CPU path.
    pub way: &'static str,
    /// Floating-point operations a second of the library's best square product.
    pub product: f64,
    /// The side of that square.
    pub side: usize,
}

impl std::fmt::Display for Limits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (copy, product) = (self.copy / 1e9, self.product / 1e9);
        write!(f, "copy {copy:.2} GB/s ({}), product {product:.1} GFLOP/s (square {})", self.way, self.side)
    }
}

impl Limits {
    /// Measures them: copies of 4 MiB on a software driver, of 64 on the CPU path and of 128 on a GPU, and squares of 64 and up
    /// until one takes 50 ms. On a device opened anew, so that the other's first calls stay cold.
    ///
    /// ```no_run
    /// use crossmodal::{Device, cases::Limits};
    /// let limits = Limits::measure(&Device::best()?)?;
    /// println!("{:.1} GB/s by {}", limits.copy / 1e9, limits.way);
    /// println!("{:.1} GFLOP/s at {}", limits.product / 1e9, limits.side);
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    #[cfg(not(target_arch = "wasm32"))]
    pub fn measure(device: &Device) -> Result<Limits> {
        let device = &again(device)?;
        let (way, copy) = best_copy(device)?;
        let (mut product, mut side) = (0f64, 0);
        for n in (6..=13).map(|power| 1 << power) {
            let found = measure(device, &products::square(n))?;
            if found.flops > product {
                (product, side) = (found.flops, n);
            }
            if found.median > 0.05 {
                break;
            }
        }
        Ok(Limits { copy, way, product, side })
    }

    /// So many bytes a second in percent of copying.
    ///
    /// It may be above 100 where the tensors stay in a cache that the copy was too large for. Example: [`Limits`].
    pub fn percent_of_copy(&self, bytes: f64) -> f64 {
        100. * bytes / self.copy
    }

    /// So many operations a second in percent of the best product. Example: [`Limits`].
    pub fn percent_of_product(&self, flops: f64) -> f64 {
        100. * flops / self.product
    }

    /// The least seconds that a run of a bench takes within these limits. Example: [`Limits`].
    pub fn seconds(&self, bench: &Bench) -> f64 {
        (bench.flops / self.product).max(bench.bytes / self.copy)
    }
}

/// The same device without anything compiled on it.
fn again(device: &Device) -> Result<Device> {
    #[cfg(feature = "gpu")]
    if let Device::Gpu(gpu) = device {
        return Device::named(&gpu.report().index.to_string());
    }
    Ok(device.clone())
}

fn best_copy(device: &Device) -> Result<(&'static str, f64)> {
    if *device == Device::Cpu {
        return Ok(("threads", copy_in_threads()));
    }
    let elements = if is_software(device) { 1 << 20 } else { 1 << 25 };
    let mut best = ("", 0.);
    for way in copy::ALL {
        let run =
            move |_: &_, inputs: &[crate::Tensor]| Ok(vec![("out".into(), copy::copy(&inputs[0], way)?)]);
        let case = move || {
            let input = Input::uniform("copied", &[elements], 1.);
            Case::of("copy", vec![input], run, Tolerance::exact())
        };
        let found = measure(device, &Bench::new("copy", 0., 2 * elements, case))?;
        if found.bytes > best.1 {
            best = (way.entry(), found.bytes);
        }
    }
    Ok(best)
}

/// Bytes a second of f32 copied into memory that is already there, by all threads.
fn copy_in_threads() -> f64 {
    let (from, mut to) = (vec![1f32; 1 << 24], vec![0f32; 1 << 24]);
    let mut once = || {
        let start = Instant::now();
        let chunks = to.par_chunks_mut(1 << 16).zip(from.par_chunks(1 << 16));
        chunks.for_each(|(to, from)| to.copy_from_slice(from));
        std::hint::black_box(&mut to);
        start.elapsed().as_secs_f64()
    };
    once();
    let mut seconds: Vec<_> = (0..9).map(|_| once()).collect();
    seconds.sort_by(f64::total_cmp);
    (2 * size_of::<f32>() * from.len()) as f64 / seconds[seconds.len() / 2]
}
