//! Training two linear heads.

use super::data::Data;
use super::heads::{Head, Heads, rows_at_once};
use super::recipe::Recipe;
use super::retrieval::{Retrieval, retrieval};
use super::standardise::Standardisation;
use crate::autograd::Tape;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::io::Features;
use crate::nn::{Linear, ParameterId, Parameters, Projection, ProjectionKind, generator};
use crate::ops::info_nce::INFO_NCE;
use crate::ops::{Indices, InfoNceOptions, add, gather};
use crate::optim::{AdamW, CosineSchedule, clamp_log_scale};
use crate::tensor::Tensor;
use rand::seq::SliceRandom;
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
    /// Scores on the validation rows.
    pub validation: Retrieval,
    /// Whether it is the best so far: highest mean recall at 10.
    pub is_best: bool,
    /// Seconds of training.
    pub train_seconds: f64,
    /// Seconds in all, with validation.
    pub seconds: f64,
}

/// The weights of one head at the start.
///
/// ```
/// use crossmodal::{Device, align::{Data, HeadWeights, Recipe, Split, Trainer}, io::Features};
/// let features = Features { rows: 20, cols: 1, values: (0..20).map(|i| i as f32).collect() };
/// let data = Data::new(features.clone(), features, Split::random(20, 0)?)?;
/// let recipe = Recipe { dim: 2, epochs: 1, batch_size: 4, ..Recipe::default() };
/// let weights = HeadWeights { weight: vec![0.5, -0.5], bias: vec![0., 1.] };
/// let trainer = Trainer::from_weights(&Device::Cpu, &data, &recipe, weights.clone(), weights)?;
/// assert_eq!(trainer.heads()?.left.weight, [0.5, -0.5]);
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct HeadWeights {
    /// `W [inputs, dim]`, row-major.
    pub weight: Vec<f32>,
    /// `b [dim]`.
    pub bias: Vec<f32>,
}

/// One modality while training.
pub(super) struct Side {
    pub(super) standardisation: Standardisation,
    /// All standardised rows: on the device where they fit, else on the host, from where each batch is uploaded.
    pub(super) rows: Tensor,
    linear: Linear,
}

/// Two heads in training.
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
    device: Device,
    pub(super) recipe: Recipe,
    pub(super) left: Side,
    pub(super) right: Side,
    train: Vec<u32>,
    validation: Vec<u32>,
    pub(super) parameters: Parameters,
    log_scale: ParameterId,
    pub(super) optimiser: AdamW,
    schedule: CosineSchedule,
    pub(super) epochs_done: u32,
    /// Mean recall at 10 on the validation rows, and the heads that reached it.
    pub(super) best: Option<(f64, Heads)>,
    /// A hash of the features and the split.
    pub(super) fingerprint: u64,
}

impl Side {
    fn new(
        device: &Device,
        name: &'static str,
        features: &Features,
        split: &[u32],
        parameters: &mut Parameters,
        dim: usize,
        initial: HeadWeights,
    ) -> Result<Side> {
        let standardisation = Standardisation::fit(features, split);
        let standardised = standardisation.apply(&features.values);
        if let Some(at) = standardised.iter().position(|v| !v.is_finite()) {
            let (row, column) = (at / features.cols, at % features.cols);
            let expected = "features that stay finite when standardised on the training rows";
            let got = format!("{:?} in row {row}, column {column}", features.values[at]);
            return Err(Error::argument("align", name, expected, got));
        }
        let host = Tensor::from_vec(&Device::Cpu, &[features.rows, features.cols], standardised)?;
        // Picking rows from a table that is split takes a command a row: a batch is then rather uploaded.
        let split = matches!(device, Device::Gpu(gpu) if 4 * host.len() as u64 > gpu.piece_bytes());
        let rows = match host.to_device(if split { &Device::Cpu } else { device }) {
            // A batch at a time goes through; all rows at once do not.
            Err(Error::OutOfMemory { .. }) => host,
            other => other?,
        };
        let HeadWeights { weight, bias } = initial;
        let linear = Linear::from_weights(device, parameters, name, (features.cols, dim), weight, bias)?;
        Ok(Side { standardisation, rows, linear })
    }

    fn pick(&self, device: &Device, indices: &Indices) -> Result<Tensor> {
        gather(&self.rows, indices)?.to_device(device)
    }

    pub(super) fn head(&self, parameters: &Parameters, name: &str) -> Result<Head> {
        let [inputs, dim] = parameters.get(self.linear.weight).value.shape()[..] else {
            unreachable!("a matrix")
        };
        Ok(Head {
            name: name.to_string(),
            inputs,
            dim,
            standardisation: self.standardisation.clone(),
            weight: parameters.get(self.linear.weight).value.to_vec()?,
            bias: parameters.get(self.linear.bias).value.to_vec()?,
        })
    }
}

impl Trainer {
    /// Weights uniform in `±1/√inputs`, biases 0, `t = ln(1/τ)`; features standardised on the training rows.
    ///
    /// Errors: a batch of fewer than two rows or of more than there are for training; a temperature outside
    /// 0.01 to 1; other numbers that are not positive (the decay may be 0); the device's. Example:
    /// [`Trainer`].
    pub fn new(device: &Device, data: &Data, recipe: &Recipe) -> Result<Trainer> {
        let mut random = generator(recipe.seed, 0);
        let mut draw = |inputs: usize| -> Result<HeadWeights> {
            let (mut own, dim) = (Parameters::default(), recipe.dim);
            let linear = Linear::new(&Device::Cpu, &mut own, "head", (inputs, dim), &mut random)?;
            Ok(HeadWeights {
                weight: own.get(linear.weight).value.to_vec()?,
                bias: own.get(linear.bias).value.to_vec()?,
            })
        };
        recipe.check(data)?;
        let (left, right) = (draw(data.left.cols)?, draw(data.right.cols)?);
        Self::from_weights(device, data, recipe, left, right)
    }

    /// As [`Trainer::new`] with given initial weights. Errors also: they have other sizes. Example:
    /// [`HeadWeights`].
    pub fn from_weights(
        device: &Device,
        data: &Data,
        recipe: &Recipe,
        left: HeadWeights,
        right: HeadWeights,
    ) -> Result<Trainer> {
        recipe.check(data)?;
        let (mut parameters, train, dim) = (Parameters::default(), data.split.train.clone(), recipe.dim);
        let left = Side::new(device, "left", &data.left, &train, &mut parameters, dim, left)?;
        let right = Side::new(device, "right", &data.right, &train, &mut parameters, dim, right)?;
        let log_scale = Tensor::scalar(device, (1. / recipe.temperature).ln() as f32)?;
        let log_scale = parameters.add("log_scale", log_scale, false)?;
        let mut optimiser = AdamW::new(&parameters)?;
        optimiser.weight_decay = recipe.weight_decay;
        let total_steps = recipe.epochs * (train.len() / recipe.batch_size) as u32;
        let schedule = CosineSchedule { base: recipe.learning_rate, warmup_steps: 0, total_steps };
        Ok(Trainer {
            device: device.clone(),
            recipe: *recipe,
            left,
            right,
            train,
            validation: data.split.validation.clone(),
            parameters,
            log_scale,
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

    /// One step on the given rows; gives the loss before it, a scalar on the device.
    ///
    /// On a GPU everything is recorded and then submitted; nothing is read back. Errors: a row that is not
    /// there; the operations' errors.
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
        let tape = Tape::new();
        let bound = self.parameters.on(&tape);
        let mut embeddings = vec![];
        for side in [&self.left, &self.right] {
            let indices = Indices::new(side.rows.device(), batch)?;
            let x = tape.constant(&side.pick(&self.device, &indices)?);
            embeddings
                .push(Projection { kind: ProjectionKind::Linear(side.linear) }.forward(&tape, &bound, &x)?);
        }
        let inputs = [&embeddings[0], &embeddings[1], bound.get(self.log_scale)];
        let loss = tape.apply(&INFO_NCE, InfoNceOptions::default(), &inputs)?;
        let gradients = bound.gradients(&tape.backward(&loss)?);
        self.optimiser.step(&mut self.parameters, &gradients, rate)?;
        clamp_log_scale(&mut self.parameters, self.log_scale)?;
        self.device.submit()?;
        Ok(loss.value().clone())
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
        let tape = Tape::no_grad();
        let bound = self.parameters.on(&tape);
        let mut embeddings = vec![];
        for side in [&self.left, &self.right] {
            let mut values = vec![];
            for rows in self.validation.chunks(rows_at_once(side.rows.shape()[1], self.recipe.dim)) {
                let x = tape.constant(&side.pick(&self.device, &Indices::new(side.rows.device(), rows)?)?);
                let z =
                    Projection { kind: ProjectionKind::Linear(side.linear) }.forward(&tape, &bound, &x)?;
                values.extend(z.value().to_vec::<f32>()?);
            }
            // The losses, each before its step, do not tell of the last one.
            if values.iter().any(|value| !value.is_finite()) {
                return Err(diverged(epoch));
            }
            embeddings.push(Features { rows: self.validation.len(), cols: self.recipe.dim, values });
        }
        retrieval(&embeddings[0], &embeddings[1])
    }

    /// The heads as they are now. Waits for the device. Example: [`HeadWeights`].
    pub fn heads(&self) -> Result<Heads> {
        Ok(Heads {
            left: self.left.head(&self.parameters, "left")?,
            right: self.right.head(&self.parameters, "right")?,
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

fn diverged(epoch: u32) -> Error {
    let expected = "a finite loss and finite weights; try a lower learning rate";
    Error::argument("align", "loss", expected, format!("others in epoch {epoch}"))
}
