//! A trained fusion in a file, and back.

use super::model::{Channel, FusionModel, Told};
use super::{FusionKind, class_names};
use crate::align::Standardisation;
use crate::device::Device;
use crate::dtype::HostData;
use crate::error::{Error, Result};
use crate::io::{Array, read_safetensors, write_safetensors};
use crate::tensor::Tensor;
use std::collections::BTreeMap;
use std::path::Path;

/// What says that a file holds a fusion.
const FORMAT: &str = "crossmodal fusion 2";
/// What is wrong with a file that holds none.
pub(super) const NO_FUSION: &str =
    "is not a file of a trained, finite fusion (fusion.safetensors of `crossmodal fuse`)";

impl FusionModel {
    /// Writes the model to a .safetensors file. Errors: not a name a class; the file's. The file is whole
    /// or not there. Example: [`FusionModel`].
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
        let of_tokens = self.channels.iter().filter(|channel| channel.is_of_tokens);
        let of_tokens: Vec<_> = of_tokens.map(|channel| channel.name.as_str()).collect();
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
            ("tokens", of_tokens.join(" ")),
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
    let of_tokens: Vec<_> = metadata.get("tokens")?.split(' ').collect();
    let channel = |name: &str| {
        let (mean, deviation) = (f64s(format!("{name}.mean"))?, f64s(format!("{name}.deviation"))?);
        let standardisation = Standardisation { mean, deviation };
        let source = metadata.get(&format!("{name}_source"))?.clone();
        let whole = standardisation.mean.len() == standardisation.deviation.len()
            && standardisation.deviation.iter().all(|d| *d >= 0.);
        let (name, is_of_tokens) = (name.to_string(), of_tokens.contains(&name));
        whole.then_some(Channel { name, source, is_of_tokens, standardisation })
    };
    let channels = metadata.get("modalities")?.split(' ').map(channel).collect::<Option<Vec<_>>>()?;
    let told = match (metadata.get("classes"), metadata.get("value")) {
        (Some(labels), _) => {
            let labels = labels.split(' ').map(|label| label.parse().ok()).collect::<Option<Vec<i64>>>()?;
            Told::Classes(Some(labels).filter(|labels| labels.is_sorted_by(|a, b| a < b))?)
        }
        (None, Some(value)) => {
            let (mean, deviation) = value.split_once(' ')?;
            let (mean, deviation): (f64, f64) = (mean.parse().ok()?, deviation.parse().ok()?);
            let fits = |v: f64| v.is_finite() && v.abs() <= f64::from(f32::MAX);
            (fits(mean) && fits(deviation) && deviation > 0.).then_some(Told::Value { mean, deviation })?
        }
        (None, None) => return None,
    };
    let kind: FusionKind = metadata.get("fusion")?.parse().ok()?;
    let dim = metadata.get("dim")?.parse().ok()?;
    // Sizes that are not those of what is stored would be made first, whatever they are.
    let stored = arrays.values().map(|own| own.shape.iter().product::<usize>()).sum::<usize>();
    let output = arrays.get("parameter.output.weight")?;
    if output.shape != [dim, told.width()] || kind.sizes().iter().any(|size| *size > stored) {
        return None;
    }
    let epoch = metadata.get("epoch")?.parse().ok()?;
    let class_names = class_names::parse(metadata, told.width())?;
    let model = FusionModel::new(device, channels, kind, dim, told, 0);
    Some(model.map(|model| FusionModel { epoch, class_names, ..model }))
}
