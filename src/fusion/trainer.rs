//! Training a fusion.

use super::model::{Channel, FusionModel, Told};
use super::model_inputs::mask;
use super::presence::constant;
use super::{ClassScores, FusionData, FusionRecipe, Presence, Target, TokenBatch};
use crate::align::{Scaling, Standardisation};
use crate::autograd::arithmetic::{mul, sum, unary};
use crate::autograd::{Tape, Var};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::io::Features;
use crate::nn::generator;
use crate::ops::log_softmax::LOG_SOFTMAX;
use crate::ops::{Dropout, Indices, Unary, add, dropout, gather};
use crate::optim::{AdamW, CosineSchedule};
use crate::tensor::Tensor;
use rand::RngExt;
use rand::seq::SliceRandom;
use std::time::Instant;

/// What an epoch did. Example: [`FusionTrainer`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FusionReport {
    /// Its number, from 1.
    pub epoch: u32,
    /// The mean loss of its batches, each before its step.
    pub loss: f64,
    /// On the validation rows: accuracy in percent, or 100 R², the part of the variance that is told.
    pub validation: f64,
    /// Whether it is the best so far: the highest score, of equals the first.
    pub is_best: bool,
    /// Seconds in all.
    pub seconds: f64,
}

/// A fusion in training.
///
/// ```
/// use crossmodal::{Device, align::{Modality, Split}, fusion::{FusionData, FusionRecipe, FusionTrainer, Target}};
/// # use crossmodal::io::Features;
/// let noise = |i: usize| ((i * 7919) as f32).sin();
/// let features = |cols: usize| Features { rows: 40, cols, values: (0..40 * cols).map(noise).collect() };
/// let modalities = vec![Modality::new("image", features(3)), Modality::new("text", features(2))];
/// let labels: Vec<i64> = (0..40).map(|row| i64::from(noise(row * 3) > 0.)).collect();
/// let data = FusionData::new(modalities, Target::of_labels(&labels), Split::random(40, 0)?)?;
/// let recipe = FusionRecipe { epochs: 2, batch_size: 8, dim: 4, ..FusionRecipe::default() };
/// let mut trainer = FusionTrainer::new(&Device::Cpu, &data, &recipe)?;
/// while !trainer.is_done() {
///     let report = trainer.epoch()?;
///     println!("loss {:.3}, accuracy {:.1} %", report.loss, report.validation);
/// }
/// assert!(trainer.best()?.epoch <= 2);
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub struct FusionTrainer {
    recipe: FusionRecipe,
    data: FusionData,
    /// All standardised rows of each modality, on the device.
    features: Vec<Tensor>,
    model: FusionModel,
    optimiser: AdamW,
    schedule: CosineSchedule,
    epochs_done: u32,
    best: Option<(f64, FusionModel)>,
}

impl FusionTrainer {
    /// With initial weights by the seed; features standardised on the training rows that have them.
    ///
    /// Errors: numbers that are out of range; features that are not finite where they are there; one class; the device's. Example:
    /// [`FusionTrainer`].
    pub fn new(device: &Device, data: &FusionData, recipe: &FusionRecipe) -> Result<FusionTrainer> {
        recipe.check(data)?;
        let (mut channels, mut features) = (vec![], vec![]);
        for m in 0..data.modalities.len() {
            let (channel, values) = standardised(data, m, recipe.scaling)?;
            let own = &data.modalities[m].features;
            features.push(Tensor::from_vec(device, &[own.rows, own.cols], values)?);
            channels.push(channel);
        }
        let told = match &data.target {
            Target::Classes { labels, .. } => Told::Classes(labels.clone()),
            Target::Values(values) => {
                let rows = Features { rows: values.len(), cols: 1, values: values.clone() };
                let Standardisation { mean, deviation } = Standardisation::fit(&rows, &data.split.train);
                // In whatever unit they are; those that are all the same have none.
                Told::Value { mean: mean[0], deviation: if deviation[0] > 0. { deviation[0] } else { 1. } }
            }
        };
        let model = FusionModel::new(device, channels, recipe.kind, recipe.dim, told, recipe.seed)?;
        let mut optimiser = AdamW::new(&model.parameters)?;
        optimiser.weight_decay = recipe.weight_decay;
        let steps = data.split.train.len().div_ceil(recipe.batch_size) as u32;
        let schedule = CosineSchedule {
            base: recipe.learning_rate,
            warmup_steps: 0,
            total_steps: recipe.epochs * steps,
        };
        let (recipe, data) = (*recipe, data.clone());
        Ok(FusionTrainer { recipe, data, features, model, optimiser, schedule, epochs_done: 0, best: None })
    }

    /// Whether every epoch is done. Example: [`FusionTrainer`].
    pub fn is_done(&self) -> bool {
        self.epochs_done >= self.recipe.epochs
    }

    /// Epochs done. Example: [`FusionTrainer::is_done`].
    pub fn epochs_done(&self) -> u32 {
        self.epochs_done
    }

    /// One epoch, then the score on the validation rows. The loss is summed on the device and read once.
    ///
    /// Errors: all epochs are done; the loss is no longer finite; the operations'. Example: [`FusionTrainer`].
    pub fn epoch(&mut self) -> Result<FusionReport> {
        if self.is_done() {
            return Err(Error::argument(
                "fuse",
                "epochs",
                format!("at most {}", self.recipe.epochs),
                "one more",
            ));
        }
        let (start, epoch) = (Instant::now(), self.epochs_done + 1);
        let mut random = generator(self.recipe.seed, u64::from(epoch));
        let mut order = self.data.split.train.clone();
        order.shuffle(&mut random);
        let mut losses: Option<Tensor> = None;
        for batch in order.chunks(self.recipe.batch_size) {
            let presence = self.some_taken_away(batch, &mut random)?;
            let loss = self.step(batch, &presence)?;
            losses = Some(match losses {
                Some(losses) => add(&losses, &loss)?,
                None => loss,
            });
        }
        let steps = order.len().div_ceil(self.recipe.batch_size) as f64;
        let loss = losses.map_or(Ok(f64::NAN), |losses| losses.item())? / steps;
        let validation = self.score(&self.data.split.validation)?;
        if !loss.is_finite() || validation.is_nan() {
            let expected = "a finite loss and finite weights; try a lower learning rate";
            return Err(Error::argument("fuse", "loss", expected, format!("others in epoch {epoch}")));
        }
        self.epochs_done = epoch;
        self.model.epoch = epoch;
        let is_best = self.best.as_ref().is_none_or(|(best, _)| validation > *best);
        if is_best {
            self.best = Some((validation, self.model.clone()));
        }
        Ok(FusionReport { epoch, loss, validation, is_best, seconds: start.elapsed().as_secs_f64() })
    }

    /// The model of the epoch that was best on the validation rows. Errors: no epoch is done. Example: [`FusionTrainer`].
    pub fn best(&self) -> Result<FusionModel> {
        let best = self.best.as_ref().map(|(_, model)| model.clone());
        best.ok_or_else(|| Error::argument("fuse", "epochs", "at least one done", 0))
    }

    /// Which modalities a batch has in this step: of those that are there, each is taken away by chance, but the last.
    fn some_taken_away(&self, batch: &[u32], random: &mut impl rand::Rng) -> Result<Presence> {
        let presence = self.data.presence(batch)?;
        let p = self.recipe.modality_dropout;
        if p == 0. {
            return Ok(presence);
        }
        let count = presence.modalities();
        let of_row = |row| (0..count).map(|m| presence.is_there(m, row)).collect();
        let mut rows: Vec<Vec<bool>> = (0..batch.len()).map(of_row).collect();
        for there in &mut rows {
            let mut order: Vec<_> = (0..count).collect();
            order.shuffle(random);
            for m in order {
                // Drawn in any case, so that a draw does not depend on what is missing.
                let away = random.random_bool(p);
                let others = there.iter().enumerate().any(|(other, is_there)| other != m && *is_there);
                there[m] &= !(away && others);
            }
        }
        let of = (0..count).map(|m| Some(rows.iter().map(|there| there[m]).collect()));
        Presence::new(batch.len(), of.collect())
    }

    fn step(&mut self, batch: &[u32], presence: &Presence) -> Result<Tensor> {
        let tape = Tape::new();
        let bound = self.model.parameters.on(&tape);
        let (mut inputs, mut masks) = (vec![], vec![]);
        let lengths = self.data.lengths(batch);
        for (m, (features, channel)) in self.features.iter().zip(&self.model.channels).enumerate() {
            let mut x = gather(features, &Indices::new(features.device(), batch)?)?;
            if let Some(own) = self.dropout(m as u64) {
                x = dropout(&x, &own)?;
            }
            let length = features.shape()[1] / channel.width();
            inputs.push(tape.constant(&x.reshape(&channel.shape(batch.len(), length))?));
            masks.push(lengths[m].as_ref().map(|own| mask(own, length)));
        }
        let last = self.dropout(inputs.len() as u64);
        let (tokens, masks): (Vec<_>, Vec<_>) =
            (inputs.iter().collect(), masks.iter().map(Option::as_ref).collect());
        let inputs = TokenBatch { tokens: &tokens, masks: &masks, presence };
        let told = self.model.forward(&tape, &bound, &inputs, last)?;
        let loss = self.loss(&tape, &told, batch)?;
        let gradients = bound.gradients(&tape.backward(&loss)?);
        let rate = self.schedule.at(self.optimiser.steps);
        self.optimiser.step(&mut self.model.parameters, &gradients, rate)?;
        self.model.device.submit()?;
        Ok(loss.value().clone())
    }

    /// What this step drops of one thing.
    fn dropout(&self, of: u64) -> Option<Dropout> {
        let FusionRecipe { dropout: p, seed, .. } = self.recipe;
        let number = u64::from(self.optimiser.steps) << 8 | (of & 0xff);
        let seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number;
        (p > 0.).then_some(Dropout { p, seed, first: 0 })
    }

    /// Mean cross-entropy, or mean squared error of the standardised value.
    fn loss(&self, tape: &Tape, told: &Var, batch: &[u32]) -> Result<Var> {
        let (rows, width) = (told.value().shape()[0], told.value().shape()[1]);
        let share = -1. / rows as f64;
        match (&self.data.target, &self.model.told) {
            (Target::Classes { numbers, .. }, _) => {
                let mut weights = vec![0.; rows * width];
                for (own, &row) in weights.chunks_exact_mut(width).zip(batch) {
                    own[numbers[row as usize] as usize] = share;
                }
                let log_p = tape.apply(&LOG_SOFTMAX, (), &[told])?;
                let weights = constant(tape, &[rows, width], weights, told)?;
                sum(tape, &sum(tape, &mul(tape, &log_p, &weights)?, 1)?, 0)
            }
            (Target::Values(values), Told::Value { mean, deviation }) => {
                let minus = |row: &u32| -(f64::from(values[*row as usize]) - mean) / deviation;
                let minus = constant(tape, &[rows, 1], batch.iter().map(minus).collect(), told)?;
                let error = crate::autograd::arithmetic::add(tape, told, &minus)?;
                let squares = sum(tape, &sum(tape, &mul(tape, &error, &error)?, 1)?, 0)?;
                unary(tape, Unary::Scale(-share), &squares)
            }
            (Target::Values(_), Told::Classes(_)) => unreachable!("the model is made for the target"),
        }
    }

    /// The score of some rows with the weights as they are.
    fn score(&self, rows: &[u32]) -> Result<f64> {
        let told = self.told(&self.model, rows)?;
        match &self.data.target {
            Target::Classes { .. } => Ok(self.class_scores(&told, rows)?.accuracy),
            Target::Values(values) => {
                let of = |row: &u32| f64::from(values[*row as usize]);
                let mean = rows.iter().map(of).sum::<f64>() / rows.len() as f64;
                let variance: f64 = rows.iter().map(|row| (of(row) - mean).powi(2)).sum();
                let error: f64 =
                    rows.iter().zip(&told.values).map(|(r, v)| (of(r) - f64::from(*v)).powi(2)).sum();
                Ok(100. * (1. - error / variance.max(f64::MIN_POSITIVE)))
            }
        }
    }

    fn told(&self, model: &FusionModel, rows: &[u32]) -> Result<Features> {
        let selected = self.data.modalities.iter().map(|own| own.features.select(rows));
        let selected = selected.collect::<Result<Vec<_>>>()?;
        let features: Vec<_> = selected.iter().map(Some).collect();
        let lengths = self.data.lengths(rows);
        let lengths: Vec<_> = lengths.iter().map(Option::as_deref).collect();
        model.predict_tokens(&features, &lengths, &self.data.presence(rows)?)
    }

    fn class_scores(&self, told: &Features, rows: &[u32]) -> Result<ClassScores> {
        let Target::Classes { numbers, labels } = &self.data.target else {
            return Err(Error::argument("fuse", "target", "classes", "values"));
        };
        let presence = Presence::all(rows.len(), 1);
        let ballots = super::Ballots { experts: &[&told.values], classes: labels.len(), presence: &presence };
        let own: Vec<_> = rows.iter().map(|&row| numbers[row as usize]).collect();
        ClassScores::new(&ballots.soft(&[1.])?, &own, labels.len())
    }

    /// A model's scores by class on some rows. Errors: the target is not a class; the device's.
    pub fn test(&self, model: &FusionModel, rows: &[u32]) -> Result<ClassScores> {
        self.class_scores(&self.told(model, rows)?, rows)
    }
}

/// A modality scaled by its training rows, and how. Refuses what is not finite where it is there.
fn standardised(data: &FusionData, m: usize, scaling: Scaling) -> Result<(Channel, Vec<f32>)> {
    let (modality, width, tokens) = (&data.modalities[m], data.width(m), &data.tokens[m]);
    let length = modality.features.cols / width;
    let is_there = |row: usize, token: usize| {
        data.is_there(m, row) && tokens.as_ref().is_none_or(|own| own.is_there(row, token))
    };
    // A token is a row.
    let Features { rows, values, .. } = &modality.features;
    let own = Features { rows: rows * length, cols: width, values: values.clone() };
    let of_row = |row: u32| {
        let there = (0..length).filter(move |&token| is_there(row as usize, token));
        there.map(move |token| row * length as u32 + token as u32)
    };
    let train: Vec<_> = data.split.train.iter().flat_map(|&row| of_row(row)).collect();
    let standardisation = match scaling {
        Scaling::Feature => Standardisation::fit(&own, &train),
        Scaling::Modality => Standardisation::fit_modality(&own, &train),
    };
    let values = standardisation.apply(&own.values);
    let wrong = |&at: &usize| !values[at].is_finite() && is_there(at / width / length, at / width % length);
    if let Some(at) = (0..values.len()).find(wrong) {
        let (row, token) = (at / width / length, at / width % length);
        let token = tokens.as_ref().map_or(String::new(), |_| format!(", token {token}"));
        let expected = "features that stay finite when standardised on the training rows";
        let got = format!("{:?} in row {row}{token}, column {}", own.values[at], at % width);
        return Err(Error::argument("fuse", modality.argument(), expected, got));
    }
    let (name, is_of_tokens) = (modality.name.clone(), tokens.is_some());
    Ok((Channel { name, source: String::new(), is_of_tokens, standardisation }, values))
}
