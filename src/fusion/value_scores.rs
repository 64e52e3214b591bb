//! How well numbers are told.

use crate::error::{Error, Result};

/// Scores of numbers that are told.
///
/// ```
/// use crossmodal::fusion::ValueScores;
/// let scores = ValueScores::new(&[1., 2., 5.], &[1., 2., 3.])?;
/// assert_eq!((scores.r2, scores.mae), (-100., 2. / 3.)); // errors of 0, 0, 2: a square of 4 to a variance of 2
/// assert!((scores.rmse - (4f64 / 3.).sqrt()).abs() < 1e-12);
/// assert!(ValueScores::new(&[1., 2.], &[3., 3.]).is_err()); // there is nothing to tell
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ValueScores {
    /// `100 (1 − Σ (told − true)² / Σ (true − mean)²)`: the part of the variance that is told, in percent. The mean of what is true has
    /// 0, what is worse has less.
    pub r2: f64,
    /// The root of the mean squared error.
    pub rmse: f64,
    /// The mean error without its sign.
    pub mae: f64,
}

impl ValueScores {
    /// Of numbers told and true ones, summed in f64.
    ///
    /// Errors: no numbers; not as many of both; true ones that are all the same, whose variance of 0 has no parts; what is not finite.
    /// Example: [`ValueScores`].
    pub fn new(told: &[f32], values: &[f32]) -> Result<ValueScores> {
        let refuse = |argument, expected: String, got: String| {
            Err(Error::argument("ValueScores", argument, expected, got))
        };
        if values.is_empty() || told.len() != values.len() {
            let expected = format!("{} numbers, one for each true one, and at least one", values.len());
            return refuse("told", expected, told.len().to_string());
        }
        if let Some(value) = told.iter().chain(values).find(|value| !value.is_finite()) {
            return refuse("told", "finite numbers".into(), value.to_string());
        }
        if values.iter().all(|value| *value == values[0]) {
            return refuse("values", "numbers that differ".into(), format!("{} alone", values[0]));
        }
        let count = values.len() as f64;
        let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / count;
        let variance: f64 = values.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum();
        let errors = || told.iter().zip(values).map(|(a, b)| f64::from(*a) - f64::from(*b));
        let squares: f64 = errors().map(|error| error * error).sum();
        let mae = errors().map(f64::abs).sum::<f64>() / count;
        Ok(ValueScores { r2: 100. * (1. - squares / variance), rmse: (squares / count).sqrt(), mae })
    }
}
