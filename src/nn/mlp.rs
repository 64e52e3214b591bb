//! The multilayer perceptron.

use super::{Bound, Linear, Parameters};
use crate::autograd::{Tape, Var};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::ops::Unary;
use rand::Rng;

/// Linear layers with an activation between them, none behind the last.
///
/// ```
/// use crossmodal::{DType, Device, Tensor, autograd::Tape, nn::{Mlp, Parameters, generator}, ops::Unary};
/// let mut parameters = Parameters::default();
/// let mlp = Mlp::new(&Device::Cpu, &mut parameters, "mlp", &[8, 16, 4], Unary::Relu, &mut generator(0, 0))?;
/// let tape = Tape::no_grad();
/// let x = tape.constant(&Tensor::zeros(&Device::Cpu, &[3, 8], DType::F32)?);
/// assert_eq!(mlp.forward(&tape, &parameters.on(&tape), &x)?.value().shape(), [3, 4]);
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Mlp {
    /// The layers, first to last.
    pub layers: Vec<Linear>,
}

impl Mlp {
    /// Layers `sizes[0] → sizes[1] → …`, initialised as [`Linear::new`] does; parameters `name.0.weight` and so on.
    ///
    /// Errors: fewer than two sizes, or one of them 0; the names are taken; the device's.
    ///
    /// ```
    /// use crossmodal::{Device, nn::{Mlp, Parameters, generator}, ops::Unary};
    /// let mut parameters = Parameters::default();
    /// let mlp = Mlp::new(&Device::Cpu, &mut parameters, "mlp", &[8, 16, 4], Unary::Gelu, &mut generator(0, 0))?;
    /// assert_eq!((mlp.layers.len(), parameters.len()), (2, 4));
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    pub fn new(
        device: &Device,
        parameters: &mut Parameters,
        name: &str,
        sizes: &[usize],
        activation: Unary,
        random: &mut impl Rng,
    ) -> Result<Mlp> {
        if sizes.len() < 2 {
            return Err(Error::argument("Mlp", "sizes", "at least two sizes", format!("{sizes:?}")));
        }
        let mut layers = vec![];
        for (i, pair) in sizes.windows(2).enumerate() {
            let layer = Linear::new(device, parameters, &format!("{name}.{i}"), (pair[0], pair[1]), random)?;
            let last = i + 2 == sizes.len();
            layers.push(Linear { activation: (!last).then_some(activation), ..layer });
        }
        Ok(Mlp { layers })
    }

    /// Layers of given weights `[inputs, outputs]` and biases `[outputs]`, first to last; parameters are named as [`Mlp::new`]
    /// names them. No layer at all is the identity.
    ///
    /// Errors: a slice has another length; the names are taken; the device's.
    ///
    /// ```
    /// use crossmodal::{Device, nn::{Mlp, Parameters}, ops::Unary};
    /// let mut parameters = Parameters::default();
    /// let weights = vec![(vec![1., 2.], vec![0., 0.]), (vec![1., 1.], vec![0.5])];
    /// let mlp = Mlp::from_weights(&Device::Cpu, &mut parameters, "mlp", 1, weights, Unary::Relu)?;
    /// assert_eq!((mlp.layers.len(), mlp.layers[1].activation), (2, None));
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    pub fn from_weights(
        device: &Device,
        parameters: &mut Parameters,
        name: &str,
        inputs: usize,
        weights: Vec<(Vec<f32>, Vec<f32>)>,
        activation: Unary,
    ) -> Result<Mlp> {
        let (count, mut width, mut layers) = (weights.len(), inputs, vec![]);
        for (i, (weight, bias)) in weights.into_iter().enumerate() {
            let sizes = (width, bias.len());
            let layer =
                Linear::from_weights(device, parameters, &format!("{name}.{i}"), sizes, weight, bias)?;
            layers.push(Linear { activation: (i + 1 < count).then_some(activation), ..layer });
            width = sizes.1;
        }
        Ok(Mlp { layers })
    }

    /// The layers applied in turn: `x [..., first size]` to `[..., last size]`. Errors: the operations'.
    /// Example: [`Mlp`].
    pub fn forward(&self, tape: &Tape, parameters: &Bound, x: &Var) -> Result<Var> {
        self.layers.iter().try_fold(x.clone(), |x, layer| layer.forward(tape, parameters, &x))
    }
}
