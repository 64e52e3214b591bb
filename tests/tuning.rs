//! What `tune` finds, and what comes of it.
#![cfg(feature = "verify")]

mod common;

use crossmodal::gpu::Kernel;
use crossmodal::ops::matmul::{Precision, Problem, tune};
use crossmodal::ops::{MatmulOptions, matmul};
use crossmodal::{Device, Tensor};
use std::sync::Arc;

/// Large enough that a product looks for a choice.
const SIDE: usize = 800;
const PROBLEM: Problem = Problem {
    batches: 1,
    m: SIDE,
    n: SIDE,
    k: SIDE,
    transpose_a: false,
    transpose_b: false,
    dtype: crossmodal::DType::F32,
    precision: Precision::Strict,
};

/// The product of two matrices of ones.
fn corner(device: &Device) -> f64 {
    let ones = Tensor::from_vec(device, &[SIDE, SIDE], vec![1f32; SIDE * SIDE]).unwrap();
    matmul(&ones, &ones, None, &MatmulOptions::default()).unwrap().to_f64_vec().unwrap()[SIDE + 1]
}

#[test]
fn every_way_that_is_tried_is_right() {
    let device = common::gpu();
    let Device::Gpu(gpu) = &device else { panic!("{} is not a GPU", device.name()) };
    let trials = tune(gpu, &PROBLEM).unwrap();
    assert!(!trials.is_empty());
    for trial in trials {
        assert!(trial.matches && trial.seconds > 0. && trial.seconds.is_finite(), "{trial:?}");
    }
    assert_eq!(corner(&device), SIDE as f64);
}

#[test]
fn a_way_that_is_wrong_is_not_taken() {
    let device = common::gpu();
    let Device::Gpu(gpu) = &device else { panic!("{} is not a GPU", device.name()) };
    // Every way but the plain one doubles its products.
    gpu.set_source_hook(Some(Arc::new(|kernel: &Kernel, code: &str| {
        let wrong = kernel.name == "matmul" && kernel.entry != "forward";
        if wrong { code.replace("* params.scale", "* 2.0 * params.scale") } else { code.to_string() }
    })));
    let trials = tune(gpu, &PROBLEM).unwrap();
    let wrong = trials.iter().filter(|trial| trial.way != "plain");
    assert!(wrong.clone().count() > 0 && wrong.clone().all(|trial| !trial.matches), "{trials:?}");
    assert_eq!(corner(&device), SIDE as f64, "the plain kernel has to be chosen");
    gpu.set_source_hook(None);
}
