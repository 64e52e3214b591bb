//! Layer norm as a layer.

use super::{Bound, ParameterId, Parameters};
use crate::autograd::{Tape, Var};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::ops::layer_norm::LAYER_NORM;
use crate::tensor::Tensor;

/// `y = (x − mean) / √(variance + ε) · w + b` of each row of `x [..., width]`, `w` and `b [width]` (Ba et al., 2016).
///
/// ```
/// use crossmodal::autograd::Tape;
/// use crossmodal::{Device, Tensor, nn::{LayerNorm, Parameters}};
/// let mut parameters = Parameters::default();
/// let norm = LayerNorm::new(&Device::Cpu, &mut parameters, "norm", 2)?;
/// let tape = Tape::no_grad();
/// let x = tape.constant(&Tensor::from_slice(&Device::Cpu, &[1, 2], &[1001f32, 1003.])?);
/// let y = norm.forward(&tape, &parameters.on(&tape), &x)?.value().to_vec::<f32>()?;
/// assert!((y[0] + 1.).abs() < 1e-5 && (y[1] - 1.).abs() < 1e-5);
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerNorm {
    /// `w`.
    pub weight: ParameterId,
    /// `b`.
    pub bias: ParameterId,
    /// `ε`: 1e-5.
    pub eps: f64,
}

impl LayerNorm {
    /// A layer with `w = 1` and `b = 0`, in f32, neither of which decays; parameters `name.weight` and `name.bias`.
    ///
    /// Errors: the width is 0; the names are taken; the device's.
    ///
    /// ```
    /// use crossmodal::{Device, nn::{LayerNorm, Parameters}};
    /// let mut parameters = Parameters::default();
    /// let norm = LayerNorm::new(&Device::Cpu, &mut parameters, "norm", 2)?;
    /// assert_eq!(parameters.get(norm.weight).value.to_vec::<f32>()?, [1., 1.]);
    /// assert_eq!((&*parameters.get(norm.bias).name, parameters.get(norm.bias).decays), ("norm.bias", false));
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    pub fn new(device: &Device, parameters: &mut Parameters, name: &str, width: usize) -> Result<LayerNorm> {
        check_width("LayerNorm", width)?;
        Self::from_weights(device, parameters, name, vec![1.; width], vec![0.; width])
    }

    /// A layer with given weight and bias, each of the width. Errors: their lengths differ; the names are taken; the device's.
    ///
    /// ```
    /// use crossmodal::{Device, nn::{LayerNorm, Parameters}};
    /// let mut parameters = Parameters::default();
    /// assert!(LayerNorm::from_weights(&Device::Cpu, &mut parameters, "a", vec![1.; 3], vec![0.; 3]).is_ok());
    /// assert!(LayerNorm::from_weights(&Device::Cpu, &mut parameters, "b", vec![1.; 3], vec![0.; 2]).is_err());
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    pub fn from_weights(
        device: &Device,
        parameters: &mut Parameters,
        name: &str,
        weight: Vec<f32>,
        bias: Vec<f32>,
    ) -> Result<LayerNorm> {
        let width = weight.len();
        let (weight, bias) =
            (Tensor::from_vec(device, &[width], weight)?, Tensor::from_vec(device, &[width], bias)?);
        Ok(LayerNorm {
            weight: parameters.add(format!("{name}.weight"), weight, false)?,
            bias: parameters.add(format!("{name}.bias"), bias, false)?,
            eps: 1e-5,
        })
    }

    /// The layer applied. Errors: the operation's: `x` has another width or type. Example: [`LayerNorm`].
    pub fn forward(&self, tape: &Tape, parameters: &Bound, x: &Var) -> Result<Var> {
        let inputs = [x, parameters.get(self.weight), parameters.get(self.bias)];
        tape.apply(&LAYER_NORM, self.eps, &inputs)
    }
}

pub(super) fn check_width(layer: &'static str, width: usize) -> Result<()> {
    if width == 0 {
        return Err(Error::argument(layer, "width", "at least one column", width));
    }
    Ok(())
}
