//! What a dispatch costs the host, without the device's own work: 100 small ones recorded and submitted, the best of many tries.
//! `CROSSMODAL_DEVICE=gpu cargo bench --bench host`.

use crossmodal::ops::{MatmulOptions, add, matmul, scale, softmax};
use crossmodal::{DType, Device, Result, Tensor};
use std::io::Write;
use std::time::Instant;

const TRIES: usize = 300;

/// Records at least 100 dispatches.
type Chain = fn(&Tensor) -> Result<Tensor>;

fn one_kernel(x: &Tensor) -> Result<Tensor> {
    (0..100).try_fold(x.clone(), |x, _| scale(&x, 0.5))
}

/// As in a training step: other kernels one behind the other, tensors made and dropped.
fn many_kernels(x: &Tensor) -> Result<Tensor> {
    (0..25).try_fold(x.clone(), |x, _| {
        let product = matmul(&x, &x, None, &MatmulOptions::default())?;
        add(&softmax(&scale(&product, 0.5)?)?, &x)
    })
}

fn main() -> Result<()> {
    let device = Device::best()?;
    let mut out = std::io::stdout().lock();
    let Device::Gpu(gpu) = &device else {
        let _ = writeln!(out, "{}: nothing is recorded on it; name a GPU", device.name());
        return Ok(());
    };
    let x = Tensor::zeros(&device, &[4, 4], DType::F32)?;
    let head = ["dispatches", "record µs each", "submit µs each", "both"];
    let _ = writeln!(
        out,
        "{}\n{:<16}{:>12}{:>16}{:>16}{:>8}",
        gpu.name(),
        "chain",
        head[0],
        head[1],
        head[2],
        head[3]
    );
    for (name, chain) in [("one kernel", one_kernel as Chain), ("four kernels", many_kernels)] {
        let mut best = [f64::INFINITY; 2];
        let mut dispatches = 0;
        for _ in 0..TRIES {
            let before = gpu.counters().dispatches;
            let start = Instant::now();
            let result = chain(&x)?;
            let recorded = start.elapsed();
            gpu.submit()?;
            let submitted = start.elapsed() - recorded;
            gpu.wait()?;
            drop(result);
            dispatches = gpu.counters().dispatches - before;
            for (best, took) in best.iter_mut().zip([recorded, submitted]) {
                *best = best.min(1e6 * took.as_secs_f64() / dispatches as f64);
            }
        }
        let [record, submit] = best;
        let _ =
            writeln!(out, "{name:<16}{dispatches:>12}{record:>16.2}{submit:>16.2}{:>8.2}", record + submit);
    }
    Ok(())
}
