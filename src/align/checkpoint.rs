//! Interrupting a training run and continuing it with the same bits.

use super::data::Data;
use super::heads::{Head, Heads};
use super::network::HeadWeights;
use super::recipe::Recipe;
use super::side::Side;
use super::trainer::Trainer;
use crate::device::Device;
use crate::dtype::HostData;
use crate::error::{Error, Result};
use crate::io::{Array, read_safetensors};
use crate::losses::Queue;
use crate::optim::{load_checkpoint, save_checkpoint};
use crate::tensor::Tensor;
use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;

/// What a checkpoint tells about its run.
///
/// ```
/// use crossmodal::{Device, align::{Checkpoint, Data, Recipe, Split, Trainer}, io::Features};
/// let features = Features { rows: 20, cols: 1, values: (0..20).map(|i| i as f32).collect() };
/// let data = Data::new(features.clone(), features, Split::random(20, 0)?)?;
/// let recipe = Recipe { dim: 2, epochs: 2, batch_size: 4, ..Recipe::default() };
/// let trainer = Trainer::new(&Device::Cpu, &data, &recipe)?;
/// # let folder = std::env::temp_dir().join(format!("crossmodal-doc-checkpoint-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder).unwrap();
/// # let path = folder.join("checkpoint.safetensors");
/// trainer.save_checkpoint(&path, &[("left".to_string(), "image.npy".to_string())].into())?;
/// let about = Checkpoint::read(&path)?;
/// assert_eq!((about.recipe, about.epochs_done), (recipe, 0));
/// assert_eq!(about.notes["left"], "image.npy");
/// # std::fs::remove_dir_all(&folder).unwrap();
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// How the run trains.
    pub recipe: Recipe,
    /// Epochs done.
    pub epochs_done: u32,
    /// What [`Trainer::save_checkpoint`] was told.
    pub notes: BTreeMap<String, String>,
}

/// What stands before the key of a note.
const NOTE: &str = "note.";

impl Checkpoint {
    /// Reads what a checkpoint tells about its run. Errors: the file's; it is not such a file. Example: [`Checkpoint`].
    pub fn read(path: &Path) -> Result<Checkpoint> {
        Self::parse(&read_safetensors(path)?.1).ok_or_else(|| corrupt(path))
    }

    fn parse(metadata: &BTreeMap<String, String>) -> Option<Checkpoint> {
        fn number<T: FromStr>(metadata: &BTreeMap<String, String>, key: &str) -> Option<T> {
            metadata.get(key)?.parse().ok()
        }
        let recipe = Recipe {
            dim: number(metadata, "dim")?,
            epochs: number(metadata, "epochs")?,
            batch_size: number(metadata, "batch_size")?,
            learning_rate: number(metadata, "learning_rate")?,
            warmup_steps: number(metadata, "warmup_steps")?,
            grad_clip_norm: match metadata.get("grad_clip_norm")?.as_str() {
                "none" => None,
                norm => Some(norm.parse().ok()?),
            },
            weight_decay: number(metadata, "weight_decay")?,
            temperature: number(metadata, "temperature")?,
            seed: number(metadata, "seed")?,
            objective: number(metadata, "loss")?,
            head: number(metadata, "head")?,
            freeze: match metadata.get("freeze")?.as_str() {
                "none" => None,
                side => {
                    let mut names = metadata.get("modalities")?.split(", ").map(|own| own.split(' ').next());
                    Some(names.position(|name| name == Some(side))?)
                }
            },
            scaling: number(metadata, "scaling")?,
            dropout: number(metadata, "dropout")?,
            accum: number(metadata, "accum")?,
        };
        let note =
            |(key, value): (&String, &String)| Some((key.strip_prefix(NOTE)?.to_string(), value.clone()));
        let notes = metadata.iter().filter_map(note).collect();
        Some(Checkpoint { recipe, epochs_done: number(metadata, "epochs_done")?, notes })
    }
}

fn corrupt(path: &Path) -> Error {
    Error::file(path, "is not a checkpoint of an alignment")
}

impl Trainer {
    /// What must agree for a checkpoint to continue.
    fn identity(&self) -> BTreeMap<String, String> {
        let Recipe { dim, epochs, batch_size, learning_rate, weight_decay, temperature, seed, .. } =
            self.recipe;
        let Recipe { objective, head, freeze, scaling, dropout, accum, warmup_steps, .. } = self.recipe;
        let or_none = |value: Option<String>| value.unwrap_or_else(|| "none".to_string());
        let about = |side: &Side| format!("{} of {}", side.name, side.views[0].shape()[1]);
        let modalities: Vec<_> = self.sides.iter().map(about).collect();
        [
            ("dim", dim.to_string()),
            ("epochs", epochs.to_string()),
            ("batch_size", batch_size.to_string()),
            ("learning_rate", learning_rate.to_string()),
            ("weight_decay", weight_decay.to_string()),
            ("temperature", temperature.to_string()),
            ("seed", seed.to_string()),
            ("loss", objective.to_string()),
            ("head", head.to_string()),
            ("freeze", or_none(freeze.map(|side| self.sides[side].name.clone()))),
            ("warmup_steps", warmup_steps.to_string()),
            ("grad_clip_norm", or_none(self.recipe.grad_clip_norm.map(|norm| norm.to_string()))),
            ("scaling", scaling.to_string()),
            ("dropout", dropout.to_string()),
            ("accum", accum.to_string()),
            ("modalities", modalities.join(", ")),
            ("data", format!("{:016x}", self.fingerprint)),
        ]
        .map(|(key, value)| (key.to_string(), value))
        .into()
    }

    /// Writes everything that [`Trainer::resume`] needs to continue with the same bits, and `notes` for the caller's own use,
    /// as where the data lie. Waits for the device. Errors: the file's. The file is whole or not there. Example:
    /// [`Checkpoint`].
    pub fn save_checkpoint(&self, path: &Path, notes: &BTreeMap<String, String>) -> Result<()> {
        let (mut extra, mut metadata) = (BTreeMap::new(), self.identity());
        metadata.extend(notes.iter().map(|(key, value)| (format!("{NOTE}{key}"), value.clone())));
        metadata.insert("epochs_done".into(), self.epochs_done.to_string());
        if let Some((score, heads)) = &self.best {
            metadata.insert("best_epoch".into(), heads.epoch.to_string());
            let array = |shape: &[usize], values: &[f32]| Array {
                shape: shape.to_vec(),
                data: HostData::F32(values.to_vec()),
            };
            for head in &heads.heads {
                let side = &head.name;
                for (i, HeadWeights { weight, bias }) in head.layers.iter().enumerate() {
                    let inputs = weight.len() / bias.len();
                    extra.insert(format!("best.{side}.{i}.weight"), array(&[inputs, bias.len()], weight));
                    extra.insert(format!("best.{side}.{i}.bias"), array(&[bias.len()], bias));
                }
            }
            let numbers = Array { shape: vec![2], data: HostData::F64(vec![*score, heads.log_scale]) };
            extra.insert("best.score_and_log_scale".into(), numbers);
        }
        for (queue, Side { name, .. }) in self.queues.iter().zip(&self.sides) {
            let (ring, classes, next, len) = queue.state();
            let keys = Array { shape: ring.shape().to_vec(), data: ring.to_host()? };
            // A file of tensors has no 64-bit integers: their halves.
            let halves = classes.iter().flat_map(|&class| [class as u32, (class >> 32) as u32]).collect();
            let classes = Array { shape: vec![classes.len(), 2], data: HostData::U32(halves) };
            extra.insert(format!("queue.{name}"), keys);
            extra.insert(format!("queue.{name}.classes"), classes);
            metadata.insert(format!("queue.{name}"), format!("{next} {len}"));
        }
        save_checkpoint(path, &self.parameters, &self.optimiser, extra, metadata)
    }

    /// Continues from a checkpoint of the same recipe and data.
    ///
    /// Errors: the file's; what differs, if it is of another recipe or of other data; those of
    /// [`Trainer::new`]. Example: [`Trainer`].
    pub fn resume(device: &Device, data: &Data, recipe: &Recipe, path: &Path) -> Result<Trainer> {
        let mut trainer = Self::new(device, data, recipe)?;
        let (_, found) = read_safetensors(path)?;
        let about = Checkpoint::parse(&found).ok_or_else(|| corrupt(path))?;
        let differs = |(key, here): (String, String)| match (found.get(&key), key.as_str()) {
            (Some(there), _) if *there == here => None,
            // A hash says nothing to people.
            (_, "data") => Some("the features, their split or their classes are others".to_string()),
            (there, _) => {
                Some(format!("{key} is {} there, {here} here", there.map_or("missing", |there| there)))
            }
        };
        let differences: Vec<_> = trainer.identity().into_iter().filter_map(differs).collect();
        if !differences.is_empty() {
            return Err(Error::file(path, format!("is of another run: {}", differences.join(", "))));
        }
        let (extra, metadata) = load_checkpoint(path, &mut trainer.parameters, &mut trainer.optimiser)?;
        trainer.epochs_done = about.epochs_done;
        if let Some(epoch) = metadata.get("best_epoch").and_then(|epoch| epoch.parse().ok()) {
            trainer.best = Some(trainer.best_from(&extra, epoch).ok_or_else(|| corrupt(path))?);
        }
        for (queue, Side { name, .. }) in trainer.queues.iter_mut().zip(&trainer.sides) {
            *queue = queue_from(device, queue, &format!("queue.{name}"), &extra, &metadata)?
                .ok_or_else(|| corrupt(path))?;
        }
        Ok(trainer)
    }

    fn best_from(&self, extra: &BTreeMap<String, Array>, epoch: u32) -> Option<(f64, Heads)> {
        let f32s = |name: String| match &extra.get(&name)?.data {
            HostData::F32(values) => Some(values.clone()),
            _ => None,
        };
        let HostData::F64(numbers) = &extra.get("best.score_and_log_scale")?.data else { return None };
        let head = |own: &Side| {
            let now = own.head(&self.parameters, self.recipe.dim).ok()?;
            let layer = |i: usize| {
                let weight = f32s(format!("best.{}.{i}.weight", own.name))?;
                Some(HeadWeights { weight, bias: f32s(format!("best.{}.{i}.bias", own.name))? })
            };
            let layers = (0..now.layers.len()).map(layer).collect::<Option<Vec<_>>>()?;
            Some(Head { layers, ..now })
        };
        let heads = self.sides.iter().map(head).collect::<Option<_>>()?;
        Some((*numbers.first()?, Heads { heads, log_scale: *numbers.get(1)?, epoch }))
    }
}

/// The queue that was saved under a name, if it is one of the same size as `now`.
fn queue_from(
    device: &Device,
    now: &Queue,
    name: &str,
    extra: &BTreeMap<String, Array>,
    metadata: &BTreeMap<String, String>,
) -> Result<Option<Queue>> {
    let stored = || -> Option<(&Array, Vec<i64>, usize, usize)> {
        let (next, len) = metadata.get(name)?.split_once(' ')?;
        let HostData::U32(halves) = &extra.get(&format!("{name}.classes"))?.data else { return None };
        let whole = |pair: &[u32]| (i64::from(pair[1]) << 32) | i64::from(pair[0]);
        let classes = halves.chunks_exact(2).map(whole).collect();
        Some((extra.get(name)?, classes, next.parse().ok()?, len.parse().ok()?))
    };
    let Some((keys, classes, next, len)) = stored() else { return Ok(None) };
    let ring = Tensor::from_host(device, &keys.shape, keys.data.clone())?;
    let fits = ring.shape() == now.state().0.shape() && ring.dtype() == now.state().0.dtype();
    Ok(Queue::from_state(ring, classes, next, len).ok().filter(|_| fits))
}
