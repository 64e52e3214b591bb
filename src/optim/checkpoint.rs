//! Training state in a .safetensors file: parameters, moments, the number of steps. Resuming continues with the same bits.

use super::AdamW;
use crate::error::{Error, Result};
use crate::io::{Array, read_safetensors, write_safetensors};
use crate::nn::Parameters;
use crate::tensor::Tensor;
use std::collections::BTreeMap;
use std::path::Path;

/// Writes parameters and optimiser state, and whatever the caller adds: `extra` arrays and `metadata`.
///
/// The file is whole or not there: it is written beside its place and renamed. Waits for the device. Errors:
/// the file's; a name in `extra` that is taken by `parameter.NAME`, `first_moment.NAME` or
/// `second_moment.NAME` of a parameter.
///
/// ```
/// use crossmodal::{Device, Tensor, nn::Parameters, optim::{AdamW, load_checkpoint, save_checkpoint}};
/// # use std::collections::BTreeMap;
/// let mut parameters = Parameters::default();
/// let id = parameters.add("x", Tensor::scalar(&Device::Cpu, 1f32)?, true)?;
/// let mut optimiser = AdamW::new(&parameters)?;
/// # let folder = std::env::temp_dir().join(format!("crossmodal-doc-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder).unwrap();
/// # let path = folder.join("checkpoint.safetensors");
/// save_checkpoint(&path, &parameters, &optimiser, BTreeMap::new(), BTreeMap::new())?;
/// parameters.get_mut(id).value = Tensor::scalar(&Device::Cpu, 5f32)?;
/// load_checkpoint(&path, &mut parameters, &mut optimiser)?;
/// assert_eq!(parameters.get(id).value.item()?, 1.);
/// # std::fs::remove_dir_all(&folder).unwrap();
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn save_checkpoint(
    path: &Path,
    parameters: &Parameters,
    optimiser: &AdamW,
    extra: BTreeMap<String, Array>,
    mut metadata: BTreeMap<String, String>,
) -> Result<()> {
    check_states("save_checkpoint", parameters, optimiser)?;
    let mut arrays = extra;
    for (parameter, [first, second]) in parameters.iter().zip(&optimiser.moments) {
        for (prefix, tensor) in
            [("parameter", &parameter.value), ("first_moment", first), ("second_moment", second)]
        {
            let name = format!("{prefix}.{}", parameter.name);
            let array = Array { shape: tensor.shape().to_vec(), data: tensor.to_host()? };
            if arrays.insert(name.clone(), array).is_some() {
                return Err(Error::argument("save_checkpoint", "extra", "names that no parameter has", name));
            }
        }
    }
    metadata.insert("optimiser_steps".into(), optimiser.steps.to_string());
    write_safetensors(path, &arrays, &metadata)
}

/// Reads what [`save_checkpoint`] wrote into a model and its optimiser, and gives back the other arrays and the metadata.
///
/// Errors: the file's; a parameter that is missing or of another shape or type. The model is changed only if all fits.
/// Example: [`save_checkpoint`].
pub fn load_checkpoint(
    path: &Path,
    parameters: &mut Parameters,
    optimiser: &mut AdamW,
) -> Result<(BTreeMap<String, Array>, BTreeMap<String, String>)> {
    check_states("load_checkpoint", parameters, optimiser)?;
    let (mut arrays, metadata) = read_safetensors(path)?;
    let mut take = |prefix: &str, name: &str, like: &Tensor| {
        let name = format!("{prefix}.{name}");
        let array = arrays.remove(&name).ok_or_else(|| Error::file(path, format!("has no tensor {name}")))?;
        if array.shape != like.shape() || array.data.dtype() != like.dtype() {
            let got = format!("{} {:?}", array.data.dtype(), array.shape);
            let expected = format!("{} {:?}", like.dtype(), like.shape());
            return Err(Error::file(path, format!("{name} is {got}, expected {expected}")));
        }
        Tensor::from_host(like.device(), like.shape(), array.data)
    };
    let mut loaded = vec![];
    for parameter in parameters.iter() {
        let like = &parameter.value;
        let value = take("parameter", &parameter.name, like)?;
        loaded.push((
            value,
            [take("first_moment", &parameter.name, like)?, take("second_moment", &parameter.name, like)?],
        ));
    }
    let steps = metadata.get("optimiser_steps").and_then(|steps| steps.parse().ok());
    optimiser.steps = steps.ok_or_else(|| Error::file(path, "has no optimiser_steps in its metadata"))?;
    for ((parameter, moments), (value, new)) in parameters.iter_mut().zip(&mut optimiser.moments).zip(loaded)
    {
        (parameter.value, *moments) = (value, new);
    }
    Ok((arrays, metadata))
}

fn check_states(op: &'static str, parameters: &Parameters, optimiser: &AdamW) -> Result<()> {
    if parameters.len() == optimiser.moments.len() {
        return Ok(());
    }
    let expected = format!("moments for {} parameters", parameters.len());
    Err(Error::argument(op, "optimiser", expected, optimiser.moments.len()))
}
