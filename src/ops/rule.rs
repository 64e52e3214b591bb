//! How the tape calls an operation: two plain functions in a constant.

use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// An operation as the tape and the table of cases see it. `O` is its options.
///
/// ```
/// use crossmodal::{Device, Tensor, ops::{Saved, Unary, unary::UNARY}};
/// let inputs = [Tensor::scalar(&Device::Cpu, 0f64)?];
/// let made = (UNARY.forward)(&Unary::Exp, &[&inputs[0]])?;
/// let grads = [Some(Tensor::scalar(&Device::Cpu, 5f64)?)];
/// let (outputs, kept, needs) = (&made.outputs, &made.kept, &[true]);
/// let saved = Saved { inputs: &inputs, outputs, kept, grads: &grads, needs };
/// let gradients = (UNARY.backward)(&Unary::Exp, &saved)?;
/// assert_eq!((made.outputs[0].item()?, gradients[0].as_ref().unwrap().item()?), (1., 5.));
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub struct Rule<O: 'static> {
    /// The operation's name.
    pub name: &'static str,
    /// Inputs to outputs, with what the backward wants kept.
    pub forward: fn(&O, &[&Tensor]) -> Result<Forward>,
    /// Gradients of the outputs to gradients of the inputs.
    pub backward: fn(&O, &Saved<'_>) -> Result<Vec<Option<Tensor>>>,
}

/// What a forward gives.
///
/// ```
/// use crossmodal::{Device, Tensor, ops::Forward};
/// let made = Forward::one(Tensor::scalar(&Device::Cpu, 1f32)?);
/// assert_eq!((made.outputs.len(), made.kept.len()), (1, 0));
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub struct Forward {
    /// The operation's results.
    pub outputs: Vec<Tensor>,
    /// Intermediate results for the backward.
    pub kept: Vec<Tensor>,
}

impl Forward {
    /// One result, nothing kept. Example: [`Forward`].
    pub fn one(output: Tensor) -> Self {
        Forward { outputs: vec![output], kept: vec![] }
    }
}

/// What a backward may look at.
///
/// ```
/// use crossmodal::autograd::Tape;
/// use crossmodal::{Device, Error, Tensor, ops::{Forward, Rule, Saved, scale}};
/// /// An operation of one's own: `2 x`, with the gradient `2 g`.
/// static DOUBLE: Rule<()> = Rule {
///     name: "double",
///     forward: |(), inputs| Ok(Forward::one(scale(inputs[0], 2.)?)),
///     backward: |(), saved: &Saved<'_>| Ok(vec![Some(scale(saved.grad(), 2.)?)]),
/// };
/// let tape = Tape::new();
/// let x = tape.leaf(&Tensor::scalar(&Device::Cpu, 3f32)?);
/// let y = tape.apply(&DOUBLE, (), &[&x])?;
/// assert_eq!((y.value().item()?, tape.backward(&y)?.get(&x).unwrap().item()?), (6., 2.));
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub struct Saved<'a> {
    /// The forward's inputs.
    pub inputs: &'a [Tensor],
    /// The forward's results.
    pub outputs: &'a [Tensor],
    /// What the forward kept.
    pub kept: &'a [Tensor],
    /// The gradient of each result; `None` where nothing depends on it.
    pub grads: &'a [Option<Tensor>],
    /// Which inputs want a gradient; the others may be given `None`.
    pub needs: &'a [bool],
}

impl Saved<'_> {
    /// The gradient of the first result, the only one of most operations. Panics if there is none: the tape
    /// calls a backward only where some result has a gradient. Example: [`Saved`].
    pub fn grad(&self) -> &Tensor {
        // The tape calls a backward only when some result has a gradient; here there is one result.
        self.grads[0].as_ref().expect("the tape calls a backward only with a gradient")
    }
}

/// Refuses the wrong number of inputs to a rule.
pub(crate) fn expect_inputs(
    op: &'static str,
    inputs: &[&Tensor],
    fits: std::ops::RangeInclusive<usize>,
) -> Result<()> {
    if fits.contains(&inputs.len()) {
        return Ok(());
    }
    Err(Error::argument(op, "inputs", format!("{fits:?} tensors"), inputs.len()))
}
