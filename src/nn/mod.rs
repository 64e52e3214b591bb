//! Layers with parameters.
//!
//! A layer is plain data: it knows which [`Parameters`] are its own by number. To run a model, put its parameters on a tape
//! with [`Parameters::on`] and call the layers' `forward`.
//!
//! ```
//! use crossmodal::{DType, Device, Tensor, autograd::Tape, nn::{Linear, Parameters}};
//! let mut parameters = Parameters::default();
//! let mut random = crossmodal::nn::generator(0, 0);
//! let linear = Linear::new(&Device::Cpu, &mut parameters, "head", (3, 2), &mut random)?;
//! let tape = Tape::new();
//! let x = tape.constant(&Tensor::zeros(&Device::Cpu, &[5, 3], DType::F32)?);
//! let y = linear.forward(&tape, &parameters.on(&tape), &x)?;
//! assert_eq!(y.value().shape(), [5, 2]);
//! # Ok::<(), crossmodal::Error>(())
//! ```

mod dropout;
mod embedding;
pub(crate) mod encoder;
mod layer_norm;
mod linear;
mod mlp;
mod multi_head_attention;
mod parameters;
mod positional_embedding;
mod projection;
mod rms_norm;
pub(crate) mod tokens;

pub use dropout::{Dropout, DropoutStep};
pub use embedding::Embedding;
pub use encoder::{Encoder, EncoderLayer, EncoderOptions, NormPlace};
pub use layer_norm::LayerNorm;
pub use linear::Linear;
pub use mlp::Mlp;
pub use multi_head_attention::{MultiHeadAttended, MultiHeadAttention, MultiHeadSizes};
pub use parameters::{Bound, Parameter, ParameterId, Parameters};
pub use positional_embedding::PositionalEmbedding;
pub use projection::{Projection, ProjectionKind};
pub use rms_norm::RmsNorm;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Random numbers that are the same on every platform and in every version: ChaCha8 of a seed, one stream per purpose.
///
/// ```
/// use rand::Rng;
/// let mut draw = |stream| crossmodal::nn::generator(0, stream).next_u64();
/// assert_eq!(draw(1), draw(1));
/// assert_ne!(draw(1), draw(2));
/// ```
pub fn generator(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(stream);
    random
}
