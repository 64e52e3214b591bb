//! A cache of training pairs behind a head: what is near in training tells what belongs, without training.

use crate::device::Device;
use crate::error::Result;
use crate::ops::{MatmulOptions, Unary, add, exp, l2_normalize, matmul, unary};
use crate::tensor::Tensor;

/// Keys and values of a cache: the training rows of this modality and of the other, both in the shared space, rows of length one.
///
/// A query `z` of length one becomes `z + α Σ_k exp(−β (1 − z·key_k)) value_k`, of length one again: the cache model of Tip-Adapter
/// (Zhang et al., 2022), whose values are the classes of its keys, with the keys' partners for values.
///
/// ```
/// use crossmodal::{Device, align::{Cache, Head, Standardisation}, io::Features};
/// let standardisation = Standardisation { mean: vec![0., 0.], deviation: vec![1., 1.] };
/// let cache = Cache { keys: vec![1., 0.], values: vec![0., 1.], alpha: 1., beta: 1. };
/// let head = Head {
///     name: "image".into(), source: "".into(), inputs: 2, dim: 2, standardisation, layers: vec![], residual: None,
///     cache: Some(cache),
/// };
/// let z = head.project(&Device::Cpu, &Features { rows: 1, cols: 2, values: vec![3., 0.] })?;
/// assert!((z.values[0] - 0.5f32.sqrt()).abs() < 1e-6 && (z.values[1] - 0.5f32.sqrt()).abs() < 1e-6);
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Cache {
    /// `[pairs, dim]`, row-major.
    pub keys: Vec<f32>,
    /// `[pairs, dim]`, row-major: row k is the partner of key k.
    pub values: Vec<f32>,
    /// `α`: how much what is remembered counts.
    pub alpha: f64,
    /// `β`: how fast it counts less with the distance.
    pub beta: f64,
}

/// A [`Cache`] on a device.
pub(super) struct Remembered {
    keys: Tensor,
    values: Tensor,
    alpha: f64,
    beta: f64,
}

impl Cache {
    pub(super) fn is_finite(&self) -> bool {
        self.keys.iter().chain(&self.values).all(|v| v.is_finite())
            && self.alpha.is_finite()
            && self.beta.is_finite()
    }

    pub(super) fn on(&self, device: &Device, dim: usize) -> Result<Remembered> {
        let tensor = |values: &[f32]| Tensor::from_slice(device, &[values.len() / dim.max(1), dim], values);
        let Cache { alpha, beta, .. } = *self;
        Ok(Remembered { keys: tensor(&self.keys)?, values: tensor(&self.values)?, alpha, beta })
    }
}

impl Remembered {
    /// What becomes of queries `[rows, dim]` of length one.
    pub(super) fn recall(&self, z: &Tensor) -> Result<Tensor> {
        let options = MatmulOptions { transpose_b: true, scale: self.beta, ..MatmulOptions::default() };
        let near = matmul(z, &self.keys, None, &options)?;
        let near = exp(&unary(Unary::Shift(-self.beta), &near)?)?;
        let options = MatmulOptions { scale: self.alpha, ..MatmulOptions::default() };
        l2_normalize(&add(z, &matmul(&near, &self.values, None, &options)?)?)
    }
}
