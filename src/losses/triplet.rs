//! The triplet loss.

use super::{Triplets, reduced};
use crate::autograd::arithmetic::{add_number, binary, sum, unary};
use crate::autograd::{Tape, Var};
use crate::error::{Error, Result};
use crate::ops::cosine_similarity::COSINE_SIMILARITY;
use crate::ops::gather::GATHER;
use crate::ops::{Binary, Pairing, Reduction, Unary};

/// How far apart two rows are.
///
/// ```
/// assert_eq!(crossmodal::losses::Distance::default(), crossmodal::losses::Distance::Euclidean);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Distance {
    /// `‖a − b‖`, with gradient 0 at 0.
    #[default]
    Euclidean,
    /// `‖a − b‖²`.
    SquaredEuclidean,
    /// `1 − cos(a, b)`.
    Cosine,
}

/// Which triplet loss it is.
///
/// ```
/// use crossmodal::losses::TripletOptions;
/// let options = TripletOptions { margin: 0.2, ..TripletOptions::default() };
/// assert!(!options.softplus && !options.swap);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TripletOptions {
    /// How far apart.
    pub distance: Distance,
    /// How much farther than the positive a negative must be.
    pub margin: f64,
    /// `softplus` in the place of the hinge; the margin is then a shift.
    pub softplus: bool,
    /// The negative's distance is the less of those from the anchor and from the positive (Balntas et al., 2016).
    pub swap: bool,
    /// Mean over the triplets, sum, or a loss per triplet. The mean of none is 0.
    pub reduction: Reduction,
}

impl Default for TripletOptions {
    fn default() -> Self {
        TripletOptions {
            distance: Distance::Euclidean,
            margin: 1.,
            softplus: false,
            swap: false,
            reduction: Reduction::Mean,
        }
    }
}

fn distance(tape: &Tape, kind: Distance, a: &Var, b: &Var) -> Result<Var> {
    if kind == Distance::Cosine {
        let cosine = tape.apply(&COSINE_SIMILARITY, Pairing::Pairs, &[a, b])?;
        return add_number(tape, &unary(tape, Unary::Scale(-1.), &cosine)?, 1.);
    }
    let difference = binary(tape, Binary::Sub, a, b)?;
    let squares = sum(tape, &binary(tape, Binary::Mul, &difference, &difference)?, 1)?;
    if kind == Distance::SquaredEuclidean { Ok(squares) } else { unary(tape, Unary::Power(0.5), &squares) }
}

/// `[d(a, p) − d(a, n) + margin]₊` over triplets of rows of `x [n, d]` (anchors) and `y [m, d]` (positives and negatives), as
/// [`mine`](super::mine) finds them (Weinberger and Saul, 2009; Schroff et al., 2015).
///
/// Errors: a margin that is not finite or below 0; shapes, types or devices differ.
///
/// ```
/// use crossmodal::losses::{Triplets, TripletOptions, triplet};
/// use crossmodal::{Device, Tensor, autograd::Tape, ops::Indices};
/// let tape = Tape::new();
/// let x = tape.leaf(&Tensor::from_slice(&Device::Cpu, &[1, 1], &[0f64])?);
/// let y = tape.leaf(&Tensor::from_slice(&Device::Cpu, &[2, 1], &[2f64, -2.5])?);
/// let [anchors, positives, negatives] = [0, 0, 1].map(|i| Indices::new(&Device::Cpu, &[i]).unwrap());
/// let triplets = Triplets { anchors, positives, negatives };
/// let loss = triplet(&tape, &x, &y, &triplets, &TripletOptions::default())?;
/// assert_eq!(loss.value().item()?, 0.5);
/// assert_eq!(tape.backward(&loss)?.get(&y).unwrap().to_f64_vec()?, [1., 1.]); // the positive nearer, the other farther
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn triplet(tape: &Tape, x: &Var, y: &Var, triplets: &Triplets, options: &TripletOptions) -> Result<Var> {
    if !(options.margin >= 0. && options.margin.is_finite()) {
        let got = format!("{:?}", options.margin);
        return Err(Error::argument("triplet", "margin", "a finite number of at least 0", got));
    }
    let rows = |of: &Var, indices: &crate::ops::Indices| tape.apply(&GATHER, indices.clone(), &[of]);
    let (anchor, positive) = (rows(x, &triplets.anchors)?, rows(y, &triplets.positives)?);
    let negative = rows(y, &triplets.negatives)?;
    let to_positive = distance(tape, options.distance, &anchor, &positive)?;
    let mut to_negative = distance(tape, options.distance, &anchor, &negative)?;
    if options.swap {
        // min(a, b) = a − [a − b]₊
        let other = distance(tape, options.distance, &positive, &negative)?;
        let more = unary(tape, Unary::Relu, &binary(tape, Binary::Sub, &to_negative, &other)?)?;
        to_negative = binary(tape, Binary::Sub, &to_negative, &more)?;
    }
    let short = add_number(tape, &binary(tape, Binary::Sub, &to_positive, &to_negative)?, options.margin)?;
    let losses = unary(tape, if options.softplus { Unary::Softplus } else { Unary::Relu }, &short)?;
    reduced(tape, &losses, options.reduction)
}
