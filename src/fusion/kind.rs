//! Which fusion is trained, by name.

use crate::error::{Error, Result};

/// Which fusion is trained. Those of tokens are made for sequences; a vector is one token to them, and to the others a sequence is the
/// mean of its tokens.
///
/// ```
/// use crossmodal::fusion::FusionKind;
/// assert_eq!("gmu".parse(), Ok(FusionKind::Gated));
/// assert_eq!(FusionKind::LowRank { rank: 4 }.to_string(), "lowrank 4");
/// assert_eq!("merged 4 2".parse(), Ok(FusionKind::Merged { heads: 4, layers: 2 }));
/// assert!("glue".parse::<FusionKind>().is_err());
/// assert!(FusionKind::Merged { heads: 4, layers: 2 }.is_of_tokens());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FusionKind {
    /// [`Concatenation`](super::Concatenation) with one layer behind it.
    Concat,
    /// [`GatedUnit`](super::GatedUnit).
    Gated,
    /// [`TensorFusion`](super::TensorFusion).
    Tensor {
        /// The width that each modality is projected to.
        inner: usize,
    },
    /// [`LowRankFusion`](super::LowRankFusion).
    LowRank {
        /// Factors of each modality.
        rank: usize,
    },
    /// [`AttentionPooling`](super::AttentionPooling).
    Pooling,
    /// [`DeepSet`](super::DeepSet).
    DeepSet {
        /// The width between its two layers.
        hidden: usize,
    },
    /// Blocks of [`CrossAttention`](super::CrossAttention) of the first modality over the second.
    CrossAttention {
        /// Heads.
        heads: usize,
        /// Blocks.
        layers: usize,
    },
    /// Layers of [`CoAttention`](super::CoAttention) of two modalities.
    CoAttention {
        /// Heads.
        heads: usize,
        /// Layers.
        layers: usize,
    },
    /// [`MergedEncoder`](super::MergedEncoder).
    Merged {
        /// Heads.
        heads: usize,
        /// Layers.
        layers: usize,
    },
    /// Blocks of [`GatedCrossAttention`](super::GatedCrossAttention) of the first modality over the second.
    GatedCrossAttention {
        /// Heads.
        heads: usize,
        /// Blocks.
        layers: usize,
    },
    /// [`BottleneckFusion`](super::BottleneckFusion).
    Bottleneck {
        /// Heads.
        heads: usize,
        /// Layers.
        layers: usize,
        /// Tokens between the modalities.
        latents: usize,
    },
    /// [`Resampler`](super::Resampler).
    Resampler {
        /// Heads.
        heads: usize,
        /// Layers.
        layers: usize,
        /// Tokens that come out.
        latents: usize,
    },
}

impl FusionKind {
    /// Whether it takes the tokens of a sequence one by one. Example: [`FusionKind`].
    pub fn is_of_tokens(&self) -> bool {
        use FusionKind::{Concat, DeepSet, Gated, LowRank, Pooling, Tensor};
        !matches!(self, Concat | Gated | Tensor { .. } | LowRank { .. } | Pooling | DeepSet { .. })
    }
}

/// What attention takes.
const WIDEST_HEAD: usize = 256;
/// Layers, and tokens between modalities.
const MOST_LAYERS: usize = 1024;
/// Any other size.
const MOST: usize = 65536;

impl FusionKind {
    /// Refuses sizes that no fusion of so many modalities to `dim` can have, by their names here: before anything is made of them.
    ///
    /// ```
    /// use crossmodal::fusion::FusionKind;
    /// let merged = FusionKind::Merged { heads: 4, layers: 1 };
    /// assert!(merged.check(3, 128).is_ok() && merged.check(3, 30).is_err());
    /// assert!(FusionKind::CoAttention { heads: 4, layers: 1 }.check(3, 128).is_err()); // it is of two
    /// ```
    pub fn check(&self, modalities: usize, dim: usize) -> Result<()> {
        let sizes = |sizes: &[(&'static str, usize, usize)]| {
            let wrong = sizes.iter().find(|(_, size, most)| !(1..=*most).contains(size));
            wrong.map_or(Ok(()), |(argument, size, most)| {
                Err(Error::argument("fuse", *argument, format!("1 to {most}"), size))
            })
        };
        let (heads, layers, latents, is_of_two) = match *self {
            FusionKind::Concat | FusionKind::Gated | FusionKind::Pooling => return Ok(()),
            FusionKind::Tensor { inner } => return sizes(&[("inner", inner, MOST)]),
            FusionKind::LowRank { rank } => return sizes(&[("rank", rank, MOST)]),
            FusionKind::DeepSet { hidden } => return sizes(&[("hidden", hidden, MOST)]),
            FusionKind::CrossAttention { heads, layers }
            | FusionKind::CoAttention { heads, layers }
            | FusionKind::GatedCrossAttention { heads, layers } => (heads, layers, 1, true),
            FusionKind::Merged { heads, layers } => (heads, layers, 1, false),
            FusionKind::Bottleneck { heads, layers, latents }
            | FusionKind::Resampler { heads, layers, latents } => (heads, layers, latents, false),
        };
        if is_of_two && modalities != 2 {
            return Err(Error::argument("fuse", "fusion", "two modalities for this fusion", modalities));
        }
        if heads == 0 || !dim.is_multiple_of(heads) || dim / heads > WIDEST_HEAD {
            let expected = format!("a divisor of the width {dim}, of at most {WIDEST_HEAD} features a head");
            return Err(Error::argument("fuse", "heads", expected, heads));
        }
        sizes(&[("layers", layers, MOST_LAYERS), ("latents", latents, MOST_LAYERS)])
    }

    /// Every size that it has.
    #[cfg(feature = "io")]
    pub(super) fn sizes(&self) -> Vec<usize> {
        self.to_string().split(' ').filter_map(|word| word.parse().ok()).collect()
    }
}

impl std::fmt::Display for FusionKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FusionKind::Concat => write!(f, "concat"),
            FusionKind::Gated => write!(f, "gmu"),
            FusionKind::Tensor { inner } => write!(f, "tensor {inner}"),
            FusionKind::LowRank { rank } => write!(f, "lowrank {rank}"),
            FusionKind::Pooling => write!(f, "pooling"),
            FusionKind::DeepSet { hidden } => write!(f, "deepset {hidden}"),
            FusionKind::CrossAttention { heads, layers } => write!(f, "cross-attention {heads} {layers}"),
            FusionKind::CoAttention { heads, layers } => write!(f, "co-attention {heads} {layers}"),
            FusionKind::Merged { heads, layers } => write!(f, "merged {heads} {layers}"),
            FusionKind::GatedCrossAttention { heads, layers } => {
                write!(f, "gated-cross-attention {heads} {layers}")
            }
            FusionKind::Bottleneck { heads, layers, latents } => {
                write!(f, "bottleneck {heads} {layers} {latents}")
            }
            FusionKind::Resampler { heads, layers, latents } => {
                write!(f, "resampler {heads} {layers} {latents}")
            }
        }
    }
}

impl std::str::FromStr for FusionKind {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let refuse = || format!("expected a fusion, got {text}");
        let mut words = text.split(' ');
        let name = words.next().unwrap_or_default();
        let numbers: Vec<usize> =
            words.map(str::parse).collect::<std::result::Result<_, _>>().map_err(|_| refuse())?;
        match (name, &numbers[..]) {
            ("concat", []) => Ok(FusionKind::Concat),
            ("gmu", []) => Ok(FusionKind::Gated),
            ("tensor", &[inner]) => Ok(FusionKind::Tensor { inner }),
            ("lowrank", &[rank]) => Ok(FusionKind::LowRank { rank }),
            ("pooling", []) => Ok(FusionKind::Pooling),
            ("deepset", &[hidden]) => Ok(FusionKind::DeepSet { hidden }),
            ("cross-attention", &[heads, layers]) => Ok(FusionKind::CrossAttention { heads, layers }),
            ("co-attention", &[heads, layers]) => Ok(FusionKind::CoAttention { heads, layers }),
            ("merged", &[heads, layers]) => Ok(FusionKind::Merged { heads, layers }),
            ("gated-cross-attention", &[heads, layers]) => {
                Ok(FusionKind::GatedCrossAttention { heads, layers })
            }
            ("bottleneck", &[heads, layers, latents]) => {
                Ok(FusionKind::Bottleneck { heads, layers, latents })
            }
            ("resampler", &[heads, layers, latents]) => Ok(FusionKind::Resampler { heads, layers, latents }),
            _ => Err(refuse()),
        }
    }
}
