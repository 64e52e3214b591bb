//! Which way computes a class of products fastest on a GPU: each that a rule takes to be worth it is timed once, on made-up
//! matrices of whole numbers, and its result has to be that of the plain kernel bit for bit.

use super::matmul_cooperative as cooperative;
use super::matmul_dispatch::{Product, dispatch};
use super::matmul_ways::{self as ways, Layout, Precision, Way};
use super::unary::{self, Unary};
use super::{Dropout, Reduce, ReduceOptions, add, dropout, mul, reduce, sub};
use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::reference::MatmulShape;
use crate::shape::count;
use crate::tensor::Tensor;
use std::time::Instant;

/// Floating-point operations that make a product worth timing: below, starting a kernel is most of its time.
pub(super) const WORTH_TIMING: f64 = 1e9;
/// Timed rounds of a way, of which the fastest counts, and how long one should take, in seconds.
const ROUNDS: usize = 3;
const LONG_ENOUGH: f64 = 4e-3;

/// A way that was timed.
///
/// ```
/// use crossmodal::{Device, ops::matmul::{Problem, tune}};
/// if let Ok(Device::Gpu(gpu)) = &Device::named("gpu") {
///     let trials = tune(gpu, &Problem { m: 512, n: 512, k: 512, ..Problem::default() })?;
///     assert!(trials.iter().all(|trial| trial.matches && trial.seconds > 0.));
/// }
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// The way's name.
    pub way: &'static str,
    /// Of one run, in the fastest of its rounds.
    pub seconds: f64,
    /// Whether it gave what the plain kernel gives, bit for bit.
    pub matches: bool,
}

/// A product to be timed: `batches` of A `[m, k]` by B `[k, n]`. Example: [`Trial`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Problem {
    /// How many products.
    pub batches: usize,
    /// Rows.
    pub m: usize,
    /// Columns.
    pub n: usize,
    /// The inner size.
    pub k: usize,
    /// A lies as `[k, m]`.
    pub transpose_a: bool,
    /// B lies as `[n, k]`.
    pub transpose_b: bool,
    /// f32 or f16.
    pub dtype: DType,
    /// How exact it has to be.
    pub precision: Precision,
}

impl Default for Problem {
    fn default() -> Self {
        let (transpose_a, transpose_b) = (false, false);
        Problem {
            batches: 1,
            m: 1024,
            n: 1024,
            k: 1024,
            transpose_a,
            transpose_b,
            dtype: DType::F32,
            precision: Precision::Strict,
        }
    }
}

impl Problem {
    fn shape(&self) -> MatmulShape {
        let Problem { batches, m, n, k, .. } = *self;
        MatmulShape {
            m,
            n,
            k,
            batch: vec![batches],
            a_batch: vec![m * k],
            b_batch: vec![k * n],
            a_strides: if self.transpose_a { (1, m) } else { (k, 1) },
            b_strides: if self.transpose_b { (1, k) } else { (n, 1) },
        }
    }

    /// Whether made-up matrices and their products are within a binding each: matrices that a batch shares are made anew for each
    /// product here.
    fn fits(&self, gpu: &Gpu) -> bool {
        let Problem { batches, m, n, k, .. } = *self;
        let most = batches * (m * k).max(k * n).max(m * n);
        (4 * most) as u64 <= gpu.piece_bytes()
    }

    /// Problems of one class are served by one choice: sizes up to the next power of two, layout and type.
    fn class(&self, layout: &Layout, units: bool) -> String {
        let size = |n: usize| n.max(1).next_power_of_two();
        let Problem { batches, m, n, k, .. } = *self;
        let fast = if self.precision == Precision::Fast { " fast" } else { "" };
        let letter = |transposed: bool| if transposed { "t" } else { "n" };
        format!(
            "matmul {}{fast} {}x{}x{} of {} {}{} {}{}",
            self.dtype,
            size(m),
            size(k),
            size(n),
            size(batches),
            letter(self.transpose_a),
            letter(self.transpose_b),
            if layout.wide { "wide" } else { "narrow" },
            if units { " units" } else { "" }
        )
    }
}

/// The way for a problem: the one that was chosen for its class, the fastest if none was and timing pays, else the one that the
/// rules put first.
pub(super) fn way(
    gpu: &Gpu,
    shape: &MatmulShape,
    layout: &Layout,
    (dtype, precision): (DType, Precision),
) -> Result<Way> {
    let units = may_use_units(gpu, shape, dtype, precision);
    let candidates = ways::candidates(&gpu.abilities(), shape, layout, units);
    let batches = count(&shape.batch);
    let work = 2. * (batches * shape.m * shape.n * shape.k) as f64;
    if work < WORTH_TIMING {
        return Ok(candidates[0]);
    }
    let problem = Problem {
        batches,
        m: shape.m,
        n: shape.n,
        k: shape.k,
        transpose_a: !layout.a_along_inner,
        transpose_b: layout.b_along_inner,
        dtype,
        precision,
    };
    let class = problem.class(layout, candidates[0].has_units());
    // Matrix units are not taken unchecked.
    let untried = || ways::candidates(&gpu.abilities(), shape, layout, false)[0];
    let chosen = match gpu.choice(&class) {
        Some(name) => name,
        None if gpu.may_time() && problem.fits(gpu) => match tried(gpu, &problem, &candidates) {
            Ok(trials) => choose(gpu, &class, &trials),
            // The product itself needs less.
            Err(Error::OutOfMemory { .. }) => return Ok(untried()),
            Err(error) => return Err(error),
        },
        None => return Ok(untried()),
    };
    // The plain way is chosen where no other was right, a candidate or not. A name that is no candidate's is another version's.
    let right = |way: &&Way| way.name() == chosen && (**way == Way::Plain || candidates.contains(way));
    Ok(ways::WAYS.iter().find(right).copied().unwrap_or_else(untried))
}

/// Whether matrix units are exact enough, and what they read fits into a binding.
fn may_use_units(gpu: &Gpu, shape: &MatmulShape, dtype: DType, precision: Precision) -> bool {
    let allowed = dtype == DType::F16 || precision == Precision::Fast;
    allowed && cooperative::packed_bytes(shape, dtype) <= gpu.piece_bytes()
}

fn choose(gpu: &Gpu, class: &str, trials: &[Trial]) -> String {
    for trial in trials.iter().filter(|trial| !trial.matches) {
        log::warn!("{}: {} gives other results than the plain kernel: not used", gpu.name(), trial.way);
    }
    let right = trials.iter().filter(|trial| trial.matches);
    let best =
        right.min_by(|a, b| a.seconds.total_cmp(&b.seconds)).map_or(Way::Plain.name(), |trial| trial.way);
    log::info!("{class}: {best}");
    gpu.choose(class, best);
    best.to_string()
}

/// Times every way that is worth it for a problem, and keeps the choice for its class.
///
/// Errors: the device's. Example: [`Trial`].
pub fn tune(gpu: &Gpu, problem: &Problem) -> Result<Vec<Trial>> {
    let shape = problem.shape();
    let layout = Layout::of(&shape, [0; 3]);
    let units = may_use_units(gpu, &shape, problem.dtype, problem.precision);
    let candidates = ways::candidates(&gpu.abilities(), &shape, &layout, units);
    let trials = tried(gpu, problem, &candidates)?;
    choose(gpu, &problem.class(&layout, candidates[0].has_units()), &trials);
    Ok(trials)
}

/// Odd whole numbers from -3 to 3, made on the device. Their sums are exact: every order of summation gives the same.
fn whole_numbers(device: &Device, size: usize, dtype: DType, seed: u64) -> Result<Tensor> {
    let ones = unary::unary(Unary::Shift(1.), &Tensor::zeros(device, &[size], dtype)?)?;
    // Zero or two.
    let toss = |part: u64| dropout(&ones, &Dropout { p: 0.5, seed: 3 * seed + part, first: 0 });
    unary::unary(Unary::Shift(-3.), &add(&add(&toss(0)?, &toss(1)?)?, &toss(2)?)?)
}

#[cfg_attr(not(feature = "gpu"), allow(unreachable_code, unused_variables, reason = "there is no GPU then"))]
fn tried(gpu: &Gpu, problem: &Problem, candidates: &[Way]) -> Result<Vec<Trial>> {
    let (shape, device) = (problem.shape(), Device::Gpu(gpu.clone()));
    let Problem { batches, m, n, k, dtype, .. } = *problem;
    let a = whole_numbers(&device, batches * m * k, dtype, 1)?;
    let b = whole_numbers(&device, batches * k * n, dtype, 2)?;
    let out = || Tensor::uninit("matmul", &device, &[batches * m, n], DType::F32);
    let run = |way: Way, out: &Tensor| {
        let product = Product { scale: 1., way: Some(way), ..Product::default() };
        dispatch(gpu, &a, &b, out, &shape, &product)
    };
    let (plain, own) = (out()?, out()?);
    run(Way::Plain, &plain)?;
    let timed = |way: Way, runs: usize| -> Result<f64> {
        let start = Instant::now();
        (0..runs).try_for_each(|_| run(way, &own))?;
        gpu.wait()?;
        Ok(start.elapsed().as_secs_f64() / runs as f64)
    };
    let mut trials = vec![];
    for &way in candidates {
        run(way, &own)?;
        let off = sub(&own, &plain)?.reshape(&[batches * m * n])?;
        // A sum, since a maximum may drop a NaN.
        let squares = ReduceOptions { kind: Reduce::Sum, axis: 0, keep_axis: false };
        let matches = reduce(&mul(&off, &off)?, &squares)?.item()? == 0.;
        // As many at once as hide the submit and the wait.
        let runs = ((LONG_ENOUGH / timed(way, 1)?) as usize).clamp(1, 32);
        let mut seconds = f64::INFINITY;
        for _ in 0..ROUNDS {
            seconds = seconds.min(timed(way, runs)?);
        }
        trials.push(Trial { way: way.name(), seconds, matches });
    }
    Ok(trials)
}
