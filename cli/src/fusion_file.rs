//! The fusion that `fuse` leaves and `predict` applies: one that was trained, or a late one.

use std::path::Path;

use crossmodal::fusion::{FusionModel, LateModel, Presence, Told};
use crossmodal::io::{Features, read_metadata};
use crossmodal::{Device, Result};

use crate::names;

/// Whether a file says that it holds a fusion.
pub(crate) fn is_one(path: &Path) -> bool {
    let is_format = |format: &String| ["crossmodal fusion ", LATE].iter().any(|own| format.starts_with(own));
    read_metadata(path).is_ok_and(|metadata| metadata.get("format").is_some_and(is_format))
}

/// How the format of a late fusion starts.
const LATE: &str = "crossmodal late fusion ";

/// A fusion that can be applied.
#[derive(Clone)]
pub(crate) enum Fusion {
    Trained(FusionModel),
    Late(LateModel),
}

impl Fusion {
    /// Reads either from its file.
    pub(crate) fn load(device: &Device, path: &Path) -> Result<Fusion> {
        let metadata = read_metadata(path)?;
        let is_late = metadata.get("format").is_some_and(|format| format.starts_with(LATE));
        Ok(match is_late {
            true => Fusion::Late(LateModel::load(device, path)?),
            false => Fusion::Trained(FusionModel::load(device, path)?),
        })
    }

    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        match self {
            Fusion::Trained(model) => model.save(path),
            Fusion::Late(model) => model.save(path),
        }
    }

    /// Each modality's name and how many features a vector, or a token, of it has.
    pub(crate) fn modalities(&self) -> Vec<(String, usize)> {
        match self {
            Fusion::Trained(model) => {
                model.channels.iter().map(|own| (own.name.clone(), own.width())).collect()
            }
            Fusion::Late(model) => model.names.iter().cloned().zip(model.widths()).collect(),
        }
    }

    /// Notes where a modality's features came from.
    pub(crate) fn set_source(&mut self, name: &str, source: &str) {
        match self {
            Fusion::Trained(model) => {
                let own = model.channels.iter_mut().find(|own| own.name == name);
                own.into_iter().for_each(|own| own.source = source.to_string());
            }
            Fusion::Late(model) => {
                let own = model.names.iter().position(|own| own == name);
                own.into_iter().for_each(|at| model.sources[at] = source.to_string());
            }
        }
    }

    /// Notes what the classes are called.
    pub(crate) fn set_class_names(&mut self, names: &[String]) {
        match self {
            Fusion::Trained(model) => model.class_names = names.to_vec(),
            Fusion::Late(model) => model.class_names = names.to_vec(),
        }
    }

    /// What the classes are called: their names, or else their numbers; none where it tells a value.
    pub(crate) fn class_words(&self) -> Option<Vec<String>> {
        let classes = self.classes()?;
        let names = match self {
            Fusion::Trained(model) => &model.class_names,
            Fusion::Late(model) => &model.class_names,
        };
        // A file may hold any text.
        let names: Vec<_> = names.iter().map(|name| names::plain(name)).collect();
        Some(if names.is_empty() { classes.iter().map(ToString::to_string).collect() } else { names })
    }

    /// The classes that it tells; none where it tells a value.
    fn classes(&self) -> Option<&[i64]> {
        match self {
            Fusion::Trained(FusionModel { told: Told::Classes(labels), .. }) => Some(labels),
            Fusion::Trained(_) => None,
            Fusion::Late(model) => Some(&model.experts.labels),
        }
    }

    /// Whether a modality's features are sequences of tokens: those of others are taken as their mean.
    pub(crate) fn takes_tokens(&self, modality: usize) -> bool {
        matches!(self, Fusion::Trained(model) if model.channels[modality].is_of_tokens)
    }

    pub(crate) fn predict(
        &self,
        features: &[Option<&Features>],
        lengths: &[Option<&[u32]>],
        presence: &Presence,
    ) -> Result<Features> {
        match self {
            Fusion::Trained(model) => model.predict_tokens(features, lengths, presence),
            Fusion::Late(model) => model.predict_with(features, presence),
        }
    }
}
