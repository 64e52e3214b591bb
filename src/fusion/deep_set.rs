//! A pooled sum of modalities.

use super::{Presence, projections};
use crate::autograd::arithmetic::{mul, total};
use crate::autograd::{Tape, Var};
use crate::device::Device;
use crate::error::Result;
use crate::nn::{Bound, Linear, Parameters};
use crate::ops::Unary;
use rand::Rng;

/// DeepSet (Zaheer et al., 2017): `h = ρ(mean_m φ_m(x_m))` over the modalities that are there, φ a layer with GELU behind it and ρ
/// another layer.
///
/// ```
/// use crossmodal::{DType, Device, Tensor, autograd::Tape, nn::{Parameters, generator}};
/// use crossmodal::fusion::{DeepSet, Presence};
/// let mut parameters = Parameters::default();
/// let fusion = DeepSet::new(&Device::Cpu, &mut parameters, "fusion", &[3, 2], (8, 4), &mut generator(0, 0))?;
/// let tape = Tape::new();
/// let x = [3, 2].map(|width| tape.leaf(&Tensor::zeros(&Device::Cpu, &[5, width], DType::F32).unwrap()));
/// let h = fusion.forward(&tape, &parameters.on(&tape), &[&x[0], &x[1]], &Presence::all(5, 2))?;
/// assert_eq!(h.value().shape(), [5, 4]);
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct DeepSet {
    elements: Vec<Linear>,
    output: Linear,
}

impl DeepSet {
    /// From features of these widths through `hidden` to `dim`. Errors: no modality, a size of 0; the names are taken; the device's.
    /// Example: [`DeepSet`].
    pub fn new(
        device: &Device,
        parameters: &mut Parameters,
        name: &str,
        widths: &[usize],
        (hidden, dim): (usize, usize),
        random: &mut impl Rng,
    ) -> Result<DeepSet> {
        let elements = projections(device, parameters, name, widths, hidden, random)?;
        let elements =
            elements.into_iter().map(|own| Linear { activation: Some(Unary::Gelu), ..own }).collect();
        let output = Linear::new(device, parameters, &format!("{name}.output"), (hidden, dim), random)?;
        Ok(DeepSet { elements, output })
    }

    /// Features `[rows, width]` of each modality to `[rows, dim]`. Errors: other modalities or rows than `presence`; the
    /// operations'. Example: [`DeepSet`].
    pub fn forward(&self, tape: &Tape, bound: &Bound, features: &[&Var], presence: &Presence) -> Result<Var> {
        presence.check(features)?;
        let element = |(m, (x, layer)): (usize, (&&Var, &Linear))| {
            let v = layer.forward(tape, bound, &presence.kept(tape, m, x)?)?;
            mul(tape, &v, &presence.column(tape, m, x)?)
        };
        let elements: Vec<_> =
            features.iter().zip(&self.elements).enumerate().map(element).collect::<Result<_>>()?;
        let mean = mul(tape, &total(tape, &elements)?, &presence.shares(tape, features[0])?)?;
        self.output.forward(tape, bound, &mean)
    }
}
