//! What a warm training step costs the host: it makes nothing of the driver's.
#![cfg(all(feature = "gpu", feature = "io"))]

mod common;

use crossmodal::align::{Data, Recipe, Split, Trainer};
use crossmodal::autograd::{Tape, Var};
use crossmodal::gpu::{Counters, Gpu};
use crossmodal::io::Features;
use crossmodal::ops::info_nce::INFO_NCE;
use crossmodal::ops::matmul::MATMUL;
use crossmodal::ops::softmax::SOFTMAX;
use crossmodal::ops::{InfoNceOptions, MatmulOptions};
use crossmodal::optim::AdamW;
use crossmodal::{Device, Tensor, nn::Parameters};

fn gpu() -> (Device, Gpu) {
    let device = common::gpu();
    let Device::Gpu(gpu) = &device else { panic!("{} is not a GPU", device.name()) };
    let gpu = gpu.clone();
    (device, gpu)
}

fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7919) % 1009) as f32 / 504.5 - 1.).collect()
}

/// What `steps` steps made beyond what those before them did; and that they did something.
fn made(gpu: &Gpu, warm_up: u32, steps: u32, mut step: impl FnMut(u32)) -> [u64; 3] {
    (0..warm_up).for_each(&mut step);
    let before = gpu.counters();
    (warm_up..warm_up + steps).for_each(step);
    let after = gpu.counters();
    assert!(after.dispatches >= before.dispatches + 10 * u64::from(steps), "a step is many kernels");
    let of = |counters: Counters| [counters.buffers, counters.bind_groups, counters.pipelines];
    std::array::from_fn(|i| of(after)[i] - of(before)[i])
}

#[test]
fn a_warm_step_of_the_trainer_makes_no_buffer_bind_group_or_pipeline() {
    let (device, gpu) = gpu();
    let side = |cols: usize| Features { rows: 120, cols, values: numbers(120 * cols) };
    let data = Data::new(side(12), side(7), Split::random(120, 1).unwrap()).unwrap();
    let recipe = Recipe { dim: 8, epochs: 4, batch_size: 16, ..Recipe::default() };
    let mut trainer = Trainer::new(&device, &data, &recipe).unwrap();
    // Other rows each time, and the loss is read.
    let made = made(&gpu, 2, 5, |step| {
        let batch: Vec<u32> = (0..16).map(|i| i * 5 + step).collect();
        assert!(trainer.step(&batch).unwrap().item().unwrap().is_finite());
    });
    assert_eq!(made, [0; 3], "buffers, bind groups, pipelines");
}

/// The loss of two products of `x` with weights, one of them through a softmax.
fn loss(tape: &Tape, x: &Tensor, weights: &[Var; 2]) -> Var {
    let x = tape.constant(x);
    let [a, b] = weights
        .each_ref()
        .map(|weight| tape.apply(&MATMUL, MatmulOptions::default(), &[&x, weight]).unwrap());
    let a = tape.apply(&SOFTMAX, (), &[&a]).unwrap();
    let log_scale = tape.constant(&Tensor::scalar(&x.value().device().clone(), 0f32).unwrap());
    tape.apply(&INFO_NCE, InfoNceOptions::default(), &[&a, &b, &log_scale]).unwrap()
}

/// Uploads, tensors that are dropped in another order each time, an optimiser in place.
#[test]
fn a_warm_step_of_a_tape_makes_none_in_whatever_order_its_tensors_go() {
    let (device, gpu) = gpu();
    let mut parameters = Parameters::default();
    let ids = ["a", "b"].map(|name| {
        let weight = Tensor::from_vec(&device, &[16, 16], numbers(256)).unwrap();
        parameters.add(name, weight, true).unwrap()
    });
    let mut optimiser = AdamW::new(&parameters).unwrap();
    let made = made(&gpu, 2, 6, |step| {
        let x = Tensor::from_vec(&device, &[16, 16], numbers(256)).unwrap();
        // What the tape holds is gone before the weights change: what is shared would be copied.
        let mut gradients = {
            let tape = Tape::new();
            let bound = parameters.on(&tape);
            let weights = ids.map(|id| bound.get(id).clone());
            let loss = loss(&tape, &x, &weights);
            bound.gradients(&tape.backward(&loss).unwrap())
        };
        optimiser.step(&mut parameters, &gradients, 0.01).unwrap();
        gpu.submit().unwrap();
        let turn = step as usize % gradients.len();
        gradients.rotate_left(turn);
        let mut left: Vec<Tensor> = gradients.into_iter().flatten().collect();
        left.insert(turn, x);
        left.into_iter().for_each(drop);
    });
    assert_eq!(made, [0; 3], "buffers, bind groups, pipelines");
}
