//! The linear probe: what a linear classifier can read off frozen features.

use super::classification::{Classification, Labelled};
use super::logistic::Logistic;
use crate::align::check_widths;
use crate::device::Device;
use crate::error::Result;

/// How a probe is trained.
///
/// ```
/// let options = crossmodal::evaluate::Probe { steps: 50, ..Default::default() };
/// assert_eq!(options.l2.len(), 6);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Probe {
    /// The strengths of the penalty that are tried: 10, 1, 0.1, 0.01, 0.001, 0.0001.
    pub l2: Vec<f64>,
    /// Steps of L-BFGS for each of them, at most: 300.
    pub steps: usize,
}

impl Default for Probe {
    fn default() -> Probe {
        Probe { l2: vec![10., 1., 0.1, 0.01, 0.001, 0.0001], steps: 300 }
    }
}

/// What a probe read off.
///
/// ```
/// use crossmodal::{Device, evaluate::{Labelled, Probe, linear_probe}, io::Features};
/// // Classes by the sign of the second column.
/// let features = Features { rows: 4, cols: 2, values: vec![5., 1., 5., 0.9, 5., -1., 5., -0.8] };
/// let items = Labelled { features: &features, labels: &[1, 1, 2, 2] };
/// let scores = linear_probe(&Device::Cpu, &items, &items, &items, &Probe::default())?;
/// assert_eq!((scores.test.top_1, scores.validation.top_1, scores.l2), (100., 100., 10.));
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProbeScores {
    /// On the test rows.
    pub test: Classification,
    /// On the validation rows.
    pub validation: Classification,
    /// The penalty that did best on them.
    pub l2: f64,
}

/// Trains `softmax(x W + b)` on frozen features and scores it on others.
///
/// Features are standardised by the training rows. W and b minimise `mean −log p(class) + l2/2 ‖W‖²` over the training rows, by
/// L-BFGS from the solution for the penalty before, the first from 0. Of the penalties, tried from the strongest, the first with
/// the best top-1 on the validation rows is taken. Nothing is drawn by chance. The classes are those of the training rows: an
/// item of another class counts as wrong.
///
/// Waits for the device. Errors: no rows, a value that is not finite, labels that are not one a row, widths that differ; no
/// penalty, or one that is not positive and finite; the device's. Example: [`ProbeScores`].
pub fn linear_probe(
    device: &Device,
    train: &Labelled<'_>,
    validation: &Labelled<'_>,
    test: &Labelled<'_>,
    options: &Probe,
) -> Result<ProbeScores> {
    test.check("linear_probe", ["test", "test labels"])?;
    check_widths("linear_probe", "test", train.features, test.features)?;
    let (model, of_validation) = Logistic::fit_as("linear_probe", device, train, validation, options)?;
    let of_test = model.score(device, test)?;
    Ok(ProbeScores { test: of_test, validation: of_validation, l2: model.l2 })
}

#[cfg(test)]
mod tests {
    use super::super::lbfgs::{Stop, minimise};
    use super::super::logistic::Model;
    use super::*;
    use crate::io::Features;
    use crate::nn::generator;
    use crate::tensor::Tensor;
    use rand::RngExt;

    fn column(values: &[f32]) -> Features {
        Features { rows: values.len(), cols: 1, values: values.to_vec() }
    }

    /// Two classes on a line, as far left as right: b = 0 and W = (-w, w), where the gradient gives an equation for w.
    #[test]
    fn the_weights_solve_the_equation_of_the_minimum() {
        let x = column(&[-1., 1.]);
        let train = Labelled { features: &x, labels: &[0, 1] };
        let tensor = Tensor::from_slice(&Device::Cpu, &[2, 1], &x.values).unwrap();
        let model = Model::new(&Device::Cpu, &train, tensor).unwrap();
        let mut weights = vec![0.; 4];
        let l2 = 0.1;
        minimise(&mut weights, Stop { steps: 100, gradient: 1e-7 }, |w| model.loss(w, l2)).unwrap();
        // d/dw of log(1 + e^(-2w)) + l2 w² is 0.
        let w = weights[1];
        assert!((2. / (1. + (2. * w).exp()) - 2. * l2 * w).abs() < 1e-4, "{w}");
        assert!((weights[0] + w).abs() < 1e-4 && weights[2].abs() < 1e-4, "{weights:?}");
    }

    #[test]
    fn the_gradient_is_that_of_the_loss() {
        let mut random = generator(1, 0);
        let mut draw = |count: usize| (0..count).map(|_| random.random_range(-1f32..1.)).collect::<Vec<_>>();
        let x = Features { rows: 6, cols: 3, values: draw(18) };
        let train = Labelled { features: &x, labels: &[4, 4, 9, -1, 9, 4] };
        let tensor = Tensor::from_slice(&Device::Cpu, &[6, 3], &x.values).unwrap();
        let model = Model::new(&Device::Cpu, &train, tensor).unwrap();
        let weights: Vec<f64> = draw(12).into_iter().map(f64::from).collect();
        let (_, gradient) = model.loss(&weights, 0.3).unwrap();
        for i in 0..weights.len() {
            let at = |h: f64| {
                let mut moved = weights.clone();
                moved[i] += h;
                model.loss(&moved, 0.3).unwrap().0
            };
            assert!(((at(1e-2) - at(-1e-2)) / 2e-2 - gradient[i]).abs() < 1e-3, "{i}");
        }
    }

    #[test]
    fn the_penalty_is_chosen_on_the_validation_rows() {
        // The classes differ in the columns' difference, which is small beside the columns: the class means alone are no help.
        let values = vec![-3., -3.1, 0., -0.1, 3., 2.9, -3., -2.9, 0., 0.1, 3., 3.1];
        let x = Features { rows: 6, cols: 2, values };
        let train = Labelled { features: &x, labels: &[0, 0, 0, 1, 1, 1] };
        let validation = train;
        let options = Probe { l2: vec![1e-4, 10.], ..Probe::default() };
        let scores = linear_probe(&Device::Cpu, &train, &validation, &train, &options).unwrap();
        assert_eq!((scores.l2, scores.validation.top_1, scores.test.top_1), (1e-4, 100., 100.));
        let options = Probe { l2: vec![10.], ..Probe::default() };
        let scores = linear_probe(&Device::Cpu, &train, &validation, &train, &options).unwrap();
        assert!(scores.validation.top_1 < 100.);
    }

    #[test]
    fn classes_that_were_not_trained_are_wrong() {
        let x = column(&[-1., 1.]);
        let train = Labelled { features: &x, labels: &[0, 1] };
        let test = Labelled { features: &x, labels: &[0, 7] };
        let scores = linear_probe(&Device::Cpu, &train, &train, &test, &Probe::default()).unwrap();
        assert_eq!((scores.test.top_1, scores.test.top_5, scores.test.mean_per_class), (50., 50., 50.));
        for l2 in [vec![], vec![0.], vec![f64::NAN]] {
            let options = Probe { l2, ..Probe::default() };
            assert!(linear_probe(&Device::Cpu, &train, &train, &test, &options).is_err());
        }
    }
}
