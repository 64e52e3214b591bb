//! Layer norm (Ba et al., 2016) and RMS norm (Zhang and Sennrich, 2019): rows of mean 0 and deviation one, or of root mean
//! square one, times a weight, and a bias added. Both are the same kernels.
//!
//! ```
//! use crossmodal::{Device, Tensor, autograd::Tape, ops::layer_norm::{LAYER_NORM, RMS_NORM}};
//! let tape = Tape::new();
//! let [x, weight, bias] = [[1f32, 3.], [1., 1.], [0., 5.]]
//!     .map(|v| Tensor::from_slice(&Device::Cpu, &[2], &v).map(|v| tape.leaf(&v)));
//! let (x, weight, bias) = (x?, weight?, bias?);
//! let y = tape.apply(&LAYER_NORM, 1e-5, &[&x, &weight, &bias])?;
//! let gradients = tape.backward_from(&y, bias.value())?;
//! assert_eq!(gradients.get(&bias).unwrap().to_vec::<f32>()?, [0., 5.]);
//! let y = tape.apply(&RMS_NORM, 1e-5, &[&x, &weight])?;
//! assert!(tape.backward_from(&y, y.value())?.get(&weight).is_some());
//! # Ok::<(), crossmodal::Error>(())
//! ```

use super::concat::slice;
use super::reduce::{Reduce, ReduceOptions, reduce};
use super::{
    Forward, Rule, Saved, cast, check_floats, check_shape, concat, dispatch, expect_inputs, groups, host,
    parts, rows,
};
use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::gpu::kernel::{params, read, write};
use crate::gpu::{Gpu, Kernel, Variant};
use crate::reference;
use crate::shape::rows_cols;
use crate::tensor::Tensor;

const SOURCE: &str = concat!(
    include_str!("../../shaders/lib/grid.wgsl"),
    include_str!("../../shaders/lib/reduce.wgsl"),
    include_str!("../../shaders/layer_norm.wgsl")
);

params! {
    struct Params { rows: u32, cols: u32, chunk: u32, chunks: u32, centred: u32, biased: u32, root_eps: f32 }
}

const FORWARD: Kernel = Kernel::new::<Params>(
    "layer_norm",
    "forward",
    SOURCE,
    &[read("x"), read("weight"), read("bias"), write("out"), write("moments")],
);
const BACKWARD: Kernel = Kernel::new::<Params>(
    "layer_norm",
    "backward",
    SOURCE,
    &[read("x"), read("kept"), read("grad"), read("scale"), write("dx")],
);
const WEIGHT_SUMS: Kernel = Kernel::new::<Params>(
    "layer_norm",
    "weight_sums",
    SOURCE,
    &[read("x"), read("kept"), read("grad"), write("sums")],
);

/// The kernels of both operations. Example: [`Kernel`].
pub const KERNELS: &[&Kernel] = &[&FORWARD, &BACKWARD, &WEIGHT_SUMS];

/// Rows of which one invocation sums a weight's gradient: these sums are summed again.
const CHUNK: usize = 32;

/// What both operations are told.
#[derive(Clone, Copy)]
struct Norm {
    op: &'static str,
    /// Whether the mean is taken away first.
    centred: bool,
    eps: f64,
}

fn layer(eps: f64) -> Norm {
    Norm { op: "layer_norm", centred: true, eps }
}

fn rms(eps: f64) -> Norm {
    Norm { op: "rms_norm", centred: false, eps }
}

/// How the tape calls [`layer_norm`]: the option is ε, the inputs x, weight and, if there is one, bias; each row's mean and
/// deviation are kept. Example: [the module](self).
pub const LAYER_NORM: Rule<f64> = Rule {
    name: "layer_norm",
    forward: |eps, inputs| {
        expect_inputs("layer_norm", inputs, 2..=3)?;
        forward(layer(*eps), inputs[0], inputs[1], inputs.get(2).copied())
    },
    backward: |eps, saved: &Saved<'_>| backward(layer(*eps), saved),
};

/// How the tape calls [`rms_norm`]: the option is ε, the inputs x and weight. Example: [the module](self).
pub const RMS_NORM: Rule<f64> = Rule {
    name: "rms_norm",
    forward: |eps, inputs| {
        expect_inputs("rms_norm", inputs, 2..=2)?;
        forward(rms(*eps), inputs[0], inputs[1], None)
    },
    backward: |eps, saved: &Saved<'_>| backward(rms(*eps), saved),
};

/// `(x − mean) / √(variance + ε) · weight + bias` of each row `x [..., cols]` (Ba et al., 2016), `weight` and `bias [cols]`; the
/// variance is the mean of squares.
///
/// Rows far from 0 keep the digits of what distinguishes their elements, and no square overflows. A constant row gives the bias;
/// its gradient is finite. Statistics are f32 for f16. The gradients of weight and bias, sums over all rows, follow a fixed tree:
/// the same bits every time. Errors: `x` is a scalar; the weight or the bias is not `[cols]`; types or devices differ; ε is not a
/// normal positive f32.
///
/// ```
/// use crossmodal::{Device, Tensor, ops::layer_norm};
/// let x = Tensor::from_slice(&Device::Cpu, &[2, 2], &[10_001f32, 10_003., 7., 7.])?;
/// let [weight, bias] = [[2f32, 2.], [0., 5.]].map(|v| Tensor::from_slice(&Device::Cpu, &[2], &v));
/// let y = layer_norm(&x, &weight?, Some(&bias?), 1e-12)?;
/// assert_eq!(y.to_vec::<f32>()?, [-2., 7., 0., 5.]);
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, eps: f64) -> Result<Tensor> {
    Ok(forward(layer(eps), x, weight, bias)?.outputs.remove(0))
}

/// `x / √(mean of squares + ε) · weight` of each row `x [..., cols]` (Zhang and Sennrich, 2019), `weight [cols]`. Otherwise as
/// [`layer_norm`], with its errors.
///
/// ```
/// use crossmodal::{Device, Tensor, ops::rms_norm};
/// let [x, weight] = [[1f32, -7.], [1., 2.]].map(|v| Tensor::from_slice(&Device::Cpu, &[2], &v));
/// assert_eq!(rms_norm(&x?, &weight?, 1e-12)?.to_vec::<f32>()?, [0.2, -2.8]);
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    Ok(forward(rms(eps), x, weight, None)?.outputs.remove(0))
}

fn forward(norm: Norm, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Forward> {
    let op = norm.op;
    let inputs = [Some(("x", x)), Some(("weight", weight)), bias.map(|bias| ("bias", bias))];
    check_floats(op, &inputs.into_iter().flatten().collect::<Vec<_>>())?;
    let size = rows_cols(op, "x", x.shape())?;
    check_shape(op, "weight", weight, &[size.1])?;
    bias.map_or(Ok(()), |bias| check_shape(op, "bias", bias, &[size.1]))?;
    if !(norm.eps as f32).is_normal() || norm.eps < 0. {
        return Err(Error::argument(op, "eps", "a normal positive f32", format!("{:?}", norm.eps)));
    }
    if x.is_empty() {
        return Ok(Forward::one(x.clone()));
    }
    match x.device() {
        Device::Cpu => {
            let (weight, bias, result) = (weight.f64s(), bias.map(Tensor::f64s), (x.shape(), x.dtype()));
            let [out] = rows::on_cpu(size, &[x], [result], |v| match norm.centred {
                true => [reference::layer_norm(&v[0], &weight, bias.as_deref(), norm.eps)],
                false => [reference::rms_norm(&v[0], &weight, norm.eps)],
            })?;
            Ok(Forward::one(out))
        }
        Device::Gpu(gpu) => {
            let [out, moments] = norm.forward(gpu, &x.reshape(&[size.0, size.1])?, weight, bias)?;
            Ok(Forward { outputs: vec![out.reshape(x.shape())?], kept: vec![moments] })
        }
    }
}

fn backward(norm: Norm, saved: &Saved<'_>) -> Result<Vec<Option<Tensor>>> {
    let (x, weight, grad) = (&saved.inputs[0], &saved.inputs[1], saved.grad());
    let size = rows_cols(norm.op, "x", x.shape())?;
    let mut gradients = if x.is_empty() {
        let none = || Tensor::zeros(x.device(), weight.shape(), weight.dtype());
        vec![Some(x.clone()), Some(none()?), Some(none()?)]
    } else {
        match x.device() {
            Device::Cpu => norm.backward_on_cpu(x, weight, grad, size)?,
            Device::Gpu(gpu) => {
                let wanted = |i: usize| saved.needs.get(i) == Some(&true);
                let [x2, grad] = [x, grad].map(|t| t.reshape(&[size.0, size.1]));
                let (x2, kept, grad) = (&x2?, &saved.kept[0], &grad?);
                let dx = wanted(0).then(|| norm.backward(gpu, x2, kept, grad, weight)?.reshape(x.shape()));
                let dw = wanted(1).then(|| norm.weight_gradient(gpu, x2, kept, grad, weight.dtype()));
                let db = wanted(2).then(|| reduce(grad, &OVER_ROWS));
                vec![dx.transpose()?, dw.transpose()?, db.transpose()?]
            }
        }
    };
    gradients.truncate(saved.inputs.len());
    Ok(gradients)
}

const OVER_ROWS: ReduceOptions = ReduceOptions { kind: Reduce::Sum, axis: 0, keep_axis: false };

impl Norm {
    fn params(self, (rows, cols): (usize, usize), biased: bool) -> Params {
        Params {
            rows: rows as u32,
            cols: cols as u32,
            chunk: CHUNK as u32,
            chunks: rows.div_ceil(CHUNK) as u32,
            centred: u32::from(self.centred),
            biased: u32::from(biased),
            root_eps: self.eps.sqrt() as f32,
        }
    }

    /// Chunks of rows, each with its sums for weight and bias.
    fn backward_on_cpu(
        self,
        x: &Tensor,
        weight: &Tensor,
        grad: &Tensor,
        size: (usize, usize),
    ) -> Result<Vec<Option<Tensor>>> {
        let (chunks, cols, own) = (rows::chunks(size), size.1, weight.f64s());
        let sums = (&[chunks, cols][..], DType::F64);
        let results = [(x.shape(), x.dtype()), sums, sums];
        let [dx, dw, db] = rows::on_cpu(size, &[x, grad], results, |v| match self.centred {
            true => reference::layer_norm_backward(&v[0], &own, &v[1], self.eps),
            false => {
                let [dx, dw] = reference::rms_norm_backward(&v[0], &own, &v[1], self.eps);
                [dx, dw, vec![0.; cols]]
            }
        })?;
        let sum = |sums: &Tensor| {
            let sum = reference::reduce(Reduce::Sum, &sums.f64s(), (1, chunks, cols));
            host(weight.shape(), weight.dtype(), sum)
        };
        Ok(vec![Some(dx), Some(sum(&dw)?), Some(sum(&db)?)])
    }

    /// Bytes of a row where it takes the most.
    fn row_bytes(x: &Tensor) -> usize {
        (x.shape()[1] * x.dtype().size()).max(2 * DType::F32.size())
    }

    /// `x [rows, cols]` to the result and the moments `[rows, 2]`.
    fn forward(self, gpu: &Gpu, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<[Tensor; 2]> {
        let (rows, cols) = (x.shape()[0], x.shape()[1]);
        if parts::needed(gpu, &[x], &[rows, 2], DType::F32) {
            return parts::in_rows(gpu, rows, Self::row_bytes(x), |range| {
                self.forward(gpu, &slice(x, 0, range)?, weight, bias)
            });
        }
        let out = Tensor::uninit(self.op, x.device(), x.shape(), x.dtype())?;
        let moments = Tensor::uninit(self.op, x.device(), &[rows, 2], DType::F32)?;
        // Something must be bound where there is no bias.
        let tensors = [x, weight, bias.unwrap_or(weight), &out, &moments];
        let params = self.params((rows, cols), bias.is_some());
        dispatch(gpu, &FORWARD, Variant::of(x.dtype()), &params, &tensors, rows as u64)?;
        Ok([out, moments])
    }

    fn backward(
        self,
        gpu: &Gpu,
        x: &Tensor,
        kept: &Tensor,
        grad: &Tensor,
        weight: &Tensor,
    ) -> Result<Tensor> {
        let (rows, cols) = (x.shape()[0], x.shape()[1]);
        if x.is_split() || kept.is_split() {
            let [dx] = parts::in_rows(gpu, rows, Self::row_bytes(x), |range| {
                let [x, kept, grad] = [x, kept, grad].map(|t| slice(t, 0, range));
                Ok([self.backward(gpu, &x?, &kept?, &grad?, weight)?])
            })?;
            return Ok(dx);
        }
        let dx = Tensor::uninit(self.op, x.device(), x.shape(), x.dtype())?;
        let (params, tensors) = (self.params((rows, cols), false), [x, kept, grad, weight, &dx]);
        dispatch(gpu, &BACKWARD, Variant::of(x.dtype()), &params, &tensors, rows as u64)?;
        Ok(dx)
    }

    /// The sum over rows, in two levels where they are many.
    fn weight_gradient(
        self,
        gpu: &Gpu,
        x: &Tensor,
        kept: &Tensor,
        grad: &Tensor,
        dtype: DType,
    ) -> Result<Tensor> {
        let (rows, cols) = (x.shape()[0], x.shape()[1]);
        if x.is_split() || kept.is_split() {
            let mut sums = vec![];
            for range in parts::ranges(gpu, rows, Self::row_bytes(x)) {
                let [x, kept, grad] = [x, kept, grad].map(|t| slice(t, 0, &range));
                let sum = self.weight_gradient(gpu, &x?, &kept?, &grad?, DType::F32)?;
                sums.push(sum.reshape(&[1, cols])?);
            }
            let sums = concat(&sums.iter().collect::<Vec<_>>(), 0)?;
            return cast(&reduce(&sums, &OVER_ROWS)?, dtype);
        }
        let chunks = rows.div_ceil(CHUNK);
        let one_level = chunks == 1;
        let kind = if one_level { dtype } else { DType::F32 };
        let sums = Tensor::uninit(self.op, x.device(), &[chunks, cols], kind)?;
        let variant = Variant { elem_out: kind, ..Variant::of(x.dtype()) };
        let (params, groups) = (self.params((rows, cols), false), groups(sums.len(), 256));
        dispatch(gpu, &WEIGHT_SUMS, variant, &params, &[x, kept, grad, &sums], groups)?;
        if one_level { sums.reshape(&[cols]) } else { cast(&reduce(&sums, &OVER_ROWS)?, dtype) }
    }
}
