//! A weighted sum of modalities.

use super::{Presence, projections};
use crate::autograd::arithmetic::{add, concat, mul, sum};
use crate::autograd::{Tape, Var};
use crate::device::Device;
use crate::error::Result;
use crate::nn::{Bound, Linear, Parameters};
use crate::ops::Unary;
use crate::ops::softmax::SOFTMAX;
use rand::Rng;

/// Attention pooling over modalities (Ilse et al., 2018): `h = Σ_m a_m v_m`, `a = softmax_m(u · tanh(V v_m))`, `v_m` the projected
/// modality m. The weights of what is missing are 0, and the others still sum to 1.
///
/// ```
/// use crossmodal::{DType, Device, Tensor, autograd::Tape, nn::{Parameters, generator}};
/// use crossmodal::fusion::{AttentionPooling, Presence};
/// let mut parameters = Parameters::default();
/// let fusion = AttentionPooling::new(&Device::Cpu, &mut parameters, "fusion", &[3, 2], 4, &mut generator(0, 0))?;
/// let tape = Tape::new();
/// let x = [3, 2].map(|width| tape.leaf(&Tensor::zeros(&Device::Cpu, &[5, width], DType::F32).unwrap()));
/// let h = fusion.forward(&tape, &parameters.on(&tape), &[&x[0], &x[1]], &Presence::all(5, 2))?;
/// assert_eq!(h.value().shape(), [5, 4]);
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct AttentionPooling {
    projections: Vec<Linear>,
    hidden: Linear,
    score: Linear,
    dim: usize,
}

impl AttentionPooling {
    /// From features of these widths to `dim`. Errors: no modality, a size of 0; the names are taken; the device's. Example:
    /// [`AttentionPooling`].
    pub fn new(
        device: &Device,
        parameters: &mut Parameters,
        name: &str,
        widths: &[usize],
        dim: usize,
        random: &mut impl Rng,
    ) -> Result<AttentionPooling> {
        let projections = projections(device, parameters, name, widths, dim, random)?;
        let hidden = Linear::new(device, parameters, &format!("{name}.hidden"), (dim, dim), random)?;
        let score = Linear::new(device, parameters, &format!("{name}.score"), (dim, 1), random)?;
        let hidden = Linear { activation: Some(Unary::Tanh), ..hidden };
        Ok(AttentionPooling { projections, hidden, score, dim })
    }

    /// Features `[rows, width]` of each modality to `[rows, dim]`; 0 in a sample without any. Errors: other modalities or rows than
    /// `presence`; the operations'. Example: [`AttentionPooling`].
    pub fn forward(&self, tape: &Tape, bound: &Bound, features: &[&Var], presence: &Presence) -> Result<Var> {
        presence.check(features)?;
        let (rows, count) = (features[0].value().shape()[0], features.len());
        let (mut values, mut scores) = (vec![], vec![]);
        for (m, (x, layer)) in features.iter().zip(&self.projections).enumerate() {
            let v = layer.forward(tape, bound, &presence.kept(tape, m, x)?)?;
            scores.push(self.score.forward(tape, bound, &self.hidden.forward(tape, bound, &v)?)?);
            let v = mul(tape, &v, &presence.column(tape, m, x)?)?;
            values.push(tape.reshape(&v, &[rows, 1, self.dim])?);
        }
        let scores = concat(tape, 1, &scores)?;
        let scores = add(tape, &scores, &presence.scores(tape, &scores)?)?;
        let weights = tape.reshape(&tape.apply(&SOFTMAX, (), &[&scores])?, &[rows, count, 1])?;
        sum(tape, &mul(tape, &weights, &concat(tape, 1, &values)?)?, 1)
    }
}
