//! The linear layer.

use super::{Bound, ParameterId, Parameters};
use crate::autograd::{Tape, Var};
use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::ops::matmul::MATMUL;
use crate::ops::{MatmulOptions, Unary};
use crate::tensor::Tensor;
use rand::{Rng, RngExt};

/// `y = act(x W + b)`: `x [..., inputs]`, `W [inputs, outputs]`, `b [outputs]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Linear {
    /// `W`.
    pub weight: ParameterId,
    /// `b`.
    pub bias: ParameterId,
    /// What follows, computed together with the product.
    pub activation: Option<Unary>,
}

impl Linear {
    /// A layer with `W` uniform in `±1/√inputs` and `b = 0`, in f32; parameters `name.weight` and `name.bias`.
    ///
    /// Errors: the sizes are 0; the device's.
    pub fn new(
        device: &Device,
        parameters: &mut Parameters,
        name: &str,
        (inputs, outputs): (usize, usize),
        random: &mut impl Rng,
    ) -> Result<Linear> {
        if inputs == 0 || outputs == 0 {
            let got = format!("{inputs} inputs and {outputs} outputs");
            return Err(Error::argument("Linear", "sizes", "at least one input and one output", got));
        }
        let bound = 1. / (inputs as f32).sqrt();
        let weight: Vec<f32> =
            (0..inputs * outputs).map(|_| random.random_range(-1f32..1.) * bound).collect();
        Self::from_weights(device, parameters, name, (inputs, outputs), weight, vec![0.; outputs])
    }

    /// A layer with given weights `[inputs, outputs]` and bias `[outputs]`.
    pub fn from_weights(
        device: &Device,
        parameters: &mut Parameters,
        name: &str,
        (inputs, outputs): (usize, usize),
        weight: Vec<f32>,
        bias: Vec<f32>,
    ) -> Result<Linear> {
        let weight = Tensor::from_vec(device, &[inputs, outputs], weight)?;
        let bias = Tensor::from_vec(device, &[outputs], bias)?;
        Ok(Linear {
            weight: parameters.add(format!("{name}.weight"), weight, true)?,
            bias: parameters.add(format!("{name}.bias"), bias, false)?,
            activation: None,
        })
    }

    /// The layer applied. `x` of another floating-point type than the parameters is refused by the product.
    pub fn forward(&self, tape: &Tape, parameters: &Bound, x: &Var) -> Result<Var> {
        debug_assert!(x.dtype() != DType::U32);
        let options = MatmulOptions { activation: self.activation, ..MatmulOptions::default() };
        tape.apply(&MATMUL, options, &[x, parameters.get(self.weight), parameters.get(self.bias)])
    }
}
