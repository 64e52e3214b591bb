//! A late fusion with its experts: from features to classes.

use super::late::check_weights;
use super::{Experts, LateRule, Presence};
use crate::align::Modality;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::io::Features;

/// A late fusion that is ready to be applied to features: a logistic regression of each modality, and how what they say becomes one.
///
/// ```
/// use crossmodal::{Device, align::{Modality, Split}, evaluate::Probe};
/// use crossmodal::fusion::{Experts, FusionData, LateModel, LateRule, Target};
/// # use crossmodal::io::Features;
/// let values: Vec<f32> = (0..20).map(|i| (i % 2) as f32).collect();
/// let modality = Modality::new("x", Features { rows: 20, cols: 1, values });
/// let labels: Vec<i64> = (0..20).map(|i| i % 2).collect();
/// let data = FusionData::new(vec![modality.clone()], Target::of_labels(&labels), Split::random(20, 0)?)?;
/// let experts = Experts::fit(&Device::Cpu, &data, &Probe::default())?;
/// let model = LateModel::new(&Device::Cpu, &data.modalities, experts, LateRule::Mean(vec![1.]))?;
/// # let folder = std::env::temp_dir().join(format!("crossmodal-doc-late-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder).unwrap();
/// # let path = folder.join("fusion.safetensors");
/// model.save(&path)?;
/// let p = LateModel::load(&Device::Cpu, &path)?.predict(&[Some(&modality.features)])?;
/// assert!(p.values[0] > 0.5 && p.values[3] > 0.5); // row 0 is of class 0, row 1 of class 1
/// # std::fs::remove_dir_all(&folder).unwrap();
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct LateModel {
    /// The modalities in order.
    pub names: Vec<String>,
    /// Where the features of each came from, as far as it is known.
    pub sources: Vec<String>,
    /// One classifier a modality.
    pub experts: Experts,
    /// How what they say becomes one.
    pub rule: LateRule,
    /// What the classes are called, one a class; none where nobody has said so.
    pub class_names: Vec<String>,
    pub(super) device: Device,
}

impl LateModel {
    /// Of what was fitted on some modalities. Errors: not one expert a modality; a rule that does not fit so many experts or their
    /// classes. Example: [`LateModel`].
    pub fn new(
        device: &Device,
        modalities: &[Modality],
        experts: Experts,
        rule: LateRule,
    ) -> Result<LateModel> {
        let names: Vec<_> = modalities.iter().map(|own| own.name.clone()).collect();
        if names.is_empty() || experts.experts.len() != names.len() {
            let expected = format!("{}, one a modality", names.len().max(1));
            return Err(Error::argument("LateModel", "experts", expected, experts.experts.len()));
        }
        check_rule(&rule, names.len(), experts.labels.len())?;
        let sources = vec![String::new(); names.len()];
        Ok(LateModel { names, sources, experts, rule, class_names: vec![], device: device.clone() })
    }

    /// How many features each modality has. Example: [`LateModel::predict_with`].
    pub fn widths(&self) -> Vec<usize> {
        self.experts.experts.iter().map(|own| own.standardisation.mean.len()).collect()
    }

    /// The probabilities of each row, `[rows, classes]`. None for a modality that is missing.
    ///
    /// Waits for the device. Errors: all are missing; other modalities, rows or widths than the model's and one another's; the
    /// device's. Example: [`LateModel`].
    pub fn predict(&self, features: &[Option<&Features>]) -> Result<Features> {
        let rows = features.iter().flatten().map(|own| own.rows).next();
        let Some(rows) = rows else {
            return Err(Error::argument("predict", "features", "at least one modality", "none"));
        };
        self.predict_with(features, &Presence::all(rows, features.len()))
    }

    /// As [`LateModel::predict`] where modalities are missing in some rows. One that is `None` is missing in all, whatever `presence`
    /// says. In a row without any a mean, the maximum and a product over no prior give every class the same. Errors also: the presence
    /// of others.
    ///
    /// ```
    /// # use crossmodal::{Device, align::{Modality, Split}, evaluate::Probe, io::Features};
    /// # use crossmodal::fusion::{Experts, FusionData, LateModel, LateRule, Presence, Target};
    /// # let features = Features { rows: 20, cols: 1, values: (0..20).map(|i| (i % 2) as f32).collect() };
    /// # let labels: Vec<i64> = (0..20).map(|i| i % 2).collect();
    /// # let modalities = vec![Modality::new("x", features.clone()), Modality::new("y", features.clone())];
    /// # let data = FusionData::new(modalities, Target::of_labels(&labels), Split::random(20, 0)?)?;
    /// # let experts = Experts::fit(&Device::Cpu, &data, &Probe::default())?;
    /// # let model = LateModel::new(&Device::Cpu, &data.modalities, experts, LateRule::Mean(vec![1., 1.]))?;
    /// assert_eq!(model.widths(), [1, 1]);
    /// let presence = Presence::new(20, vec![None, Some([false; 20].into())])?;
    /// let p = model.predict_with(&[Some(&features), Some(&features)], &presence)?;
    /// assert_eq!(p, model.predict(&[Some(&features), None])?);
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    pub fn predict_with(&self, features: &[Option<&Features>], presence: &Presence) -> Result<Features> {
        let refuse = |argument: String, expected: String, got: String| {
            Err(Error::argument("predict", argument, expected, got))
        };
        let (count, rows) = (self.names.len(), presence.rows());
        if features.len() != count || presence.modalities() != count {
            let got = format!("{} with the presence of {}", features.len(), presence.modalities());
            return refuse("features".into(), format!("{count} modalities"), got);
        }
        for ((name, inputs), own) in self.names.iter().zip(self.widths()).zip(features) {
            let Some(own) = own else { continue };
            if (own.rows, own.cols) != (rows, inputs) || own.values.len() != rows * inputs {
                let (expected, got) = (format!("{rows} x {inputs}"), format!("{} x {}", own.rows, own.cols));
                return refuse(format!("modality {name}"), expected, got);
            }
        }
        let presence = presence.of_given(&features.iter().map(Option::is_some).collect::<Vec<_>>())?;
        let said = self.experts.probabilities_of(&self.device, features, &presence)?;
        self.rule.combine(&self.device, &said, &presence)
    }
}

/// Refuses a rule of other experts or classes.
pub(super) fn check_rule(rule: &LateRule, experts: usize, classes: usize) -> Result<()> {
    let refuse = |argument: &'static str, expected: String, got: String| {
        Err(Error::argument("LateModel", argument, expected, got))
    };
    match rule {
        LateRule::Maximum => Ok(()),
        LateRule::Mean(weights) | LateRule::HardVote(weights) => check_weights(weights, experts),
        LateRule::Product { weights, prior } => {
            let fits = |own: &Vec<f64>| own.len() == classes && own.iter().all(|p| *p > 0. && p.is_finite());
            if let Some(prior) = prior.as_ref().filter(|own| !fits(own)) {
                let expected = format!("{classes} positive numbers, one for each class");
                return refuse("prior", expected, format!("{prior:?}"));
            }
            check_weights(weights, experts)
        }
        LateRule::Stacking(model) => {
            let inputs = model.standardisation.mean.len();
            if inputs != experts * classes {
                return refuse("stacking", format!("{experts} x {classes} inputs"), inputs.to_string());
            }
            match model.classes.iter().find(|class| !(0..classes as i64).contains(*class)) {
                Some(class) => refuse("stacking", format!("classes below {classes}"), class.to_string()),
                None => Ok(()),
            }
        }
    }
}
