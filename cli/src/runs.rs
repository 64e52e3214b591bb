//! What runs leave in their folders, and how one is known.

use std::path::{Path, PathBuf};

use crossmodal::io::read_safetensors;

use crate::folder::{CHECKPOINT, HEADS, JOURNAL, METRICS, embeddings};
use crate::fuse_report::{CONFUSION, MODEL, SCATTER};
use crate::inputs::Inputs;
use crate::{fusion_file, journal, metrics};

/// Whose run it is.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Verb {
    Align,
    Fuse,
    /// It never replaces a run: how many files there are depends on the rows.
    Attend,
}

impl Verb {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Verb::Align => "align",
            Verb::Fuse => "fuse",
            Verb::Attend => "attend",
        }
    }

    /// What can be done where there is a run already.
    pub(crate) fn ways(self) -> &'static str {
        match self {
            Verb::Align => "--resume continues the run in it, --force replaces it",
            Verb::Fuse => "--force replaces the run in it",
            Verb::Attend => "name another one",
        }
    }

    /// The files that its runs write, apart from the lock and the embeddings of each modality. Nothing else in a folder is ever
    /// touched.
    pub(crate) fn files(self) -> &'static [&'static str] {
        match self {
            Verb::Align => &[CHECKPOINT, HEADS, JOURNAL, METRICS],
            Verb::Fuse => &[MODEL, CONFUSION, SCATTER, JOURNAL, METRICS],
            Verb::Attend => &[],
        }
    }

    /// The modalities whose embeddings a run writes.
    pub(crate) fn names(self, inputs: &Inputs) -> Vec<String> {
        if self == Verb::Align { inputs.names() } else { vec![] }
    }

    /// Those of the run in a folder, finished or not: what its metrics, its heads or its checkpoint call them, as far as a run could
    /// have called them so.
    pub(crate) fn names_in(self, folder: &Path) -> Vec<String> {
        if self != Verb::Align {
            return vec![];
        }
        let of_metrics = metrics::read(folder).as_ref().and_then(metrics::names).unwrap_or_default();
        let metadata =
            |name| read_safetensors(&folder.join(name)).map(|(_, metadata)| metadata).unwrap_or_default();
        let (heads, checkpoint) = (metadata(HEADS), metadata(CHECKPOINT));
        let of_heads = heads.get("modalities").into_iter().flat_map(|names| names.split(' '));
        let inputs = (0..).map_while(|i| checkpoint.get(&format!("note.modality {i}")));
        let of_checkpoint = inputs.filter_map(|text| text.split_once('=')).map(|(name, _)| name);
        let others = of_heads.chain(of_checkpoint).map(ToString::to_string);
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
        let all = of_metrics.into_iter().chain(others);
        all.filter(|name| !name.is_empty() && name.chars().all(plain)).collect()
    }

    /// Every file of a run of some modalities in a folder.
    pub(crate) fn ours(self, folder: &Path, names: &[String]) -> Vec<PathBuf> {
        let embeddings = names.iter().map(|name| embeddings(name));
        self.files().iter().map(ToString::to_string).chain(embeddings).map(|name| folder.join(name)).collect()
    }

    /// Whether one of the files that only a run leaves shows that there was one. The other names are anybody's.
    pub(crate) fn has_run(self, folder: &Path) -> bool {
        let metrics = metrics::read(folder);
        match self {
            Verb::Align => {
                let checkpoint = || read_safetensors(&folder.join(CHECKPOINT));
                metrics.is_some_and(|metrics| metrics::summary(&metrics, folder).is_some())
                    || journal::has_epochs(&folder.join(JOURNAL))
                    || checkpoint().is_ok_and(|(_, metadata)| metadata.contains_key("epochs_done"))
            }
            Verb::Fuse => {
                let has_fusions =
                    |own: serde_json::Value| own["best"].is_string() && own["fusions"].is_array();
                metrics.is_some_and(has_fusions) || fusion_file::is_one(&folder.join(MODEL))
            }
            Verb::Attend => false,
        }
    }
}
