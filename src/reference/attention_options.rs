//! What can be asked of attention.

use super::Dropout;
use std::sync::Arc;

/// Where the heads lie in memory. Both are read in place.
///
/// ```
/// use crossmodal::{Device, Tensor, ops::{AttentionLayout, AttentionOptions, attention}};
/// let x = Tensor::from_slice(&Device::Cpu, &[1, 1, 4], &[1f32, 2., 3., 4.])?;
/// let layout = AttentionLayout::Packed { heads: 2, kv_heads: 2 }; // two heads of two features side by side
/// let attended = attention(&x, &x, &x, None, &AttentionOptions { layout, ..Default::default() })?;
/// assert_eq!(attended.out.to_vec::<f32>()?, [1., 2., 3., 4.]); // one key: its value
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AttentionLayout {
    /// `[batch, heads, length, width]`.
    #[default]
    Heads,
    /// `[batch, length, heads · width]`, as a projection gives it.
    Packed {
        /// Heads of the queries.
        heads: usize,
        /// Heads of keys and values, of which `heads` is a multiple.
        kv_heads: usize,
    },
}

/// Where queries stand among keys that are not as many: query i at key i, or the last query at the last key. In packed sequences
/// that is meant of each sequence.
///
/// ```
/// use crossmodal::{Device, Tensor, ops::{AttentionOptions, Corner, attention}};
/// let of = |n: usize, v: &[f32]| Tensor::from_slice(&Device::Cpu, &[1, 1, n, 1], v);
/// let (query, keys) = (of(1, &[0.])?, of(3, &[1., 2., 6.])?);
/// let out = |corner| attention(&query, &keys, &keys, None, &AttentionOptions { causal: Some(corner), ..Default::default() });
/// assert_eq!(out(Corner::TopLeft)?.out.item()?, 1.); // the first query sees the first key
/// assert_eq!(out(Corner::BottomRight)?.out.item()?, 3.); // the last query sees all of them
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Corner {
    /// Query i stands at key i.
    TopLeft,
    /// Query i stands at key `i + keys − queries`.
    BottomRight,
}

/// A sliding window: a query at position p sees the keys from `p − before` to `p + after`.
///
/// ```
/// use crossmodal::{Device, Tensor, ops::{AttentionOptions, Corner, Window, attention}};
/// let x = Tensor::from_slice(&Device::Cpu, &[1, 1, 3, 1], &[1f32, 2., 3.])?;
/// let own = Window { before: Some(0), after: Some(0), corner: Corner::TopLeft };
/// let attended = attention(&x, &x, &x, None, &AttentionOptions { window: Some(own), ..Default::default() })?;
/// assert_eq!(attended.out.to_vec::<f32>()?, [1., 2., 3.]);
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Keys before its own that a query sees; `None` for all of them.
    pub before: Option<usize>,
    /// Keys behind its own.
    pub after: Option<usize>,
    /// Where queries stand among keys.
    pub corner: Corner,
}

/// Attention with linear biases (ALiBi, Press et al., 2022): `−slope_h |p − j|` on the score of a query at position p with key j.
/// No gradient is taken of the slopes.
///
/// ```
/// use crossmodal::ops::{Alibi, Corner};
/// assert_eq!(&*Alibi::new(8, Corner::TopLeft).slopes, [1. / 2., 1. / 4., 1. / 8., 1. / 16., 1. / 32., 1. / 64., 1. / 128., 1. / 256.]);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Alibi {
    /// A slope for each head of the queries.
    pub slopes: Arc<[f64]>,
    /// Where queries stand among keys.
    pub corner: Corner,
}

impl Alibi {
    /// The paper's slopes: `2^(−8 (h + 1) / n)` for n heads, a power of two; for another number those of the power below, then
    /// every other one of the power above. Example: [`Alibi`].
    pub fn new(heads: usize, corner: Corner) -> Alibi {
        let of = |heads: usize| (1..=heads).map(move |h| 2f64.powf(-8. * h as f64 / heads as f64));
        let whole = if heads.is_power_of_two() { heads } else { heads.next_power_of_two() / 2 };
        let slopes = of(whole).chain(of(2 * whole).step_by(2)).take(heads).collect();
        Alibi { slopes, corner }
    }
}

/// What a mask's `true` says: the same array means the opposite in another library.
///
/// ```
/// use crossmodal::ops::{Mask, Polarity};
/// assert_eq!(Mask::keep(&[1, 2], &[true, false]).polarity, Polarity::Keep);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Polarity {
    /// True is what is seen.
    Keep,
    /// True is what is not.
    Drop,
}

/// Which keys are seen. What is not leaves no trace, whatever is in it, and takes no gradient.
///
/// ```
/// use crossmodal::{Device, Tensor, ops::{AttentionOptions, Mask, attention}};
/// let x = Tensor::from_slice(&Device::Cpu, &[1, 1, 2, 1], &[1f32, f32::NAN])?;
/// let padding = Some(Mask::drop(&[1, 2], &[false, true]));
/// let query = Tensor::from_slice(&Device::Cpu, &[1, 1, 1, 1], &[1f32])?;
/// let attended = attention(&query, &x, &x, None, &AttentionOptions { key_mask: padding, ..Default::default() })?;
/// assert_eq!(attended.out.item()?, 1.);
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    /// What `true` says.
    pub polarity: Polarity,
    /// The sizes of its axes.
    pub shape: Vec<usize>,
    /// Its elements, row-major.
    pub values: Arc<[bool]>,
}

impl Mask {
    /// A mask whose `true` is what is seen. Example: [`Polarity`].
    pub fn keep(shape: &[usize], values: &[bool]) -> Mask {
        Mask { polarity: Polarity::Keep, shape: shape.to_vec(), values: values.into() }
    }

    /// A mask whose `true` is what is not seen. Example: [`Mask`].
    pub fn drop(shape: &[usize], values: &[bool]) -> Mask {
        Mask { polarity: Polarity::Drop, ..Mask::keep(shape, values) }
    }

    /// Whether the element at a place is seen.
    pub(crate) fn keeps(&self, at: usize) -> bool {
        self.values[at] == (self.polarity == Polarity::Keep)
    }
}

/// Sequences of different lengths one behind the other, by the places where they begin and, last, where the last one ends. A query
/// sees keys of its own sequence alone.
///
/// ```
/// use crossmodal::{Device, Tensor, ops::{AttentionOptions, Sequences, attention}};
/// let x = Tensor::from_slice(&Device::Cpu, &[1, 1, 3, 1], &[1f32, 1., 5.])?;
/// let sequences = Some(Sequences { queries: [0, 2, 3].into(), keys: [0, 2, 3].into() }); // of two and of one
/// let attended = attention(&x, &x, &x, None, &AttentionOptions { sequences, ..Default::default() })?;
/// assert_eq!(attended.out.to_vec::<f32>()?, [1., 1., 5.]);
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequences {
    /// Cumulative lengths among the queries: from 0 to their number, not descending.
    pub queries: Arc<[usize]>,
    /// Cumulative lengths among the keys, as many.
    pub keys: Arc<[usize]>,
}

/// Whether the probabilities are returned.
///
/// ```
/// use crossmodal::{Device, Tensor, ops::{AttentionOptions, AttentionWeights, attention}};
/// let x = Tensor::from_slice(&Device::Cpu, &[1, 2, 2, 1], &[0f32; 4])?;
/// let options = AttentionOptions { weights: AttentionWeights::Averaged, rows: Some([1].into()), ..Default::default() };
/// let weights = attention(&x, &x, &x, None, &options)?.weights.unwrap();
/// assert_eq!((weights.shape(), weights.to_vec::<f32>()?), (&[1, 1, 2][..], vec![0.5, 0.5])); // of query 1
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AttentionWeights {
    /// No: they are never stored.
    #[default]
    None,
    /// `[batch, heads, rows, keys]`.
    PerHead,
    /// `[batch, rows, keys]`, the mean over the heads.
    Averaged,
}

/// How queries, keys and values are read, which pairs see each other, and what is returned.
///
/// All options combine: a pair counts where every mask, the window, the order and the sequences let it.
///
/// ```
/// use crossmodal::{Device, Tensor, ops::{AttentionOptions, Corner, attention}};
/// let x = Tensor::from_slice(&Device::Cpu, &[1, 1, 2, 1], &[0f32, 0.])?;
/// let values = Tensor::from_slice(&Device::Cpu, &[1, 1, 2, 1], &[2f32, 4.])?;
/// let options = AttentionOptions { causal: Some(Corner::TopLeft), ..Default::default() };
/// assert_eq!(attention(&x, &x, &values, None, &options)?.out.to_vec::<f32>()?, [2., 3.]);
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct AttentionOptions {
    /// Where the heads lie.
    pub layout: AttentionLayout,
    /// The factor of the products, `1/√dh` if `None`.
    pub scale: Option<f64>,
    /// A score s becomes `cap · tanh(s / cap)`, before biases.
    pub softcap: Option<f64>,
    /// No query sees keys behind its own.
    pub causal: Option<Corner>,
    /// No query sees keys far from its own.
    pub window: Option<Window>,
    /// Linear biases.
    pub alibi: Option<Alibi>,
    /// Which keys there are, `[batch, keys]`.
    pub key_mask: Option<Mask>,
    /// Which pairs there are, `[batch or 1, heads or 1, queries, keys]`.
    pub pair_mask: Option<Mask>,
    /// Packed sequences: the same in every batch, of which there usually is one.
    pub sequences: Option<Sequences>,
    /// Dropout of the probabilities behind the softmax: element `queries · keys` of a head by the generator of
    /// [`dropout`](crate::ops::dropout()), each head of each batch with numbers of its own.
    pub dropout: Option<Dropout>,
    /// Whether the probabilities are returned, as they are before dropout.
    pub weights: AttentionWeights,
    /// Of which queries, each once; of all if `None`.
    pub rows: Option<Arc<[usize]>>,
    /// Bytes for gradients of scores in the backward on a GPU; a discrete one takes 16 times as many. Where they are enough to keep it
    /// busy, q and k both need gradients, and there is no order, window, sequence, mask, bias, cap, dropout or gradient of the
    /// weights, the backward makes five products instead of seven. 0: always seven. Gradients differ in rounding alone.
    pub scratch_bytes: usize,
}

impl Default for AttentionOptions {
    /// Everybody sees everybody, one head after the other, 16 MiB of scratch. Example: [`AttentionOptions`].
    fn default() -> Self {
        AttentionOptions {
            layout: AttentionLayout::default(),
            scale: None,
            softcap: None,
            causal: None,
            window: None,
            alibi: None,
            key_mask: None,
            pair_mask: None,
            sequences: None,
            dropout: None,
            weights: AttentionWeights::default(),
            rows: None,
            scratch_bytes: 16 << 20,
        }
    }
}
