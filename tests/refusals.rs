//! Arguments that an operation refuses, and what it says then.

mod common;
#[path = "common/everywhere.rs"]
mod everywhere;

use crossmodal::ops::{
    Binary, Indices, InfoNceOptions, MatmulOptions, binary, concat, gather, info_nce, layer_norm, matmul,
    rms_norm, softmax, split, top_k, transpose,
};
use crossmodal::{DType, Device, Tensor};
use everywhere::everywhere;

/// Each refusal names the operation, the argument, what was expected and what came.
#[test]
fn arguments_that_do_not_fit_are_named() {
    everywhere(|device, dtype| {
        let of = |shape: &[usize]| Tensor::zeros(device, shape, dtype).unwrap();
        let scalar = of(&[]);
        let nce = |x: &Tensor, y: &Tensor, symmetric| {
            info_nce(x, y, &scalar, &InfoNceOptions { symmetric, ..InfoNceOptions::default() }).map(drop)
        };
        let indices = |rows: &[u32]| Indices::new(device, rows).unwrap();
        let plain = MatmulOptions::default();
        let table = [
            (
                matmul(&of(&[2, 3]), &of(&[4, 5]), None, &plain).map(drop),
                "matmul: b: expected an inner size of 3",
            ),
            (
                matmul(&of(&[3]), &of(&[3, 1]), None, &plain).map(drop),
                "matmul: a: expected at least two axes",
            ),
            (
                matmul(&of(&[2, 3]), &of(&[3, 1]), Some(&of(&[2])), &plain).map(drop),
                "matmul: bias: expected shape [1]",
            ),
            (
                matmul(&of(&[2, 2, 3]), &of(&[3, 3, 1]), None, &plain).map(drop),
                "matmul: b: expected a shape that broadcasts",
            ),
            (
                binary(Binary::Add, &of(&[2]), &of(&[3])).map(drop),
                "binary: b: expected a shape that broadcasts with [2], got [3]",
            ),
            (top_k(&of(&[2, 3]), 0).map(drop), "top_k: k: expected 1 to 1536, got 0"),
            (top_k(&of(&[2, 3]), 1537).map(drop), "top_k: k: expected 1 to 1536, got 1537"),
            (top_k(&scalar, 1).map(drop), "top_k: x: expected at least one axis, got a scalar"),
            (
                layer_norm(&scalar, &scalar, None, 1e-5).map(drop),
                "layer_norm: x: expected at least one axis, got a scalar",
            ),
            (
                layer_norm(&of(&[2, 3]), &of(&[2]), None, 1e-5).map(drop),
                "layer_norm: weight: expected shape [3], got [2]",
            ),
            (
                layer_norm(&of(&[2, 3]), &of(&[3]), Some(&of(&[1])), 1e-5).map(drop),
                "layer_norm: bias: expected shape [3], got [1]",
            ),
            (
                layer_norm(&of(&[2, 3]), &of(&[3]), None, 0.).map(drop),
                "layer_norm: eps: expected a normal positive f32, got 0.0",
            ),
            (
                rms_norm(&of(&[2, 3]), &of(&[3]), -1.).map(drop),
                "rms_norm: eps: expected a normal positive f32",
            ),
            (
                rms_norm(&of(&[2, 3]), &of(&[3]), f64::NAN).map(drop),
                "rms_norm: eps: expected a normal positive f32, got NaN",
            ),
            (rms_norm(&of(&[2, 3]), &of(&[3, 1]), 1e-5).map(drop), "rms_norm: weight: expected shape [3]"),
            (softmax(&scalar).map(drop), "softmax: x: expected at least one axis, got a scalar"),
            (
                concat(&[&of(&[2, 3]), &of(&[3, 3])], 1).map(drop),
                "concat: tensors: expected [2, 3] but for axis 1, got [3, 3]",
            ),
            (concat(&[], 0).map(drop), "concat: tensors: expected at least one tensor"),
            (split(&of(&[4]), 0, &[1, 2]).map(drop), "split: sizes: expected sizes that add up to 4"),
            (
                split(&of(&[4]), 0, &[usize::MAX, 5]).map(drop),
                "split: sizes: expected sizes that add up to 4",
            ),
            (
                Tensor::zeros(device, &[0, usize::MAX, 2], dtype).map(drop),
                "expected fewer than 2^32 elements",
            ),
            (transpose(&of(&[2, 3]), &[0, 0]).map(drop), "transpose: axes: expected each of the 2 axes once"),
            (
                gather(&of(&[3, 2]), &indices(&[0, 3])).map(drop),
                "gather: indices: expected row numbers below 3, got 3 at position 1",
            ),
            (nce(&of(&[0, 2]), &of(&[0, 2]), true), "info_nce: x: expected at least one row"),
            (nce(&of(&[3, 2]), &of(&[2, 2]), true), "info_nce: y: expected shape [3, 2], got [2, 2]"),
            (nce(&of(&[3, 2]), &of(&[2, 2]), false), "info_nce: y: expected shape [3, 2]"),
            (nce(&of(&[2, 2]), &of(&[2, 3]), false), "info_nce: y: expected shape [2, 2], got [2, 3]"),
            (of(&[2, 3]).reshape(&[4]).map(drop), "reshape: shape: expected 6 elements, got [4]"),
            (Tensor::zeros(device, &[1; 9], dtype).map(drop), "expected at most 8 axes"),
            (
                Tensor::zeros(device, &[1 << 20, 1 << 20], dtype).map(drop),
                "expected fewer than 2^32 elements",
            ),
            (of(&[1]).to_vec::<u32>().map(drop), "to_vec: T: expected"),
        ];
        for (result, words) in table {
            let message = result.expect_err(words).to_string();
            assert!(message.contains(words), "{message:?} does not say {words:?}");
        }
    });
}

#[test]
fn devices_and_types_do_not_mix() {
    let gpu = common::gpu();
    let [here, there] =
        [&Device::Cpu, &gpu].map(|device| Tensor::zeros(device, &[2, 2], DType::F32).unwrap());
    let message = binary(Binary::Add, &here, &there).unwrap_err().to_string();
    assert!(message.contains("binary: b is on") && message.contains("cpu"), "{message}");
    let half = Tensor::zeros(&Device::Cpu, &[2, 2], DType::F16).unwrap();
    assert!(
        binary(Binary::Add, &here, &half)
            .unwrap_err()
            .to_string()
            .contains("f32 as the first tensor, got f16")
    );
    let whole = Tensor::zeros(&Device::Cpu, &[2, 2], DType::U32).unwrap();
    assert!(softmax(&whole).unwrap_err().to_string().contains("a floating-point tensor, got u32"));
    let message = Tensor::zeros(&gpu, &[2], DType::F64).unwrap_err().to_string();
    assert!(message.contains("f64 is for the CPU"), "{message}");
}
