//! Tokens as rows of a table.

use super::{Bound, ParameterId, Parameters};
use crate::autograd::{Tape, Var};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::ops::Indices;
use crate::ops::gather::GATHER;
use crate::tensor::Tensor;
use rand::{Rng, RngExt};

/// `y = W[tokens]`: a row of the table `W [vocabulary, width]` for each token. The gradient of a row is the sum of its tokens',
/// in their order: the same bits every time.
///
/// ```
/// use crossmodal::autograd::Tape;
/// use crossmodal::{Device, nn::{Embedding, Parameters}, ops::Indices};
/// let mut parameters = Parameters::default();
/// let table = vec![0., 0., 1., 10., 2., 20.];
/// let embedding = Embedding::from_weights(&Device::Cpu, &mut parameters, "tokens", (3, 2), table)?;
/// let tape = Tape::no_grad();
/// let tokens = Indices::new(&Device::Cpu, &[2, 1])?;
/// let y = embedding.forward(&tape, &parameters.on(&tape), &tokens, &[1, 2])?;
/// assert_eq!((y.value().shape(), y.value().to_vec::<f32>()?), (&[1, 2, 2][..], vec![2., 20., 1., 10.]));
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Embedding {
    /// `W`.
    pub weight: ParameterId,
}

impl Embedding {
    /// A table of normal numbers of deviation 0.02 (as GPT-2's; Radford et al., 2019), in f32; its parameter is `name.weight`.
    ///
    /// Errors: a size is 0; the name is taken; the device's.
    ///
    /// ```
    /// use crossmodal::{Device, nn::{Embedding, Parameters, generator}};
    /// let mut parameters = Parameters::default();
    /// let embedding = Embedding::new(&Device::Cpu, &mut parameters, "tokens", (100, 8), &mut generator(0, 0))?;
    /// let weight = parameters.get(embedding.weight);
    /// assert_eq!((&*weight.name, weight.value.shape(), weight.decays), ("tokens.weight", &[100, 8][..], true));
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    pub fn new(
        device: &Device,
        parameters: &mut Parameters,
        name: &str,
        (vocabulary, width): (usize, usize),
        random: &mut impl Rng,
    ) -> Result<Embedding> {
        let values = normal_table("Embedding", (vocabulary, width), random)?;
        Self::from_weights(device, parameters, name, (vocabulary, width), values)
    }

    /// A given table `[vocabulary, width]`, row-major. Errors: the slice has another length; the name is taken; the device's.
    /// Example: [`Embedding`].
    pub fn from_weights(
        device: &Device,
        parameters: &mut Parameters,
        name: &str,
        (vocabulary, width): (usize, usize),
        weight: Vec<f32>,
    ) -> Result<Embedding> {
        let weight = Tensor::from_vec(device, &[vocabulary, width], weight)?;
        Ok(Embedding { weight: parameters.add(format!("{name}.weight"), weight, true)? })
    }

    /// The rows of the tokens, `[..., width]` for tokens of the given shape, row-major: `[batch, length]` for sequences.
    ///
    /// Errors: a token that the table does not have; the shape has another number of elements. Example: [`Embedding`].
    pub fn forward(&self, tape: &Tape, parameters: &Bound, tokens: &Indices, shape: &[usize]) -> Result<Var> {
        let weight = parameters.get(self.weight);
        let rows = tape.apply(&GATHER, tokens.clone(), &[weight])?;
        tape.reshape(&rows, &[shape, &weight.value().shape()[1..]].concat())
    }
}

/// A table of normal numbers of deviation 0.02.
pub(super) fn normal_table(
    layer: &'static str,
    (rows, width): (usize, usize),
    random: &mut impl Rng,
) -> Result<Vec<f32>> {
    check_sizes(layer, (rows, width))?;
    // Box and Muller (1958); one minus a number of [0, 1) has a logarithm.
    let mut normal = || {
        let (radius, turn) = (1. - random.random::<f64>(), random.random::<f64>());
        (-2. * radius.ln()).sqrt() * (std::f64::consts::TAU * turn).cos()
    };
    Ok((0..rows * width).map(|_| (0.02 * normal()) as f32).collect())
}

pub(super) fn check_sizes(layer: &'static str, (rows, width): (usize, usize)) -> Result<()> {
    let fits = rows.checked_mul(width).is_some_and(|n| n > 0 && u32::try_from(n).is_ok());
    if fits {
        return Ok(());
    }
    let got = format!("{rows} rows of {width}");
    Err(Error::argument(layer, "sizes", "at least one row and column and fewer than 2^32 elements", got))
}
