//! Early fusion by concatenation.

use super::{Presence, check_widths};
use crate::autograd::arithmetic::concat;
use crate::autograd::{Tape, Var};
use crate::device::Device;
use crate::error::Result;
use crate::nn::{Bound, Mlp, Parameters};
use crate::ops::Unary;
use rand::Rng;

/// `h = f([x_1; …; x_M])`, f an MLP of one or more layers with GELU between them; a missing modality is 0 there.
///
/// ```
/// use crossmodal::{DType, Device, Tensor, autograd::Tape, nn::{Parameters, generator}};
/// use crossmodal::fusion::{Concatenation, Presence};
/// let mut parameters = Parameters::default();
/// let (widths, sizes) = ([3, 2], [4]);
/// let fusion = Concatenation::new(&Device::Cpu, &mut parameters, "fusion", &widths, &sizes, &mut generator(0, 0))?;
/// let tape = Tape::new();
/// let x = widths.map(|width| tape.leaf(&Tensor::zeros(&Device::Cpu, &[5, width], DType::F32).unwrap()));
/// let h = fusion.forward(&tape, &parameters.on(&tape), &[&x[0], &x[1]], &Presence::all(5, 2))?;
/// assert_eq!(h.value().shape(), [5, 4]);
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Concatenation {
    mlp: Mlp,
}

impl Concatenation {
    /// From features of these widths through layers of these sizes, the last the width of the result. Errors: no modality, no
    /// layer, a size of 0; the names are taken; the device's. Example: [`Concatenation`].
    pub fn new(
        device: &Device,
        parameters: &mut Parameters,
        name: &str,
        widths: &[usize],
        sizes: &[usize],
        random: &mut impl Rng,
    ) -> Result<Concatenation> {
        check_widths(widths)?;
        let sizes = [&[widths.iter().sum()], sizes].concat();
        Ok(Concatenation { mlp: Mlp::new(device, parameters, name, &sizes, Unary::Gelu, random)? })
    }

    /// Features `[rows, width]` of each modality to `[rows, last size]`. Errors: other modalities or rows than `presence`; the
    /// operations'. Example: [`Concatenation`].
    pub fn forward(&self, tape: &Tape, bound: &Bound, features: &[&Var], presence: &Presence) -> Result<Var> {
        presence.check(features)?;
        let kept = features.iter().enumerate().map(|(m, x)| presence.kept(tape, m, x));
        let all = concat(tape, 1, &kept.collect::<Result<Vec<_>>>()?)?;
        self.mlp.forward(tape, bound, &all)
    }
}
