//! Projection heads: from a modality's own features into the shared space, rows of length one.

use super::{Bound, Linear, Mlp, Parameters};
use crate::autograd::{Tape, Var};
use crate::device::Device;
use crate::error::Result;
use crate::ops::Unary;
use crate::ops::l2_normalize::L2_NORMALIZE;
use rand::Rng;

/// What a projection head is made of.
///
/// ```
/// use crossmodal::{Device, nn::{Mlp, Parameters, Projection, ProjectionKind, generator}, ops::Unary};
/// let (mut parameters, mut random) = (Parameters::default(), generator(0, 0));
/// let f = Mlp::new(&Device::Cpu, &mut parameters, "text", &[4, 8, 8, 2], Unary::Relu, &mut random)?;
/// let head = Projection { kind: ProjectionKind::Mlp(f) };
/// assert!(matches!(head.kind, ProjectionKind::Mlp(mlp) if mlp.layers.len() == 3));
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub enum ProjectionKind {
    /// One linear layer (CLIP).
    Linear(Linear),
    /// A perceptron (SimCLR).
    Mlp(Mlp),
}

/// A projection head: `z = f(x) / ‖f(x)‖`.
///
/// ```
/// use crossmodal::{Device, Tensor, autograd::Tape, nn::{Parameters, Projection, generator}};
/// let mut parameters = Parameters::default();
/// let head = Projection::linear(&Device::Cpu, &mut parameters, "image", (3, 2), &mut generator(0, 0))?;
/// let tape = Tape::no_grad();
/// let x = tape.constant(&Tensor::from_slice(&Device::Cpu, &[1, 3], &[1f32, 2., 3.])?);
/// let z = head.forward(&tape, &parameters.on(&tape), &x)?.value().to_vec::<f32>()?;
/// assert!((z[0].hypot(z[1]) - 1.).abs() < 1e-6);
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Projection {
    /// `f`.
    pub kind: ProjectionKind,
}

impl Projection {
    /// A linear head, initialised as [`Linear::new`] does, with its errors. Example: [`Projection`].
    pub fn linear(
        device: &Device,
        parameters: &mut Parameters,
        name: &str,
        sizes: (usize, usize),
        random: &mut impl Rng,
    ) -> Result<Projection> {
        Ok(Projection { kind: ProjectionKind::Linear(Linear::new(device, parameters, name, sizes, random)?) })
    }

    /// A head with one hidden layer and GELU between. Errors: as [`Mlp::new`].
    ///
    /// ```
    /// use crossmodal::{DType, Device, Tensor, autograd::Tape, nn::{Parameters, Projection, generator}};
    /// let mut parameters = Parameters::default();
    /// let head = Projection::mlp(&Device::Cpu, &mut parameters, "text", (384, 512, 256), &mut generator(0, 0))?;
    /// let tape = Tape::no_grad();
    /// let x = tape.constant(&Tensor::from_slice(&Device::Cpu, &[1, 384], &[1f32; 384])?);
    /// let z = head.forward(&tape, &parameters.on(&tape), &x)?.value().to_vec::<f32>()?;
    /// assert!((z.iter().map(|v| v * v).sum::<f32>() - 1.).abs() < 1e-5);
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    pub fn mlp(
        device: &Device,
        parameters: &mut Parameters,
        name: &str,
        (inputs, hidden, outputs): (usize, usize, usize),
        random: &mut impl Rng,
    ) -> Result<Projection> {
        let sizes = [inputs, hidden, outputs];
        Ok(Projection {
            kind: ProjectionKind::Mlp(Mlp::new(device, parameters, name, &sizes, Unary::Gelu, random)?),
        })
    }

    /// `x [rows, inputs]` to rows of length one `[rows, outputs]`. Errors: the operations'. Example:
    /// [`Projection`].
    pub fn forward(&self, tape: &Tape, parameters: &Bound, x: &Var) -> Result<Var> {
        let z = match &self.kind {
            ProjectionKind::Linear(linear) => linear.forward(tape, parameters, x)?,
            ProjectionKind::Mlp(mlp) => mlp.forward(tape, parameters, x)?,
        };
        tape.apply(&L2_NORMALIZE, (), &[&z])
    }
}
