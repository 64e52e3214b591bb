//! Early fusion by the outer product.

use super::presence::constant;
use super::{Presence, projections};
use crate::autograd::arithmetic::{concat, mul};
use crate::autograd::{Tape, Var};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::nn::{Bound, Linear, Parameters};
use rand::Rng;

/// The widest outer product: the layer behind it has as many inputs.
const WIDEST: usize = 1 << 16;

/// Tensor fusion (Zadeh et al., 2017): a linear map of `⊗_m [1; v_m]`, `v_m` the projected modality m. Of a missing one only the 1
/// is left, and with it the products of the others.
///
/// ```
/// use crossmodal::{DType, Device, Tensor, autograd::Tape, nn::{Parameters, generator}};
/// use crossmodal::fusion::{Presence, TensorFusion};
/// let mut parameters = Parameters::default();
/// let fusion = TensorFusion::new(&Device::Cpu, &mut parameters, "fusion", &[3, 2], (8, 4), &mut generator(0, 0))?;
/// let tape = Tape::new();
/// let x = [3, 2].map(|width| tape.leaf(&Tensor::zeros(&Device::Cpu, &[5, width], DType::F32).unwrap()));
/// let h = fusion.forward(&tape, &parameters.on(&tape), &[&x[0], &x[1]], &Presence::all(5, 2))?;
/// assert_eq!(h.value().shape(), [5, 4]);
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct TensorFusion {
    projections: Vec<Linear>,
    output: Linear,
}

impl TensorFusion {
    /// From features of these widths, each projected to `inner`, to `dim`. Errors: no modality, a size of 0, an outer product of
    /// more than 65,536 numbers; the names are taken; the device's. Example: [`TensorFusion`].
    pub fn new(
        device: &Device,
        parameters: &mut Parameters,
        name: &str,
        widths: &[usize],
        (inner, dim): (usize, usize),
        random: &mut impl Rng,
    ) -> Result<TensorFusion> {
        let size =
            u32::try_from(widths.len()).ok().and_then(|count| inner.checked_add(1)?.checked_pow(count));
        let Some(size) = size.filter(|&size| size <= WIDEST) else {
            let expected = format!("at most {WIDEST} products of (inner + 1)^modalities");
            let got = format!("{inner} and {} modalities", widths.len());
            return Err(Error::argument("fusion", "inner", expected, got));
        };
        Ok(TensorFusion {
            projections: projections(device, parameters, name, widths, inner, random)?,
            output: Linear::new(device, parameters, &format!("{name}.output"), (size, dim), random)?,
        })
    }

    /// Features `[rows, width]` of each modality to `[rows, dim]`. Errors: other modalities or rows than `presence`; the
    /// operations'. Example: [`TensorFusion`].
    pub fn forward(&self, tape: &Tape, bound: &Bound, features: &[&Var], presence: &Presence) -> Result<Var> {
        presence.check(features)?;
        let rows = features[0].value().shape()[0];
        let mut product: Option<Var> = None;
        for (m, (x, layer)) in features.iter().zip(&self.projections).enumerate() {
            let v = layer.forward(tape, bound, &presence.kept(tape, m, x)?)?;
            let v = mul(tape, &v, &presence.column(tape, m, x)?)?;
            let with_one = concat(tape, 1, &[constant(tape, &[rows, 1], vec![1.; rows], x)?, v])?;
            product = Some(match product {
                None => with_one,
                Some(product) => outer(tape, &product, &with_one)?,
            });
        }
        self.output.forward(tape, bound, &product.expect("there is a modality"))
    }
}

/// `[rows, a]` and `[rows, b]` to `[rows, a b]`.
fn outer(tape: &Tape, a: &Var, b: &Var) -> Result<Var> {
    let (rows, of_a, of_b) = (a.value().shape()[0], a.value().shape()[1], b.value().shape()[1]);
    let product = mul(tape, &tape.reshape(a, &[rows, of_a, 1])?, &tape.reshape(b, &[rows, 1, of_b])?)?;
    tape.reshape(&product, &[rows, of_a * of_b])
}
