//! What checkpoints hold of an optimiser.

use super::{AdamW, Sgd};
use crate::tensor::Tensor;

/// What an optimiser keeps from step to step. Only an [`Optimiser`] makes one.
///
/// ```
/// use crossmodal::{Device, Tensor, nn::Parameters, optim::{Optimiser, Sgd}};
/// let mut parameters = Parameters::default();
/// parameters.add("x", Tensor::scalar(&Device::Cpu, 1f32)?, true)?;
/// let mut sgd = Sgd::new(&parameters)?;
/// let before = sgd.state();
/// sgd.step(&mut parameters, &[Some(Tensor::scalar(&Device::Cpu, 0.5f32)?)], 0.1)?;
/// sgd.set_state(before);
/// assert_eq!(sgd.steps, 0);
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct OptimiserState {
    pub(super) steps: u32,
    /// What a parameter's tensors are called in checkpoints.
    pub(super) names: &'static [&'static str],
    /// For every parameter, a tensor for each name.
    pub(super) tensors: Vec<Vec<Tensor>>,
}

/// An optimiser that a checkpoint can hold: [`AdamW`] or [`Sgd`]. Example: [`OptimiserState`].
pub trait Optimiser {
    /// The state as it is now; later steps do not change it. Example: [`OptimiserState`].
    fn state(&self) -> OptimiserState;

    /// Goes back to a state of an optimiser of the same kind and model. Panics if it is of another kind. Example:
    /// [`OptimiserState`].
    fn set_state(&mut self, state: OptimiserState);
}

impl Optimiser for AdamW {
    fn state(&self) -> OptimiserState {
        let tensors = self.moments.iter().map(|moments| moments.to_vec()).collect();
        OptimiserState { steps: self.steps, names: &["first_moment", "second_moment"], tensors }
    }

    fn set_state(&mut self, state: OptimiserState) {
        let pair = |moments: Vec<Tensor>| moments.try_into().expect("the state of an AdamW");
        (self.steps, self.moments) = (state.steps, state.tensors.into_iter().map(pair).collect());
    }
}

impl Optimiser for Sgd {
    fn state(&self) -> OptimiserState {
        let tensors = self.velocity.iter().map(|velocity| vec![velocity.clone()]).collect();
        OptimiserState { steps: self.steps, names: &["velocity"], tensors }
    }

    fn set_state(&mut self, state: OptimiserState) {
        let one = |velocity: Vec<Tensor>| <[Tensor; 1]>::try_from(velocity).expect("the state of an Sgd");
        self.velocity = state.tensors.into_iter().flat_map(one).collect();
        self.steps = state.steps;
    }
}
