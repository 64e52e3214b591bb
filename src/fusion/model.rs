//! A fusion with the layers and numbers around it: from features to classes or a value.

use super::{Fuser, FusionKind, Presence, class_names};
use crate::align::Standardisation;
use crate::autograd::arithmetic::unary;
use crate::autograd::{Tape, Var};
use crate::device::Device;
use crate::dtype::HostData;
use crate::error::{Error, Result};
use crate::io::{Array, Features, read_safetensors, write_safetensors};
use crate::nn::{Bound, Linear, Parameters, generator};
use crate::ops::dropout::DROPOUT;
use crate::ops::{Dropout, Unary, softmax};
use crate::tensor::Tensor;
use std::collections::BTreeMap;
use std::path::Path;

/// What says that a file holds a fusion.
const FORMAT: &str = "crossmodal fusion 1";
/// What is wrong with a file that holds none.
pub(super) const NO_FUSION: &str =
    "is not a file of a trained, finite fusion (fusion.safetensors of `crossmodal fuse`)";

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
    /// The training rows' mean and deviation.
    pub standardisation: Standardisation,
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
    fuser: Fuser,
    output: Linear,
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
        let widths: Vec<_> = channels.iter().map(|channel| channel.standardisation.mean.len()).collect();
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
        features: &[&Var],
        presence: &Presence,
        dropout: Option<Dropout>,
    ) -> Result<Var> {
        let fused = self.fuser.forward(tape, bound, features, presence)?;
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
        let presence = features.iter().map(|own| own.is_none().then(|| vec![false; rows].into())).collect();
        self.predict_with(features, &Presence::new(rows, presence)?)
    }

    /// As [`FusionModel::predict`] where modalities are missing in some rows. Errors also: the presence of others.
    pub fn predict_with(&self, features: &[Option<&Features>], presence: &Presence) -> Result<Features> {
        let refuse = |argument: String, expected: String, got: String| {
            Err(Error::argument("predict", argument, expected, got))
        };
        if features.len() != self.channels.len() {
            let expected = format!("{} modalities", self.channels.len());
            return refuse("features".into(), expected, features.len().to_string());
        }
        let rows = presence.rows();
        for (channel, own) in self.channels.iter().zip(features) {
            let Some(own) = own else { continue };
            let inputs = channel.standardisation.mean.len();
            if (own.rows, own.cols) != (rows, inputs) || own.values.len() != rows * inputs {
                let expected = format!("{rows} x {inputs}");
                return refuse(
                    format!("modality {}", channel.name),
                    expected,
                    format!("{} x {}", own.rows, own.cols),
                );
            }
        }
        let widest = self.channels.iter().map(|own| own.standardisation.mean.len()).max().unwrap_or(1);
        let mut values = Vec::with_capacity(rows * self.told.width());
        let all: Vec<u32> = (0..rows as u32).collect();
        for some in all.chunks(((1 << 24) / widest.max(1)).max(1)) {
            values.extend(self.predict_rows(features, presence, some)?);
        }
        Ok(Features { rows, cols: self.told.width(), values })
    }

    fn predict_rows(
        &self,
        features: &[Option<&Features>],
        presence: &Presence,
        rows: &[u32],
    ) -> Result<Vec<f32>> {
        let tape = Tape::no_grad();
        let tensor = |(channel, own): (&Channel, &Option<&Features>)| {
            let width = channel.standardisation.mean.len();
            let values = match own {
                Some(own) => channel.standardisation.apply(&own.select(rows)?.values),
                None => vec![0.; rows.len() * width],
            };
            Ok(tape.constant(&Tensor::from_vec(&self.device, &[rows.len(), width], values)?))
        };
        let inputs = self.channels.iter().zip(features).map(tensor).collect::<Result<Vec<_>>>()?;
        let inputs: Vec<_> = inputs.iter().collect();
        let told = self.forward(&tape, &self.parameters.on(&tape), &inputs, &presence.select(rows)?, None)?;
        match self.told {
            Told::Classes(_) => softmax(told.value())?.to_vec(),
            Told::Value { mean, deviation } => {
                let values = told.value().to_vec::<f32>()?;
                Ok(values.iter().map(|v| (f64::from(*v) * deviation + mean) as f32).collect())
            }
        }
    }

    /// Writes the model to a .safetensors file. Errors: not a name a class; the file's. The file is whole or not there. Example: [`FusionModel`].
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut arrays = BTreeMap::new();
        let mut add = |name: String, shape: Vec<usize>, data| arrays.insert(name, Array { shape, data });
        for Channel { name, standardisation, .. } in &self.channels {
            let Standardisation { mean, deviation } = standardisation;
            add(format!("{name}.mean"), vec![mean.len()], HostData::F64(mean.clone()));
            add(format!("{name}.deviation"), vec![deviation.len()], HostData::F64(deviation.clone()));
        }
        for parameter in self.parameters.iter() {
            let name = format!("parameter.{}", parameter.name);
            add(name, parameter.value.shape().to_vec(), parameter.value.to_host()?);
        }
        let names: Vec<_> = self.channels.iter().map(|channel| channel.name.as_str()).collect();
        let told = match &self.told {
            Told::Classes(labels) => {
                let labels: Vec<_> = labels.iter().map(ToString::to_string).collect();
                ("classes", labels.join(" "))
            }
            Told::Value { mean, deviation } => ("value", format!("{mean} {deviation}")),
        };
        let fixed = [
            ("format", FORMAT.to_string()),
            ("modalities", names.join(" ")),
            ("fusion", self.kind.to_string()),
            ("dim", self.dim.to_string()),
            ("epoch", self.epoch.to_string()),
            told,
        ];
        let sources = self.channels.iter().map(|own| (format!("{}_source", own.name), own.source.clone()));
        let fixed = fixed.into_iter().map(|(key, value)| (key.to_string(), value));
        let names = class_names::entry(&self.class_names, self.told.width())?;
        write_safetensors(path, &arrays, &fixed.chain(sources).chain(names).collect())
    }

    /// Reads what [`FusionModel::save`] wrote. Errors: the file's; it is not such a file; the device's. Example: [`FusionModel`].
    pub fn load(device: &Device, path: &Path) -> Result<FusionModel> {
        let (arrays, metadata) = read_safetensors(path)?;
        let mut model = parse(device, &arrays, &metadata).ok_or_else(|| Error::file(path, NO_FUSION))??;
        for parameter in model.parameters.iter_mut() {
            let stored = arrays.get(&format!("parameter.{}", parameter.name));
            let whole = stored.filter(|own| own.shape == parameter.value.shape());
            let values = whole.and_then(|own| match &own.data {
                HostData::F32(values) => Some(values).filter(|values| values.iter().all(|v| v.is_finite())),
                _ => None,
            });
            let values = values.ok_or_else(|| Error::file(path, NO_FUSION))?;
            parameter.value = Tensor::from_slice(device, parameter.value.shape(), values)?;
        }
        Ok(model)
    }
}

/// A model of the sizes that a file tells of; none if it is not whole.
fn parse(
    device: &Device,
    arrays: &BTreeMap<String, Array>,
    metadata: &BTreeMap<String, String>,
) -> Option<Result<FusionModel>> {
    metadata.get("format").filter(|format| *format == FORMAT)?;
    let f64s = |name: String| match &arrays.get(&name)?.data {
        HostData::F64(values) => Some(values.clone()).filter(|values| values.iter().all(|v| v.is_finite())),
        _ => None,
    };
    let channel = |name: &str| {
        let (mean, deviation) = (f64s(format!("{name}.mean"))?, f64s(format!("{name}.deviation"))?);
        let standardisation = Standardisation { mean, deviation };
        let source = metadata.get(&format!("{name}_source"))?.clone();
        let whole = standardisation.mean.len() == standardisation.deviation.len();
        whole.then(|| Channel { name: name.to_string(), source, standardisation })
    };
    let channels = metadata.get("modalities")?.split(' ').map(channel).collect::<Option<Vec<_>>>()?;
    let told = match (metadata.get("classes"), metadata.get("value")) {
        (Some(labels), _) => {
            Told::Classes(labels.split(' ').map(|label| label.parse().ok()).collect::<Option<_>>()?)
        }
        (None, Some(value)) => {
            let (mean, deviation) = value.split_once(' ')?;
            Told::Value { mean: mean.parse().ok()?, deviation: deviation.parse().ok()? }
        }
        (None, None) => return None,
    };
    let (kind, dim) = (metadata.get("fusion")?.parse().ok()?, metadata.get("dim")?.parse().ok()?);
    let epoch = metadata.get("epoch")?.parse().ok()?;
    let class_names = class_names::parse(metadata, told.width())?;
    let model = FusionModel::new(device, channels, kind, dim, told, 0);
    Some(model.map(|model| FusionModel { epoch, class_names, ..model }))
}
