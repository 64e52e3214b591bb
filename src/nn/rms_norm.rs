//! RMS norm as a layer.

use super::layer_norm::check_width;
use super::{Bound, ParameterId, Parameters};
use crate::autograd::{Tape, Var};
use crate::device::Device;
use crate::error::Result;
use crate::ops::layer_norm::RMS_NORM;
use crate::tensor::Tensor;

/// `y = x / √(mean of squares + ε) · w` of each row of `x [..., width]`, `w [width]` (Zhang and Sennrich, 2019): layer norm
/// without the mean and the bias.
///
/// ```
/// use crossmodal::autograd::Tape;
/// use crossmodal::{Device, Tensor, nn::{Parameters, RmsNorm}};
/// let mut parameters = Parameters::default();
/// let norm = RmsNorm::new(&Device::Cpu, &mut parameters, "norm", 2)?;
/// let tape = Tape::no_grad();
/// let x = tape.constant(&Tensor::from_slice(&Device::Cpu, &[1, 2], &[1f32, -7.])?);
/// let y = norm.forward(&tape, &parameters.on(&tape), &x)?.value().to_vec::<f32>()?;
/// assert!((y[0] - 0.2).abs() < 1e-6 && (y[1] + 1.4).abs() < 1e-6);
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RmsNorm {
    /// `w`.
    pub weight: ParameterId,
    /// `ε`: 1e-6.
    pub eps: f64,
}

impl RmsNorm {
    /// A layer with `w = 1`, in f32, which does not decay; its parameter is `name.weight`.
    ///
    /// Errors: the width is 0; the name is taken; the device's.
    ///
    /// ```
    /// use crossmodal::{Device, nn::{Parameters, RmsNorm}};
    /// let mut parameters = Parameters::default();
    /// let norm = RmsNorm::new(&Device::Cpu, &mut parameters, "norm", 2)?;
    /// let weight = parameters.get(norm.weight);
    /// assert_eq!((&*weight.name, weight.value.to_vec::<f32>()?, weight.decays), ("norm.weight", vec![1., 1.], false));
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    pub fn new(device: &Device, parameters: &mut Parameters, name: &str, width: usize) -> Result<RmsNorm> {
        check_width("RmsNorm", width)?;
        Self::from_weights(device, parameters, name, vec![1.; width])
    }

    /// A layer with a given weight. Errors: the name is taken; the device's.
    ///
    /// ```
    /// use crossmodal::{Device, nn::{Parameters, RmsNorm}};
    /// let mut parameters = Parameters::default();
    /// let norm = RmsNorm::from_weights(&Device::Cpu, &mut parameters, "norm", vec![0.5; 3])?;
    /// assert_eq!(parameters.get(norm.weight).value.shape(), [3]);
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    pub fn from_weights(
        device: &Device,
        parameters: &mut Parameters,
        name: &str,
        weight: Vec<f32>,
    ) -> Result<RmsNorm> {
        let weight = Tensor::from_vec(device, &[weight.len()], weight)?;
        Ok(RmsNorm { weight: parameters.add(format!("{name}.weight"), weight, false)?, eps: 1e-6 })
    }

    /// The layer applied. Errors: the operation's: `x` has another width or type. Example: [`RmsNorm`].
    pub fn forward(&self, tape: &Tape, parameters: &Bound, x: &Var) -> Result<Var> {
        tape.apply(&RMS_NORM, self.eps, &[x, parameters.get(self.weight)])
    }
}
