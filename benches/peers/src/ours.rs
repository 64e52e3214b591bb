//! crossmodal's side.

use crate::data::Array;
use crate::shapes::{Arithmetic, Shape, Transpose, Work};
use crate::side::{Outcome, Side};
use crossmodal::autograd::Tape;
use crossmodal::ops::attention::ATTENTION;
use crossmodal::ops::info_nce::INFO_NCE;
use crossmodal::ops::{
    AttentionOptions, Indices, InfoNceOptions, MatmulOptions, Precision, attention, cast, concat, gather,
    matmul,
};
use crossmodal::{DType, Device, Result, Tensor};

pub(crate) struct Ours {
    work: Work,
    precision: Precision,
    inputs: Vec<Tensor>,
    first: Indices,
}

/// Uploads the inputs.
pub(crate) fn prepare(device: &Device, shape: &Shape, inputs: &[Array]) -> Outcome<Box<dyn Side>> {
    let dtype = if shape.ours == Arithmetic::F16 { DType::F16 } else { DType::F32 };
    let precision = if shape.ours == Arithmetic::Fast { Precision::Fast } else { Precision::Strict };
    let upload = |array: &Array| cast(&Tensor::from_slice(device, &array.shape, &array.values)?, dtype);
    let open = || {
        let inputs = inputs.iter().map(upload).collect::<Result<_>>()?;
        let first = Indices::new(device, &[0])?;
        device.wait()?;
        Ok(Ours { work: shape.work, precision, inputs, first })
    };
    open().map(|side| Box::new(side) as Box<dyn Side>).map_err(|e: crossmodal::Error| e.to_string())
}

impl Side for Ours {
    fn call(&mut self) -> Outcome<Vec<f32>> {
        let firsts = || {
            let column = |result: &Tensor| gather(&result.reshape(&[result.len(), 1])?, &self.first);
            let firsts = self.run()?.iter().map(column).collect::<Result<Vec<_>>>()?;
            cast(&concat(&firsts.iter().collect::<Vec<_>>(), 0)?, DType::F32)?.to_vec()
        };
        firsts().map_err(|e| e.to_string())
    }

    fn results(&mut self) -> Outcome<Vec<Vec<f32>>> {
        let all = || self.run()?.iter().map(|one| cast(one, DType::F32)?.to_vec()).collect::<Result<_>>();
        all().map_err(|e| e.to_string())
    }
}

impl Ours {
    fn run(&self) -> Result<Vec<Tensor>> {
        match self.work {
            Work::Matmul(product) => {
                let options = MatmulOptions {
                    transpose_a: product.transpose == Transpose::A,
                    transpose_b: product.transpose == Transpose::B,
                    precision: self.precision,
                    ..MatmulOptions::default()
                };
                Ok(vec![matmul(&self.inputs[0], &self.inputs[1], None, &options)?])
            }
            Work::InfoNce(_) => self.info_nce(),
            Work::Attention(heads) if heads.backward => self.attention_backward(),
            Work::Attention(_) => {
                let [q, k, v] = [0, 1, 2].map(|i| &self.inputs[i]);
                Ok(vec![attention(q, k, v, None, &AttentionOptions::default())?.out])
            }
        }
    }

    /// The loss and the gradients of x, y and the scale.
    fn info_nce(&self) -> Result<Vec<Tensor>> {
        let tape = Tape::new();
        let [x, y, log_scale] = [0, 1, 2].map(|i| tape.leaf(&self.inputs[i]));
        let options = InfoNceOptions { precision: self.precision, ..InfoNceOptions::default() };
        let loss = tape.apply(&INFO_NCE, options, &[&x, &y, &log_scale])?;
        let gradients = tape.backward(&loss)?;
        let of_leaves = [&x, &y, &log_scale].into_iter().filter_map(|leaf| gradients.get(leaf).cloned());
        Ok(std::iter::once(loss.value().clone()).chain(of_leaves).collect())
    }

    /// The result and the gradients of q, k and v.
    fn attention_backward(&self) -> Result<Vec<Tensor>> {
        let tape = Tape::new();
        let [q, k, v] = [0, 1, 2].map(|i| tape.leaf(&self.inputs[i]));
        let attended = tape.apply_all(&ATTENTION, AttentionOptions::default(), &[&q, &k, &v])?;
        let gradients = tape.backward_from(&attended[0], &self.inputs[3])?;
        let of_leaves = [&q, &k, &v].into_iter().filter_map(|leaf| gradients.get(leaf).cloned());
        Ok(std::iter::once(attended[0].value().clone()).chain(of_leaves).collect())
    }
}
