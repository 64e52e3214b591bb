//! Early fusion by gates.

use super::{Presence, projections};
use crate::autograd::arithmetic::{add, concat, mul, sum, unary};
use crate::autograd::{Tape, Var};
use crate::device::Device;
use crate::error::Result;
use crate::nn::{Bound, Linear, Parameters};
use crate::ops::Unary;
use crate::ops::softmax::SOFTMAX;
use rand::Rng;

/// The gated multimodal unit (Arevalo et al., 2017), `h = Σ_m z_m ∘ tanh v_m` with `v_m` the projected modality m and the gates `z`,
/// of each feature by itself, a softmax over the modalities of a linear map of all `v`: of two modalities
/// `z = σ(W[v; t])` and `h = z ∘ tanh v + (1 − z) ∘ tanh t`. The gates of what is missing are 0, and the others still sum to 1.
///
/// ```
/// use crossmodal::{DType, Device, Tensor, autograd::Tape, nn::{Parameters, generator}};
/// use crossmodal::fusion::{GatedUnit, Presence};
/// let mut parameters = Parameters::default();
/// let fusion = GatedUnit::new(&Device::Cpu, &mut parameters, "fusion", &[3, 2], 4, &mut generator(0, 0))?;
/// let tape = Tape::new();
/// let x = [3, 2].map(|width| tape.leaf(&Tensor::zeros(&Device::Cpu, &[5, width], DType::F32).unwrap()));
/// let h = fusion.forward(&tape, &parameters.on(&tape), &[&x[0], &x[1]], &Presence::all(5, 2))?;
/// assert_eq!(h.value().shape(), [5, 4]);
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct GatedUnit {
    projections: Vec<Linear>,
    gate: Linear,
    dim: usize,
}

impl GatedUnit {
    /// From features of these widths to `dim`. Errors: no modality, a size of 0; the names are taken; the device's. Example:
    /// [`GatedUnit`].
    pub fn new(
        device: &Device,
        parameters: &mut Parameters,
        name: &str,
        widths: &[usize],
        dim: usize,
        random: &mut impl Rng,
    ) -> Result<GatedUnit> {
        let all = widths.len() * dim;
        Ok(GatedUnit {
            projections: projections(device, parameters, name, widths, dim, random)?,
            gate: Linear::new(device, parameters, &format!("{name}.gate"), (all, all), random)?,
            dim,
        })
    }

    /// Features `[rows, width]` of each modality to `[rows, dim]`; 0 in a sample without any. Errors: other modalities or rows than
    /// `presence`; the operations'. Example: [`GatedUnit`].
    pub fn forward(&self, tape: &Tape, bound: &Bound, features: &[&Var], presence: &Presence) -> Result<Var> {
        presence.check(features)?;
        let (rows, count) = (features[0].value().shape()[0], features.len());
        let mut projected = vec![];
        for (m, (x, layer)) in features.iter().zip(&self.projections).enumerate() {
            let v = layer.forward(tape, bound, &presence.kept(tape, m, x)?)?;
            // The projection's bias is not to tell of a modality that is missing.
            projected.push(mul(tape, &v, &presence.column(tape, m, x)?)?);
        }
        let all = concat(tape, 1, &projected)?;
        let scores = self.gate.forward(tape, bound, &all)?;
        let scores = tape.reshape(&scores, &[rows, self.dim, count])?;
        let masked = tape.reshape(&presence.scores(tape, &scores)?, &[rows, 1, count])?;
        let gates = tape.apply(&SOFTMAX, (), &[&add(tape, &scores, &masked)?])?;
        let values: Vec<_> = projected
            .iter()
            .map(|v| tape.reshape(&unary(tape, Unary::Tanh, v)?, &[rows, self.dim, 1]))
            .collect::<Result<_>>()?;
        sum(tape, &mul(tape, &gates, &concat(tape, 2, &values)?)?, 2)
    }
}
