//! Training state in a .safetensors file: parameters, the optimiser's state, the number of steps. Resuming continues with the
//! same bits.

use super::{Optimiser, OptimiserState};
use crate::error::{Error, Result};
use crate::io::{Array, read_safetensors, write_safetensors};
use crate::nn::Parameters;
use crate::tensor::Tensor;
use std::collections::BTreeMap;
use std::path::Path;

/// Writes parameters and optimiser state, and whatever the caller adds: `extra` arrays and `metadata`.
///
/// A parameter's tensors are named `parameter.NAME` and, with AdamW, `first_moment.NAME` and `second_moment.NAME`,
/// with SGD `velocity.NAME`; the number of steps is `optimiser_steps` in the metadata. Rates and decays are not
/// written: they are the caller's. The file is whole or not there: it is written beside its place and renamed.
/// Waits for the device. Errors: the file's; a name in `extra` that is one of these.
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
    optimiser: &impl Optimiser,
    extra: BTreeMap<String, Array>,
    mut metadata: BTreeMap<String, String>,
) -> Result<()> {
    let state = state_for("save_checkpoint", parameters, optimiser)?;
    let mut arrays = extra;
    for (parameter, own) in parameters.iter().zip(&state.tensors) {
        let named = std::iter::once((&"parameter", &parameter.value)).chain(state.names.iter().zip(own));
        for (prefix, tensor) in named {
            let name = format!("{prefix}.{}", parameter.name);
            let array = Array { shape: tensor.shape().to_vec(), data: tensor.to_host()? };
            if arrays.insert(name.clone(), array).is_some() {
                return Err(Error::argument("save_checkpoint", "extra", "names that no parameter has", name));
            }
        }
    }
    metadata.insert("optimiser_steps".into(), state.steps.to_string());
    write_safetensors(path, &arrays, &metadata)
}

/// Reads what [`save_checkpoint`] wrote into a model and its optimiser, and gives back the other arrays and the metadata.
///
/// Errors: the file's; a tensor of a parameter or of the optimiser's state that is missing, as in the checkpoint of
/// another optimiser, or of another shape or type. The model is changed only if all fits. Example: [`save_checkpoint`].
pub fn load_checkpoint(
    path: &Path,
    parameters: &mut Parameters,
    optimiser: &mut impl Optimiser,
) -> Result<(BTreeMap<String, Array>, BTreeMap<String, String>)> {
    let mut state = state_for("load_checkpoint", parameters, optimiser)?;
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
    let mut values = vec![];
    for (parameter, own) in parameters.iter().zip(&mut state.tensors) {
        values.push(take("parameter", &parameter.name, &parameter.value)?);
        for (prefix, tensor) in state.names.iter().zip(own) {
            *tensor = take(prefix, &parameter.name, &parameter.value)?;
        }
    }
    let steps = metadata.get("optimiser_steps").and_then(|steps| steps.parse().ok());
    state.steps = steps.ok_or_else(|| Error::file(path, "has no optimiser_steps in its metadata"))?;
    optimiser.set_state(state);
    parameters.iter_mut().zip(values).for_each(|(parameter, value)| parameter.value = value);
    Ok((arrays, metadata))
}

fn state_for(
    op: &'static str,
    parameters: &Parameters,
    optimiser: &impl Optimiser,
) -> Result<OptimiserState> {
    let state = optimiser.state();
    if parameters.len() == state.tensors.len() {
        return Ok(state);
    }
    let expected = format!("state for {} parameters", parameters.len());
    Err(Error::argument(op, "optimiser", expected, state.tensors.len()))
}
