//! A fusion with the layers and numbers around it: from features to classes or a value.

use super::model_inputs::{Inputs, mask};
use super::{Fuser, FusionKind, Presence, TokenBatch};
use crate::align::Standardisation;
use crate::autograd::arithmetic::unary;
use crate::autograd::{Tape, Var};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::io::Features;
use crate::nn::{Bound, Linear, Parameters, generator};
use crate::ops::dropout::DROPOUT;
use crate::ops::{Dropout, Unary, softmax};
use crate::tensor::Tensor;

/// What a fusion tells.
///
/// ```
/// use crossmodal::fusion::Told;
/// assert_eq!(Told::Classes(vec![3, 8]).width(), 2);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    /// The probability of each of these classes.
    Classes(Vec<i64>),
    /// A number, by its mean and deviation in the training rows.
    Value {
        /// The mean.
        mean: f64,
        /// The deviation.
        deviation: f64,
    },
}

impl Told {
    /// Numbers for each sample. Example: [`Told`].
    pub fn width(&self) -> usize {
        match self {
            Told::Classes(labels) => labels.len(),
            Told::Value { .. } => 1,
        }
    }
}

/// One modality of a [`FusionModel`]. Example: [`FusionModel`].
#[derive(Debug, Clone, PartialEq)]
pub struct Channel {
    /// Its name.
    pub name: String,
    /// Where its features came from, as far as it is known.
    pub source: String,
    /// Whether they are sequences of tokens, not vectors.
    pub is_of_tokens: bool,
    /// The training rows' mean and deviation, of a vector or a token.
    pub standardisation: Standardisation,
}

impl Channel {
    /// Features of a vector or a token.
    pub fn width(&self) -> usize {
        self.standardisation.mean.len()
    }

    /// The shape of some rows' features, so many tokens each.
    pub(super) fn shape(&self, rows: usize, length: usize) -> Vec<usize> {
        if self.is_of_tokens { vec![rows, length, self.width()] } else { vec![rows, self.width()] }
    }
}

/// A trained fusion: standardise, fuse, GELU, a linear layer; then probabilities by softmax, or a value.
///
/// ```
/// use crossmodal::{Device, align::{Modality, Split}, fusion::{FusionData, FusionModel, FusionRecipe, FusionTrainer, Target}};
/// # use crossmodal::io::Features;
/// let values: Vec<f32> = (0..20).map(|i| (i % 2) as f32).collect();
/// let modality = Modality::new("x", Features { rows: 20, cols: 1, values });
/// let labels: Vec<i64> = (0..20).map(|i| i % 2).collect();
/// let data = FusionData::new(vec![modality.clone()], Target::of_labels(&labels), Split::random(20, 0)?)?;
/// let recipe = FusionRecipe { epochs: 30, learning_rate: 0.02, dropout: 0., ..FusionRecipe::default() };
/// let recipe = FusionRecipe { batch_size: 4, dim: 4, ..recipe };
/// let mut trainer = FusionTrainer::new(&Device::Cpu, &data, &recipe)?;
/// while !trainer.is_done() {
///     trainer.epoch()?;
/// }
/// let model = trainer.best()?;
/// # let folder = std::env::temp_dir().join(format!("crossmodal-doc-fusion-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder).unwrap();
/// # let path = folder.join("fusion.safetensors");
/// model.save(&path)?;
/// let p = FusionModel::load(&Device::Cpu, &path)?.predict(&[Some(&modality.features)])?;
/// assert!(p.values[0] > 0.5 && p.values[3] > 0.5); // row 0 is of class 0, row 1 of class 1
/// # std::fs::remove_dir_all(&folder).unwrap();
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct FusionModel {
    /// The modalities in order.
    pub channels: Vec<Channel>,
    /// The fusion.
    pub kind: FusionKind,
    /// The width of its result.
    pub dim: usize,
    /// What is told.
    pub told: Told,
    /// What the classes are called, one a class; none where nobody has said so.
    pub class_names: Vec<String>,
    /// The epoch it is from, from 1.
    pub epoch: u32,
    pub(super) device: Device,
    pub(super) parameters: Parameters,
    pub(super) fuser: Fuser,
    pub(super) output: Linear,
}

impl FusionModel {
    /// With initial weights.
    pub(super) fn new(
        device: &Device,
        channels: Vec<Channel>,
        kind: FusionKind,
        dim: usize,
        told: Told,
        seed: u64,
    ) -> Result<FusionModel> {
        let (mut parameters, mut random) = (Parameters::default(), generator(seed, 0));
        let widths: Vec<_> = channels.iter().map(Channel::width).collect();
        let fuser = Fuser::new(device, &mut parameters, "fusion", kind, &widths, dim, &mut random)?;
        let sizes = (dim, told.width());
        let output = Linear::new(device, &mut parameters, "output", sizes, &mut random)?;
        let (device, class_names) = (device.clone(), vec![]);
        Ok(FusionModel {
            channels,
            kind,
            dim,
            told,
            class_names,
            epoch: 0,
            device,
            parameters,
            fuser,
            output,
        })
    }

    /// Logits `[rows, classes]`, or the standardised value `[rows, 1]`, of standardised features.
    pub(super) fn forward(
        &self,
        tape: &Tape,
        bound: &Bound,
        batch: &TokenBatch<'_>,
        dropout: Option<Dropout>,
    ) -> Result<Var> {
        let fused = self.fuser.forward(tape, bound, batch)?;
        let mut h = unary(tape, Unary::Gelu, &fused)?;
        if let Some(dropout) = dropout {
            h = tape.apply(&DROPOUT, dropout, &[&h])?;
        }
        self.output.forward(tape, bound, &h)
    }

    /// What is told of each row: probabilities `[rows, classes]`, or values `[rows, 1]`. None for a modality that is missing.
    ///
    /// Waits for the device. Errors: all are missing; other modalities, rows or widths than the model's and one another's; the
    /// device's. Example: [`FusionModel`].
    pub fn predict(&self, features: &[Option<&Features>]) -> Result<Features> {
        let rows = features.iter().flatten().map(|own| own.rows).next();
        let Some(rows) = rows else {
            return Err(Error::argument("predict", "features", "at least one modality", "none"));
        };
        self.predict_with(features, &Presence::all(rows, features.len()))
    }

    /// As [`FusionModel::predict`] where modalities are missing in some rows. One that is `None` is missing in all, whatever `presence`
    /// says. Errors also: the presence of others.
    pub fn predict_with(&self, features: &[Option<&Features>], presence: &Presence) -> Result<Features> {
        self.predict_tokens(features, &vec![None; features.len()], presence)
    }

    /// As [`FusionModel::predict_with`] where some of the tokens `[rows, length · width]` are there, the first of each row's: as many as
    /// the `lengths` of the modality tell, all where they are none. Errors also: not a length a row, or one beyond.
    pub fn predict_tokens(
        &self,
        features: &[Option<&Features>],
        lengths: &[Option<&[u32]>],
        presence: &Presence,
    ) -> Result<Features> {
        let inputs = Inputs::new(&self.channels, features, lengths, presence)?;
        let rows = presence.rows();
        let mut values = Vec::with_capacity(rows * self.told.width());
        let all: Vec<u32> = (0..rows as u32).collect();
        for some in all.chunks(self.rows_at_once(features, false)) {
            values.extend(self.predict_rows(&inputs, some)?);
        }
        Ok(Features { rows, cols: self.told.width(), values })
    }

    /// As many rows as keep what is between the layers at about 64 MiB.
    pub(super) fn rows_at_once(&self, features: &[Option<&Features>], with_maps: bool) -> usize {
        let of_channel = |(own, channel): (&Option<&Features>, &Channel)| {
            let cols = own.map_or(channel.width(), |own| own.cols);
            // A token's MLP is four times as wide as it.
            let between = if self.kind.is_of_tokens() { 4 * self.dim * cols / channel.width() } else { 0 };
            cols.max(between)
        };
        let tokens: usize = features
            .iter()
            .zip(&self.channels)
            .filter_map(|(own, channel)| Some((*own)?.cols / channel.width()))
            .sum();
        let maps =
            if with_maps { self.kind.sizes().first().map_or(0, |heads| heads * tokens * tokens) } else { 0 };
        let row = features.iter().zip(&self.channels).map(of_channel).sum::<usize>() + maps;
        ((1 << 24) / row.max(1)).max(1)
    }

    /// Some rows as the fusion takes them, and what is done with them.
    pub(super) fn with_rows<T>(
        &self,
        inputs: &Inputs<'_>,
        rows: &[u32],
        then: impl FnOnce(&Tape, &Bound, &TokenBatch<'_>) -> Result<T>,
    ) -> Result<T> {
        let tape = Tape::no_grad();
        let (mut tokens, mut masks) = (vec![], vec![]);
        for (m, channel) in self.channels.iter().enumerate() {
            let (width, own) = (channel.width(), inputs.features[m]);
            let length = own.map_or(1, |own| own.cols / width);
            let values = match own {
                Some(own) => channel.standardisation.apply(&own.select(rows)?.values),
                None => vec![0.; rows.len() * width],
            };
            let values = Tensor::from_vec(&self.device, &channel.shape(rows.len(), length), values)?;
            tokens.push(tape.constant(&values));
            let lengths = inputs.lengths[m].filter(|_| own.is_some());
            let lengths = lengths.map(|own| rows.iter().map(|&row| own[row as usize]).collect::<Vec<_>>());
            masks.push(lengths.map(|lengths| mask(&lengths, length)));
        }
        let (tokens, masks): (Vec<_>, Vec<_>) =
            (tokens.iter().collect(), masks.iter().map(Option::as_ref).collect());
        let presence = &inputs.presence.select(rows)?;
        let batch = TokenBatch { tokens: &tokens, masks: &masks, presence };
        then(&tape, &self.parameters.on(&tape), &batch)
    }

    fn predict_rows(&self, inputs: &Inputs<'_>, rows: &[u32]) -> Result<Vec<f32>> {
        let told =
            self.with_rows(inputs, rows, |tape, bound, batch| self.forward(tape, bound, batch, None))?;
        match self.told {
            Told::Classes(_) => softmax(told.value())?.to_vec(),
            Told::Value { mean, deviation } => {
                let values = told.value().to_vec::<f32>()?;
                Ok(values.iter().map(|v| (f64::from(*v) * deviation + mean) as f32).collect())
            }
        }
    }
}
