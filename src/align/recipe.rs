//! How to train, and what cannot be trained.

use super::data::Data;
use super::objective::Objective;
use crate::error::{Error, Result};

/// The widest shared space: sixteen times the widest in use, and small enough that a slip of the finger is told from a wish.
const MAX_DIM: usize = 65536;

/// What stands between the features and the shared space.
///
/// ```
/// use crossmodal::align::HeadKind;
/// assert_eq!("mlp 512".parse(), Ok(HeadKind::Mlp { hidden: 512 }));
/// assert_eq!(HeadKind::Linear.to_string(), "linear");
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum HeadKind {
    /// One linear layer (CLIP).
    Linear,
    /// Two, with GELU between (SimCLR).
    Mlp {
        /// The width between them.
        hidden: usize,
    },
    /// Two, mixed with the features as they are: `r f(x) + (1 − r) x` (CLIP-Adapter, Gao et al., 2021). The features of all
    /// modalities must have one width, that of the shared space.
    Residual {
        /// The width between them.
        hidden: usize,
        /// `r`.
        ratio: f64,
    },
}

impl std::fmt::Display for HeadKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            HeadKind::Linear => write!(f, "linear"),
            HeadKind::Mlp { hidden } => write!(f, "mlp {hidden}"),
            HeadKind::Residual { hidden, ratio } => write!(f, "residual {hidden} {ratio}"),
        }
    }
}

impl std::str::FromStr for HeadKind {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let words: Vec<_> = text.split(' ').collect();
        let head = match words[..] {
            ["linear"] => Some(HeadKind::Linear),
            ["mlp", hidden] => hidden.parse().ok().map(|hidden| HeadKind::Mlp { hidden }),
            ["residual", hidden, ratio] => hidden
                .parse()
                .ok()
                .zip(ratio.parse().ok())
                .map(|(hidden, ratio)| HeadKind::Residual { hidden, ratio }),
            _ => None,
        };
        head.ok_or_else(|| format!("expected a head, got {text}"))
    }
}

/// How features are shifted to mean 0 and scaled, on the training rows.
///
/// ```
/// use crossmodal::align::Scaling;
/// assert_eq!("modality".parse(), Ok(Scaling::Modality));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scaling {
    /// Each feature to deviation 1.
    Feature,
    /// All features of a modality by one factor, to a mean variance of 1: what varies more counts more.
    Modality,
}

impl std::fmt::Display for Scaling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if *self == Scaling::Feature { "feature" } else { "modality" })
    }
}

impl std::str::FromStr for Scaling {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "feature" => Ok(Scaling::Feature),
            "modality" => Ok(Scaling::Modality),
            _ => Err(format!("expected feature or modality, got {text}")),
        }
    }
}

/// What is trained, for how long, with which numbers.
///
/// ```
/// use crossmodal::align::Recipe;
/// let recipe = Recipe { epochs: 10, learning_rate: 3e-4, ..Recipe::default() };
/// assert_eq!((recipe.dim, recipe.batch_size, recipe.temperature), (256, 256, 0.07));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recipe {
    /// The width of the shared space.
    pub dim: usize,
    /// Passes over the training rows.
    pub epochs: u32,
    /// Rows in a batch; the last, short batch of an epoch is dropped.
    pub batch_size: usize,
    /// The highest learning rate; half a cosine takes it to 0.
    pub learning_rate: f64,
    /// Steps in which the learning rate rises to its height first.
    pub warmup_steps: u32,
    /// The norm that all gradients together have at most: longer ones are scaled down.
    pub grad_clip_norm: Option<f64>,
    /// The decoupled decay of the weights.
    pub weight_decay: f64,
    /// The temperature at the start, `τ = e⁻ᵗ`; it is learned.
    pub temperature: f64,
    /// For the initial weights and the order of rows.
    pub seed: u64,
    /// What is made small.
    pub objective: Objective,
    /// What stands between the features and the shared space.
    pub head: HeadKind,
    /// The number of the modality whose standardised features are the shared space (locked-image tuning, Zhai et al., 2022):
    /// `dim` is their width.
    pub freeze: Option<usize>,
    /// How features are scaled, on the training rows.
    pub scaling: Scaling,
    /// The part of the scaled features that is dropped in training, at random in each step.
    pub dropout: f64,
    /// Parts in which a batch goes through the heads (gradient caching, Gao et al., 2021): the loss still sees all of it at
    /// once, the memory of the heads is that of a part.
    pub accum: usize,
}

impl Default for Recipe {
    fn default() -> Self {
        Recipe {
            dim: 256,
            epochs: 60,
            batch_size: 256,
            learning_rate: 1e-3,
            warmup_steps: 0,
            grad_clip_norm: None,
            weight_decay: 0.1,
            temperature: 0.07,
            seed: 0,
            objective: Objective::default(),
            head: HeadKind::Linear,
            freeze: None,
            scaling: Scaling::Modality,
            dropout: 0.5,
            accum: 1,
        }
    }
}

fn refuse<T>(
    argument: &'static str,
    expected: impl std::fmt::Display,
    got: impl std::fmt::Display,
) -> Result<T> {
    Err(Error::argument("align", argument, expected, got))
}

impl Recipe {
    /// Refuses what cannot train.
    pub(super) fn check(&self, data: &Data) -> Result<()> {
        let recipe = self;
        let train = data.split.train.len();
        if recipe.batch_size < 2 {
            return refuse("batch size", "at least 2: a row needs others to be told from", recipe.batch_size);
        }
        if recipe.batch_size > train {
            return refuse("batch size", format!("at most the {train} training rows"), recipe.batch_size);
        }
        if recipe.dim > MAX_DIM {
            return refuse("dim", format!("at most {MAX_DIM}"), recipe.dim);
        }
        for (argument, value) in
            [("dim", recipe.dim), ("epochs", recipe.epochs as usize), ("accum", recipe.accum)]
        {
            if value == 0 {
                return refuse(argument, "at least 1", 0);
            }
        }
        let clip = recipe.grad_clip_norm.unwrap_or(1.);
        for (argument, value, fits, expected) in [
            ("learning rate", recipe.learning_rate, recipe.learning_rate > 0., "a finite number above 0"),
            ("grad clip norm", clip, clip > 0., "a finite number above 0"),
            ("weight decay", recipe.weight_decay, recipe.weight_decay >= 0., "a finite number of at least 0"),
            // The logit scale is kept in [1, 100].
            ("temperature", recipe.temperature, (0.01..=1.).contains(&recipe.temperature), "0.01 to 1"),
        ] {
            if !value.is_finite() || !fits {
                return refuse(argument, expected, format!("{value:?}"));
            }
        }
        if !(0. ..1.).contains(&recipe.dropout) {
            return refuse("dropout", "0 to less than 1", format!("{:?}", recipe.dropout));
        }
        let longest = u32::try_from(data.split.train.len() / recipe.batch_size);
        let Some(steps) = longest.ok().and_then(|steps| steps.checked_mul(recipe.epochs)) else {
            return refuse("epochs", "fewer than 2^32 steps", recipe.epochs);
        };
        if recipe.warmup_steps >= steps {
            let expected = format!("fewer than the {steps} steps of the run");
            return refuse("warmup", expected, recipe.warmup_steps);
        }
        let views = data.modalities.iter().map(|own| 1 + own.views.len()).max().unwrap_or(1);
        recipe.objective.check(recipe.batch_size, train, views)?;
        recipe.check_heads(data)
    }

    fn check_heads(&self, data: &Data) -> Result<()> {
        if let Some(side) = self.freeze {
            let Some(frozen) = data.modalities.get(side) else {
                return refuse("freeze", format!("a modality below {}", data.modalities.len()), side);
            };
            if self.dim != frozen.features.cols {
                let expected =
                    format!("{}, the width of the frozen modality {}", frozen.features.cols, frozen.name);
                return refuse("dim", expected, self.dim);
            }
        }
        let hidden = match self.head {
            HeadKind::Linear => 1,
            HeadKind::Mlp { hidden } | HeadKind::Residual { hidden, .. } => hidden,
        };
        if hidden == 0 || hidden > MAX_DIM {
            return refuse("hidden", format!("1 to {MAX_DIM}"), hidden);
        }
        if let HeadKind::Residual { ratio, .. } = self.head {
            if !(0. ..=1.).contains(&ratio) {
                return refuse("residual ratio", "0 to 1", format!("{ratio:?}"));
            }
            if let Some(other) = data.modalities.iter().find(|own| own.features.cols != self.dim) {
                let expected =
                    format!("features of {} in every modality, as --dim says, for residual heads", self.dim);
                return refuse("head", expected, format!("{} in {}", other.features.cols, other.name));
            }
        }
        Ok(())
    }

    /// The sizes of the layers of a side's head, from its features to the shared space.
    pub(super) fn layers(&self, side: usize, inputs: usize) -> Vec<(usize, usize)> {
        match self.head {
            _ if self.freeze == Some(side) => vec![],
            HeadKind::Linear => vec![(inputs, self.dim)],
            HeadKind::Mlp { hidden } | HeadKind::Residual { hidden, .. } => {
                vec![(inputs, hidden), (hidden, self.dim)]
            }
        }
    }

    /// The part of its own features that a side's head mixes in.
    pub(super) fn residual(&self, side: usize) -> Option<f64> {
        match self.head {
            HeadKind::Residual { ratio, .. } if self.freeze != Some(side) => Some(ratio),
            _ => None,
        }
    }
}
