//! Trained heads: what an alignment leaves behind.

use super::cache::Cache;
use super::network::{HeadWeights, Network};
use super::standardise::Standardisation;
use crate::autograd::Tape;
use crate::device::Device;
use crate::dtype::HostData;
use crate::error::{Error, Result};
use crate::io::{Array, Features, read_safetensors, write_safetensors};
use crate::nn::Parameters;
use crate::tensor::Tensor;
use std::collections::BTreeMap;
use std::path::Path;

/// One modality's head: standardise, layers with GELU between them, normalise.
///
/// ```
/// use crossmodal::{Device, align::{Head, HeadWeights, Standardisation}, io::Features};
/// let standardisation = Standardisation { mean: vec![0., 0.], deviation: vec![1., 1.] };
/// let layers = vec![HeadWeights { weight: vec![1., 0., 0., 1.], bias: vec![0., 0.] }];
/// let (name, source) = ("image".into(), "image.npy".into());
/// let head = Head { name, source, inputs: 2, dim: 2, standardisation, layers, residual: None, cache: None };
/// let z = head.project(&Device::Cpu, &Features { rows: 1, cols: 2, values: vec![3., 4.] })?;
/// assert!((z.values[0] - 0.6).abs() < 1e-6 && (z.values[1] - 0.8).abs() < 1e-6);
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// The modality's name: `left`, `image`, …
    pub name: String,
    /// Where its features came from, as far as it is known.
    pub source: String,
    /// The width of the features.
    pub inputs: usize,
    /// The width of the shared space.
    pub dim: usize,
    /// The training rows' mean and deviation.
    pub standardisation: Standardisation,
    /// The layers, first to last; none where the features themselves are the shared space.
    pub layers: Vec<HeadWeights>,
    /// `r` where the head mixes its features in: `r f(x) + (1 − r) x`.
    pub residual: Option<f64>,
    /// Training pairs that it remembers.
    pub cache: Option<Cache>,
}

/// All heads, the logit scale, and the epoch they are from.
///
/// ```
/// use crossmodal::align::{Head, HeadWeights, Heads, Standardisation};
/// let standardisation = Standardisation { mean: vec![0.], deviation: vec![1.] };
/// let layers = vec![HeadWeights { weight: vec![1.], bias: vec![0.] }];
/// let (name, source) = ("image".to_string(), "image.npy".to_string());
/// let image = Head { name, source, inputs: 1, dim: 1, standardisation, layers, residual: None, cache: None };
/// let text = Head { name: "text".to_string(), ..image.clone() };
/// let heads = Heads { heads: vec![image, text], log_scale: 2.5, epoch: 1 };
/// # let folder = std::env::temp_dir().join(format!("crossmodal-doc-heads-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder).unwrap();
/// # let path = folder.join("heads.safetensors");
/// heads.save(&path)?;
/// let loaded = Heads::load(&path)?;
/// assert_eq!((&loaded.of("text")?.layers[0].weight, loaded.epoch), (&vec![1.], 1));
/// # std::fs::remove_dir_all(&folder).unwrap();
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Heads {
    /// One for each modality.
    pub heads: Vec<Head>,
    /// `t`, the logarithm of the logit scale.
    pub log_scale: f64,
    /// The epoch, from 1.
    pub epoch: u32,
}

/// What says that a file holds heads.
const FORMAT: &str = "crossmodal heads 3";

/// Rows that are projected at once: 64 MiB of features or of projections, half of the smallest binding.
pub(super) fn rows_at_once(inputs: usize, dim: usize) -> usize {
    ((1 << 24) / inputs.max(dim).max(1)).max(1)
}

impl Head {
    /// Features `[rows, inputs]` in the shared space `[rows, dim]`, rows of length one.
    ///
    /// Waits for the device. Errors: the width is not the head's; the device's. Example: [`Head`].
    pub fn project(&self, device: &Device, features: &Features) -> Result<Features> {
        if features.cols != self.inputs {
            let expected = format!("{} features a row as head '{}' was trained on", self.inputs, self.name);
            return Err(Error::argument("project", "features", expected, features.cols));
        }
        if self.inputs == 0 || features.rows.checked_mul(features.cols) != Some(features.values.len()) {
            let expected = format!("{} x {} values", features.rows, self.inputs.max(1));
            return Err(Error::argument("project", "features", expected, features.values.len()));
        }
        let (mut parameters, layers) = (Parameters::default(), self.layers.clone());
        let network = Network::new(device, &mut parameters, "head", self.inputs, layers, self.residual)?;
        let mut values = Vec::with_capacity(features.rows * self.dim);
        let cache = self.cache.as_ref().map(|cache| cache.on(device, self.dim)).transpose()?;
        let pairs = self.cache.as_ref().map_or(0, |cache| cache.keys.len() / self.dim.max(1));
        for chunk in features.values.chunks(rows_at_once(self.inputs, self.dim.max(pairs)) * self.inputs) {
            let shape = [chunk.len() / self.inputs, self.inputs];
            let x = Tensor::from_vec(device, &shape, self.standardisation.apply(chunk))?;
            let tape = Tape::no_grad();
            let z = network.forward(&tape, &parameters.on(&tape), &tape.constant(&x), true)?;
            let z = cache.as_ref().map_or_else(|| Ok(z.value().clone()), |cache| cache.recall(z.value()))?;
            values.extend(z.to_vec::<f32>()?);
        }
        Ok(Features { rows: features.rows, cols: self.dim, values })
    }

    fn arrays(&self) -> Vec<(String, Array)> {
        let array = |shape: &[usize], data| Array { shape: shape.to_vec(), data };
        let Standardisation { mean, deviation } = &self.standardisation;
        let f64s = |values: &Vec<f64>| array(&[self.inputs], HostData::F64(values.clone()));
        let (side, mut width) = (&self.name, self.inputs);
        let mut arrays =
            vec![(format!("{side}.mean"), f64s(mean)), (format!("{side}.deviation"), f64s(deviation))];
        for (i, HeadWeights { weight, bias }) in self.layers.iter().enumerate() {
            let f32s = |shape: &[usize], values: &Vec<f32>| array(shape, HostData::F32(values.clone()));
            arrays.push((format!("{side}.{i}.weight"), f32s(&[width, bias.len()], weight)));
            arrays.push((format!("{side}.{i}.bias"), f32s(&[bias.len()], bias)));
            width = bias.len();
        }
        let numbers = |values: &[f64]| array(&[values.len()], HostData::F64(values.to_vec()));
        arrays.extend(self.residual.map(|r| (format!("{side}.residual"), numbers(&[r]))));
        if let Some(Cache { keys, values, alpha, beta }) = &self.cache {
            let pairs = |values: &Vec<f32>| {
                array(&[values.len() / self.dim, self.dim], HostData::F32(values.clone()))
            };
            arrays.push((format!("{side}.cache.keys"), pairs(keys)));
            arrays.push((format!("{side}.cache.values"), pairs(values)));
            arrays.push((format!("{side}.cache.alpha_beta"), numbers(&[*alpha, *beta])));
        }
        arrays
    }

    fn from_arrays(
        name: &str,
        arrays: &BTreeMap<String, Array>,
        metadata: &BTreeMap<String, String>,
    ) -> Option<Head> {
        let array = |own: &str| arrays.get(&format!("{name}.{own}"));
        let f32s = |name: &str| match &array(name)?.data {
            HostData::F32(values) => Some(values.clone()),
            _ => None,
        };
        let f64s = |name: &str| match &array(name)?.data {
            HostData::F64(values) => Some(values.clone()),
            _ => None,
        };
        let (mean, deviation) = (f64s("mean")?, f64s("deviation")?);
        let residual = f64s("residual").map(|values| values.first().copied().unwrap_or(f64::NAN));
        let (inputs, mut dim, mut layers) = (mean.len(), mean.len(), vec![]);
        while let Some(stored) = array(&format!("{}.weight", layers.len())) {
            let [rows, cols] = stored.shape[..] else { return None };
            let weight = f32s(&format!("{}.weight", layers.len()))?;
            let bias = f32s(&format!("{}.bias", layers.len()))?;
            if rows != dim || bias.len() != cols || cols == 0 {
                return None;
            }
            (dim, layers) = (cols, [layers, vec![HeadWeights { weight, bias }]].concat());
        }
        let cache = match array("cache.keys") {
            None => None,
            Some(_) => {
                let (keys, values) = (f32s("cache.keys")?, f32s("cache.values")?);
                let [alpha, beta] = f64s("cache.alpha_beta")?[..] else { return None };
                let whole = keys.len() == values.len() && keys.len() % dim == 0;
                Some(Cache { keys, values, alpha, beta }).filter(|_| whole)
            }
        };
        // One that is not finite would make every projection NaN without a word.
        let numbers = layers.iter().flat_map(|layer: &HeadWeights| layer.weight.iter().chain(&layer.bias));
        let finite = numbers.into_iter().all(|v| v.is_finite())
            && mean.iter().chain(&deviation).chain(&residual).all(|v| v.is_finite())
            && cache.iter().all(Cache::is_finite);
        let fits = deviation.len() == inputs && inputs > 0 && (residual.is_none() || dim == inputs);
        let (name, source) =
            (name.to_string(), metadata.get(&format!("{name}_source")).cloned().unwrap_or_default());
        let standardisation = Standardisation { mean, deviation };
        let head = Head { name, source, inputs, dim, standardisation, layers, residual, cache };
        (fits && finite).then_some(head)
    }
}

impl Heads {
    /// The head of a modality. Errors: there is none of that name. Example: [`Heads`].
    pub fn of(&self, name: &str) -> Result<&Head> {
        self.heads.iter().find(|head| head.name == name).ok_or_else(|| {
            let names: Vec<_> = self.heads.iter().map(|head| head.name.as_str()).collect();
            Error::argument("Heads", "name", format!("one of {}", names.join(", ")), name)
        })
    }

    /// Writes all heads, the scale, the standardisation, the inputs' names, sources and widths, and the epoch to a
    /// .safetensors file.
    ///
    /// Errors: the file's. The file is whole or not there. Example: [`Heads`].
    pub fn save(&self, path: &Path) -> Result<()> {
        let scale = Array { shape: vec![1], data: HostData::F64(vec![self.log_scale]) };
        let all = self.heads.iter().flat_map(Head::arrays);
        let arrays = all.chain([("log_scale".to_string(), scale)]).collect();
        let names: Vec<_> = self.heads.iter().map(|head| head.name.as_str()).collect();
        let about = |head: &Head| {
            let Head { name, source, inputs, .. } = head;
            [(format!("{name}_source"), source.clone()), (format!("{name}_width"), inputs.to_string())]
        };
        let fixed =
            [("format", FORMAT), ("modalities", &names.join(" ")), ("epoch", &self.epoch.to_string())];
        let fixed = fixed.map(|(key, value)| (key.to_string(), value.to_string()));
        write_safetensors(path, &arrays, &self.heads.iter().flat_map(about).chain(fixed).collect())
    }

    /// Reads what [`Heads::save`] wrote. Errors: the file's; it is not such a file. Example: [`Heads`].
    pub fn load(path: &Path) -> Result<Heads> {
        let (arrays, metadata) = read_safetensors(path)?;
        let heads = || {
            // Of another format its layers would not be found, and none is a head too.
            metadata.get("format").filter(|format| *format == FORMAT)?;
            let HostData::F64(scale) = &arrays.get("log_scale")?.data else { return None };
            let names = metadata.get("modalities")?.split(' ');
            Some(Heads {
                heads: names
                    .map(|name| Head::from_arrays(name, &arrays, &metadata))
                    .collect::<Option<_>>()?,
                log_scale: *scale.first()?,
                epoch: metadata.get("epoch")?.parse().ok()?,
            })
        };
        let one_space = |heads: &Heads| heads.heads.iter().all(|head| head.dim == heads.heads[0].dim);
        heads().filter(one_space).ok_or_else(|| {
            Error::file(
                path,
                "is not a file of trained, finite heads (heads.safetensors of `crossmodal align`)",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_that_are_not_finite_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("heads.safetensors");
        let standardisation = Standardisation { mean: vec![0.], deviation: vec![1.] };
        let layer = |weight, bias| vec![HeadWeights { weight: vec![weight], bias: vec![bias] }];
        let layers = layer(1., 0.);
        let (name, source) = ("left".to_string(), String::new());
        let good =
            Head { name, source, inputs: 1, dim: 1, standardisation, layers, residual: None, cache: None };
        let load = |left: Head| {
            let right = Head { name: "right".to_string(), ..good.clone() };
            Heads { heads: vec![left, right], log_scale: 1., epoch: 1 }.save(&path).unwrap();
            Heads::load(&path)
        };
        assert!(load(good.clone()).is_ok());
        // Of another format the layers would not be found; sides of two widths are no shared space.
        let (arrays, metadata) = read_safetensors(&path).unwrap();
        let format = ("format".to_string(), "crossmodal heads 2".to_string());
        write_safetensors(&path, &arrays, &metadata.into_iter().chain([format]).collect()).unwrap();
        assert!(Heads::load(&path).is_err());
        let wide = vec![HeadWeights { weight: vec![1.; 2], bias: vec![0.; 2] }];
        assert!(load(Head { layers: wide, dim: 2, ..good.clone() }).is_err());
        let infinite = Standardisation { mean: vec![f64::INFINITY], deviation: vec![1.] };
        for bad in [
            Head { layers: layer(f32::NAN, 0.), ..good.clone() },
            Head { layers: layer(1., f32::INFINITY), ..good.clone() },
            Head { residual: Some(f64::NAN), ..good.clone() },
            Head {
                cache: Some(Cache { keys: vec![1.], values: vec![f32::NAN], alpha: 1., beta: 1. }),
                ..good.clone()
            },
            Head {
                cache: Some(Cache { keys: vec![1.], values: vec![1.], alpha: 1., beta: f64::NAN }),
                ..good.clone()
            },
            Head { standardisation: infinite, ..good.clone() },
        ] {
            assert!(load(bad).unwrap_err().to_string().contains("finite heads"));
        }
    }
}
