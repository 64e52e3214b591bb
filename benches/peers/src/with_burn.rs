//! burn's side: its tensor operations on its wgpu backend, WGSL, fused and tuned by itself.
//!
//! The gradients come from its autodiff. It has no fused InfoNCE: the loss here is the cheapest that its operations allow, with
//! the log-sum-exps of one matrix of logits and the diagonal from the rows. Attention is its own function, which under
//! autodiff is a chain of operations that stores the weights.

use crate::data::Array;
use crate::shapes::{Transpose, Work};
use crate::side::{Outcome, Side};
use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Device, DeviceKind, Tensor, TensorData};
use crossmodal::gpu::AdapterReport;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// All results, flat, each still to be computed where the backend is lazy.
type Run = Box<dyn Fn() -> Vec<Tensor<1>>>;

pub(crate) struct Burn {
    run: Run,
}

/// The adapter that crossmodal has: burn counts those of one kind.
pub(crate) fn device(ours: &AdapterReport, all: &[AdapterReport]) -> Device {
    let same = |r: &&AdapterReport| r.backend == ours.backend && r.kind == ours.kind;
    let place = all.iter().filter(same).position(|r| r.index == ours.index).unwrap_or(0);
    Device::wgpu(match ours.kind {
        "discrete gpu" => DeviceKind::DiscreteGpu(place),
        "integrated gpu" => DeviceKind::IntegratedGpu(place),
        "virtual gpu" => DeviceKind::VirtualGpu(place),
        "software" => DeviceKind::Cpu,
        _ => DeviceKind::DefaultDevice,
    })
}

/// Uploads the inputs. Errors: a matrix that burn stores and the device cannot bind; burn's own.
pub(crate) fn prepare(
    device: &Device,
    adapter: &AdapterReport,
    work: &Work,
    inputs: &[Array],
) -> Outcome<Box<dyn Side>> {
    let stored = stored_bytes(work);
    if stored > adapter.max_binding {
        let gib = |bytes: u64| bytes as f64 / (1u64 << 30) as f64;
        let (needs, has) = (gib(stored), gib(adapter.max_binding));
        return Err(format!("stores a matrix of {needs:.1} GiB; a binding of the device spans {has:.1}"));
    }
    caught(|| {
        let run = match work {
            Work::Matmul(product) if product.batch == 1 => matmul::<2>(product.transpose, inputs, device),
            Work::Matmul(product) => matmul::<3>(product.transpose, inputs, device),
            Work::InfoNce(_) => info_nce(inputs, &device.clone().autodiff()),
            Work::Attention(heads) if heads.backward => {
                attention_backward(inputs, &device.clone().autodiff())
            }
            Work::Attention(_) => attention_forward(inputs, device),
        };
        device.sync().map_err(|e| format!("{e:?}"))?;
        Ok(Box::new(Burn { run }) as Box<dyn Side>)
    })
}

/// The largest matrix that it stores beside inputs and results, all logits or weights in f32.
fn stored_bytes(work: &Work) -> u64 {
    let elements = match work {
        Work::InfoNce(p) => p.n * p.n,
        Work::Attention(h) if h.backward => h.batch * h.heads * h.queries * h.keys,
        Work::Matmul(_) | Work::Attention(_) => 0,
    };
    4 * elements as u64
}

impl Side for Burn {
    fn call(&mut self) -> Outcome<Vec<f32>> {
        caught(|| {
            let firsts = (self.run)().into_iter().map(|result| result.slice(0..1)).collect();
            values(Tensor::cat(firsts, 0))
        })
    }

    fn results(&mut self) -> Outcome<Vec<Vec<f32>>> {
        caught(|| (self.run)().into_iter().map(values).collect())
    }
}

/// burn panics where a kernel or its memory fails; here that is a row of the table.
fn caught<T>(work: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()));
        Err(format!("panicked: {}", text.unwrap_or_default()))
    })
}

fn values(tensor: Tensor<1>) -> Outcome<Vec<f32>> {
    let data = tensor.try_into_data().map_err(|e| format!("{e:?}"))?;
    data.try_to_vec::<f32>().map_err(|e| format!("{e:?}"))
}

fn upload<const D: usize>(array: &Array, device: &Device) -> Tensor<D> {
    let shape: [usize; D] = array.shape.as_slice().try_into().expect("an array of the rank asked for");
    Tensor::from_data(TensorData::new(array.values.clone(), shape), device)
}

fn flat<const D: usize>(tensor: Tensor<D>) -> Tensor<1> {
    let elements = tensor.shape().num_elements();
    tensor.reshape([elements])
}

fn matmul<const D: usize>(transpose: Transpose, inputs: &[Array], device: &Device) -> Run {
    let (a, b) = (upload::<D>(&inputs[0], device), upload::<D>(&inputs[1], device));
    Box::new(move || {
        let (a, b) = (a.clone(), b.clone());
        let out = match transpose {
            Transpose::None => a.matmul(b),
            Transpose::A => a.transpose().matmul(b),
            Transpose::B => a.matmul(b.transpose()),
        };
        vec![flat(out)]
    })
}

fn info_nce(inputs: &[Array], device: &Device) -> Run {
    let x = upload::<2>(&inputs[0], device).require_grad();
    let y = upload::<2>(&inputs[1], device).require_grad();
    let one = Array { shape: vec![1, 1], values: inputs[2].values.clone() };
    let log_scale = upload::<2>(&one, device).require_grad();
    Box::new(move || {
        let scaled = x.clone() * log_scale.clone().exp();
        let logits = scaled.clone().matmul(y.clone().transpose());
        let of_lines = log_sum_exp(logits.clone(), 1).mean() + log_sum_exp(logits, 0).mean();
        let of_pairs = (scaled * y.clone()).sum_dim(1).mean();
        let loss = of_lines / 2. - of_pairs;
        let gradients = loss.backward();
        let of = |leaf: &Tensor<2>| flat(leaf.grad(&gradients).expect("a leaf that the loss depends on"));
        vec![loss.inner(), of(&x), of(&y), of(&log_scale)]
    })
}

/// Over an axis, the maximum subtracted.
fn log_sum_exp(logits: Tensor<2>, axis: usize) -> Tensor<2> {
    let most = logits.clone().detach().max_dim(axis);
    (logits - most.clone()).exp().sum_dim(axis).log() + most
}

fn attend(q: &Tensor<4>, k: &Tensor<4>, v: &Tensor<4>) -> Tensor<4> {
    attention(q.clone(), k.clone(), v.clone(), None, None, AttentionModuleOptions::default())
}

fn attention_forward(inputs: &[Array], device: &Device) -> Run {
    let [q, k, v] = [0, 1, 2].map(|i| upload::<4>(&inputs[i], device));
    Box::new(move || vec![flat(attend(&q, &k, &v))])
}

fn attention_backward(inputs: &[Array], device: &Device) -> Run {
    let [q, k, v] = [0, 1, 2].map(|i| upload::<4>(&inputs[i], device).require_grad());
    let upstream = upload::<4>(&inputs[3], device);
    Box::new(move || {
        let out = attend(&q, &k, &v);
        let gradients = (out.clone() * upstream.clone()).sum().backward();
        let of = |leaf: &Tensor<4>| flat(leaf.grad(&gradients).expect("a leaf that the result depends on"));
        vec![flat(out.inner()), of(&q), of(&k), of(&v)]
    })
}
