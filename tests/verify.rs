//! Every operation, every case, forward and backward: the CPU path and a GPU against the f64 reference.
#![cfg(feature = "verify")]

mod common;

use crossmodal::{DType, Device, cases};

fn verify(device: &Device) {
    let mut failures = vec![];
    for row in cases::TABLE {
        let start = std::time::Instant::now();
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
    }
    for v in &failures {
        eprintln!("FAILED {} {} {}: {:.3} of what is allowed, {}", v.op, v.case, v.dtype, v.ratio, v.detail);
    }
    assert!(failures.is_empty(), "{} cases failed on {}", failures.len(), device.name());
}

#[test]
fn the_cpu_path_agrees_with_the_reference() {
    verify(&Device::Cpu);
}

#[test]
fn a_gpu_agrees_with_the_reference() {
    verify(&common::gpu());
}
