//! Benches: cases timed warm, on data that is not zero, the results read by no one, beside what the device can do.

mod beside;
mod growth;
mod limits;
mod line;

pub use beside::Beside;
#[cfg(not(target_arch = "wasm32"))]
pub use beside::beside;
#[cfg(not(target_arch = "wasm32"))]
pub use growth::growth;
pub use growth::{Growth, exponent};
pub use limits::Limits;
pub use line::{Line, Outcome, Table, table_head};

use super::{Case, Row, Run, TABLE, input};
use crate::device::Device;
use crate::dtype::DType;
use crate::error::Result;
use std::time::{Duration, Instant};

/// Elements of the benches of elementwise operations: a MiB, 16 and, beyond the caches of a GPU, 128 of them.
pub(super) const LENGTHS: [usize; 3] = [1 << 18, 1 << 22, 1 << 25];
/// Sides of the benches of operations on matrices, likewise.
pub(super) const SQUARES: [usize; 3] = [512, 2048, 4096];

/// A case to be timed. Its inputs are made when its turn comes: those of all benches would fill the memory.
///
/// ```
/// use crossmodal::cases::TABLE;
/// let row = TABLE.iter().find(|row| row.op == "matmul").unwrap();
/// let square = (row.bench)().into_iter().find(|bench| bench.name == "square 64").unwrap();
/// assert_eq!((square.flops, square.bytes), (2. * 64f64.powi(3), 4. * 3. * 64f64.powi(2)));
/// assert_eq!(square.case().inputs[0].shape, [1, 64, 64]);
/// ```
pub struct Bench {
    /// What is timed, unique in its row: the forward alone, or with the backward where the name says `both`.
    pub name: String,
    /// Floating-point operations, counting a product of m × k by k × n as 2 m n k; 0 where none are counted.
    pub flops: f64,
    /// Bytes of inputs and results, about: each counted once.
    pub bytes: f64,
    /// The type of its tensors.
    pub dtype: DType,
    make: Box<dyn Fn() -> Case + Send + Sync>,
}

impl Bench {
    pub(super) fn new(
        name: impl Into<String>,
        flops: f64,
        elements: usize,
        make: impl Fn() -> Case + Send + Sync + 'static,
    ) -> Bench {
        let (bytes, dtype) = (4. * elements as f64, DType::F32);
        Bench { name: name.into(), flops, bytes, dtype, make: Box::new(make) }
    }

    /// The same with its tensors in f16.
    pub(super) fn in_f16(self) -> Bench {
        Bench { name: self.name + ", f16", bytes: self.bytes / 2., dtype: DType::F16, ..self }
    }

    /// The case with its inputs. Example: [`Bench`].
    pub fn case(&self) -> Case {
        (self.make)()
    }
}

/// The times of one case.
///
/// ```
/// use crossmodal::{Device, cases::{TABLE, measure}};
/// let row = TABLE.iter().find(|row| row.op == "unary").unwrap();
/// let measurement = measure(&Device::Cpu, &(row.bench)()[0])?;
/// assert!(measurement.runs >= 1 && measurement.median > 0. && measurement.bytes > 0.);
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measurement {
    /// Seconds of the first run: with it come memory, and compilation where no case before has used the kernels.
    pub first: f64,
    /// The median of the later runs, in seconds.
    pub median: f64,
    /// The fastest of them, in seconds: what others' work on the machine disturbs least.
    pub fastest: f64,
    /// How many later runs there were.
    pub runs: usize,
    /// Floating-point operations a second at the median; 0 where the case counts none.
    pub flops: f64,
    /// Bytes a second at the median, counting each input and each result once.
    pub bytes: f64,
}

/// A time that repetitions between two waits should take together: many times what a wait takes.
const BETWEEN_WAITS: f64 = 3e-3;
/// How long a case is repeated, and how long three times of it at most.
const WINDOW: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(2);

/// Times a bench: one cold run, then warm ones for a quarter of a second: three at least, where those take no
/// more than two seconds. Inputs are uploaded before.
///
/// Recording a case, submitting it and waiting for it takes a GPU about 0.1 ms, more than a small kernel. So a case that takes
/// less than 3 ms is repeated as often as those hold, up to 100 times, before the device is waited for once; a time is that of the
/// whole over the repetitions. Nothing is read back.
///
/// Errors: the device's. Example: [`Measurement`].
#[cfg(not(target_arch = "wasm32"))]
pub fn measure(device: &Device, bench: &Bench) -> Result<Measurement> {
    let (case, run) = (bench.case(), Run::under_test(device, bench.dtype));
    let inputs = case.inputs.iter().map(|input| run.tensor(input)).collect::<Result<Vec<_>>>()?;
    device.wait()?;
    let mut moved = 0;
    // Seconds of one of so many repetitions.
    let mut repeated = |times: usize| -> Result<f64> {
        input::take_apart();
        let start = Instant::now();
        for _ in 0..times {
            let outputs = (case.run)(&run, &inputs)?;
            let all = inputs.iter().chain(outputs.iter().map(|(_, tensor)| tensor));
            moved = all.map(|tensor| tensor.len() * tensor.dtype().size()).sum();
        }
        device.wait()?;
        Ok(start.elapsed().saturating_sub(input::take_apart()).as_secs_f64() / times as f64)
    };
    let first = repeated(1)?;
    let times = (BETWEEN_WAITS / repeated(1)?).clamp(1., 100.) as usize;
    let (begin, mut seconds) = (Instant::now(), vec![]);
    loop {
        seconds.push(repeated(times)?);
        let (spent, runs) = (begin.elapsed(), seconds.len());
        if spent > LONGEST || runs == 1000 || (runs >= 3 && spent > WINDOW) {
            break;
        }
    }
    seconds.sort_by(f64::total_cmp);
    let median = seconds[seconds.len() / 2];
    let (flops, bytes) = (bench.flops / median, moved as f64 / median);
    Ok(Measurement { first, median, fastest: seconds[0], runs: seconds.len() * times, flops, bytes })
}

/// How long one run of a bench may take by default, in seconds, by what [`Limits`] promise: a table of all operations then takes
/// one to two minutes.
///
/// ```
/// use crossmodal::{Device, cases::patience};
/// assert_eq!(patience(&Device::Cpu), 0.05);
/// ```
pub fn patience(device: &Device) -> f64 {
    if is_software(device) { 0.05 } else { 0.5 }
}

/// Whether the CPU does the work.
fn is_software(device: &Device) -> bool {
    #[cfg(feature = "gpu")]
    if let Device::Gpu(gpu) = device {
        return gpu.report().software;
    }
    let _ = device;
    true
}

/// The benches of the rows that `wanted` takes, with their operations.
///
/// ```
/// let benches = crossmodal::cases::benches(|op, case| op == "matmul" && case.starts_with("square 64"));
/// assert_eq!(benches.len(), 1);
/// ```
pub fn benches(wanted: impl Fn(&str, &str) -> bool) -> Vec<(&'static str, Bench)> {
    let of_row = |row: &'static Row| (row.bench)().into_iter().map(|bench| (row.op, bench));
    TABLE.iter().flat_map(of_row).filter(|(op, bench)| wanted(op, &bench.name)).collect()
}

/// Times these benches, and lists those left out of which one run would take longer than `seconds` at the device's limits;
/// `each` hears of every line as it comes. Benches in a type that the device does not have
/// are no lines. A bench that ends in an error is a line that says so.
///
/// ```
/// use crossmodal::{Device, cases::{self, Limits, Outcome}};
/// let limits = Limits { copy: 1e10, way: "threads", product: 1e10, side: 512 };
/// let benches = cases::benches(|op, _| op == "concat");
/// let lines = cases::bench(&Device::Cpu, &limits, &benches, 5e-3, &mut |_| ());
/// assert!(matches!(lines[0].outcome, Outcome::Measured(_)) && matches!(lines[1].outcome, Outcome::LeftOut(_)));
/// println!("{}\n{}\n{}", cases::table_head(), lines[0].text(&limits), lines[1].text(&limits));
/// ```
#[cfg(not(target_arch = "wasm32"))]
pub fn bench(
    device: &Device,
    limits: &Limits,
    benches: &[(&'static str, Bench)],
    seconds: f64,
    each: &mut dyn FnMut(&Line),
) -> Vec<Line> {
    let mut lines = vec![];
    for (op, bench) in benches.iter().filter(|(_, bench)| device.supports(bench.dtype)) {
        // Making a number on the host, in f64, takes it about 20 ns; it is done once for several runs.
        let expected = limits.seconds(bench).max(bench.bytes / 4. * 20e-9 / 10.);
        let outcome = if expected > seconds {
            Outcome::LeftOut(expected)
        } else {
            let failed = |error: crate::Error| Outcome::Failed(error.to_string());
            measure(device, bench).map_or_else(failed, Outcome::Measured)
        };
        let line = Line { op, case: bench.name.clone(), outcome };
        each(&line);
        lines.push(line);
    }
    lines
}
