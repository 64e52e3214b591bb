//! Dropout as a layer: numbers of its own for every layer and every step.

use crate::autograd::{Tape, Var};
use crate::error::Result;
use crate::ops;
use crate::ops::dropout::DROPOUT;

/// Elements of `x` kept with probability `1 − p` and then divided by it, else 0 (Srivastava et al., 2014), while training; `x`
/// itself otherwise.
///
/// ```
/// use crossmodal::autograd::Tape;
/// use crossmodal::{Device, Tensor, nn::{Dropout, DropoutStep}};
/// let (tape, dropout) = (Tape::no_grad(), Dropout { p: 0.5, layer: 0 });
/// let x = tape.constant(&Tensor::from_slice(&Device::Cpu, &[1, 100], &[1f32; 100])?);
/// let of = |step: u64| {
///     let step = DropoutStep { seed: 7, step, first_row: 0 };
///     dropout.forward(&tape, &x, Some(&step))?.value().to_vec::<f32>()
/// };
/// assert!(of(0)? == of(0)? && of(0)? != of(1)? && of(0)?.iter().all(|v| [0., 2.].contains(v)));
/// assert_eq!(dropout.forward(&tape, &x, None)?.value().to_vec::<f32>()?, [1.; 100]);
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    /// The part of the elements that is dropped, in [0, 1).
    pub p: f64,
    /// The layer's number: layers of one model with numbers of their own drop independently.
    pub layer: u64,
}

/// Which step of a training run it is: what is dropped is a function of it, of the layer and of the element's place, the same on
/// every device. Example: [`Dropout`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DropoutStep {
    /// The run's seed.
    pub seed: u64,
    /// The step's number.
    pub step: u64,
    /// The place in the batch of the first row of `x`: a batch in parts drops what it would at once.
    pub first_row: u32,
}

impl Dropout {
    /// The layer applied: while training with the step, else with none. Errors: p outside [0, 1). Example: [`Dropout`].
    pub fn forward(&self, tape: &Tape, x: &Var, step: Option<&DropoutStep>) -> Result<Var> {
        let Some(step) = step.filter(|_| self.p != 0.) else { return Ok(x.clone()) };
        let (shape, len) = (x.value().shape(), x.value().len());
        let width = len / shape.first().copied().unwrap_or(1).max(1);
        let seed = mix(mix(mix(step.seed) ^ step.step) ^ self.layer);
        let first = step.first_row.wrapping_mul(width as u32);
        tape.apply(&DROPOUT, ops::Dropout { p: self.p, seed, first }, &[x])
    }
}

/// SplitMix64's step (Steele et al., 2014): numbers next to each other come out unrelated.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
