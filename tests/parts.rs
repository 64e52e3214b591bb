//! Tensors larger than a binding: every case again on a device whose bindings are tiny, and real sizes.
#![cfg(all(feature = "gpu", feature = "verify"))]

mod common;
#[path = "common/limited.rs"]
mod limited;
#[path = "common/rows.rs"]
mod rows;

use crossmodal::autograd::Tape;
use crossmodal::ops::binary::BINARY;
use crossmodal::ops::concat::CONCAT;
use crossmodal::ops::gather::GATHER;
use crossmodal::ops::layer_norm::LAYER_NORM;
use crossmodal::ops::matmul::MATMUL;
use crossmodal::ops::reduce::REDUCE;
use crossmodal::ops::transpose::TRANSPOSE;
use crossmodal::{DType, Device, Error, Tensor, cases, ops};
use std::sync::Mutex;

/// A device with bindings of so many bytes.
fn limited(bytes: u64) -> Device {
    limited::limited(|limits| limits.max_storage_buffer_binding_size = bytes)
}

/// Bytes of a binding that most of an operation's cases pass, and that no single row or statistic of a case does.
fn binding(op: &str) -> u64 {
    match op {
        "attention" => 21_248, // a bias and weights of two heads, 35 by 37
        "cast" => 768,
        "clip_global_norm" => 1536, // 179 partial norms
        "info_nce" => 4352,         // four sums of 257 rows
        "siglip" => 4352,           // four rows of 257: of one, the pairs of parts are hundreds
        "layer_norm" => 3328,       // rows of 769
        "matmul" => 2560,           // five rows of 127
        // Rows of 4200.
        "softmax" | "log_softmax" | "log_sum_exp" => 16_896,
        "top_k" => 8448, // rows of 2100
        _ => 1280,
    }
}

#[test]
fn every_case_passes_where_bindings_are_tiny() {
    let failures = Mutex::new(vec![]);
    rows::every_row(|row| {
        let (device, start) = (limited(binding(row.op)), std::time::Instant::now());
        let (mut checks, mut split) = (0, 0);
        for case in (row.cases)() {
            let largest = case.inputs.iter().map(|input| input.values.len()).max().unwrap_or(0);
            // Thousands of parts, like those of the others. Of the gather of 70000 rows it is the result that is large.
            if largest > 40_000 || case.name == "70000 rows" {
                continue;
            }
            for dtype in [DType::F32, DType::F16] {
                let Some(verdict) = cases::verify_case(&device, row.op, &case, dtype) else { continue };
                checks += 1;
                split += usize::from((largest * dtype.size()) as u64 > binding(row.op));
                if !verdict.passed() {
                    let line = format!("{} {} {dtype}: {}", row.op, verdict.case, verdict.detail);
                    failures.lock().unwrap().push(line);
                }
            }
        }
        eprintln!("{:20} {checks:3} checks, {split:3} of split inputs, {:.1?}", row.op, start.elapsed());
        assert!(split > 0, "{}: no case has an input larger than a binding", row.op);
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// Results and gradients of small whole numbers, which are exact on any device, in any order of summation.
fn exact<O: Send + Sync + 'static>(
    rule: &'static ops::Rule<O>,
    options: impl Fn(&Device) -> O,
    shapes: &[&[usize]],
) {
    let run = |device: &Device, dtype: DType| -> Vec<Vec<f64>> {
        let tensor = |name: &str, shape: &[usize]| {
            Tensor::from_f64(device, shape, dtype, cases::Input::integers(name, shape).values).unwrap()
        };
        let tape = Tape::new();
        let leaf = |(i, shape): (usize, &&[usize])| tape.leaf(&tensor(&format!("input {i}"), shape));
        let leaves: Vec<_> = shapes.iter().enumerate().map(leaf).collect();
        let out = tape.apply(rule, options(device), &leaves.iter().collect::<Vec<_>>()).unwrap();
        let gradients = tape.backward_from(&out, &tensor("upstream", out.value().shape())).unwrap();
        let all = std::iter::once(out.value()).chain(leaves.iter().map(|leaf| gradients.get(leaf).unwrap()));
        all.map(|tensor| tensor.to_f64_vec().unwrap()).collect()
    };
    // One device, whose pipelines are compiled once.
    static TINY: std::sync::OnceLock<Device> = std::sync::OnceLock::new();
    let tiny = TINY.get_or_init(|| limited(1024));
    let (got, want) = (run(tiny, DType::F32), run(&Device::Cpu, DType::F64));
    for (i, (got, want)) in got.iter().zip(&want).enumerate() {
        let wrong = got.iter().zip(want).position(|(got, want)| got != want);
        assert_eq!((got.len(), wrong), (want.len(), None), "{} of {shapes:?}, result {i}", rule.name);
    }
}

/// Shapes that each cut in another place: the device binds 256 elements.
#[test]
fn every_way_to_cut_gives_the_same_numbers() {
    for kind in [ops::Reduce::Sum, ops::Reduce::Max] {
        let over = |axis| move |_: &Device| ops::ReduceOptions { kind, axis, keep_axis: false };
        for (shape, axis) in [
            (&[5, 701][..], 0),
            (&[701, 5], 0),
            (&[701, 5], 1),
            (&[1500], 0),
            (&[2, 3, 301], 1),
            (&[3, 301, 2], 1),
            (&[301, 300], 0),
            (&[700, 1], 1),
        ] {
            exact(&REDUCE, over(axis), &[shape]);
        }
    }
    for (shape, axes) in [
        (&[40, 41][..], &[1, 0][..]),
        (&[2, 701], &[1, 0]),
        (&[701, 2], &[1, 0]),
        (&[1, 701], &[1, 0]),
        (&[7, 11, 13], &[2, 1, 0]),
        (&[7, 11, 13], &[0, 2, 1]),
        (&[2, 3, 5, 301], &[3, 1, 0, 2]),
        (&[701], &[0]),
    ] {
        exact(&TRANSPOSE, |_: &Device| axes.to_vec(), &[shape]);
    }
    for (a, b) in [
        (&[1, 701][..], &[3, 1][..]),
        (&[20, 1], &[1, 30]),
        (&[], &[1, 1, 701]),
        (&[701], &[2, 1, 701]),
        (&[3, 1, 5, 1], &[1, 11, 1, 7]),
    ] {
        exact(&BINARY, |_: &Device| ops::Binary::Mul, &[a, b]);
    }
    for axis in [0, 1] {
        exact(&CONCAT, |_: &Device| axis, &[&[301, 2], &[301, 2], &[301, 2]]);
        exact(&CONCAT, |_: &Device| axis, &[&[2, 301], &[2, 301]]);
    }
    let many: Vec<u32> = (0..900).map(|i| if i < 400 { i % 300 } else { i * i % 300 }).collect();
    for (shape, indices) in [
        (&[300, 3][..], &many[..]),
        (&[300, 3], &many[..7]),
        (&[300, 1], &many[..]),
        (&[300], &many[..]),
        (&[300, 301], &many[..5]),
        (&[300, 2, 2], &[]),
    ] {
        exact(&GATHER, |device: &Device| ops::Indices::new(device, indices).unwrap(), &[shape]);
    }
    // Rows of one element are exact: they are the bias. The statistics of 200 are split, the rows are not.
    for rows in [200, 701] {
        exact(&LAYER_NORM, |_: &Device| 1e-5, &[&[rows, 1], &[1], &[1]]);
        exact(&LAYER_NORM, |_: &Device| 1e-5, &[&[rows, 1], &[1]]);
    }
}

#[test]
fn products_cut_along_any_axis_give_the_same_numbers() {
    for (m, k, n) in [
        (1, 1, 701),
        (1, 701, 1),
        (701, 1, 1),
        (1, 20, 302),
        (30, 1, 31),
        (302, 20, 1),
        (17, 18, 19),
        (2, 300, 3),
        (3, 2, 300),
    ] {
        for (transpose_a, transpose_b) in [(false, false), (true, false), (false, true), (true, true)] {
            let a = if transpose_a { [k, m] } else { [m, k] };
            let b = if transpose_b { [n, k] } else { [k, n] };
            let options = ops::MatmulOptions { transpose_a, transpose_b, ..Default::default() };
            exact(&MATMUL, |_: &Device| options, &[&a, &b]);
            exact(&MATMUL, |_: &Device| options, &[&a, &b, &[n]]);
            let (a, b) = ([&[3, 1], &a[..]].concat(), [&[2], &b[..]].concat());
            if a.len() * m * n < 20_000 {
                exact(&MATMUL, |_: &Device| options, &[&a, &b]);
            }
        }
    }
}

#[test]
fn what_cannot_be_split_is_refused_with_the_limit() {
    let device = limited(1024);
    let zeros = |shape: &[usize]| Tensor::zeros(&device, shape, DType::F32).unwrap();
    let nce = |n: usize| {
        let options = ops::InfoNceOptions::default();
        ops::info_nce(&zeros(&[n, 2]), &zeros(&[n, 2]), &zeros(&[]), &options).map(drop)
    };
    assert!(nce(64).is_ok(), "a kilobyte of row statistics");
    for (result, asked) in [(ops::softmax(&zeros(&[2, 257])).map(drop), 1028), (nce(65), 1040)] {
        match result {
            Err(Error::Limit { asked: got, available, .. }) => assert_eq!((got, available), (asked, 1024)),
            other => panic!("{other:?}"),
        }
    }
}

/// At the adapter's own limit, where a tensor beyond it is not too large to test with: 128 MiB on lavapipe.
#[test]
fn a_tensor_larger_than_the_largest_binding() {
    let device = common::gpu();
    let Device::Gpu(gpu) = &device else { unreachable!() };
    let (most, count) = (gpu.report().max_binding, gpu.report().max_binding as usize / 4 + 4099);
    if most > 256 << 20 {
        return;
    }
    let values: Vec<f32> = (0..count).map(|i| (i % 1021) as f32 - 510.).collect();
    let x = Tensor::from_slice(&device, &[count], &values).unwrap();
    assert!(x.to_vec::<f32>().unwrap() == values, "there and back");
    let doubled = ops::add(&x, &x).unwrap().to_vec::<f32>().unwrap();
    assert!(doubled.iter().zip(&values).all(|(sum, v)| *sum == 2. * v));
    let options = ops::ReduceOptions { kind: ops::Reduce::Max, axis: 0, keep_axis: false };
    assert_eq!(ops::reduce(&x, &options).unwrap().item().unwrap(), 510.);
}
