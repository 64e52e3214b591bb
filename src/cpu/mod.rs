//! Fast twins of the operations that carry the work of the CPU path: blocked, vectorised, threaded, in f32. They give the
//! same bits on any number of threads, and are verified against [`reference`](crate::reference) like any device.

mod adamw;
mod attention;
mod attention_backward;
mod dropout;
mod elementwise;
mod exp;
mod info_nce;
mod info_nce_lines;
mod matmul;
#[cfg(all(feature = "io", not(target_arch = "wasm32")))]
pub(crate) mod search;
mod siglip;

pub(crate) use adamw::adamw;
pub(crate) use attention::{attention, attention_weights};
pub(crate) use attention_backward::attention_backward;
pub(crate) use dropout::dropout;
pub(crate) use elementwise::{binary, unary, unary_backward};
pub(crate) use info_nce::{info_nce, info_nce_backward};
pub(crate) use matmul::matmul;
pub(crate) use siglip::{siglip, siglip_backward};

use crate::device::Device;
use crate::dtype::{DType, HostData};
use crate::error::Result;
use crate::tensor::Tensor;
use std::borrow::Cow;

/// A CPU tensor of f32 or f16 as f32.
pub(crate) fn f32s(tensor: &Tensor) -> Cow<'_, [f32]> {
    match tensor.data() {
        HostData::F32(values) => Cow::Borrowed(values),
        HostData::F16(values) => values.iter().map(|v| v.to_f32()).collect::<Vec<_>>().into(),
        HostData::F64(_) | HostData::U32(_) => unreachable!("the fast twins are for f32 and f16"),
    }
}

/// `⟨a, b⟩` in f64, in partial sums of a fixed shape.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f64 {
    let mut sums = [0f64; 8];
    for (a, b) in a.chunks(8).zip(b.chunks(8)) {
        for ((sum, &a), &b) in sums.iter_mut().zip(a).zip(b) {
            *sum += f64::from(a) * f64::from(b);
        }
    }
    sums.iter().sum()
}

/// A CPU tensor of f32 results, rounded once if it is f16.
pub(crate) fn tensor(shape: &[usize], dtype: DType, values: Vec<f32>) -> Result<Tensor> {
    if dtype == DType::F32 {
        return Tensor::from_vec(&Device::Cpu, shape, values);
    }
    let values = values.into_iter().map(half::f16::from_f32).collect();
    Tensor::from_vec::<half::f16>(&Device::Cpu, shape, values)
}
