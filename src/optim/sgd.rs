//! Stochastic gradient descent.

use super::adamw::check_gradients;
use crate::error::Result;
use crate::nn::Parameters;
use crate::ops::{add, scale, sub};
use crate::tensor::Tensor;

/// Stochastic gradient descent with momentum: `v ← μ v + g + λ w`, `w ← w − η v`.
///
/// ```
/// use crossmodal::{Device, Tensor, nn::Parameters, optim::Sgd};
/// let mut parameters = Parameters::default();
/// let id = parameters.add("x", Tensor::scalar(&Device::Cpu, 1f32)?, true)?;
/// let gradient = Tensor::scalar(&Device::Cpu, 0.5f32)?;
/// Sgd::new(&parameters).step(&mut parameters, &[Some(gradient)], 0.1)?;
/// assert!((parameters.get(id).value.item()? - 0.95).abs() < 1e-6);
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Sgd {
    /// `μ`: 0.
    pub momentum: f64,
    /// `λ` of the parameters that decay: 0.
    pub weight_decay: f64,
    velocity: Vec<Option<Tensor>>,
}

impl Sgd {
    /// No momentum, no decay; parameters added later are not trained. Example: [`Sgd`].
    pub fn new(parameters: &Parameters) -> Sgd {
        Sgd { momentum: 0., weight_decay: 0., velocity: vec![None; parameters.len()] }
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
            if let Some(old) = velocity.as_ref().filter(|_| self.momentum != 0.) {
                new = add(&new, &scale(old, self.momentum)?)?;
            }
            parameter.value = sub(&parameter.value, &scale(&new, learning_rate)?)?;
            *velocity = Some(new);
        }
        Ok(())
    }
}
