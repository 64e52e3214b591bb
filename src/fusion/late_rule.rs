//! How what experts say becomes one, with what it has learned.

use super::late::{LearnedMean, maximum, product_of_experts, weighted_mean};
use super::presence::constant;
use super::{Ballots, Presence};
use crate::autograd::{Tape, Var};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::evaluate::{Labelled, Logistic, Probe, Stop, minimise};
use crate::io::Features;
use crate::nn::Parameters;
use crate::ops::unary::UNARY;
use crate::ops::{Unary, exp};
use crate::tensor::Tensor;

/// A late fusion that is ready to be applied.
/// Example: [`Experts`](super::Experts).
#[derive(Debug, Clone, PartialEq)]
pub enum LateRule {
    /// [`weighted_mean`]: its largest class is the soft vote.
    Mean(Vec<f64>),
    /// [`maximum`].
    Maximum,
    /// [`Ballots::hard`]: the winner has the probability 1.
    HardVote(Vec<f64>),
    /// [`product_of_experts`].
    Product {
        /// One an expert.
        weights: Vec<f64>,
        /// The class frequencies that every expert has seen, to be counted once.
        prior: Option<Vec<f64>>,
    },
    /// Stacking (Wolpert, 1992): a logistic regression on the experts' log-probabilities.
    Stacking(Logistic),
}

/// Log-probabilities of all experts side by side, no less than −30: what is beyond says no more. Of a missing one every class is as
/// likely.
fn stacked(experts: &[Features], presence: &Presence) -> Features {
    let classes = experts[0].cols;
    let rows = experts[0].rows;
    let cols = experts.len() * classes;
    let value = |at: usize| {
        let (row, expert, class) = (at / cols, at % cols / classes, at % classes);
        let p = if presence.is_there(expert, row) {
            experts[expert].values[row * classes + class]
        } else {
            1. / classes as f32
        };
        p.ln().max(-30.)
    };
    Features { rows, cols, values: (0..rows * cols).map(value).collect() }
}

/// Refuses experts of different sizes.
fn check(experts: &[Features], presence: &Presence) -> Result<()> {
    let first = experts.first().map_or((0, 0), |own| (own.rows, own.cols));
    let whole = |own: &Features| (own.rows, own.cols) == first && own.values.len() == own.rows * own.cols;
    let fits = first.1 > 0 && first.0 == presence.rows() && experts.len() == presence.modalities();
    if fits && experts.iter().all(whole) {
        return Ok(());
    }
    let sizes: Vec<_> = experts.iter().map(|own| format!("{} x {}", own.rows, own.cols)).collect();
    let expected = format!("{} of {} rows and the same classes", presence.modalities(), presence.rows());
    Err(Error::argument("LateRule", "experts", expected, sizes.join(", ")))
}

impl LateRule {
    /// Weights of a mean that are learned: the softmax weights with the smallest cross-entropy of rows that the experts have not seen.
    ///
    /// Errors: experts of different sizes; not a label a row.
    ///
    /// ```
    /// use crossmodal::{fusion::{LateRule, Presence}, io::Features};
    /// let good = Features { rows: 2, cols: 2, values: vec![0.9, 0.1, 0.2, 0.8] };
    /// let bad = Features { rows: 2, cols: 2, values: vec![0.1, 0.9, 0.8, 0.2] };
    /// let LateRule::Mean(weights) = LateRule::learned_mean(&[bad, good], &[0, 1], &Presence::all(2, 2))? else { panic!() };
    /// assert!(weights[1] > 0.99);
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    pub fn learned_mean(experts: &[Features], labels: &[u32], presence: &Presence) -> Result<LateRule> {
        check(experts, presence)?;
        check_labels(experts, labels)?;
        let (rows, classes) = (experts[0].rows, experts[0].cols);
        let mut parameters = Parameters::default();
        let mean = LearnedMean::new(&Device::Cpu, &mut parameters, "mean", experts.len())?;
        let wide = |own: &Features| own.values.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
        let loss = |scores: &[f64]| -> Result<(f64, Vec<f64>)> {
            let mut own = parameters.clone();
            let scores = Tensor::from_f64(&Device::Cpu, &[scores.len()], crate::DType::F64, scores.to_vec())?;
            own.iter_mut().for_each(|parameter| parameter.value = scores.clone());
            let tape = Tape::new();
            let bound = own.on(&tape);
            let expert = |own: &Features| {
                let p = Tensor::from_f64(&Device::Cpu, &[rows, classes], crate::DType::F64, wide(own))?;
                Ok(tape.constant(&p))
            };
            let all: Vec<Var> = experts.iter().map(expert).collect::<Result<_>>()?;
            let p = mean.forward(&tape, &bound, &all.iter().collect::<Vec<_>>(), presence)?;
            let p = tape.apply(&UNARY, Unary::Clamp(1e-30, 1.), &[&p])?;
            let log_p = tape.apply(&UNARY, Unary::Log, &[&p])?;
            let mut upstream = vec![0.; rows * classes];
            for (row, &label) in labels.iter().enumerate() {
                upstream[row * classes + label as usize] = -1. / rows as f64;
            }
            let upstream = constant(&tape, &[rows, classes], upstream, &log_p)?;
            let gradients = bound.gradients(&tape.backward_from(&log_p, upstream.value())?);
            let (log_p, weights) = (log_p.value().to_f64_vec()?, upstream.value().to_f64_vec()?);
            let value = log_p.iter().zip(&weights).map(|(l, w)| l * w).sum();
            let gradient = gradients[0].as_ref().map_or(Ok(vec![0.; experts.len()]), Tensor::to_f64_vec)?;
            Ok((value, gradient))
        };
        let mut scores = vec![0.; experts.len()];
        minimise(&mut scores, Stop { steps: 200, gradient: 1e-7 }, loss)?;
        let largest = scores.iter().copied().fold(f64::MIN, f64::max);
        let exps: Vec<_> = scores.iter().map(|score| (score - largest).exp()).collect();
        let sum: f64 = exps.iter().sum();
        Ok(LateRule::Mean(exps.iter().map(|e| e / sum).collect()))
    }

    /// A regression learned from rows that the experts have not seen, its penalty chosen on others.
    ///
    /// Errors: experts of different sizes; not a label a row; those of [`Logistic::fit`].
    ///
    /// ```
    /// use crossmodal::{Device, fusion::{LateRule, Presence}, io::Features};
    /// // An expert that is always wrong tells as much as one that is right.
    /// let wrong = || [Features { rows: 2, cols: 2, values: vec![0.1, 0.9, 0.8, 0.2] }];
    /// let (p, labels) = (Presence::all(2, 1), [0, 1]);
    /// let rule = LateRule::stacking(&Device::Cpu, (&wrong(), &labels, &p), (&wrong(), &labels, &p))?;
    /// let fused = rule.combine(&Device::Cpu, &wrong(), &p)?;
    /// assert!(fused.values[0] > 0.5 && fused.values[3] > 0.5);
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    pub fn stacking(
        device: &Device,
        (unseen, labels, presence): (&[Features], &[u32], &Presence),
        (validation, validation_labels, validation_presence): (&[Features], &[u32], &Presence),
    ) -> Result<LateRule> {
        let stack = |experts: &[Features], labels: &[u32], presence: &Presence| {
            check(experts, presence)?;
            check_labels(experts, labels)?;
            Ok((stacked(experts, presence), labels.iter().map(|&label| i64::from(label)).collect::<Vec<_>>()))
        };
        let (train, train_labels) = stack(unseen, labels, presence)?;
        let (held, held_labels) = stack(validation, validation_labels, validation_presence)?;
        let train = Labelled { features: &train, labels: &train_labels };
        let held = Labelled { features: &held, labels: &held_labels };
        Ok(LateRule::Stacking(Logistic::fit(device, &train, &held, &Probe::default())?.0))
    }

    /// Probabilities `[rows, classes]` of all from those of each; not normalised by [`LateRule::Maximum`]. In a row where no expert that has
    /// a weight is there every class is as likely.
    ///
    /// Waits for the device. Errors: experts of different sizes, or other numbers of them or of rows than `presence`; weights that are
    /// not one an expert. Example: [`Experts`](super::Experts).
    pub fn combine(&self, device: &Device, experts: &[Features], presence: &Presence) -> Result<Features> {
        check(experts, presence)?;
        let (rows, cols) = (experts[0].rows, experts[0].cols);
        let tape = Tape::no_grad();
        let tensor =
            |own: &Features| Ok(tape.constant(&Tensor::from_slice(device, &[rows, cols], &own.values)?));
        let all: Vec<Var> = experts.iter().map(tensor).collect::<Result<_>>()?;
        let all: Vec<_> = all.iter().collect();
        let mut values: Vec<f32> = match self {
            LateRule::Mean(weights) => weighted_mean(&tape, &all, weights, presence)?.value().to_vec()?,
            LateRule::Maximum => maximum(&tape, &all, presence)?.value().to_vec()?,
            LateRule::HardVote(weights) => {
                let slices: Vec<&[f32]> = experts.iter().map(|own| &own.values[..]).collect();
                let winners = Ballots { experts: &slices, classes: cols, presence }.hard(weights)?;
                let won = |(at, winner): (usize, u32)| f32::from(u8::from(at == winner as usize));
                winners.into_iter().flat_map(|winner| (0..cols).map(move |at| won((at, winner)))).collect()
            }
            LateRule::Product { weights, prior } => {
                let log_p = product_of_experts(&tape, &all, weights, prior.as_deref(), presence)?;
                exp(log_p.value())?.to_vec()?
            }
            LateRule::Stacking(model) => {
                let own = model.probabilities(device, &stacked(experts, presence))?;
                let mut values = vec![0f32; rows * cols];
                for (to, from) in values.chunks_exact_mut(cols).zip(own.values.chunks_exact(own.cols)) {
                    model.classes.iter().zip(from).for_each(|(class, p)| to[*class as usize] = *p);
                }
                values
            }
        };
        // Where nobody who has a say is there, nothing is known.
        let unknown = |row: &&mut [f32]| row.iter().all(|p| *p == 0.);
        values.chunks_exact_mut(cols).filter(unknown).for_each(|row| row.fill(1. / cols as f32));
        Ok(Features { rows, cols, values })
    }
}

fn check_labels(experts: &[Features], labels: &[u32]) -> Result<()> {
    let (rows, classes) = (experts[0].rows, experts[0].cols);
    match labels.iter().find(|&&label| label as usize >= classes) {
        Some(label) => Err(Error::argument("LateRule", "labels", format!("classes below {classes}"), label)),
        None if labels.len() != rows => {
            Err(Error::argument("LateRule", "labels", format!("{rows}, one a row"), labels.len()))
        }
        None => Ok(()),
    }
}
