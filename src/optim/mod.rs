//! Optimisers, schedules, the logit scale's clamp, and checkpoints.
//!
//! ```
//! use crossmodal::{Device, Tensor, nn::Parameters, optim::{AdamW, CosineSchedule}};
//! let mut parameters = Parameters::default();
//! let id = parameters.add("x", Tensor::scalar(&Device::Cpu, 1f32)?, true)?;
//! let mut optimiser = AdamW::new(&parameters)?;
//! optimiser.weight_decay = 0.1;
//! let schedule = CosineSchedule { base: 1e-3, warmup_steps: 0, total_steps: 100 };
//! let gradient = Tensor::scalar(&Device::Cpu, 0.5f32)?; // from Bound::gradients
//! optimiser.step(&mut parameters, &[Some(gradient)], schedule.at(optimiser.steps))?;
//! assert!((parameters.get(id).value.item()? - (1. - 1e-3 - 1e-4)).abs() < 1e-6);
//! # Ok::<(), crossmodal::Error>(())
//! ```

mod adamw;
#[cfg(all(feature = "io", not(target_arch = "wasm32")))]
mod checkpoint;
mod schedule;
mod sgd;
#[cfg(all(feature = "io", not(target_arch = "wasm32")))]
mod state;

pub use adamw::AdamW;
#[cfg(all(feature = "io", not(target_arch = "wasm32")))]
pub use checkpoint::{load_checkpoint, save_checkpoint};
pub use schedule::CosineSchedule;
pub use sgd::Sgd;
#[cfg(all(feature = "io", not(target_arch = "wasm32")))]
pub use state::{Optimiser, OptimiserState};

use crate::error::Result;
use crate::nn::{ParameterId, Parameters};
use crate::ops::{Unary, unary};

/// `ln 100`: the largest logarithm of a logit scale.
///
/// ```
/// assert!((crossmodal::optim::MAX_LOG_SCALE.exp() - 100.).abs() < 1e-12);
/// ```
pub const MAX_LOG_SCALE: f64 = 4.605_170_185_988_092;

/// Clamps the logarithm of a logit scale to `[0, ln 100]`. Call it after the optimiser's step: a clamp in the forward pass
/// would kill the gradient. Errors: the operation's.
///
/// ```
/// use crossmodal::{Device, Tensor, nn::Parameters, optim::{MAX_LOG_SCALE, clamp_log_scale}};
/// let mut parameters = Parameters::default();
/// let id = parameters.add("log_scale", Tensor::scalar(&Device::Cpu, 7f64)?, false)?;
/// clamp_log_scale(&mut parameters, id)?;
/// assert_eq!(parameters.get(id).value.item()?, MAX_LOG_SCALE);
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn clamp_log_scale(parameters: &mut Parameters, log_scale: ParameterId) -> Result<()> {
    let parameter = parameters.get_mut(log_scale);
    parameter.value = unary(Unary::Clamp(0., MAX_LOG_SCALE), &parameter.value)?;
    Ok(())
}
