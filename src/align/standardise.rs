//! Features shifted and scaled to mean 0 and deviation 1, by what the training rows show.

use crate::io::Features;

/// Added to every deviation: a feature that never changes in training stays 0 there.
const EPS: f64 = 1e-6;

/// Mean and standard deviation of each feature.
///
/// ```
/// use crossmodal::{align::Standardisation, io::Features};
/// let features = Features { rows: 3, cols: 1, values: vec![1., 3., 100.] };
/// let standardisation = Standardisation::fit(&features, &[0, 1]);
/// assert_eq!((standardisation.mean[0], standardisation.deviation[0]), (2., 1.));
/// assert!((standardisation.apply(&[4.])[0] - 2.).abs() < 1e-5);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Standardisation {
    /// The means.
    pub mean: Vec<f64>,
    /// The population standard deviations.
    pub deviation: Vec<f64>,
}

impl Standardisation {
    /// Of the given rows, in f64 and two passes; NaN of no rows. Panics if a row is not there. Example:
    /// [`Standardisation`].
    pub fn fit(features: &Features, rows: &[u32]) -> Standardisation {
        let (cols, count) = (features.cols, rows.len() as f64);
        let row = |row: u32| &features.values[row as usize * cols..][..cols];
        let mut mean = vec![0.; cols];
        for &r in rows {
            mean.iter_mut().zip(row(r)).for_each(|(sum, &v)| *sum += f64::from(v));
        }
        mean.iter_mut().for_each(|sum| *sum /= count);
        let mut deviation = vec![0.; cols];
        for &r in rows {
            let both = deviation.iter_mut().zip(&mean).zip(row(r));
            both.for_each(|((sum, mean), &v)| *sum += (f64::from(v) - mean).powi(2));
        }
        deviation.iter_mut().for_each(|sum| *sum = (*sum / count).sqrt());
        Standardisation { mean, deviation }
    }

    /// As [`fit`](Self::fit) with one deviation for all features: the root of their mean variance.
    ///
    /// ```
    /// use crossmodal::{align::Standardisation, io::Features};
    /// let features = Features { rows: 2, cols: 2, values: vec![1., 0., 3., 14.] };
    /// let scaled = Standardisation::fit_modality(&features, &[0, 1]);
    /// assert_eq!((scaled.mean, scaled.deviation), (vec![2., 7.], vec![5., 5.])); // variances of 1 and 49
    /// ```
    pub fn fit_modality(features: &Features, rows: &[u32]) -> Standardisation {
        let Standardisation { mean, deviation } = Self::fit(features, rows);
        let variance = deviation.iter().map(|d| d * d).sum::<f64>() / deviation.len() as f64;
        Standardisation { deviation: vec![variance.sqrt(); mean.len()], mean }
    }

    /// `(x − mean) / (deviation + 1e-6)` of whole rows, computed in f64 and rounded to f32. Example:
    /// [`Standardisation`].
    pub fn apply(&self, values: &[f32]) -> Vec<f32> {
        let columns = self.mean.iter().zip(&self.deviation).cycle();
        values
            .iter()
            .zip(columns)
            .map(|(&v, (mean, deviation))| ((f64::from(v) - mean) / (deviation + EPS)) as f32)
            .collect()
    }
}
