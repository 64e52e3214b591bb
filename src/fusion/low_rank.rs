//! Early fusion by a low-rank outer product.

use super::{Presence, projections};
use crate::autograd::arithmetic::{add, mul, sum, unary};
use crate::autograd::{Tape, Var};
use crate::device::Device;
use crate::error::Result;
use crate::nn::{Bound, Linear, ParameterId, Parameters};
use crate::ops::Unary;
use crate::tensor::Tensor;
use rand::{Rng, RngExt};

/// Low-rank tensor fusion (Liu et al., 2018): `h = Σ_r w_r ∘ Π_m F_m^r + b` with `F_m^r = [1; x_m] W_m^r`, what [`TensorFusion`] computes
/// with a weight tensor of a rank, without the outer product. The product is over the modalities that are there.
///
/// [`TensorFusion`]: super::TensorFusion
///
/// ```
/// use crossmodal::{DType, Device, Tensor, autograd::Tape, nn::{Parameters, generator}};
/// use crossmodal::fusion::{LowRankFusion, Presence};
/// let mut parameters = Parameters::default();
/// let fusion = LowRankFusion::new(&Device::Cpu, &mut parameters, "fusion", &[3, 2], (6, 4), &mut generator(0, 0))?;
/// let tape = Tape::new();
/// let x = [3, 2].map(|width| tape.leaf(&Tensor::zeros(&Device::Cpu, &[5, width], DType::F32).unwrap()));
/// let h = fusion.forward(&tape, &parameters.on(&tape), &[&x[0], &x[1]], &Presence::all(5, 2))?;
/// assert_eq!(h.value().shape(), [5, 4]);
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct LowRankFusion {
    /// `x_m W + b`: the row of `W_m^r` for the 1 is the bias.
    factors: Vec<Linear>,
    weight: ParameterId,
    bias: ParameterId,
    rank: usize,
    dim: usize,
}

impl LowRankFusion {
    /// From features of these widths, with `rank` factors each, to `dim`. Errors: no modality, a size of 0; the names are taken; the
    /// device's. Example: [`LowRankFusion`].
    pub fn new(
        device: &Device,
        parameters: &mut Parameters,
        name: &str,
        widths: &[usize],
        (rank, dim): (usize, usize),
        random: &mut impl Rng,
    ) -> Result<LowRankFusion> {
        let factors = projections(device, parameters, name, widths, rank * dim, random)?;
        // Biases of 1: a product of factors that start around 0 would have gradients around 0.
        for factor in &factors {
            let bias = parameters.get_mut(factor.bias);
            bias.value = Tensor::from_vec(device, &[rank * dim], vec![1f32; rank * dim])?;
        }
        let weights =
            (0..rank * dim).map(|_| random.random_range(-1f32..1.) / (rank as f32).sqrt()).collect();
        let weight = Tensor::from_vec(device, &[rank, dim], weights)?;
        let bias = Tensor::from_vec(device, &[dim], vec![0f32; dim])?;
        Ok(LowRankFusion {
            factors,
            weight: parameters.add(format!("{name}.weight"), weight, true)?,
            bias: parameters.add(format!("{name}.bias"), bias, false)?,
            rank,
            dim,
        })
    }

    /// Features `[rows, width]` of each modality to `[rows, dim]`. Errors: other modalities or rows than `presence`; the
    /// operations'. Example: [`LowRankFusion`].
    pub fn forward(&self, tape: &Tape, bound: &Bound, features: &[&Var], presence: &Presence) -> Result<Var> {
        presence.check(features)?;
        let rows = features[0].value().shape()[0];
        let mut product: Option<Var> = None;
        for (m, (x, factor)) in features.iter().zip(&self.factors).enumerate() {
            let mut own = factor.forward(tape, bound, &presence.kept(tape, m, x)?)?;
            if !presence.is_whole() {
                // 1 where it is missing.
                let there = presence.column(tape, m, x)?;
                let missing = unary(tape, Unary::Shift(1.), &unary(tape, Unary::Scale(-1.), &there)?)?;
                own = add(tape, &mul(tape, &own, &there)?, &missing)?;
            }
            product = Some(match product {
                None => own,
                Some(product) => mul(tape, &product, &own)?,
            });
        }
        let product = product.expect("there is a modality");
        let product = tape.reshape(&product, &[rows, self.rank, self.dim])?;
        let weighted = sum(tape, &mul(tape, &product, bound.get(self.weight))?, 1)?;
        add(tape, &weighted, bound.get(self.bias))
    }
}
