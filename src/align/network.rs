//! What a head computes, on the tape.

use crate::autograd::{Tape, Var};
use crate::device::Device;
use crate::error::Result;
use crate::nn::{Bound, Linear, Mlp, Parameters};
use crate::ops::binary::BINARY;
use crate::ops::l2_normalize::L2_NORMALIZE;
use crate::ops::unary::UNARY;
use crate::ops::{Binary, Unary};
use rand::Rng;

/// The weights of one layer of a head.
///
/// ```
/// use crossmodal::{Device, align::{Data, HeadWeights, Recipe, Split, Trainer}, io::Features};
/// let features = Features { rows: 20, cols: 1, values: (0..20).map(|i| i as f32).collect() };
/// let data = Data::new(features.clone(), features, Split::random(20, 0)?)?;
/// let recipe = Recipe { dim: 2, epochs: 1, batch_size: 4, ..Recipe::default() };
/// let weights = HeadWeights { weight: vec![0.5, -0.5], bias: vec![0., 1.] };
/// let trainer = Trainer::from_weights(&Device::Cpu, &data, &recipe, vec![weights.clone(), weights])?;
/// assert_eq!(trainer.heads()?.of("left")?.layers[0].weight, [0.5, -0.5]);
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct HeadWeights {
    /// `W [inputs, outputs]`, row-major.
    pub weight: Vec<f32>,
    /// `b [outputs]`.
    pub bias: Vec<f32>,
}

impl HeadWeights {
    /// Weights uniform in `±1/√inputs`, biases 0.
    pub(super) fn draw(sizes: (usize, usize), random: &mut impl Rng) -> Result<HeadWeights> {
        let mut own = Parameters::default();
        let linear = Linear::new(&Device::Cpu, &mut own, "head", sizes, random)?;
        Ok(HeadWeights {
            weight: own.get(linear.weight).value.to_vec()?,
            bias: own.get(linear.bias).value.to_vec()?,
        })
    }
}

/// Layers with GELU between them, the input perhaps mixed in behind the last: none is the identity.
#[derive(Debug, Clone)]
pub(super) struct Network {
    mlp: Mlp,
    /// `r`: the result is `r f(x) + (1 − r) x`.
    pub(super) residual: Option<f64>,
}

impl Network {
    /// Puts layers on a device.
    pub(super) fn new(
        device: &Device,
        parameters: &mut Parameters,
        name: &str,
        inputs: usize,
        weights: Vec<HeadWeights>,
        residual: Option<f64>,
    ) -> Result<Network> {
        let weights = weights.into_iter().map(|layer| (layer.weight, layer.bias)).collect();
        let mlp = Mlp::from_weights(device, parameters, name, inputs, weights, Unary::Gelu)?;
        Ok(Network { mlp, residual })
    }

    /// Whether there is nothing to learn.
    pub(super) fn is_fixed(&self) -> bool {
        self.mlp.layers.is_empty()
    }

    /// `x [rows, inputs]` in the shared space, rows of length one if `unit`.
    pub(super) fn forward(&self, tape: &Tape, bound: &Bound, x: &Var, unit: bool) -> Result<Var> {
        let mut z = self.mlp.forward(tape, bound, x)?;
        if let Some(ratio) = self.residual {
            let part = |v: &Var, c: f64| tape.apply(&UNARY, Unary::Scale(c), &[v]);
            z = tape.apply(&BINARY, Binary::Add, &[&part(&z, ratio)?, &part(x, 1. - ratio)?])?;
        }
        if unit { tape.apply(&L2_NORMALIZE, (), &[&z]) } else { Ok(z) }
    }

    pub(super) fn weights(&self, parameters: &Parameters) -> Result<Vec<HeadWeights>> {
        let layer = |linear: &Linear| {
            let values = |id| parameters.get(id).value.to_vec();
            Ok(HeadWeights { weight: values(linear.weight)?, bias: values(linear.bias)? })
        };
        self.mlp.layers.iter().map(layer).collect()
    }
}
