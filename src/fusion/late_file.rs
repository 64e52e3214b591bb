//! The file of a late fusion.

use super::late_model::check_rule;
use super::model_file::NO_FUSION;
use super::{Experts, LateModel, LateRule, class_names};
use crate::align::Standardisation;
use crate::device::Device;
use crate::dtype::HostData;
use crate::error::{Error, Result};
use crate::evaluate::Logistic;
use crate::io::{Array, read_safetensors, write_safetensors};
use std::collections::BTreeMap;
use std::path::Path;

/// What says that a file holds a late fusion.
const FORMAT: &str = "crossmodal late fusion 1";

type Arrays = BTreeMap<String, Array>;
type Metadata = BTreeMap<String, String>;

impl LateModel {
    /// Writes the model to a .safetensors file. Errors: not a name a class; the file's. The file is whole or not there. Example: [`LateModel`].
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut arrays = Arrays::new();
        let labels = &self.experts.labels;
        let place = |class: &i64| labels.partition_point(|label| label < class) as u32;
        for (name, expert) in self.names.iter().zip(&self.experts.experts) {
            add_logistic(&mut arrays, &format!("expert.{name}"), expert, place);
        }
        match &self.rule {
            LateRule::Mean(weights) | LateRule::HardVote(weights) => {
                add(&mut arrays, "rule.factors", weights);
            }
            LateRule::Maximum => {}
            LateRule::Product { weights, prior } => {
                add(&mut arrays, "rule.factors", weights);
                prior.iter().for_each(|prior| add(&mut arrays, "rule.prior", prior));
            }
            LateRule::Stacking(model) => add_logistic(&mut arrays, "rule", model, |class| *class as u32),
        }
        let classes: Vec<_> = labels.iter().map(ToString::to_string).collect();
        let fixed = [
            ("format", FORMAT.to_string()),
            ("modalities", self.names.join(" ")),
            ("classes", classes.join(" ")),
            ("rule", word(&self.rule).to_string()),
        ];
        let fixed = fixed.into_iter().map(|(key, value)| (key.to_string(), value));
        let sources = self.names.iter().zip(&self.sources);
        let sources = sources.map(|(name, source)| (format!("{name}_source"), source.clone()));
        let names = class_names::entry(&self.class_names, labels.len())?;
        write_safetensors(path, &arrays, &fixed.chain(sources).chain(names).collect())
    }

    /// Reads what [`LateModel::save`] wrote; the loaded model gives the same bits. Errors: the file's; it is not such a file. Example:
    /// [`LateModel`].
    pub fn load(device: &Device, path: &Path) -> Result<LateModel> {
        let (arrays, metadata) = read_safetensors(path)?;
        parse(device, &arrays, &metadata).ok_or_else(|| Error::file(path, NO_FUSION))
    }
}

/// What a file calls a rule.
fn word(rule: &LateRule) -> &'static str {
    match rule {
        LateRule::Mean(_) => "mean",
        LateRule::Maximum => "max",
        LateRule::HardVote(_) => "vote",
        LateRule::Product { .. } => "product",
        LateRule::Stacking(_) => "stacking",
    }
}

fn add(arrays: &mut Arrays, name: &str, values: &[f64]) {
    let array = Array { shape: vec![values.len()], data: HostData::F64(values.to_vec()) };
    arrays.insert(name.to_string(), array);
}

/// The arrays of a regression; `place` is a class's number.
fn add_logistic(arrays: &mut Arrays, name: &str, model: &Logistic, place: impl Fn(&i64) -> u32) {
    let Logistic { standardisation, weights, classes, l2 } = model;
    add(arrays, &format!("{name}.mean"), &standardisation.mean);
    add(arrays, &format!("{name}.deviation"), &standardisation.deviation);
    add(arrays, &format!("{name}.l2"), &[*l2]);
    let shape = vec![standardisation.mean.len() + 1, classes.len()];
    arrays.insert(format!("{name}.weights"), Array { shape, data: HostData::F64(weights.clone()) });
    let places: Vec<_> = classes.iter().map(place).collect();
    let places = Array { shape: vec![places.len()], data: HostData::U32(places) };
    arrays.insert(format!("{name}.classes"), places);
}

/// A vector of finite numbers.
fn numbers(arrays: &Arrays, name: &str) -> Option<Vec<f64>> {
    match &arrays.get(name)?.data {
        HostData::F64(values) => Some(values.clone()).filter(|values| values.iter().all(|v| v.is_finite())),
        _ => None,
    }
}

/// A regression that is whole, over some of the classes `labels`.
fn logistic(arrays: &Arrays, name: &str, labels: &[i64]) -> Option<Logistic> {
    let of = |what: &str| numbers(arrays, &format!("{name}.{what}"));
    let standardisation = Standardisation { mean: of("mean")?, deviation: of("deviation")? };
    let HostData::U32(places) = &arrays.get(&format!("{name}.classes"))?.data else { return None };
    let classes = places.iter().map(|&place| labels.get(place as usize).copied());
    let classes = classes.collect::<Option<Vec<_>>>()?;
    let (weights, l2) = (of("weights")?, of("l2")?);
    let inputs = standardisation.mean.len();
    let whole = inputs > 0
        && !classes.is_empty()
        && classes.is_sorted_by(|a, b| a < b)
        && standardisation.deviation.len() == inputs
        && standardisation.deviation.iter().all(|d| *d >= 0.)
        && arrays.get(&format!("{name}.weights"))?.shape == [inputs + 1, classes.len()]
        && l2.len() == 1;
    whole.then(|| Logistic { standardisation, weights, classes, l2: l2[0] })
}

/// The model that a file tells of; none if it is not whole.
fn parse(device: &Device, arrays: &Arrays, metadata: &Metadata) -> Option<LateModel> {
    metadata.get("format").filter(|format| *format == FORMAT)?;
    let labels = metadata.get("classes")?.split(' ').map(|label| label.parse().ok());
    let labels = labels.collect::<Option<Vec<i64>>>()?;
    let names: Vec<_> = metadata.get("modalities")?.split(' ').map(String::from).collect();
    let sources = names.iter().map(|name| metadata.get(&format!("{name}_source")).cloned());
    let sources = sources.collect::<Option<Vec<_>>>()?;
    let experts = names.iter().map(|name| logistic(arrays, &format!("expert.{name}"), &labels));
    let experts = Experts { experts: experts.collect::<Option<_>>()?, labels };
    let weights = || numbers(arrays, "rule.factors");
    let count = experts.labels.len() as i64;
    let rule = match metadata.get("rule")?.as_str() {
        "mean" => LateRule::Mean(weights()?),
        "max" => LateRule::Maximum,
        "vote" => LateRule::HardVote(weights()?),
        "product" => {
            let prior = match arrays.get("rule.prior") {
                Some(_) => Some(numbers(arrays, "rule.prior")?),
                None => None,
            };
            LateRule::Product { weights: weights()?, prior }
        }
        "stacking" => LateRule::Stacking(logistic(arrays, "rule", &(0..count).collect::<Vec<_>>())?),
        _ => return None,
    };
    let class_names = class_names::parse(metadata, experts.labels.len())?;
    let whole = experts.labels.is_sorted_by(|a, b| a < b);
    (whole && check_rule(&rule, names.len(), experts.labels.len()).is_ok()).then(|| LateModel {
        names,
        sources,
        experts,
        rule,
        class_names,
        device: device.clone(),
    })
}
