//! Training heads.

use super::data::{Data, Modality, pairs};
use super::heads::Heads;
use super::network::HeadWeights;
use super::objective::{Objective, Terms};
use super::recipe::{HeadKind, Recipe};
use super::retrieval::{Retrieval, retrieval};
use super::side::Side;
use crate::autograd::{Tape, Var};
use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::io::Features;
use crate::losses::Queue;
use crate::nn::{Bound, ParameterId, Parameters, generator};
use crate::ops::binary::BINARY;
use crate::ops::{Binary, Dropout, add, clip_global_norm};
use crate::optim::{AdamW, CosineSchedule, clamp_log_scale};
use crate::tensor::Tensor;
use rand::seq::SliceRandom;
use std::sync::Arc;
use std::time::Instant;

/// What an epoch did.
/// Example: [`align`](crate::align).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EpochReport {
    /// Its number, from 1.
    pub epoch: u32,
    /// The mean loss of its batches, each before its step.
    pub loss: f64,
    /// The logit scale `eᵗ` at its end.
    pub scale: f64,
    /// The learning rate of its last step.
    pub learning_rate: f64,
    /// Scores on the validation rows; of more than two modalities the mean over all pairs, the earlier one left.
    pub validation: Retrieval,
    /// Whether it is the best so far: highest mean recall at 10.
    pub is_best: bool,
    /// Seconds of training.
    pub train_seconds: f64,
    /// Seconds in all, with validation.
    pub seconds: f64,
}

/// Heads in training, one for each modality.
///
/// ```
/// use crossmodal::{Device, align::{Data, Recipe, Split, Trainer}, io::Features};
/// let features = Features { rows: 20, cols: 1, values: (0..20).map(|i| i as f32).collect() };
/// let data = Data::new(features.clone(), features, Split::random(20, 0)?)?;
/// let recipe = Recipe { dim: 2, epochs: 2, batch_size: 4, ..Recipe::default() };
/// let mut trainer = Trainer::new(&Device::Cpu, &data, &recipe)?;
/// assert!(trainer.best().is_err());
/// assert!(trainer.epoch()?.is_best); // the first of an uninterrupted run is the best so far
/// # let folder = std::env::temp_dir().join(format!("crossmodal-doc-trainer-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder).unwrap();
/// # let path = folder.join("checkpoint.safetensors");
/// trainer.save_checkpoint(&path, &Default::default())?;
/// let mut resumed = Trainer::resume(&Device::Cpu, &data, &recipe, &path)?;
/// assert_eq!(resumed.epoch()?.loss, trainer.epoch()?.loss); // the same bits
/// assert_eq!((resumed.is_done(), resumed.epochs_done()), (true, 2));
/// assert_eq!(resumed.best()?, trainer.best()?);
/// # std::fs::remove_dir_all(&folder).unwrap();
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub struct Trainer {
    pub(super) device: Device,
    pub(super) recipe: Recipe,
    pub(super) sides: Vec<Side>,
    train: Vec<u32>,
    validation: Vec<u32>,
    classes: Option<Vec<i64>>,
    pub(super) parameters: Parameters,
    log_scale: ParameterId,
    bias: Option<ParameterId>,
    /// One for each modality, or none at all.
    pub(super) queues: Vec<Queue>,
    pub(super) optimiser: AdamW,
    schedule: CosineSchedule,
    pub(super) epochs_done: u32,
    /// Mean recall at 10 on the validation rows, and the heads that reached it.
    pub(super) best: Option<(f64, Heads)>,
    /// A hash of the features, the split and the classes.
    pub(super) fingerprint: u64,
}

impl Trainer {
    /// Weights uniform in `±1/√inputs`, biases 0, `t = ln(1/τ)`; features standardised on the training rows.
    ///
    /// Errors: a batch of fewer than two rows or of more than there are for training; a temperature outside
    /// 0.01 to 1; other numbers that are not positive (the decay may be 0); options that a loss or a head does not take; the
    /// device's. Example: [`Trainer`].
    pub fn new(device: &Device, data: &Data, recipe: &Recipe) -> Result<Trainer> {
        recipe.check(data)?;
        let mut random = generator(recipe.seed, 0);
        let draw = |(side, modality): (usize, &Modality)| -> Result<Vec<HeadWeights>> {
            let layers = recipe.layers(side, modality.features.cols).into_iter();
            layers.map(|sizes| HeadWeights::draw(sizes, &mut random)).collect()
        };
        let weights = data.modalities.iter().enumerate().map(draw).collect::<Result<_>>()?;
        Self::build(device, data, recipe, weights)
    }

    /// As [`Trainer::new`] with given initial weights of linear heads, one for each modality. Errors also: they have other
    /// sizes. Example: [`HeadWeights`].
    pub fn from_weights(
        device: &Device,
        data: &Data,
        recipe: &Recipe,
        weights: Vec<HeadWeights>,
    ) -> Result<Trainer> {
        recipe.check(data)?;
        let linear = recipe.head == HeadKind::Linear && recipe.freeze.is_none();
        let fit = weights.iter().all(|own| own.bias.len() == recipe.dim);
        if !linear || !fit || weights.len() != data.modalities.len() {
            let expected =
                format!("those of {} linear heads to {} features", data.modalities.len(), recipe.dim);
            let biases: Vec<_> = weights.iter().map(|own| own.bias.len()).collect();
            let got = format!("biases of {biases:?} for {}", recipe.head);
            return Err(Error::argument("align", "weights", expected, got));
        }
        Self::build(device, data, recipe, weights.into_iter().map(|own| vec![own]).collect())
    }

    fn build(
        device: &Device,
        data: &Data,
        recipe: &Recipe,
        weights: Vec<Vec<HeadWeights>>,
    ) -> Result<Trainer> {
        let (mut parameters, train) = (Parameters::default(), data.split.train.clone());
        let side = |(number, (modality, weights)): (usize, (&Modality, Vec<HeadWeights>))| {
            let head = (weights, recipe.residual(number));
            Side::new(device, modality, &train, &mut parameters, recipe.scaling, head)
        };
        let sides: Vec<_> =
            data.modalities.iter().zip(weights).enumerate().map(side).collect::<Result<_>>()?;
        let number = |value: f64| Tensor::scalar(device, value as f32);
        let log_scale = parameters.add("log_scale", number((1. / recipe.temperature).ln())?, false)?;
        let bias = match recipe.objective {
            Objective::Siglip => Some(parameters.add("bias", number(-10.)?, false)?),
            _ => None,
        };
        let queue = |_: &Side| Queue::new(device, recipe.objective.queue(), recipe.dim, DType::F32);
        let queued = sides.iter().filter(|_| recipe.objective.queue() > 0);
        let queues = queued.map(queue).collect::<Result<_>>()?;
        let mut optimiser = AdamW::new(&parameters)?;
        optimiser.weight_decay = recipe.weight_decay;
        let total_steps = recipe.epochs * (train.len() / recipe.batch_size) as u32;
        let schedule =
            CosineSchedule { base: recipe.learning_rate, warmup_steps: recipe.warmup_steps, total_steps };
        Ok(Trainer {
            device: device.clone(),
            recipe: *recipe,
            sides,
            train,
            validation: data.split.validation.clone(),
            classes: data.classes.clone(),
            parameters,
            log_scale,
            bias,
            queues,
            optimiser,
            schedule,
            epochs_done: 0,
            best: None,
            fingerprint: data.fingerprint(),
        })
    }

    /// Whether every epoch is done. Example: [`Trainer`].
    pub fn is_done(&self) -> bool {
        self.epochs_done >= self.recipe.epochs
    }

    /// Epochs done. Example: [`Trainer`].
    pub fn epochs_done(&self) -> u32 {
        self.epochs_done
    }

    /// One step on the given rows; gives the loss before it, a scalar on the device: the sum over all pairs of modalities.
    ///
    /// On a GPU everything is recorded and then submitted; nothing is read back, but for triplets, which are mined on the host.
    /// Errors: a row that is not there; the operations' errors.
    ///
    /// ```
    /// use crossmodal::{Device, align::{Data, Recipe, Split, Trainer}, io::Features};
    /// let features = Features { rows: 20, cols: 1, values: (0..20).map(|i| i as f32).collect() };
    /// let data = Data::new(features.clone(), features, Split::random(20, 0)?)?;
    /// let recipe = Recipe { dim: 2, epochs: 1, batch_size: 4, ..Recipe::default() };
    /// let mut trainer = Trainer::new(&Device::Cpu, &data, &recipe)?;
    /// assert!(trainer.step(&data.split.train[..4])?.item()? > 0.);
    /// assert!(trainer.step(&[20]).is_err());
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    pub fn step(&mut self, batch: &[u32]) -> Result<Tensor> {
        let rate = self.schedule.at(self.optimiser.steps);
        let (loss, gradients) =
            if self.recipe.accum == 1 { self.at_once(batch)? } else { self.in_parts(batch)? };
        let gradients = match self.recipe.grad_clip_norm {
            Some(norm) => clipped(gradients, norm)?,
            None => gradients,
        };
        self.optimiser.step(&mut self.parameters, &gradients, rate)?;
        clamp_log_scale(&mut self.parameters, self.log_scale)?;
        self.device.submit()?;
        Ok(loss)
    }

    /// The loss of a batch and the gradients of all parameters.
    fn at_once(&mut self, batch: &[u32]) -> Result<Step> {
        let tape = Tape::new();
        let bound = self.parameters.on(&tape);
        let unit = self.recipe.objective.unit();
        let embed = |(number, side): (usize, &Side)| {
            side.embed(&self.device, &tape, &bound, batch, unit, self.dropout(number, 0))
        };
        let all = self.sides.iter().enumerate().map(embed).collect::<Result<Vec<_>>>()?;
        let loss = self.loss(&tape, &bound, &all, batch)?;
        Ok((loss.value().clone(), bound.gradients(&tape.backward(&loss)?)))
    }

    /// What this step drops on a side, from a row of the batch on.
    pub(super) fn dropout(&self, side: usize, first: usize) -> Option<Dropout> {
        let Recipe { dropout: p, seed, .. } = self.recipe;
        // Spread, so that seeds next to each other share no step's numbers.
        let number = u64::from(self.optimiser.steps) * self.sides.len() as u64 + side as u64;
        let seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number;
        (p > 0.).then_some(Dropout { p, seed, first: first as u32 })
    }

    /// The sum of the losses of all pairs of modalities. The embeddings go into the queues, before or after.
    pub(super) fn loss(
        &mut self,
        tape: &Tape,
        bound: &Bound,
        embeddings: &[Var],
        batch: &[u32],
    ) -> Result<Var> {
        let class = |&row: &u32| match &self.classes {
            // Of no class, it is still its own partner's.
            Some(classes) if classes[row as usize] < 0 => i64::MAX - i64::from(row),
            Some(classes) => classes[row as usize],
            None => i64::from(row),
        };
        let classes: Vec<_> = batch.iter().map(class).collect();
        let of_side = |side: &Side| classes.repeat(side.views.len()).into();
        let of_sides: Vec<Arc<[i64]>> = self.sides.iter().map(of_side).collect();
        let objective = self.recipe.objective;
        if objective.enqueues_first() {
            self.enqueue(embeddings, &of_sides)?;
        }
        let one_view = |side: usize| self.sides[side].views.len() == 1;
        let of_pair = |(i, j): (usize, usize)| {
            let terms = Terms {
                log_scale: bound.get(self.log_scale),
                bias: self.bias.map(|id| bound.get(id)),
                classes: [of_sides[i].clone(), of_sides[j].clone()],
                diagonal: one_view(i) && one_view(j) && self.classes.is_none(),
                rows: batch.len(),
                queues: self.queues.get(i).zip(self.queues.get(j)),
                enqueued_first: objective.enqueues_first(),
            };
            objective.loss(tape, &embeddings[i], &embeddings[j], &terms)
        };
        let mut losses = pairs(self.sides.len()).map(of_pair);
        let first = losses.next().expect("there are two modalities at least");
        let sum = losses.try_fold(first?, |sum, own| tape.apply(&BINARY, Binary::Add, &[&sum, &own?]));
        if !objective.enqueues_first() {
            self.enqueue(embeddings, &of_sides)?;
        }
        sum
    }

    fn enqueue(&mut self, embeddings: &[Var], classes: &[Arc<[i64]>]) -> Result<()> {
        let keys = embeddings.iter().zip(classes);
        self.queues
            .iter_mut()
            .zip(keys)
            .try_for_each(|(queue, (keys, classes))| queue.enqueue_with(keys.value(), classes))
    }

    /// The order of the training rows in an epoch, from 1: it depends on the seed and the epoch alone, so that a resumed run
    /// sees what an uninterrupted one would.
    fn order(&self, epoch: u32) -> Vec<u32> {
        let mut order = self.train.clone();
        order.shuffle(&mut generator(self.recipe.seed, u64::from(epoch)));
        order
    }

    /// One epoch: its steps, then scores on the validation rows. The loss is summed on the device and read once.
    ///
    /// Errors: all epochs are done; the loss or a weight is no longer finite, and the trainer of no use; the operations'
    /// errors. Example: [`Trainer`].
    pub fn epoch(&mut self) -> Result<EpochReport> {
        // On a thread of the pool: the CPU path's many short parallel sections then start without waking it first.
        rayon::scope(|_| self.epoch_in_pool())
    }

    fn epoch_in_pool(&mut self) -> Result<EpochReport> {
        if self.is_done() {
            return Err(Error::argument(
                "align",
                "epochs",
                format!("at most {}", self.recipe.epochs),
                "one more",
            ));
        }
        let (start, epoch) = (Instant::now(), self.epochs_done + 1);
        let order = self.order(epoch);
        let mut sum: Option<Tensor> = None;
        for batch in order.chunks_exact(self.recipe.batch_size) {
            let loss = self.step(batch)?;
            sum = Some(match sum {
                Some(sum) => add(&sum, &loss)?,
                None => loss,
            });
        }
        let steps = (order.len() / self.recipe.batch_size) as f64;
        let loss = sum.map_or(Ok(f64::NAN), |sum| sum.item())? / steps;
        let train_seconds = start.elapsed().as_secs_f64();
        if !loss.is_finite() {
            return Err(diverged(epoch));
        }
        let validation = self.validate(epoch)?;
        self.epochs_done = epoch;
        let score = validation.mean_recall_at_10();
        let is_best = self.best.as_ref().is_none_or(|(best, _)| score > *best);
        if is_best {
            self.best = Some((score, self.heads()?));
        }
        let scale = self.parameters.get(self.log_scale).value.item()?.exp();
        let learning_rate = self.schedule.at(self.optimiser.steps - 1);
        let seconds = start.elapsed().as_secs_f64();
        Ok(EpochReport { epoch, loss, scale, learning_rate, validation, is_best, train_seconds, seconds })
    }

    /// Scores on the validation rows, with the weights as they are at the end of an epoch.
    fn validate(&self, epoch: u32) -> Result<Retrieval> {
        let project = |side: &Side| -> Result<Features> {
            let z = side.project(&self.device, &self.parameters, &self.validation, self.recipe.dim)?;
            // The losses, each before its step, do not tell of the last one.
            if z.values.iter().all(|value| value.is_finite()) { Ok(z) } else { Err(diverged(epoch)) }
        };
        let all = self.sides.iter().map(project).collect::<Result<Vec<_>>>()?;
        let scores = pairs(all.len()).map(|(i, j)| retrieval(&all[i], &all[j]));
        Ok(Retrieval::mean(&scores.collect::<Result<Vec<_>>>()?))
    }

    /// The heads as they are now. Waits for the device. Example: [`HeadWeights`].
    pub fn heads(&self) -> Result<Heads> {
        Ok(Heads {
            heads: self
                .sides
                .iter()
                .map(|side| side.head(&self.parameters, self.recipe.dim))
                .collect::<Result<_>>()?,
            log_scale: self.parameters.get(self.log_scale).value.item()?,
            epoch: self.epochs_done,
        })
    }

    /// The heads of the epoch that was best on the validation rows. Errors: no epoch is done. Example:
    /// [`Trainer`].
    pub fn best(&self) -> Result<Heads> {
        let best = self.best.as_ref().map(|(_, heads)| heads.clone());
        best.ok_or_else(|| Error::argument("align", "epochs", "at least one done", 0))
    }
}

/// A loss and the gradients of all parameters.
pub(super) type Step = (Tensor, Vec<Option<Tensor>>);

/// All gradients together no longer than a norm.
fn clipped(mut gradients: Vec<Option<Tensor>>, norm: f64) -> Result<Vec<Option<Tensor>>> {
    let there: Vec<_> = gradients.iter().flatten().collect();
    if there.is_empty() {
        return Ok(gradients);
    }
    let (shorter, _) = clip_global_norm(&there, norm)?;
    gradients.iter_mut().flatten().zip(shorter).for_each(|(gradient, own)| *gradient = own);
    Ok(gradients)
}

fn diverged(epoch: u32) -> Error {
    let expected = "a finite loss and finite weights; try a lower learning rate";
    Error::argument("align", "loss", expected, format!("others in epoch {epoch}"))
}
