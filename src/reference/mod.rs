//! The plain definition of every operation: f64 in, f64 out (copies: any type), the formula read off the
//! page. Every device is verified against these functions, and the CPU path runs them, except where `src/cpu`
//! has a fast twin.
//!
//! Slices are row-major and of the sizes that the other arguments say; most functions panic where they are
//! shorter.
//!
//! ```
//! use crossmodal::reference::{log_softmax, softmax};
//! let x = [1., 2., 3.];
//! let (p, log_p) = (softmax(&x, 3), log_softmax(&x, 3));
//! assert!(p.iter().zip(&log_p).all(|(p, log_p)| (p.ln() - log_p).abs() < 1e-15));
//! ```

mod adamw;
mod attention;
mod attention_options;
mod attention_spans;
mod binary;
mod blocks;
mod clip_global_norm;
mod codes;
mod concat;
mod dropout;
mod gather;
mod info_nce;
mod keep_rows;
mod l2_normalize;
mod layer_norm;
mod log_softmax;
mod log_sum_exp;
mod matmul;
mod reduce;
mod siglip;
mod softmax;
mod top_k;
mod transpose;
mod unary;

pub use adamw::{AdamwStep, adamw};
pub(crate) use attention::Strides;
pub use attention::{Attention, AttentionResult, attention, attention_backward};
pub use attention_options::{
    Alibi, AttentionLayout, AttentionOptions, AttentionWeights, Corner, Mask, Polarity, Sequences, Window,
};
pub(crate) use attention_spans::{Span, spans};
pub use binary::{Binary, binary};
pub use blocks::{LogitBlock, block_size, blocks};
pub use clip_global_norm::clip_global_norm;
pub use codes::{Codes, MASKED, NO_CLASS};
pub use concat::{Block, copy_block};
pub(crate) use dropout::threefry_words;
pub use dropout::{Dropout, dropout};
pub use gather::{gather, gather_backward};
pub use info_nce::{InfoNce, InfoNceGradients, Reduction, TargetKind, info_nce, info_nce_backward};
pub use keep_rows::keep_rows;
pub use l2_normalize::{l2_normalize, l2_normalize_backward};
pub use layer_norm::{layer_norm, layer_norm_backward, rms_norm, rms_norm_backward};
pub use log_softmax::{log_softmax, log_softmax_backward};
pub use log_sum_exp::{log_sum_exp, log_sum_exp_backward};
pub use matmul::{MatmulShape, matmul};
pub use reduce::{Reduce, max_backward, reduce};
pub use siglip::{Siglip, siglip, siglip_backward};
pub use softmax::{softmax, softmax_backward};
pub use top_k::{by_rank, top_k};
pub use transpose::strided_copy;
pub use unary::Unary;
