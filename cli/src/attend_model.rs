//! Attention maps of a trained fusion.

use std::path::Path;

use crossmodal::Device;
use crossmodal::fusion::{FusionKind, FusionModel, Presence};
use crossmodal::io::{Features, Source, Tokens};

use crate::attend::Sides;
use crate::attend_maps::Maps;
use crate::failure::Failure;
use crate::fusion_file::Fusion;

/// A fusion with the names of the modality that looks and of the one that is looked at.
pub(crate) struct Trained {
    model: FusionModel,
    names: [String; 2],
}

/// Takes the name from the `NAME=FILE` that a flag was given.
pub(crate) fn named(flag: &str, source: &Source) -> Result<(String, Source), Failure> {
    let text = source.path.to_str().and_then(|path| path.split_once('='));
    let Some((name, path)) = text.filter(|(name, path)| !name.is_empty() && !path.is_empty()) else {
        return Err(Failure::new(format!("{flag} {source}: expected NAME=FILE, as --model is given")));
    };
    Ok((name.to_string(), Source { path: path.into(), tensor: source.tensor.clone() }))
}

impl Trained {
    /// Reads a fusion that knows both names.
    pub(crate) fn open(device: &Device, path: &Path, names: [String; 2]) -> Result<Trained, Failure> {
        let expected = "expected fusion.safetensors of a fusion by attention";
        let model = Fusion::load(device, path)
            .map_err(|error| Failure::new(format!("--model {error}; {expected}")))?;
        let Fusion::Trained(model) = model else {
            return Err(Failure::new(format!("--model {}: {expected}, got a late fusion", path.display())));
        };
        let known: Vec<_> = model.channels.iter().map(|own| own.name.as_str()).collect();
        for (flag, name) in ["--query", "--key"].iter().zip(&names) {
            if !known.contains(&name.as_str()) {
                return Err(Failure::new(format!("{flag} {name}: expected one of {}", known.join(", "))));
            }
        }
        if names[0] == names[1] {
            let name = &names[0];
            return Err(Failure::new(format!("--key {name}: expected another modality than --query has")));
        }
        Ok(Trained { model, names })
    }

    /// Refuses features of another width than the fusion's.
    pub(crate) fn check(&self, path: &Path, sources: [&Source; 2], sides: &Sides) -> Result<(), Failure> {
        let given = [&sides.query, &sides.key];
        for ((name, source), tokens) in self.names.iter().zip(sources).zip(given) {
            let channel = self.model.channels.iter().find(|own| own.name == *name);
            let (got, expected) = (tokens.width, channel.map_or(tokens.width, |own| own.width()));
            if tokens.length > 1 && channel.is_some_and(|own| !own.is_of_tokens) {
                let (model, length) = (path.display(), tokens.length);
                return Err(Failure::new(format!(
                    "{source}: expected a vector a row, as modality {name} of {model} takes, got {length} tokens"
                )));
            }
            if got != expected {
                let model = path.display();
                return Err(Failure::new(format!(
                    "{source}: expected {expected} columns, as modality {name} of {model} takes, got {got}"
                )));
            }
        }
        Ok(())
    }

    /// The maps of the chosen rows.
    pub(crate) fn maps(&self, sides: &Sides) -> Result<Maps, Failure> {
        let flat = |tokens: &Tokens| -> Result<Features, Failure> {
            let own = tokens.select(&sides.rows)?;
            Ok(Features { rows: own.rows, cols: own.length * own.width, values: own.values })
        };
        let given = [flat(&sides.query)?, flat(&sides.key)?];
        let own = |lengths: &[usize]| sides.rows.iter().map(|&row| lengths[row as usize]).collect::<Vec<_>>();
        let (query_lengths, key_lengths) = (own(&sides.query_lengths), own(&sides.key_lengths));
        let counts =
            [&query_lengths, &key_lengths].map(|own| own.iter().map(|n| *n as u32).collect::<Vec<_>>());
        let (mut features, mut lengths) = (vec![], vec![]);
        for channel in &self.model.channels {
            let at = self.names.iter().position(|name| *name == channel.name);
            features.push(at.map(|at| &given[at]));
            lengths.push(at.map(|at| &counts[at][..]));
        }
        let presence = Presence::all(sides.rows.len(), features.len());
        let [query, key] = &self.names;
        let maps = self.model.attention(&features, &lengths, &presence, [query, key]).map_err(|error| {
            let kind = self.model.kind.to_string();
            let kind = kind.split(' ').next().unwrap_or_default();
            match error {
                crossmodal::Error::Argument { op: "attention maps", .. } => Failure::new(format!(
                    "--model: expected a fusion in which {query} looks at {key}, got {kind} of {}",
                    self.model.channels.iter().map(|own| own.name.as_str()).collect::<Vec<_>>().join(", ")
                )),
                other => other.into(),
            }
        })?;
        Ok(Maps {
            rows: sides.rows.clone(),
            heads: maps.heads,
            query_length: maps.query_length,
            key_length: maps.key_length,
            values: maps.values,
            query_lengths,
            key_lengths,
            is_whole: !matches!(self.model.kind, FusionKind::Merged { .. }),
        })
    }

    /// What the fusion is.
    pub(crate) fn kind(&self) -> String {
        self.model.kind.to_string()
    }
}
