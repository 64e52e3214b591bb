//! Late fusion: what was decided from each modality, into one decision. Class probabilities `[rows, classes]` of experts on the tape.

use super::Presence;
use super::presence::constant;
use crate::autograd::arithmetic::{add, concat, mul, sum, total, unary};
use crate::autograd::{Tape, Var};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::nn::{Bound, ParameterId, Parameters};
use crate::ops::log_softmax::LOG_SOFTMAX;
use crate::ops::reduce::REDUCE;
use crate::ops::softmax::SOFTMAX;
use crate::ops::{Reduce, ReduceOptions, Unary};
use crate::tensor::Tensor;

/// What a probability counts at least under a logarithm.
const FLOOR: f64 = 1e-30;

/// Refuses weights that are not one of at least 0 for each expert, or all 0.
pub(super) fn check_weights(weights: &[f64], experts: usize) -> Result<()> {
    let fits = weights.len() == experts && weights.iter().all(|w| *w >= 0. && w.is_finite());
    if !fits || weights.iter().all(|w| *w == 0.) {
        let expected = format!("{experts} finite numbers of at least 0, one for each expert and not all 0");
        return Err(Error::argument("fusion", "weights", expected, format!("{weights:?}")));
    }
    Ok(())
}

/// The weighted mean of the experts that are there, `Σ_m w_m p_m / Σ_m w_m`; 0 in a sample without any.
///
/// Errors: weights that are not one of at least 0 for each expert; other experts or rows than `presence`; the operations'.
///
/// ```
/// use crossmodal::{Device, Tensor, autograd::Tape, fusion::{Presence, weighted_mean}};
/// let tape = Tape::new();
/// let image = tape.leaf(&Tensor::from_slice(&Device::Cpu, &[1, 2], &[0.5f32, 0.5])?);
/// let text = tape.leaf(&Tensor::from_slice(&Device::Cpu, &[1, 2], &[1f32, 0.])?);
/// let mean = weighted_mean(&tape, &[&image, &text], &[1., 3.], &Presence::all(1, 2))?;
/// assert_eq!(mean.value().to_vec::<f32>()?, [0.875, 0.125]);
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn weighted_mean(tape: &Tape, experts: &[&Var], weights: &[f64], presence: &Presence) -> Result<Var> {
    check_weights(weights, experts.len())?;
    presence.check(experts)?;
    let shares = presence.normalised(weights);
    let part = |(m, p): (usize, &&Var)| {
        let share = constant(tape, &[shares.len(), 1], shares.iter().map(|own| own[m]).collect(), p)?;
        mul(tape, &presence.kept(tape, m, p)?, &share)
    };
    total(tape, &experts.iter().enumerate().map(part).collect::<Result<Vec<_>>>()?)
}

/// [`weighted_mean`] with weights that are learned: `w = eᵃ`, that is the softmax of `a` over the experts that are there.
///
/// ```
/// use crossmodal::{Device, Tensor, autograd::Tape, fusion::{LearnedMean, Presence}, nn::Parameters};
/// let mut parameters = Parameters::default();
/// let mean = LearnedMean::new(&Device::Cpu, &mut parameters, "mean", 2)?;
/// let tape = Tape::new();
/// let p = tape.leaf(&Tensor::from_slice(&Device::Cpu, &[1, 2], &[0.5f32, 0.5])?);
/// let q = tape.leaf(&Tensor::from_slice(&Device::Cpu, &[1, 2], &[1f32, 0.])?);
/// let fused = mean.forward(&tape, &parameters.on(&tape), &[&p, &q], &Presence::all(1, 2))?;
/// assert_eq!(fused.value().to_vec::<f32>()?, [0.75, 0.25]); // equal weights at first
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LearnedMean {
    scores: ParameterId,
}

impl LearnedMean {
    /// Equal weights of so many experts. Errors: the name is taken; the device's. Example: [`LearnedMean`].
    pub fn new(
        device: &Device,
        parameters: &mut Parameters,
        name: &str,
        experts: usize,
    ) -> Result<LearnedMean> {
        let zero = Tensor::from_vec(device, &[experts], vec![0f32; experts])?;
        Ok(LearnedMean { scores: parameters.add(format!("{name}.scores"), zero, false)? })
    }

    /// Probabilities `[rows, classes]` of each expert to those of all; 0 in a sample without any. Errors: other experts or rows than
    /// `presence`; the operations'. Example: [`LearnedMean`].
    pub fn forward(&self, tape: &Tape, bound: &Bound, experts: &[&Var], presence: &Presence) -> Result<Var> {
        presence.check(experts)?;
        let scores = bound.get(self.scores);
        let shape = experts[0].value().shape().to_vec();
        if scores.value().len() != experts.len() {
            let expected = format!("{}, as there are scores", scores.value().len());
            return Err(Error::argument("fusion", "experts", expected, experts.len()));
        }
        let masked = add(tape, &presence.scores(tape, experts[0])?, scores)?;
        let shares = tape.apply(&SOFTMAX, (), &[&masked])?;
        let shares = tape.reshape(&shares, &[shape[0], experts.len(), 1])?;
        let kept = |(m, p): (usize, &&Var)| {
            let kept = presence.kept(tape, m, p)?;
            tape.reshape(&kept, &[shape[0], 1, shape[1]])
        };
        let all: Vec<_> = experts.iter().enumerate().map(kept).collect::<Result<_>>()?;
        sum(tape, &mul(tape, &shares, &concat(tape, 1, &all)?)?, 1)
    }
}

/// The largest probability that an expert gives each class. They do not sum to one.
///
/// Errors: other experts or rows than `presence`; the operations'.
///
/// ```
/// use crossmodal::{Device, Tensor, autograd::Tape, fusion::{Presence, maximum}};
/// let tape = Tape::new();
/// let p = tape.leaf(&Tensor::from_slice(&Device::Cpu, &[1, 2], &[0.25f32, 0.75])?);
/// let q = tape.leaf(&Tensor::from_slice(&Device::Cpu, &[1, 2], &[0.5f32, 0.5])?);
/// assert_eq!(maximum(&tape, &[&p, &q], &Presence::all(1, 2))?.value().to_vec::<f32>()?, [0.5, 0.75]);
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn maximum(tape: &Tape, experts: &[&Var], presence: &Presence) -> Result<Var> {
    presence.check(experts)?;
    let shape = experts[0].value().shape().to_vec();
    let kept = |(m, p): (usize, &&Var)| {
        // No probability is below the 0 of one that is missing.
        let kept = presence.kept(tape, m, p)?;
        tape.reshape(&kept, &[shape[0], 1, shape[1]])
    };
    let all: Vec<_> = experts.iter().enumerate().map(kept).collect::<Result<_>>()?;
    let options = ReduceOptions { kind: Reduce::Max, axis: 1, keep_axis: false };
    tape.apply(&REDUCE, options, &[&concat(tape, 1, &all)?])
}

/// The product of experts (Hinton, 2002) as log-probabilities: `log_softmax(Σ_m w_m log p_m − (Σ_m w_m − 1) log prior)` over the
/// experts that are there, `log p` no less than `log 1e-30`. The prior that every expert has seen would count once for each.
///
/// Errors: weights that are not one of at least 0 for each expert; a prior that is not one positive number for each class; other
/// experts or rows than `presence`; the operations'.
///
/// ```
/// use crossmodal::{Device, Tensor, autograd::Tape, fusion::{Presence, product_of_experts}};
/// let tape = Tape::new();
/// let p = tape.leaf(&Tensor::from_slice(&Device::Cpu, &[1, 2], &[0.25f32, 0.75])?);
/// let log_p = product_of_experts(&tape, &[&p, &p], &[1., 1.], None, &Presence::all(1, 2))?;
/// assert!((log_p.value().to_vec::<f32>()?[1].exp() - 0.9).abs() < 1e-6); // 9 to 1
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn product_of_experts(
    tape: &Tape,
    experts: &[&Var],
    weights: &[f64],
    prior: Option<&[f64]>,
    presence: &Presence,
) -> Result<Var> {
    check_weights(weights, experts.len())?;
    presence.check(experts)?;
    let (rows, classes) = (experts[0].value().shape()[0], experts[0].value().shape()[1]);
    let part = |(m, p): (usize, &&Var)| {
        let log_p = unary(tape, Unary::Clamp(FLOOR, 1.), &presence.kept(tape, m, p)?)?;
        let log_p = unary(tape, Unary::Log, &log_p)?;
        let weight = unary(tape, Unary::Scale(weights[m]), &presence.column(tape, m, p)?)?;
        mul(tape, &log_p, &weight)
    };
    let mut sum = total(tape, &experts.iter().enumerate().map(part).collect::<Result<Vec<_>>>()?)?;
    if let Some(prior) = prior {
        if prior.len() != classes || !prior.iter().all(|p| *p > 0. && p.is_finite()) {
            let expected = format!("{classes} positive numbers, one for each class");
            return Err(Error::argument("fusion", "prior", expected, format!("{prior:?}")));
        }
        let logs = prior.iter().map(|p| p.ln()).collect();
        let logs = constant(tape, &[1, classes], logs, experts[0])?;
        let times = |row| {
            let there = (0..experts.len()).filter(|&m| presence.is_there(m, row));
            1. - there.map(|m| weights[m]).sum::<f64>()
        };
        let times = constant(tape, &[rows, 1], (0..rows).map(times).collect(), experts[0])?;
        sum = add(tape, &sum, &mul(tape, &times, &logs)?)?;
    }
    tape.apply(&LOG_SOFTMAX, (), &[&sum])
}
