//! Multinomial logistic regression, its penalty chosen on validation rows.

use super::classification::{Classification, Labelled, rank};
use super::lbfgs::{Stop, minimise};
use super::probe::Probe;
use crate::align::{Standardisation, check_widths};
use crate::autograd::Tape;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::io::Features;
use crate::nn::{Linear, Parameters};
use crate::ops::log_softmax::LOG_SOFTMAX;
use crate::ops::softmax;
use crate::tensor::Tensor;

/// `softmax(x W + b)` of standardised features.
///
/// ```
/// use crossmodal::{Device, evaluate::{Labelled, Logistic, Probe}, io::Features};
/// let features = Features { rows: 4, cols: 1, values: vec![2., 1.5, -1., -2.] };
/// let items = Labelled { features: &features, labels: &[7, 7, 3, 3] };
/// let (model, of_validation) = Logistic::fit(&Device::Cpu, &items, &items, &Probe::default())?;
/// assert_eq!((model.classes.as_slice(), of_validation.top_1), (&[3, 7][..], 100.));
/// let p = model.probabilities(&Device::Cpu, &features)?;
/// assert!(p.values[1] > 0.5 && (p.values[0] + p.values[1] - 1.).abs() < 1e-6); // row 0 is of class 7
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Logistic {
    /// The training rows' mean and deviation.
    pub standardisation: Standardisation,
    /// `W [inputs, classes]`, row-major, and `b [classes]` behind it.
    pub weights: Vec<f64>,
    /// The classes of the training rows, in ascending order.
    pub classes: Vec<i64>,
    /// The penalty that did best on the validation rows.
    pub l2: f64,
}

impl Logistic {
    /// Minimises `mean −log p(class) + l2/2 ‖W‖²` over the training rows as [`linear_probe`](super::linear_probe) does, for every penalty
    /// of `options`; takes the first with the best top-1 on the validation rows, and gives their scores.
    ///
    /// Waits for the device. Errors: those of [`linear_probe`](super::linear_probe). Example: [`Logistic`].
    pub fn fit(
        device: &Device,
        train: &Labelled<'_>,
        validation: &Labelled<'_>,
        options: &Probe,
    ) -> Result<(Logistic, Classification)> {
        Self::fit_as("Logistic", device, train, validation, options)
    }

    pub(super) fn fit_as(
        op: &'static str,
        device: &Device,
        train: &Labelled<'_>,
        validation: &Labelled<'_>,
        options: &Probe,
    ) -> Result<(Logistic, Classification)> {
        train.check(op, ["train", "train labels"])?;
        validation.check(op, ["validation", "validation labels"])?;
        check_widths(op, "validation", train.features, validation.features)?;
        let mut penalties = options.l2.clone();
        if penalties.is_empty() || penalties.iter().any(|l2| !(*l2 > 0. && l2.is_finite())) {
            let expected = "at least one, all positive and finite";
            return Err(Error::argument(op, "l2", expected, format!("{penalties:?}")));
        }
        penalties.sort_by(|a, b| b.total_cmp(a));

        let rows: Vec<_> = (0..train.features.rows as u32).collect();
        let standardisation = Standardisation::fit(train.features, &rows);
        let model = Model::new(device, train, standardised(device, &standardisation, train.features)?)?;
        let stop = Stop { steps: options.steps, gradient: 1e-5 };
        let mut weights = vec![0.; (model.inputs + 1) * model.classes.len()];
        let mut best: Option<(Classification, Logistic)> = None;
        for l2 in penalties {
            // From the solution for the penalty before.
            minimise(&mut weights, stop, |weights| model.loss(weights, l2))?;
            let (weights, classes) = (weights.clone(), model.classes.clone());
            let own = Logistic { standardisation: standardisation.clone(), weights, classes, l2 };
            let scores = own.score(device, validation)?;
            if best.as_ref().is_none_or(|(best, _)| scores.top_1 > best.top_1) {
                best = Some((scores, own));
            }
        }
        let (scores, own) = best.expect("there is a penalty");
        Ok((own, scores))
    }

    /// The probability of each class, `[rows, classes]`. Waits for the device. Errors: another width than that of the training rows; the
    /// device's. Example: [`Logistic`].
    pub fn probabilities(&self, device: &Device, features: &Features) -> Result<Features> {
        let values = softmax(&self.logits(device, features)?)?.to_vec()?;
        Ok(Features { rows: features.rows, cols: self.classes.len(), values })
    }

    fn logits(&self, device: &Device, features: &Features) -> Result<Tensor> {
        let inputs = self.standardisation.mean.len();
        if features.cols != inputs || features.rows.checked_mul(inputs) != Some(features.values.len()) {
            let got = format!("{} x {}", features.rows, features.cols);
            return Err(Error::argument("Logistic", "features", format!("rows of {inputs}"), got));
        }
        let (layer, parameters) = layer(device, &self.weights, (inputs, self.classes.len()))?;
        let tape = Tape::no_grad();
        let x = tape.constant(&standardised(device, &self.standardisation, features)?);
        Ok(layer.forward(&tape, &parameters.on(&tape), &x)?.value().clone())
    }

    /// How well it classifies. An item of a class that the training rows have not counts as wrong.
    pub(super) fn score(&self, device: &Device, items: &Labelled<'_>) -> Result<Classification> {
        let logits = self.logits(device, items.features)?.to_vec::<f32>()?;
        let rank =
            |(row, label): (&[f32], &i64)| self.classes.binary_search(label).ok().map(|own| rank(row, own));
        let ranks: Vec<_> = logits.chunks_exact(self.classes.len()).zip(items.labels).map(rank).collect();
        Ok(Classification::new(&ranks, items.labels, self.classes.len()))
    }
}

fn standardised(device: &Device, by: &Standardisation, features: &Features) -> Result<Tensor> {
    Tensor::from_vec(device, &[features.rows, features.cols], by.apply(&features.values))
}

/// The layer of weights: W `[inputs, classes]` and b, one behind the other.
fn layer(
    device: &Device,
    weights: &[f64],
    (inputs, classes): (usize, usize),
) -> Result<(Linear, Parameters)> {
    let mut parameters = Parameters::default();
    let narrow = |values: &[f64]| values.iter().map(|&v| v as f32).collect::<Vec<_>>();
    let (weight, bias) = weights.split_at(inputs * classes);
    let (weight, bias) = (narrow(weight), narrow(bias));
    let layer = Linear::from_weights(device, &mut parameters, "probe", (inputs, classes), weight, bias)?;
    Ok((layer, parameters))
}

/// The linear classifier on its training rows.
pub(super) struct Model<'a> {
    device: &'a Device,
    x: Tensor,
    inputs: usize,
    classes: Vec<i64>,
    /// The class number of each training row.
    own: Vec<usize>,
    /// The gradient of the mean loss with respect to the logarithms of the probabilities.
    upstream: Tensor,
}

impl Model<'_> {
    pub(super) fn new<'a>(device: &'a Device, train: &Labelled<'_>, x: Tensor) -> Result<Model<'a>> {
        let classes = train.classes();
        let own: Vec<_> =
            train.labels.iter().map(|label| classes.partition_point(|class| class < label)).collect();
        let mut upstream = vec![0f32; own.len() * classes.len()];
        for (row, &own) in upstream.chunks_exact_mut(classes.len()).zip(&own) {
            row[own] = -1. / train.labels.len() as f32;
        }
        let upstream = Tensor::from_vec(device, &[own.len(), classes.len()], upstream)?;
        Ok(Model { device, x, inputs: train.features.cols, classes, own, upstream })
    }

    /// The penalised loss and its gradient.
    pub(super) fn loss(&self, weights: &[f64], l2: f64) -> Result<(f64, Vec<f64>)> {
        let (layer, parameters) = layer(self.device, weights, (self.inputs, self.classes.len()))?;
        let tape = Tape::new();
        let bound = parameters.on(&tape);
        let logits = layer.forward(&tape, &bound, &tape.constant(&self.x))?;
        let log_p = tape.apply(&LOG_SOFTMAX, (), &[&logits])?;
        let gradients = tape.backward_from(&log_p, &self.upstream)?;
        let values = log_p.value().to_vec::<f32>()?;
        let rows = values.chunks_exact(self.classes.len()).zip(&self.own);
        let sum: f64 = rows.map(|(row, &own)| -f64::from(row[own])).sum();
        let penalised = self.inputs * self.classes.len();
        let squares: f64 = weights[..penalised].iter().map(|w| w * w).sum();
        let mut gradient = vec![];
        for part in bound.gradients(&gradients).into_iter().flatten() {
            gradient.extend(part.to_vec::<f32>()?.into_iter().map(f64::from));
        }
        gradient.iter_mut().zip(&weights[..penalised]).for_each(|(g, w)| *g += l2 * w);
        Ok((sum / self.own.len() as f64 + 0.5 * l2 * squares, gradient))
    }
}
