//! Interrupting a training run and continuing it with the same bits.

use super::data::Data;
use super::heads::{Head, Heads};
use super::recipe::Recipe;
use super::trainer::{Side, Trainer};
use crate::device::Device;
use crate::dtype::HostData;
use crate::error::{Error, Result};
use crate::io::{Array, read_safetensors};
use crate::optim::{load_checkpoint, save_checkpoint};
use std::collections::BTreeMap;
use std::path::Path;

impl Trainer {
    /// What must agree for a checkpoint to continue.
    fn identity(&self) -> BTreeMap<String, String> {
        let Recipe { dim, epochs, batch_size, learning_rate, weight_decay, temperature, seed } = self.recipe;
        let widths = [&self.left, &self.right].map(|side| side.rows.shape()[1]);
        [
            ("dim", dim.to_string()),
            ("epochs", epochs.to_string()),
            ("batch_size", batch_size.to_string()),
            ("learning_rate", learning_rate.to_string()),
            ("weight_decay", weight_decay.to_string()),
            ("temperature", temperature.to_string()),
            ("seed", seed.to_string()),
            ("widths", format!("{} and {}", widths[0], widths[1])),
            ("data", format!("{:016x}", self.fingerprint)),
        ]
        .map(|(key, value)| (key.to_string(), value))
        .into()
    }

    /// Writes everything that [`Trainer::resume`] needs to continue with the same bits. Waits for the device. Errors: the
    /// file's. The file is whole or not there. Example: [`Trainer`].
    pub fn save_checkpoint(&self, path: &Path) -> Result<()> {
        let (mut extra, mut metadata) = (BTreeMap::new(), self.identity());
        metadata.insert("epochs_done".into(), self.epochs_done.to_string());
        if let Some((score, heads)) = &self.best {
            metadata.insert("best_epoch".into(), heads.epoch.to_string());
            let array = |shape: &[usize], values: &[f32]| Array {
                shape: shape.to_vec(),
                data: HostData::F32(values.to_vec()),
            };
            for (side, head) in [("left", &heads.left), ("right", &heads.right)] {
                extra.insert(format!("best.{side}.weight"), array(&[head.inputs, head.dim], &head.weight));
                extra.insert(format!("best.{side}.bias"), array(&[head.dim], &head.bias));
            }
            let numbers = Array { shape: vec![2], data: HostData::F64(vec![*score, heads.log_scale]) };
            extra.insert("best.score_and_log_scale".into(), numbers);
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
        let differs = |(key, expected): (String, String)| match found.get(&key) {
            Some(found) if *found == expected => None,
            found => Some(format!("{key} {expected} (it has {})", found.map_or("none", |value| value))),
        };
        let differences: Vec<_> = trainer.identity().into_iter().filter_map(differs).collect();
        if !differences.is_empty() {
            return Err(Error::file(path, format!("is of another run: expected {}", differences.join(", "))));
        }
        let (extra, metadata) = load_checkpoint(path, &mut trainer.parameters, &mut trainer.optimiser)?;
        let number = |key: &str| metadata.get(key)?.parse().ok();
        let corrupt = || Error::file(path, "is not a checkpoint of an alignment");
        trainer.epochs_done = number("epochs_done").ok_or_else(corrupt)?;
        if let Some(epoch) = number("best_epoch") {
            trainer.best = Some(trainer.best_from(&extra, epoch).ok_or_else(corrupt)?);
        }
        Ok(trainer)
    }

    fn best_from(&self, extra: &BTreeMap<String, Array>, epoch: u32) -> Option<(f64, Heads)> {
        let f32s = |name: String| match &extra.get(&name)?.data {
            HostData::F32(values) => Some(values.clone()),
            _ => None,
        };
        let HostData::F64(numbers) = &extra.get("best.score_and_log_scale")?.data else { return None };
        let head = |side: &str, own: &Side| {
            Some(Head {
                weight: f32s(format!("best.{side}.weight"))?,
                bias: f32s(format!("best.{side}.bias"))?,
                ..own.head(&self.parameters, side).ok()?
            })
        };
        let (left, right) = (head("left", &self.left)?, head("right", &self.right)?);
        Some((*numbers.first()?, Heads { left, right, log_scale: *numbers.get(1)?, epoch }))
    }
}
