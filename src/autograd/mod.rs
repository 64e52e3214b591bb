//! A tape: it records which operation made which value and chains the operations' own backward functions. It computes
//! nothing itself, so it runs wherever the operations do, in f64 on the CPU too.
//!
//! ```
//! use crossmodal::{Device, Tensor, autograd::Tape, ops::binary::BINARY, ops::Binary};
//! let tape = Tape::new();
//! let x = tape.leaf(&Tensor::scalar(&Device::Cpu, 3f64)?);
//! let square = tape.apply(&BINARY, Binary::Mul, &[&x, &x])?;
//! let gradients = tape.backward(&square)?;
//! assert_eq!(gradients.get(&x).unwrap().item()?, 6.);
//! # Ok::<(), crossmodal::Error>(())
//! ```

#[cfg(not(target_arch = "wasm32"))]
pub(crate) mod arithmetic;

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::ops::{Forward, Rule, Saved, add};
use crate::tensor::Tensor;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};

/// The record of one forward pass.
///
/// ```
/// use crossmodal::{Device, Tensor, autograd::Tape, ops::{Unary, unary::UNARY}};
/// let tape = Tape::new();
/// let x = tape.leaf(&Tensor::scalar(&Device::Cpu, 0f64)?);
/// let y = tape.apply(&UNARY, Unary::Exp, &[&x])?;
/// assert_eq!(tape.backward(&y)?.get(&x).unwrap().item()?, 1.);
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub struct Tape {
    /// Tells one tape's variables from another's.
    id: u64,
    records: bool,
    record: Mutex<Record>,
}

#[derive(Default)]
struct Record {
    /// Variables with a gradient so far.
    variables: usize,
    /// Shared with the backward passes that go through them.
    nodes: Vec<Arc<Node>>,
}

type Backward = Box<dyn Fn(&Saved<'_>) -> Result<Vec<Option<Tensor>>> + Send + Sync>;

/// One operation that ran. Nodes lie in a list, not in a chain of pointers: a long tape is dropped without recursion.
struct Node {
    op: &'static str,
    inputs: Vec<Tensor>,
    input_variables: Vec<Option<usize>>,
    outputs: Vec<Tensor>,
    first_output: usize,
    kept: Vec<Tensor>,
    backward: Backward,
}

/// A value on a tape.
///
/// ```
/// use crossmodal::{DType, Device, Tensor, autograd::Tape};
/// let x = Tape::new().leaf(&Tensor::scalar(&Device::Cpu, 3f32)?);
/// assert_eq!((x.value().item()?, x.dtype()), (3., DType::F32));
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Var {
    value: Tensor,
    /// The tape and the variable's number on it; none for a constant.
    place: Option<(u64, usize)>,
}

impl Var {
    /// The value. Example: [`Var`].
    pub fn value(&self) -> &Tensor {
        &self.value
    }
}

/// What [`Tape::backward`] found.
///
/// ```
/// use crossmodal::{Device, Tensor, autograd::Tape, ops::{Binary, binary::BINARY}};
/// let (tape, two) = (Tape::new(), Tensor::scalar(&Device::Cpu, 2f64)?);
/// let (x, c) = (tape.leaf(&two), tape.constant(&two));
/// let gradients = tape.backward(&tape.apply(&BINARY, Binary::Mul, &[&x, &c])?)?;
/// assert_eq!(gradients.get(&x).unwrap().item()?, 2.);
/// assert!(gradients.get(&c).is_none());
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug)]
pub struct Gradients {
    tape: u64,
    by_variable: Vec<Option<Tensor>>,
}

impl Gradients {
    /// The gradient of a leaf; none if the result does not depend on it, or if it is not a leaf of that tape.
    /// Example: [`Gradients`].
    pub fn get(&self, leaf: &Var) -> Option<&Tensor> {
        let (tape, variable) = leaf.place?;
        self.by_variable.get(variable).filter(|_| tape == self.tape)?.as_ref()
    }
}

/// A change of shape moves no element, so it is no operation on a device.
const RESHAPE: Rule<Vec<usize>> = Rule {
    name: "reshape",
    forward: |shape, inputs| Ok(Forward::one(inputs[0].reshape(shape)?)),
    backward: |_, saved| Ok(vec![Some(saved.grad().reshape(saved.inputs[0].shape())?)]),
};

impl Default for Tape {
    fn default() -> Self {
        Tape::new()
    }
}

impl Tape {
    /// An empty tape. Example: [`Tape`].
    pub fn new() -> Tape {
        static TAPES: AtomicU64 = AtomicU64::new(0);
        Tape { id: TAPES.fetch_add(1, Relaxed), records: true, record: Mutex::default() }
    }

    /// A tape that records nothing: the same model code, without gradients and without keeping what they would need.
    ///
    /// ```
    /// use crossmodal::{Device, Tensor, autograd::Tape};
    /// let tape = Tape::no_grad();
    /// let x = tape.leaf(&Tensor::scalar(&Device::Cpu, 3f64)?);
    /// assert!(tape.backward(&x).is_err());
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    pub fn no_grad() -> Tape {
        Tape { records: false, ..Tape::new() }
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().expect("tape lock")
    }

    /// A value whose gradient is wanted; a constant on [`Tape::no_grad`]. Example: [`Gradients`].
    pub fn leaf(&self, value: &Tensor) -> Var {
        let place = self.records.then(|| {
            let mut record = self.record();
            record.variables += 1;
            (self.id, record.variables - 1)
        });
        Var { value: value.clone(), place }
    }

    /// A value without a gradient. Example: [`Gradients`].
    pub fn constant(&self, value: &Tensor) -> Var {
        Var { value: value.clone(), place: None }
    }

    /// The same elements under another shape. Errors: the counts differ; it belongs to another tape.
    ///
    /// ```
    /// use crossmodal::{Device, Tensor, autograd::Tape};
    /// let tape = Tape::new();
    /// let x = tape.leaf(&Tensor::from_slice(&Device::Cpu, &[1, 1], &[3f64])?);
    /// let y = tape.reshape(&x, &[])?;
    /// assert_eq!(tape.backward(&y)?.get(&x).unwrap().shape(), [1, 1]);
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    pub fn reshape(&self, x: &Var, shape: &[usize]) -> Result<Var> {
        self.apply(&RESHAPE, shape.to_vec(), &[x])
    }

    /// Runs an operation and records it, for operations with one result.
    ///
    /// Errors: the operation's; an input that belongs to another tape. Example: [`Tape`].
    pub fn apply<O: Send + Sync + 'static>(
        &self,
        rule: &'static Rule<O>,
        options: O,
        inputs: &[&Var],
    ) -> Result<Var> {
        let mut outputs = self.apply_all(rule, options, inputs)?;
        match (outputs.pop(), outputs.len()) {
            (Some(output), 0) => Ok(output),
            (_, others) => {
                Err(Error::argument(rule.name, "rule", "one with one result; use apply_all", others))
            }
        }
    }

    /// As [`Tape::apply`], with all results.
    ///
    /// ```
    /// use crossmodal::{Device, Tensor, autograd::Tape, ops::concat::SPLIT};
    /// let tape = Tape::new();
    /// let x = tape.leaf(&Tensor::from_slice(&Device::Cpu, &[3], &[1f32, 2., 3.])?);
    /// let parts = tape.apply_all(&SPLIT, (0, vec![1, 2]), &[&x])?;
    /// assert_eq!(parts[1].value().to_vec::<f32>()?, [2., 3.]);
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    pub fn apply_all<O: Send + Sync + 'static>(
        &self,
        rule: &'static Rule<O>,
        options: O,
        inputs: &[&Var],
    ) -> Result<Vec<Var>> {
        if inputs.iter().any(|input| input.place.is_some_and(|(tape, _)| tape != self.id)) {
            return Err(Error::argument(
                rule.name,
                "inputs",
                "variables of this tape",
                "one of another tape",
            ));
        }
        let tensors: Vec<_> = inputs.iter().map(|input| &input.value).collect();
        let made = (rule.forward)(&options, &tensors)?;
        let input_variables: Vec<_> =
            inputs.iter().map(|input| input.place.map(|(_, variable)| variable)).collect();
        if input_variables.iter().all(Option::is_none) {
            return Ok(made.outputs.into_iter().map(|value| Var { value, place: None }).collect());
        }
        let mut record = self.record();
        let first_output = record.variables;
        record.variables += made.outputs.len();
        let node = Node {
            op: rule.name,
            inputs: tensors.into_iter().cloned().collect(),
            input_variables,
            outputs: made.outputs.clone(),
            first_output,
            kept: made.kept,
            backward: Box::new(move |saved| (rule.backward)(&options, saved)),
        };
        record.nodes.push(Arc::new(node));
        let place = |i| Some((self.id, first_output + i));
        Ok(made.outputs.into_iter().enumerate().map(|(i, value)| Var { value, place: place(i) }).collect())
    }

    /// Gradients of a result of one element with respect to every leaf it depends on.
    ///
    /// Where a value was used several times its gradients are added in a fixed order: the same bits every
    /// time. Errors: the result does not have one element, or does not depend on a leaf of this tape; the
    /// operations' errors. Example: [`Tape`].
    pub fn backward(&self, result: &Var) -> Result<Gradients> {
        if result.value.len() != 1 {
            let got = format!("shape {:?}", result.value.shape());
            return Err(Error::argument("backward", "result", "one element, or use backward_from", got));
        }
        let (device, dtype) = (result.value.device(), result.value.dtype());
        self.backward_from(result, &Tensor::from_f64(device, result.value.shape(), dtype, vec![1.])?)
    }

    /// As [`Tape::backward`], from a gradient of a result of any shape. Errors: their shapes differ.
    ///
    /// ```
    /// use crossmodal::{Device, Tensor, autograd::Tape, ops::{Unary, unary::UNARY}};
    /// let tape = Tape::new();
    /// let x = tape.leaf(&Tensor::from_slice(&Device::Cpu, &[2], &[-1f32, 1.])?);
    /// let y = tape.apply(&UNARY, Unary::Relu, &[&x])?;
    /// let gradients = tape.backward_from(&y, &Tensor::from_slice(&Device::Cpu, &[2], &[5f32, 6.])?)?;
    /// assert_eq!(gradients.get(&x).unwrap().to_vec::<f32>()?, [0., 6.]);
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    pub fn backward_from(&self, result: &Var, gradient: &Tensor) -> Result<Gradients> {
        let Some((_, variable)) = result.place.filter(|(tape, _)| *tape == self.id) else {
            return Err(Error::argument(
                "backward",
                "result",
                "a value that depends on a leaf of this tape",
                "a constant",
            ));
        };
        let (like, own) = (&result.value, gradient);
        if own.device() != like.device() || own.dtype() != like.dtype() {
            let name = |t: &Tensor| format!("{} on {}", t.dtype(), t.device().name());
            return Err(Error::argument("backward", "gradient", name(like), name(own)));
        }
        if gradient.shape() != result.value.shape() {
            let (expected, got) =
                (format!("shape {:?}", result.value.shape()), format!("{:?}", gradient.shape()));
            return Err(Error::argument("backward", "gradient", expected, got));
        }
        // A copy, so that other threads can record while the operations run.
        let (variables, nodes) = {
            let record = self.record();
            (record.variables, record.nodes.clone())
        };
        let mut grads: Vec<Option<Tensor>> = vec![None; variables];
        grads[variable] = Some(gradient.clone());
        for node in nodes.iter().rev() {
            let outputs = node.first_output..node.first_output + node.outputs.len();
            // Taken, not cloned: the gradient of an intermediate value is let go as soon as it has been used.
            let of_outputs: Vec<_> = grads[outputs].iter_mut().map(Option::take).collect();
            if of_outputs.iter().any(Option::is_some) {
                node.add_gradients(&of_outputs, &mut grads)?;
            }
        }
        Ok(Gradients { tape: self.id, by_variable: grads })
    }
}

impl Node {
    fn add_gradients(&self, of_outputs: &[Option<Tensor>], grads: &mut [Option<Tensor>]) -> Result<()> {
        let needs: Vec<_> = self.input_variables.iter().map(Option::is_some).collect();
        let saved = Saved {
            inputs: &self.inputs,
            outputs: &self.outputs,
            kept: &self.kept,
            grads: of_outputs,
            needs: &needs,
        };
        let found = (self.backward)(&saved)?;
        debug_assert_eq!(found.len(), self.inputs.len(), "{}: one gradient for each input", self.op);
        for (variable, new) in self.input_variables.iter().zip(found) {
            let (Some(variable), Some(new)) = (variable, new) else { continue };
            let sum = match grads[*variable].take() {
                Some(old) => add(&old, &new)?,
                None => new,
            };
            grads[*variable] = Some(sum);
        }
        Ok(())
    }
}

impl Var {
    /// The type of the elements. Example: [`Var`].
    pub fn dtype(&self) -> DType {
        self.value.dtype()
    }
}
