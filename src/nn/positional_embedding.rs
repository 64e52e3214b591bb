//! Where in its sequence a token stands.

use super::embedding::{check_sizes, normal_table};
use super::{Bound, ParameterId, Parameters};
use crate::autograd::{Tape, Var};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::ops::binary::BINARY;
use crate::ops::concat::SPLIT;
use crate::ops::{Binary, cast};
use crate::tensor::Tensor;
use rand::Rng;

/// `y = x + P`: a row of `P [positions, width]` added to each position of `x [..., length, width]`, `length ≤ positions`.
///
/// ```
/// use crossmodal::autograd::Tape;
/// use crossmodal::{DType, Device, Tensor, nn::{Parameters, PositionalEmbedding}};
/// let waves = PositionalEmbedding::sinusoidal(&Device::Cpu, (16, 4))?;
/// let tape = Tape::no_grad();
/// let x = tape.constant(&Tensor::zeros(&Device::Cpu, &[1, 2, 4], DType::F32)?);
/// let y = waves.forward(&tape, &Parameters::default().on(&tape), &x)?.value().to_vec::<f32>()?;
/// assert_eq!(y, [0., 1., 0., 1., 1f32.sin(), 1f32.cos(), 0.01f32.sin(), 0.01f32.cos()]);
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone)]
pub enum PositionalEmbedding {
    /// `P` is learned.
    Learned(ParameterId),
    /// `P` is a constant: waves of different lengths.
    Sinusoidal(Tensor),
}

impl PositionalEmbedding {
    /// Rows that are learned, normal numbers of deviation 0.02 at first, in f32; their parameter is `name.weight`.
    ///
    /// Errors: a size is 0; the name is taken; the device's.
    ///
    /// ```
    /// use crossmodal::{Device, nn::{Parameters, PositionalEmbedding, generator}};
    /// let mut parameters = Parameters::default();
    /// PositionalEmbedding::learned(&Device::Cpu, &mut parameters, "positions", (77, 8), &mut generator(0, 0))?;
    /// let weight = parameters.iter().next().unwrap();
    /// assert_eq!((&*weight.name, weight.value.shape()), ("positions.weight", &[77, 8][..]));
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    pub fn learned(
        device: &Device,
        parameters: &mut Parameters,
        name: &str,
        (positions, width): (usize, usize),
        random: &mut impl Rng,
    ) -> Result<PositionalEmbedding> {
        let values = normal_table("PositionalEmbedding", (positions, width), random)?;
        let weight = Tensor::from_vec(device, &[positions, width], values)?;
        Ok(PositionalEmbedding::Learned(parameters.add(format!("{name}.weight"), weight, true)?))
    }

    /// `P[p, 2i] = sin(p / 10000^(2i/width))` and `P[p, 2i + 1] = cos` of the same (Vaswani et al., 2017), in f32.
    ///
    /// Errors: a size is 0; the device's. Example: [`PositionalEmbedding`].
    pub fn sinusoidal(device: &Device, (positions, width): (usize, usize)) -> Result<PositionalEmbedding> {
        check_sizes("PositionalEmbedding", (positions, width))?;
        let element = |i: usize| {
            let (position, column) = ((i / width) as f64, i % width);
            let angle = position / 1e4f64.powf((column - column % 2) as f64 / width as f64);
            if column % 2 == 0 { angle.sin() as f32 } else { angle.cos() as f32 }
        };
        let values = (0..positions * width).map(element).collect();
        Ok(PositionalEmbedding::Sinusoidal(Tensor::from_vec(device, &[positions, width], values)?))
    }

    /// The rows added. A constant is taken in the type of `x`; learned ones must be of it.
    ///
    /// Errors: `x` has fewer than two axes, another width, or more positions than there are rows. Example:
    /// [`PositionalEmbedding`].
    pub fn forward(&self, tape: &Tape, parameters: &Bound, x: &Var) -> Result<Var> {
        let rows = match self {
            PositionalEmbedding::Learned(id) => parameters.get(*id).clone(),
            PositionalEmbedding::Sinusoidal(rows) => tape.constant(&cast(rows, x.dtype())?),
        };
        let [positions, width] = rows.value().shape()[..] else { unreachable!("a table has two axes") };
        let length = match x.value().shape() {
            [.., length, own] if *own == width && *length <= positions => *length,
            other => {
                let expected = format!("[..., length, {width}] of at most {positions} positions");
                return Err(Error::argument("PositionalEmbedding", "x", expected, format!("{other:?}")));
            }
        };
        let own = match length == positions {
            true => rows,
            false => tape.apply_all(&SPLIT, (0, vec![length, positions - length]), &[&rows])?.swap_remove(0),
        };
        tape.apply(&BINARY, Binary::Add, &[x, &own])
    }
}
