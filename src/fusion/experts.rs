//! One classifier a modality.

use super::{FusionData, Presence, Target};
use crate::align::Split;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::evaluate::{Labelled, Logistic, Probe};
use crate::io::Features;
use crate::nn::generator;
use rand::seq::SliceRandom;

/// Features that are on the device at once.
const CHUNK: usize = 1 << 24;

/// A logistic regression of each modality by itself, on the training rows that have it: what late fusion makes one of.
///
/// ```
/// use crossmodal::{Device, align::{Modality, Split}, evaluate::Probe, fusion::{Experts, FusionData, LateRule, Target}};
/// # use crossmodal::io::Features;
/// let noise = |i: usize| ((i * 7919) as f32).sin();
/// let features = |cols: usize| Features { rows: 60, cols, values: (0..60 * cols).map(noise).collect() };
/// let modalities = vec![Modality::new("image", features(3)), Modality::new("text", features(2))];
/// let labels: Vec<i64> = (0..60).map(|row| i64::from(noise(row * 3) + noise(row * 2) > 0.)).collect();
/// let data = FusionData::new(modalities, Target::of_labels(&labels), Split::random(60, 0)?)?;
/// let experts = Experts::fit(&Device::Cpu, &data, &Probe::default())?;
/// let test = experts.probabilities(&Device::Cpu, &data, &data.split.test)?;
/// let rule = LateRule::Product { weights: vec![1., 1.], prior: None };
/// let fused = rule.combine(&Device::Cpu, &test, &data.presence(&data.split.test)?)?;
/// assert_eq!((fused.rows, fused.cols), (6, 2));
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Experts {
    /// One a modality.
    pub experts: Vec<Logistic>,
    /// The classes of the probabilities' columns.
    pub labels: Vec<i64>,
}

/// The labels of a target, or why it has none.
fn classes(data: &FusionData) -> Result<(Vec<i64>, &[i64])> {
    match &data.target {
        Target::Classes { numbers, labels } => {
            Ok((numbers.iter().map(|&number| labels[number as usize]).collect(), labels))
        }
        Target::Values(_) => Err(Error::argument("Experts", "target", "classes", "values")),
    }
}

/// Of some rows those that have a modality, with their features and labels.
fn having(data: &FusionData, m: usize, rows: &[u32], of_rows: &[i64]) -> Result<(Features, Vec<i64>)> {
    let rows: Vec<_> = rows.iter().copied().filter(|&row| data.is_there(m, row as usize)).collect();
    if rows.is_empty() {
        let expected = "to be there in some of the training rows, whichever fold is left out, and of the validation rows";
        return Err(Error::argument("fusion", data.modalities[m].argument(), expected, "none"));
    }
    let labels = rows.iter().map(|&row| of_rows[row as usize]).collect();
    Ok((data.modalities[m].features.select(&rows)?, labels))
}

impl Experts {
    /// Fits each on the training rows, its penalty chosen on the validation rows.
    ///
    /// Waits for the device. Errors: the target is not a class; a modality is in none of the training or of the validation rows; those
    /// of [`Logistic::fit`]. Example: [`Experts`].
    pub fn fit(device: &Device, data: &FusionData, options: &Probe) -> Result<Experts> {
        Self::fit_on(device, data, &data.split, &vec![options.clone(); data.modalities.len()])
    }

    fn fit_on(device: &Device, data: &FusionData, split: &Split, options: &[Probe]) -> Result<Experts> {
        let (of_rows, labels) = classes(data)?;
        let expert = |m: usize| {
            let (train, train_labels) = having(data, m, &split.train, &of_rows)?;
            let (validation, validation_labels) = having(data, m, &split.validation, &of_rows)?;
            let train = Labelled { features: &train, labels: &train_labels };
            let validation = Labelled { features: &validation, labels: &validation_labels };
            Ok(Logistic::fit(device, &train, &validation, &options[m])?.0)
        };
        let experts = (0..data.modalities.len()).map(expert).collect::<Result<_>>()?;
        Ok(Experts { experts, labels: labels.to_vec() })
    }

    /// What each says of some rows, `[rows, classes]`: where its modality is missing every class is as likely.
    ///
    /// Waits for the device. Errors: a row that is not there; the device's. Example: [`Experts`].
    pub fn probabilities(&self, device: &Device, data: &FusionData, rows: &[u32]) -> Result<Vec<Features>> {
        let selected = data.modalities.iter().map(|own| own.features.select(rows));
        let selected = selected.collect::<Result<Vec<_>>>()?;
        let features: Vec<_> = selected.iter().map(Some).collect();
        self.probabilities_of(device, &features, &data.presence(rows)?)
    }

    /// The same of features `[rows, width]` of each modality, none for one that is missing from every row.
    pub(super) fn probabilities_of(
        &self,
        device: &Device,
        features: &[Option<&Features>],
        presence: &Presence,
    ) -> Result<Vec<Features>> {
        let (rows, classes) = (presence.rows(), self.labels.len());
        let of_expert = |(m, features): (usize, &Option<&Features>)| {
            let expert = &self.experts[m];
            let mut values = vec![1. / classes as f32; rows * classes];
            let Some(features) = features else { return Ok(Features { rows, cols: classes, values }) };
            let all: Vec<u32> = (0..rows as u32).filter(|&row| presence.is_there(m, row as usize)).collect();
            for some in all.chunks((CHUNK / features.cols.max(1)).max(1)) {
                let own = expert.probabilities(device, &features.select(some)?)?;
                for (&row, from) in some.iter().zip(own.values.chunks_exact(own.cols)) {
                    let to = &mut values[row as usize * classes..][..classes];
                    // A class that it has not seen has no probability.
                    to.fill(0.);
                    for (class, p) in expert.classes.iter().zip(from) {
                        to[self.labels.partition_point(|label| label < class)] = *p;
                    }
                }
            }
            Ok(Features { rows, cols: classes, values })
        };
        features.iter().enumerate().map(of_expert).collect()
    }

    /// What experts that have not seen a row say of it, for every training row in the order of the split: of `folds` parts, drawn with a
    /// seed, each is left to experts fitted on the others, with the penalties of these. What a rule is learned from.
    ///
    /// Waits for the device. Errors: fewer than two folds, or more than training rows; those of [`Experts::fit`].
    ///
    /// ```
    /// use crossmodal::{Device, align::{Modality, Split}, evaluate::Probe, fusion::{Experts, FusionData, Target}};
    /// # use crossmodal::io::Features;
    /// let features = Features { rows: 40, cols: 1, values: (0..40).map(|i| (i % 2) as f32).collect() };
    /// let labels: Vec<i64> = (0..40).map(|i| i % 2).collect();
    /// let modalities = vec![Modality::new("x", features)];
    /// let data = FusionData::new(modalities, Target::of_labels(&labels), Split::random(40, 0)?)?;
    /// let experts = Experts::fit(&Device::Cpu, &data, &Probe::default())?;
    /// let unseen = experts.out_of_fold(&Device::Cpu, &data, 4, 0)?;
    /// assert_eq!((unseen.len(), unseen[0].rows), (1, 32));
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    pub fn out_of_fold(
        &self,
        device: &Device,
        data: &FusionData,
        folds: usize,
        seed: u64,
    ) -> Result<Vec<Features>> {
        let train = &data.split.train;
        if folds < 2 || folds > train.len() {
            let expected = format!("2 to {}, the training rows", train.len());
            return Err(Error::argument("Experts", "folds", expected, folds));
        }
        let mut order: Vec<usize> = (0..train.len()).collect();
        order.shuffle(&mut generator(seed, 0));
        let cols = self.labels.len();
        let empty = || Features { rows: train.len(), cols, values: vec![0.; train.len() * cols] };
        let mut all: Vec<_> = self.experts.iter().map(|_| empty()).collect();
        let fixed: Vec<_> =
            self.experts.iter().map(|own| Probe { l2: vec![own.l2], ..Probe::default() }).collect();
        for fold in 0..folds {
            let (held, others): (Vec<_>, Vec<_>) =
                order.iter().enumerate().partition(|(place, _)| place % folds == fold);
            let rows = |of: &[(usize, &usize)]| of.iter().map(|(_, at)| train[**at]).collect::<Vec<_>>();
            let split = Split { train: rows(&others), ..data.split.clone() };
            let experts = Experts::fit_on(device, data, &split, &fixed)?;
            let own = experts.probabilities(device, data, &rows(&held))?;
            for (to, from) in all.iter_mut().zip(&own) {
                for ((_, at), row) in held.iter().zip(from.values.chunks_exact(cols)) {
                    to.values[**at * cols..][..cols].copy_from_slice(row);
                }
            }
        }
        Ok(all)
    }
}
