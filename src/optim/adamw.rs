//! AdamW.

use crate::error::{Error, Result};
use crate::nn::{Parameter, Parameters};
use crate::ops::{AdamwStep, adamw};
use crate::tensor::Tensor;

/// The state of AdamW (Loshchilov and Hutter, 2019) for one model.
///
/// ```
/// use crossmodal::{Device, Tensor, autograd::Tape, nn::Parameters, ops::{Binary, binary::BINARY}, optim::AdamW};
/// let mut parameters = Parameters::default();
/// let id = parameters.add("x", Tensor::scalar(&Device::Cpu, 2f32)?, false)?;
/// let mut optimiser = AdamW::new(&parameters)?;
/// for _ in 0..200 {
///     let tape = Tape::new();
///     let bound = parameters.on(&tape);
///     let x = bound.get(id);
///     let loss = tape.apply(&BINARY, Binary::Mul, &[x, x])?;
///     let gradients = bound.gradients(&tape.backward(&loss)?);
///     optimiser.step(&mut parameters, &gradients, 0.05)?;
/// }
/// assert!(parameters.get(id).value.item()?.abs() < 0.05);
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct AdamW {
    /// `β₁`, the decay of the first moment: 0.9.
    pub beta1: f64,
    /// `β₂`, the decay of the second moment: 0.999.
    pub beta2: f64,
    /// `ε`: 1e-8.
    pub eps: f64,
    /// The decoupled decay of the parameters that decay: 0.
    pub weight_decay: f64,
    /// Steps done.
    pub steps: u32,
    /// The first and second moment of every parameter.
    pub(super) moments: Vec<[Tensor; 2]>,
}

impl AdamW {
    /// Moments of zero for every parameter, and the usual constants; parameters added later are not trained.
    /// Errors: the device's. Example: [`AdamW`].
    pub fn new(parameters: &Parameters) -> Result<AdamW> {
        let zeros = |p: &Parameter| Tensor::zeros(p.value.device(), p.value.shape(), p.value.dtype());
        let moments = parameters.iter().map(|p| Ok([zeros(p)?, zeros(p)?])).collect::<Result<_>>()?;
        Ok(AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0., steps: 0, moments })
    }

    /// One step with a learning rate. A parameter without a gradient stays as it is.
    ///
    /// Errors: not as many gradients as parameters; those of [`adamw()`], after which earlier parameters have
    /// made the step. Example: [`AdamW`].
    pub fn step(
        &mut self,
        parameters: &mut Parameters,
        gradients: &[Option<Tensor>],
        learning_rate: f64,
    ) -> Result<()> {
        check_gradients("AdamW", parameters, gradients, self.moments.len())?;
        let count = self.steps + 1;
        for ((parameter, gradient), moments) in parameters.iter_mut().zip(gradients).zip(&mut self.moments) {
            let Some(gradient) = gradient else { continue };
            let step = AdamwStep {
                learning_rate,
                beta1: self.beta1,
                beta2: self.beta2,
                eps: self.eps,
                weight_decay: if parameter.decays { self.weight_decay } else { 0. },
                step: count,
            };
            let [first, second] = moments;
            adamw(&step, &mut parameter.value, gradient, first, second)?;
        }
        self.steps = count;
        Ok(())
    }
}

/// Refuses, before anything moves, gradients that do not fit and parameters that the optimiser has no state for.
pub(super) fn check_gradients(
    op: &'static str,
    parameters: &Parameters,
    gradients: &[Option<Tensor>],
    states: usize,
) -> Result<()> {
    if states != parameters.len() {
        let expected = format!("the {states} of the model it was made for");
        return Err(Error::argument(op, "parameters", expected, parameters.len()));
    }
    if gradients.len() != parameters.len() {
        let expected = format!("one for each of {} parameters", parameters.len());
        return Err(Error::argument(op, "gradients", expected, gradients.len()));
    }
    for (parameter, gradient) in parameters.iter().zip(gradients) {
        let (value, Some(gradient)) = (&parameter.value, gradient) else { continue };
        if gradient.shape() != value.shape() || gradient.dtype() != value.dtype() {
            let expected = format!("{} {:?} for {}", value.dtype(), value.shape(), parameter.name);
            return Err(Error::argument(
                op,
                "gradients",
                expected,
                format!("{} {:?}", gradient.dtype(), gradient.shape()),
            ));
        }
    }
    Ok(())
}
