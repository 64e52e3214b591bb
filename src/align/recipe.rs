//! How to train, and what cannot be trained.

use super::data::Data;
use crate::error::{Error, Result};

/// The widest shared space: sixteen times the widest in use, and small enough that a slip of the finger is told from a wish.
const MAX_DIM: usize = 65536;

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
    /// The learning rate at the start; half a cosine takes it to 0.
    pub learning_rate: f64,
    /// The decoupled decay of the weights.
    pub weight_decay: f64,
    /// The temperature at the start, `τ = e⁻ᵗ`; it is learned.
    pub temperature: f64,
    /// For the initial weights and the order of rows.
    pub seed: u64,
}

impl Default for Recipe {
    fn default() -> Self {
        Recipe {
            dim: 256,
            epochs: 40,
            batch_size: 256,
            learning_rate: 1e-3,
            weight_decay: 0.1,
            temperature: 0.07,
            seed: 0,
        }
    }
}

impl Recipe {
    /// Refuses what cannot train.
    pub(super) fn check(&self, data: &Data) -> Result<()> {
        let recipe = self;
        let refuse =
            |argument, expected: String, got: String| Err(Error::argument("align", argument, expected, got));
        let train = data.split.train.len();
        if recipe.batch_size < 2 {
            let expected = "at least 2: a row needs others to be told from".to_string();
            return refuse("batch size", expected, recipe.batch_size.to_string());
        }
        if recipe.batch_size > train {
            return refuse(
                "batch size",
                format!("at most the {train} training rows"),
                recipe.batch_size.to_string(),
            );
        }
        if recipe.dim > MAX_DIM {
            return refuse("dim", format!("at most {MAX_DIM}"), recipe.dim.to_string());
        }
        for (argument, value) in [("dim", recipe.dim), ("epochs", recipe.epochs as usize)] {
            if value == 0 {
                return refuse(argument, "at least 1".into(), "0".into());
            }
        }
        for (argument, value, fits, expected) in [
            ("learning rate", recipe.learning_rate, recipe.learning_rate > 0., "a finite number above 0"),
            ("weight decay", recipe.weight_decay, recipe.weight_decay >= 0., "a finite number of at least 0"),
            // The logit scale is kept in [1, 100].
            ("temperature", recipe.temperature, (0.01..=1.).contains(&recipe.temperature), "0.01 to 1"),
        ] {
            if !value.is_finite() || !fits {
                return refuse(argument, expected.to_string(), format!("{value:?}"));
            }
        }
        let longest = data.split.train.len() / recipe.batch_size;
        if u32::try_from(longest).ok().and_then(|steps| steps.checked_mul(recipe.epochs)).is_none() {
            return refuse("epochs", "fewer than 2^32 steps".into(), recipe.epochs.to_string());
        }
        Ok(())
    }
}
