//! How the tape calls an operation: two plain functions in a constant.

use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// An operation as the tape and the table of cases see it. `O` is its options.
pub struct Rule<O: 'static> {
    /// The operation's name.
    pub name: &'static str,
    /// Inputs to outputs, with what the backward wants kept.
    pub forward: fn(&O, &[&Tensor]) -> Result<Forward>,
    /// Gradients of the outputs to gradients of the inputs.
    pub backward: fn(&O, &Saved<'_>) -> Result<Vec<Option<Tensor>>>,
}

/// What a forward gives.
pub struct Forward {
    /// The operation's results.
    pub outputs: Vec<Tensor>,
    /// Intermediate results for the backward.
    pub kept: Vec<Tensor>,
}

impl Forward {
    /// One result, nothing kept.
    pub fn one(output: Tensor) -> Self {
        Forward { outputs: vec![output], kept: vec![] }
    }
}

/// What a backward may look at.
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
    /// The gradient of the only result.
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
