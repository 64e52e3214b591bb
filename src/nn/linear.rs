//! The linear layer.

use super::{Bound, ParameterId, Parameters};
use crate::autograd::{Tape, Var};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::ops::matmul::MATMUL;
use crate::ops::{MatmulOptions, Unary};
use crate::tensor::Tensor;
use rand::{Rng, RngExt};

/// `y = act(x W + b)`: `x [..., inputs]`, `W [inputs, outputs]`, `b [outputs]`.
///
/// ```
/// use crossmodal::autograd::Tape;
/// use crossmodal::{Device, Tensor, nn::{Linear, Parameters}, ops::Unary};
/// let mut parameters = Parameters::default();
/// let weights = (vec![1., -1.], vec![0., 0.5]);
/// let plain = Linear::from_weights(&Device::Cpu, &mut parameters, "l", (1, 2), weights.0, weights.1)?;
/// let layer = Linear { activation: Some(Unary::Relu), ..plain };
/// let tape = Tape::no_grad();
/// let x = tape.constant(&Tensor::from_slice(&Device::Cpu, &[1, 1], &[2f32])?);
/// let y = layer.forward(&tape, &parameters.on(&tape), &x)?;
/// assert_eq!(y.value().to_vec::<f32>()?, [2., 0.]);
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Linear {
    /// `W`.
    pub weight: ParameterId,
    /// `b`.
    pub bias: ParameterId,
    /// What follows the product.
    pub activation: Option<Unary>,
}

impl Linear {
    /// A layer with `W` uniform in `±1/√inputs` and `b = 0`, in f32; parameters `name.weight` and `name.bias`.
    ///
    /// Errors: a size is 0; the names are taken; the device's.
    ///
    /// ```
    /// use crossmodal::{Device, nn::{Linear, Parameters, generator}};
    /// let mut parameters = Parameters::default();
    /// let layer = Linear::new(&Device::Cpu, &mut parameters, "head", (4, 2), &mut generator(0, 0))?;
    /// assert_eq!(parameters.get(layer.weight).value.shape(), [4, 2]);
    /// assert_eq!(parameters.get(layer.bias).name, "head.bias");
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    pub fn new(
        device: &Device,
        parameters: &mut Parameters,
        name: &str,
        (inputs, outputs): (usize, usize),
        random: &mut impl Rng,
    ) -> Result<Linear> {
        if inputs == 0
            || outputs == 0
            || inputs.checked_mul(outputs).is_none_or(|n| u32::try_from(n).is_err())
        {
            let got = format!("{inputs} inputs and {outputs} outputs");
            return Err(Error::argument(
                "Linear",
                "sizes",
                "at least one of each and fewer than 2^32 weights",
                got,
            ));
        }
        let bound = 1. / (inputs as f32).sqrt();
        let weight: Vec<f32> =
            (0..inputs * outputs).map(|_| random.random_range(-1f32..1.) * bound).collect();
        Self::from_weights(device, parameters, name, (inputs, outputs), weight, vec![0.; outputs])
    }

    /// A layer with given weights `[inputs, outputs]`, row-major, and bias `[outputs]`. Errors: a slice has
    /// another length; the names are taken; the device's. Example: [`Linear`].
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
    /// Example: [`Linear`].
    pub fn forward(&self, tape: &Tape, parameters: &Bound, x: &Var) -> Result<Var> {
        let options = MatmulOptions { activation: self.activation, ..MatmulOptions::default() };
        tape.apply(&MATMUL, options, &[x, parameters.get(self.weight), parameters.get(self.bias)])
    }
}
