//! What a model learns, by name.

use crate::autograd::{Gradients, Tape, Var};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// A tensor that is learned.
///
/// ```
/// use crossmodal::{Device, Tensor, nn::Parameters};
/// let mut parameters = Parameters::default();
/// let id = parameters.add("bias", Tensor::scalar(&Device::Cpu, 0f32)?, false)?;
/// let parameter = parameters.get(id);
/// assert_eq!((parameter.name.as_str(), parameter.value.item()?, parameter.decays), ("bias", 0., false));
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Parameter {
    /// Its name in checkpoints.
    pub name: String,
    /// Its value.
    pub value: Tensor,
    /// Whether weight decay applies to it: weights yes, biases and scales no.
    pub decays: bool,
}

/// A parameter's number in its [`Parameters`]. Example: [`Parameter`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParameterId(usize);

/// The parameters of a model, in the order in which its layers asked for them.
///
/// ```
/// use crossmodal::{Device, Tensor, nn::Parameters};
/// let mut parameters = Parameters::default();
/// let scalar = |value: f32| Tensor::scalar(&Device::Cpu, value);
/// let id = parameters.add("scale", scalar(1.)?, false)?;
/// assert!(parameters.add("scale", scalar(1.)?, false).is_err());
/// parameters.get_mut(id).value = scalar(2.)?;
/// parameters.iter_mut().for_each(|parameter| parameter.decays = true);
/// assert!(parameters.iter().all(|parameter| parameter.decays));
/// assert_eq!((parameters.len(), parameters.is_empty(), parameters.get(id).value.item()?), (1, false, 2.));
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Parameters(Vec<Parameter>);

/// Parameters as leaves of a tape.
///
/// ```
/// use crossmodal::autograd::Tape;
/// use crossmodal::{Device, Tensor, nn::Parameters, ops::{Binary, binary::BINARY}};
/// let mut parameters = Parameters::default();
/// let id = parameters.add("x", Tensor::scalar(&Device::Cpu, 3f32)?, false)?;
/// let tape = Tape::new();
/// let bound = parameters.on(&tape);
/// let square = tape.apply(&BINARY, Binary::Mul, &[bound.get(id), bound.get(id)])?;
/// let gradients = bound.gradients(&tape.backward(&square)?);
/// assert_eq!(gradients[0].as_ref().unwrap().item()?, 6.);
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug)]
pub struct Bound(Vec<Var>);

impl Bound {
    /// A parameter on the tape. Panics if the number is of another, larger model. Example: [`Bound`].
    pub fn get(&self, id: ParameterId) -> &Var {
        &self.0[id.0]
    }

    /// The gradient of every parameter, in order; none where the loss does not depend on it. Example:
    /// [`Bound`].
    pub fn gradients(&self, gradients: &Gradients) -> Vec<Option<Tensor>> {
        self.0.iter().map(|leaf| gradients.get(leaf).cloned()).collect()
    }
}

impl Parameters {
    /// Adds a parameter. Errors: the name is taken. Example: [`Parameters`].
    pub fn add(&mut self, name: impl Into<String>, value: Tensor, decays: bool) -> Result<ParameterId> {
        let name = name.into();
        if self.0.iter().any(|parameter| parameter.name == name) {
            return Err(Error::argument("Parameters", "name", "a name of its own", name));
        }
        self.0.push(Parameter { name, value, decays });
        Ok(ParameterId(self.0.len() - 1))
    }

    /// The parameters as leaves of a tape, or as constants of a tape without gradients. Example: [`Bound`].
    pub fn on(&self, tape: &Tape) -> Bound {
        Bound(self.0.iter().map(|parameter| tape.leaf(&parameter.value)).collect())
    }

    /// A parameter. Panics if the number is of another, larger model. Example: [`Parameters`].
    pub fn get(&self, id: ParameterId) -> &Parameter {
        &self.0[id.0]
    }

    /// A parameter, to be changed. Panics as [`Parameters::get`]. Example: [`Parameters`].
    pub fn get_mut(&mut self, id: ParameterId) -> &mut Parameter {
        &mut self.0[id.0]
    }

    /// All of them in order. Example: [`Parameters`].
    pub fn iter(&self) -> std::slice::Iter<'_, Parameter> {
        self.0.iter()
    }

    /// All of them in order, to be changed. Example: [`Parameters`].
    pub fn iter_mut(&mut self) -> std::slice::IterMut<'_, Parameter> {
        self.0.iter_mut()
    }

    /// How many tensors there are. Example: [`Parameters`].
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none. Example: [`Parameters`].
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
