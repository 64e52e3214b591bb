//! Stochastic gradient descent.

use super::adamw::check_gradients;
use crate::error::Result;
use crate::nn::{Parameter, Parameters};
use crate::ops::{add, scale, sub};
use crate::tensor::Tensor;

/// Stochastic gradient descent with momentum: `v ← μ v + g + λ w`, `w ← w − η v`, from `v = 0`.
///
/// ```
/// use crossmodal::{Device, Tensor, nn::Parameters, optim::Sgd};
/// let mut parameters = Parameters::default();
/// let id = parameters.add("x", Tensor::scalar(&Device::Cpu, 1f32)?, true)?;
/// let gradient = Tensor::scalar(&Device::Cpu, 0.5f32)?;
/// Sgd::new(&parameters)?.step(&mut parameters, &[Some(gradient)], 0.1)?;
/// assert!((parameters.get(id).value.item()? - 0.95).abs() < 1e-6);
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Sgd {
    /// `μ`: 0.
    pub momentum: f64,
    /// `λ` of the parameters that decay: 0.
    pub weight_decay: f64,
    /// Steps done.
    pub steps: u32,
    /// `v` of every parameter.
    pub(super) velocity: Vec<Tensor>,
}

impl Sgd {
    /// No momentum, no decay; parameters added later are not trained. Errors: the device's. Example: [`Sgd`].
    pub fn new(parameters: &Parameters) -> Result<Sgd> {
        let zeros = |p: &Parameter| Tensor::zeros(p.value.device(), p.value.shape(), p.value.dtype());
        let velocity = parameters.iter().map(zeros).collect::<Result<_>>()?;
        Ok(Sgd { momentum: 0., weight_decay: 0., steps: 0, velocity })
    }

    /// One step with a learning rate. A parameter without a gradient stays as it is.
    ///
    /// Errors: not as many gradients as parameters; the operations', after which earlier parameters have made
    /// the step. Example: [`Sgd`].
    pub fn step(
        &mut self,
        parameters: &mut Parameters,
        gradients: &[Option<Tensor>],
        learning_rate: f64,
    ) -> Result<()> {
        check_gradients("Sgd", parameters, gradients, self.velocity.len())?;
        for ((parameter, gradient), velocity) in parameters.iter_mut().zip(gradients).zip(&mut self.velocity)
        {
            let Some(gradient) = gradient else { continue };
            let mut new = gradient.clone();
            if parameter.decays && self.weight_decay != 0. {
                new = add(&new, &scale(&parameter.value, self.weight_decay)?)?;
            }
            if self.momentum != 0. {
                new = add(&new, &scale(velocity, self.momentum)?)?;
            }
            parameter.value = sub(&parameter.value, &scale(&new, learning_rate)?)?;
            *velocity = new;
        }
        self.steps += 1;
        Ok(())
    }
}
