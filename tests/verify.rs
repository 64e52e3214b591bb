//! Every operation, every case, forward and backward: the CPU path and a GPU against the f64 reference. And the cases of an
//! operation dispatch each of its kernels, and no kernel that the table does not name.
#![cfg(feature = "verify")]

mod common;

use crossmodal::gpu::{Gpu, Kernel};
use crossmodal::{DType, Device, cases};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

/// Runs every row between a `begin` and an `end`.
fn verify(device: &Device, begin: impl Fn(), mut end: impl FnMut(&cases::Row)) {
    let mut failures = vec![];
    for row in cases::TABLE {
        let start = std::time::Instant::now();
        begin();
        let verdicts = cases::verify_row(device, row, &mut |_| ());
        for dtype in [DType::F32, DType::F16] {
            let own = verdicts.iter().filter(|v| v.dtype == dtype);
            let worst = own.clone().max_by(|a, b| a.ratio.total_cmp(&b.ratio));
            if let Some(worst) = worst {
                eprintln!(
                    "{:20} {dtype} {:3} worst {:.3} ({})",
                    row.op,
                    own.count(),
                    worst.ratio,
                    worst.case
                );
            }
        }
        eprintln!("{:20} {:.1?}", row.op, start.elapsed());
        failures.extend(verdicts.into_iter().filter(|v| !v.passed()));
        end(row);
    }
    for v in &failures {
        eprintln!("FAILED {} {} {}: {:.3} of what is allowed, {}", v.op, v.case, v.dtype, v.ratio, v.detail);
    }
    assert!(failures.is_empty(), "{} cases failed on {}", failures.len(), device.name());
}

#[test]
fn the_cpu_path_agrees_with_the_reference() {
    verify(&Device::Cpu, || (), |_| ());
}

type Names = BTreeSet<(&'static str, &'static str)>;

/// Gathers the kernels that are compiled from now on.
fn watch(gpu: &Gpu, compiled: &Arc<Mutex<Names>>) {
    compiled.lock().unwrap().clear();
    let compiled = compiled.clone();
    gpu.set_source_hook(Some(Arc::new(move |kernel: &Kernel, source: &str| {
        compiled.lock().unwrap().insert((kernel.name, kernel.entry));
        source.to_string()
    })));
}

#[test]
fn a_gpu_agrees_with_the_reference_and_compiles_every_kernel() {
    let device = common::gpu();
    let Device::Gpu(gpu) = &device else { panic!("{} is not a GPU", device.name()) };
    let (compiled, mut all, mut wanted) = (Arc::default(), Names::new(), Names::new());
    let begin = || watch(gpu, &compiled);
    let end = |row: &cases::Row| {
        let compiled: &Names = &compiled.lock().unwrap();
        for kernel in row.kernels {
            let own = (kernel.name, kernel.entry);
            assert!(compiled.contains(&own), "{}: its cases never dispatch {own:?}", row.op);
            wanted.insert(own);
        }
        all.extend(compiled);
    };
    verify(&device, begin, end);
    assert_eq!(all, wanted, "compiled kernels are left, the table's right");
}
