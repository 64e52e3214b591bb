//! Optimisers, schedules, the logit scale's clamp, and checkpoints.

mod adamw;
#[cfg(feature = "io")]
mod checkpoint;
mod schedule;
mod sgd;

pub use adamw::AdamW;
#[cfg(feature = "io")]
pub use checkpoint::{load_checkpoint, save_checkpoint};
pub use schedule::CosineSchedule;
pub use sgd::Sgd;

use crate::error::Result;
use crate::nn::{ParameterId, Parameters};
use crate::ops::{Unary, unary};

/// `ln 100`: the largest logarithm of a logit scale.
pub const MAX_LOG_SCALE: f64 = 4.605_170_185_988_092;

/// Clamps the logarithm of a logit scale to `[0, ln 100]`. Call it after the optimiser's step: a clamp in the forward pass
/// would kill the gradient.
pub fn clamp_log_scale(parameters: &mut Parameters, log_scale: ParameterId) -> Result<()> {
    let parameter = parameters.get_mut(log_scale);
    parameter.value = unary(Unary::Clamp(0., MAX_LOG_SCALE), &parameter.value)?;
    Ok(())
}
