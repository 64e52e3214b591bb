//! Every operation, every case, forward and backward: the CPU path and a GPU against the f64 reference. And the cases of an
//! operation dispatch each of its kernels, and no kernel that the table does not name.
#![cfg(feature = "verify")]

mod common;
#[path = "common/rows.rs"]
mod rows;
#[path = "common/runs.rs"]
mod runs;

use crossmodal::gpu::{Gpu, Kernel};
use crossmodal::{DType, Device, cases};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

/// Runs every case of a row and gives the lines of those that failed.
fn verify(device: &Device, row: &cases::Row) -> Vec<String> {
    let start = std::time::Instant::now();
    let verdicts = cases::verify_row(device, row, &mut |_| ());
    for dtype in [DType::F32, DType::F16] {
        let own = verdicts.iter().filter(|v| v.dtype == dtype);
        let worst = own.clone().max_by(|a, b| a.ratio.total_cmp(&b.ratio));
        if let Some(worst) = worst {
            eprintln!("{:20} {dtype} {:3} worst {:.3} ({})", row.op, own.count(), worst.ratio, worst.case);
        }
    }
    eprintln!("{:20} {:.1?}", row.op, start.elapsed());
    let failures = verdicts.iter().filter(|v| !v.passed());
    failures
        .map(|v| format!("{} {} {}: {:.3} of what is allowed, {}", v.op, v.case, v.dtype, v.ratio, v.detail))
        .collect()
}

#[test]
fn the_cpu_path_agrees_with_the_reference() {
    let failures: Vec<_> = cases::TABLE.iter().flat_map(|row| verify(&Device::Cpu, row)).collect();
    assert!(failures.is_empty(), "{} cases failed:\n{}", failures.len(), failures.join("\n"));
}

type Names = BTreeSet<(&'static str, &'static str)>;

/// Gathers the kernels that are compiled from now on.
fn watch(gpu: &Gpu) -> Arc<Mutex<Names>> {
    let compiled: Arc<Mutex<Names>> = Arc::default();
    let seen = compiled.clone();
    gpu.set_source_hook(Some(Arc::new(move |kernel: &Kernel, source: &str| {
        seen.lock().unwrap().insert((kernel.name, kernel.entry));
        source.to_string()
    })));
    compiled
}

#[test]
fn a_gpu_agrees_with_the_reference_and_compiles_every_kernel() {
    let (all, failures) = (Mutex::new(Names::new()), Mutex::new(vec![]));
    let Device::Gpu(here) = &common::gpu() else { panic!("it is no GPU") };
    let of_row = |row: &'static cases::Row| {
        let own = row.kernels.iter().filter(|kernel| runs::can_run(here.report(), kernel));
        own.map(|kernel| (kernel.name, kernel.entry))
    };
    rows::every_row(|row| {
        let device = common::gpu();
        let Device::Gpu(gpu) = &device else { panic!("{} is not a GPU", device.name()) };
        let compiled = watch(gpu);
        let failed = verify(&device, row);
        failures.lock().unwrap().extend(failed);
        let compiled = compiled.lock().unwrap();
        for own in of_row(row) {
            assert!(compiled.contains(&own), "{}: its cases never dispatch {own:?}", row.op);
        }
        all.lock().unwrap().extend(&*compiled);
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{} cases failed:\n{}", failures.len(), failures.join("\n"));
    let wanted = cases::TABLE.iter().flat_map(of_row);
    assert_eq!(all.into_inner().unwrap(), wanted.collect(), "compiled kernels are left, the table's right");
}
