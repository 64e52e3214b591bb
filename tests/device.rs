//! The dispatcher: what it counts, refuses, reuses, and what it promises about order and about bits.
#![cfg(all(feature = "gpu", feature = "io"))]

mod common;

use crossmodal::align::{Data, Recipe, Split, Trainer};
use crossmodal::autograd::Tape;
use crossmodal::gpu::Gpu;
use crossmodal::io::Features;
use crossmodal::ops::info_nce::INFO_NCE;
use crossmodal::ops::{InfoNceOptions, MatmulOptions, add, info_nce, l2_normalize, matmul, scale, softmax};
use crossmodal::{Device, Error, Tensor};

/// A device of its own, so that tests do not count each other's work.
fn fresh() -> (Device, Gpu) {
    let name = common::gpu().name().to_string();
    let device = Device::named(&name).unwrap();
    let Device::Gpu(gpu) = device.clone() else { panic!("{name} is a GPU") };
    (device, gpu)
}

fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7919) % 1009) as f32 / 504.5 - 1.).collect()
}

fn data() -> Data {
    let side = |cols: usize, shift: f32| Features {
        rows: 120,
        cols,
        values: (0..120 * cols).map(|i| ((i * i % 997) as f32 * 0.01 + shift).sin()).collect(),
    };
    Data::new(side(12, 0.), side(7, 0.5), Split::random(120, 1).unwrap()).unwrap()
}

fn recipe() -> Recipe {
    Recipe { dim: 8, epochs: 4, batch_size: 16, ..Recipe::default() }
}

#[test]
fn a_training_step_is_one_submit_and_no_readback() {
    let (device, gpu) = fresh();
    let mut trainer = Trainer::new(&device, &data(), &recipe()).unwrap();
    let batch: Vec<u32> = (0..16).collect();
    trainer.step(&batch).unwrap();
    let before = gpu.counters();
    for _ in 0..3 {
        trainer.step(&batch).unwrap();
    }
    let after = gpu.counters();
    assert_eq!(after.submits - before.submits, 3, "one submit a step");
    assert_eq!(after.readbacks, before.readbacks, "no readback");
    assert!(after.dispatches - before.dispatches > 3 * 10, "a step is many kernels");
}

#[test]
fn nothing_is_submitted_until_something_is_read() {
    let (device, gpu) = fresh();
    let x = Tensor::from_vec(&device, &[8, 8], numbers(64)).unwrap();
    let before = gpu.counters();
    let y = softmax(&add(&x, &x).unwrap()).unwrap();
    assert_eq!(gpu.counters().submits, before.submits);
    y.to_vec::<f32>().unwrap();
    let after = gpu.counters();
    assert_eq!((after.submits - before.submits, after.readbacks - before.readbacks), (1, 1));
}

#[test]
fn more_dispatches_than_parameter_slots_split_into_submits() {
    let (device, gpu) = fresh();
    let mut x = Tensor::from_slice(&device, &[1], &[1f32]).unwrap();
    for i in 0..2500 {
        x = scale(&x, if i % 2 == 0 { 2. } else { 0.5 }).unwrap();
    }
    assert_eq!(x.item().unwrap(), 1., "each dispatch has parameters of its own");
    assert_eq!(gpu.counters().submits, 3);
}

#[test]
fn uploads_keep_their_place_in_the_order_of_calls() {
    let (device, _) = fresh();
    // The second tensor takes over the first one's buffer while the kernel that reads it is still only recorded.
    let results: Vec<_> = (0..20)
        .map(|i| {
            let x = Tensor::from_slice(&device, &[1], &[i as f32]).unwrap();
            scale(&x, 10.).unwrap()
        })
        .collect();
    for (i, result) in results.iter().enumerate() {
        assert_eq!(result.item().unwrap(), 10. * i as f64);
    }
}

#[test]
fn dropped_tensors_give_their_memory_back() {
    let (device, gpu) = fresh();
    let start = gpu.memory().live;
    for _ in 0..50 {
        let x = Tensor::from_vec(&device, &[256, 256], numbers(65536)).unwrap();
        drop(add(&x, &x).unwrap());
    }
    let memory = gpu.memory();
    assert_eq!(memory.live, start);
    assert!(memory.peak <= start + 3 * (65536 * 4 + 65536), "buffers are reused: {memory:?}");
    gpu.trim();
    assert_eq!(gpu.memory().idle, 0);
}

/// The logits would take 64 MiB; the blocks' scratch takes 16.
#[test]
fn info_nce_never_holds_the_logits() {
    let (device, gpu) = fresh();
    let (n, d) = (4096, 16);
    let tape = Tape::new();
    let side = || tape.leaf(&Tensor::from_vec(&device, &[n, d], numbers(n * d)).unwrap());
    let (x, y, t) = (side(), side(), tape.leaf(&Tensor::scalar(&device, 1f32).unwrap()));
    device.wait().unwrap();
    gpu.trim();
    gpu.reset_peak();
    let before = gpu.memory().peak;
    let loss = tape.apply(&INFO_NCE, InfoNceOptions::default(), &[&x, &y, &t]).unwrap();
    let gradients = tape.backward(&loss).unwrap();
    device.wait().unwrap();
    let rise = gpu.memory().peak - before;
    let of_gradients = 2 * (n * d * 4) as u64;
    assert!(gradients.get(&x).is_some() && rise < of_gradients + (20 << 20), "{rise} bytes");
}

#[test]
fn features_larger_than_a_binding_still_train_and_project() {
    let device = common::gpu();
    // 143 MB where the smallest binding has 128 MiB: the rows stay on the host.
    let (rows, cols) = (280_000, 128);
    let values: Vec<f32> = (0..rows * cols).map(|i| ((i % 8191) as f32 * 0.37).sin()).collect();
    let side = Features { rows, cols, values };
    let split = Split { train: (0..20).collect(), validation: (20..40).collect(), test: (40..60).collect() };
    let data = Data::new(side.clone(), side.clone(), split).unwrap();
    let recipe = Recipe { dim: 2, epochs: 1, batch_size: 8, ..Recipe::default() };
    let mut trainer = Trainer::new(&device, &data, &recipe).unwrap();
    trainer.epoch().unwrap();
    let projected = trainer.best().unwrap().heads[0].project(&device, &side).unwrap();
    assert_eq!((projected.rows, projected.values.len()), (rows, rows * 2));
    assert!(projected.values.iter().all(|v| v.is_finite()));
}

#[test]
fn many_threads_may_record_on_one_device() {
    let (device, _) = fresh();
    let one = |start: usize| {
        let mut x = Tensor::from_slice(&device, &[1], &[start as f32]).unwrap();
        for i in 0..1500 {
            x = scale(&x, if i % 2 == 0 { 2. } else { 0.5 }).unwrap();
        }
        x.item().unwrap()
    };
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..6).map(|start| scope.spawn(move || one(start))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(results, [0., 1., 2., 3., 4., 5.]);
}

#[test]
fn the_device_answers_without_blocking_too() {
    let (device, _) = fresh();
    let x = Tensor::from_vec(&device, &[4], vec![1f32, 2., 3., 4.]).unwrap();
    let doubled = scale(&x, 2.).unwrap();
    assert_eq!(pollster::block_on(doubled.to_vec_async::<f32>()).unwrap(), [2., 4., 6., 8.]);
    assert!(pollster::block_on(Device::named_async("no such device")).is_err());
}

#[test]
fn timestamps_are_there_where_the_adapter_has_them() {
    let (device, gpu) = fresh();
    let x = Tensor::from_vec(&device, &[64, 64], numbers(4096)).unwrap();
    if !gpu.report().timestamps {
        assert!(gpu.start_profile().is_err());
        return;
    }
    gpu.start_profile().unwrap();
    matmul(&softmax(&x).unwrap(), &x, None, &MatmulOptions::default()).unwrap();
    let timings = gpu.finish_profile().unwrap();
    let kernels: Vec<_> = timings.iter().map(|t| t.kernel).collect();
    assert!(matches!(kernels[..], ["softmax" | "softmax_lanes", "matmul"]), "{kernels:?}");
    assert!(timings.iter().all(|t| t.seconds >= 0. && t.seconds < 10.), "{timings:?}");
    assert!(timings.iter().any(|t| t.seconds > 0.), "{timings:?}");
}

#[test]
fn a_program_may_hand_its_own_device_over() {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::PRIMARY));
    let name = common::gpu().name().to_string();
    let adapter = adapters.into_iter().find(|adapter| adapter.get_info().name == name).unwrap();
    // The weakest device: default limits, no features.
    let (device, queue) =
        pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor::default())).unwrap();
    let device = Device::Gpu(Gpu::from_wgpu(&adapter, device, queue));
    let x = Tensor::from_vec(&device, &[2, 2], vec![3f32, 4., 0., 5.]).unwrap();
    assert_eq!(l2_normalize(&x).unwrap().to_vec::<f32>().unwrap(), [0.6, 0.8, 0., 1.]);
    assert!(!device.supports(crossmodal::DType::F16), "features that were not asked for are not there");
}

#[test]
fn a_destroyed_device_is_an_error_in_every_call() {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::PRIMARY));
    let name = common::gpu().name().to_string();
    let adapter = adapters.into_iter().find(|adapter| adapter.get_info().name == name).unwrap();
    let (own, queue) =
        pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor::default())).unwrap();
    let device = Device::Gpu(Gpu::from_wgpu(&adapter, own.clone(), queue));
    let x = Tensor::from_vec(&device, &[2], vec![1f32, 2.]).unwrap();
    device.wait().unwrap();
    own.destroy();
    let _ = own.poll(wgpu::PollType::Poll);
    for result in [
        Tensor::from_vec(&device, &[2], vec![1f32, 2.]).map(drop),
        scale(&x, 2.).and_then(|y| y.to_vec::<f32>()).map(drop),
        x.to_vec::<f32>().map(drop),
        device.wait(),
    ] {
        let error = result.unwrap_err();
        assert!(matches!(error, Error::Driver { .. }) && error.to_string().contains("lost"), "{error}");
    }
}

#[test]
fn the_same_run_gives_the_same_bits() {
    let run = |device: &Device| {
        let x = Tensor::from_vec(device, &[300, 33], numbers(9900)).unwrap();
        let scale = Tensor::scalar(device, 2f32).unwrap();
        let options = InfoNceOptions { scratch_bytes: 1 << 14, ..InfoNceOptions::default() };
        let loss =
            info_nce(&l2_normalize(&x).unwrap(), &l2_normalize(&x).unwrap(), &scale, &options).unwrap();
        let mut trainer = Trainer::new(device, &data(), &recipe()).unwrap();
        trainer.epoch().unwrap();
        (loss.item().unwrap().to_bits(), trainer.heads().unwrap())
    };
    assert!(run(&common::gpu()) == run(&common::gpu()), "the GPU");
    let threads = |count| rayon::ThreadPoolBuilder::new().num_threads(count).build().unwrap();
    let one = threads(1).install(|| run(&Device::Cpu));
    for count in [2, 3, 5] {
        assert!(one == threads(count).install(|| run(&Device::Cpu)), "the CPU path on {count} threads");
    }
}

#[test]
fn products_have_the_same_bits_on_any_number_of_threads() {
    let threads = |count| rayon::ThreadPoolBuilder::new().num_threads(count).build().unwrap();
    for (m, k, n) in [(256, 1280, 256), (1280, 256, 256), (127, 999, 65), (1000, 64, 1000)] {
        let a = Tensor::from_vec(&Device::Cpu, &[m, k], numbers(m * k)).unwrap();
        let b = Tensor::from_vec(&Device::Cpu, &[k, n], numbers(k * n)).unwrap();
        let run = || matmul(&a, &b, None, &MatmulOptions::default()).unwrap().to_vec::<f32>().unwrap();
        let one = threads(1).install(run);
        assert!(one == threads(2).install(run) && one == threads(4).install(run), "{m} x {k} x {n}");
    }
}

#[test]
fn a_resumed_run_ends_with_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    for device in [Device::Cpu, common::gpu()] {
        let mut whole = Trainer::new(&device, &data(), &recipe()).unwrap();
        let mut first = Trainer::new(&device, &data(), &recipe()).unwrap();
        let mut reports = vec![];
        while !whole.is_done() {
            reports.push(whole.epoch().unwrap());
        }
        first.epoch().unwrap();
        first.epoch().unwrap();
        first.save_checkpoint(&path, &Default::default()).unwrap();
        let mut second = Trainer::resume(&device, &data(), &recipe(), &path).unwrap();
        assert_eq!(second.epochs_done(), 2);
        for report in &reports[2..] {
            let again = second.epoch().unwrap();
            assert_eq!((again.loss.to_bits(), again.validation), (report.loss.to_bits(), report.validation));
        }
        assert!(second.heads().unwrap() == whole.heads().unwrap(), "final weights on {}", device.name());
        assert!(second.best().unwrap() == whole.best().unwrap(), "best weights on {}", device.name());
        let other = Recipe { seed: 1, ..recipe() };
        let error = Trainer::resume(&device, &data(), &other, &path).err().unwrap().to_string();
        assert!(error.contains("is of another run"), "{error}");
    }
}
