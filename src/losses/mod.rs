//! Losses on the tape, made of operations: every one runs on either device, and its gradient is that of its parts.
//!
//! The softmax family and the sigmoid loss are operations of their own, [`info_nce`](mod@crate::ops::info_nce) and
//! [`siglip`](mod@crate::ops::siglip); here stand [`sup_con`], which is one of the family, and the losses that are none:
//! [`cosine`], [`triplet`], [`alignment`], [`uniformity`], [`vicreg`], [`barlow_twins`]. A [`Queue`] holds earlier keys.
//!
//! ```
//! use crossmodal::{Device, Tensor, autograd::Tape, losses, ops::Reduction};
//! let tape = Tape::new();
//! let x = tape.leaf(&Tensor::from_slice(&Device::Cpu, &[1, 3], &[0.1f64, 0.2, 0.3])?);
//! let y = tape.constant(&Tensor::from_slice(&Device::Cpu, &[1, 3], &[0.4f64, 0.5, 0.6])?);
//! let loss = losses::cosine(&tape, &x, &y, Reduction::Mean)?;
//! assert!((loss.value().item()? - 0.025368).abs() < 1e-6);
//! assert_eq!(tape.backward(&loss)?.get(&x).unwrap().shape(), [1, 3]);
//! # Ok::<(), crossmodal::Error>(())
//! ```

mod cosine;
mod geometry;
mod mining;
mod queue;
mod redundancy;
mod sup_con;
mod triplet;

pub use cosine::cosine;
pub use geometry::{alignment, uniformity};
pub use mining::{Mining, Triplets, mine};
pub use queue::Queue;
pub use redundancy::{VicRegOptions, barlow_twins, vicreg};
pub use sup_con::{paired_negatives, sup_con};
pub use triplet::{Distance, TripletOptions, triplet};

use crate::autograd::arithmetic::{sum, unary};
use crate::autograd::{Tape, Var};
use crate::error::Result;
use crate::ops::{Reduction, Unary};

/// The sum over all of two axes.
fn sum_all(tape: &Tape, x: &Var) -> Result<Var> {
    sum(tape, &sum(tape, x, 1)?, 0)
}

/// Losses `[n]` as the reduction has it. The mean of none is 0.
fn reduced(tape: &Tape, losses: &Var, reduction: Reduction) -> Result<Var> {
    match reduction {
        Reduction::None => Ok(losses.clone()),
        Reduction::Sum => sum(tape, losses, 0),
        Reduction::Mean => {
            let count = losses.value().len().max(1) as f64;
            unary(tape, Unary::Scale(1. / count), &sum(tape, losses, 0)?)
        }
    }
}
