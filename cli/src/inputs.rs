//! What `align` reads.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::builder::{OsStringValueParser, TypedValueParser};
use crossmodal::align::{Data, Split};
use crossmodal::io::{MappedFeatures, Source, read_features, read_integers, shards};

use crate::failure::Failure;
use crate::{output, words};

/// Reads `FILE` or `FILE#TENSOR` on the command line. A path that is not Unicode is a file without a tensor's name.
pub(crate) fn source() -> impl TypedValueParser<Value = Source> {
    OsStringValueParser::new().map(|text: OsString| match text.to_str() {
        Some(text) => Source::parse(text),
        None => Source { path: PathBuf::from(text), tensor: None },
    })
}

/// The arrays that a run is about.
pub(crate) struct Inputs {
    pub(crate) left: Source,
    pub(crate) right: Source,
    /// None: by chance.
    pub(crate) split: Option<Source>,
    /// Further views of the left modality.
    pub(crate) views: Vec<Source>,
    /// Classes of the rows.
    pub(crate) labels: Option<Source>,
}

impl Inputs {
    /// What is named (left with its views; right, split, labels), else what the `notes` of the run to be resumed say, else the
    /// emoji data where neither side is named.
    pub(crate) fn new(
        lefts: Vec<Source>,
        [right, split, labels]: [Option<Source>; 3],
        notes: Option<&BTreeMap<String, String>>,
    ) -> Result<Inputs, Failure> {
        let noted = |key: &str| notes?.get(key).map(|text| Source::parse(text));
        if let (true, Some(source), Some(folder)) =
            (lefts.is_empty(), noted("left"), notes.and_then(|notes| notes.get("folder")))
            && !source.path.exists()
        {
            return Err(Failure::new(format!(
                "{source}: no such file here; the run was started in {folder}: resume it there, or name its inputs"
            )));
        }
        let mut lefts = lefts.into_iter();
        let (left, mut views): (_, Vec<_>) = (lefts.next(), lefts.collect());
        if left.is_none() {
            views = (1..).map_while(|i| noted(&format!("view {i}"))).collect();
        }
        let (left, right) = (left.or_else(|| noted("left")), right.or_else(|| noted("right")));
        let (split, labels) = (split.or_else(|| noted("split")), labels.or_else(|| noted("labels")));
        match (left, right) {
            (Some(left), Some(right)) => Ok(Inputs { left, right, split, views, labels }),
            (None, None) => {
                let path = emoji(option_env!("CARGO_MANIFEST_DIR").map(Path::new))?;
                let tensor = |name: &str| Source { path: path.clone(), tensor: Some(name.into()) };
                let split = split.unwrap_or_else(|| tensor("split"));
                let (left, right) = (tensor("image_twemoji"), tensor("text"));
                Ok(Inputs { left, right, split: Some(split), views, labels })
            }
            (Some(_), None) => Err(Failure::new(
                "--left is given, --right is missing: name both, or neither for the emoji data",
            )),
            (None, Some(_)) => Err(Failure::new(
                "--right is given, --left is missing: name both, or neither for the emoji data",
            )),
        }
    }

    /// Every one of them.
    pub(crate) fn sources(&self) -> impl Iterator<Item = &Source> {
        [&self.left, &self.right].into_iter().chain(&self.views).chain(&self.split).chain(&self.labels)
    }

    /// What [`new`](Self::new) finds them by again.
    pub(crate) fn notes(&self) -> BTreeMap<String, String> {
        let view = |(i, source)| (format!("view {}", i + 1), source);
        let named = |key: &str, source| (key.to_string(), source);
        let sides = [named("left", &self.left), named("right", &self.right)].into_iter();
        let split = self.split.iter().map(|source| named("split", source));
        let labels = self.labels.iter().map(|source| named("labels", source));
        let all = sides.chain(split).chain(labels).chain(self.views.iter().enumerate().map(view));
        let here = std::env::current_dir().map(|folder| ("folder".to_string(), folder.display().to_string()));
        all.map(|(key, source)| (key, source.to_string())).chain(here.ok()).collect()
    }

    /// How the rows are split, in words.
    pub(crate) fn split_name(&self) -> String {
        self.split.as_ref().map_or("80/10/10 by the seed".to_string(), Source::to_string)
    }

    /// Says which shards of a folder are read in which order, and refuses two sides whose shards differ in their rows.
    fn tell_shards(&self) -> Result<(), Failure> {
        let mut all = vec![];
        for source in [&self.left, &self.right].into_iter().chain(&self.views) {
            if !source.path.is_dir() {
                continue;
            }
            let rows = |path: PathBuf| {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                MappedFeatures::open(&Source { path, tensor: None }).map(|shard| (name, shard.rows()))
            };
            let own = shards(&source.path)?.into_iter().map(rows).collect::<Result<Vec<_>, _>>()?;
            let words: Vec<_> = own.iter().map(|(name, rows)| format!("{name} {rows}")).collect();
            output::note(&format!("{source}: {} (rows)", words.join(", ")));
            all.push((source, own));
        }
        let Some(((first, expected), others)) = all.split_first() else { return Ok(()) };
        for (source, own) in others {
            for (i, (_, rows)) in expected.iter().enumerate() {
                let got = own.get(i).map_or("none".to_string(), |(_, rows)| rows.to_string());
                if got != rows.to_string() {
                    let expected = format!("{rows} rows in shard {i}, as {first} has");
                    return Err(Failure::new(format!("{source}: expected {expected}, got {got}")));
                }
            }
        }
        Ok(())
    }

    /// Reads and checks everything.
    pub(crate) fn read(&self, seed: u64) -> Result<Data, Failure> {
        self.tell_shards()?;
        let (left, right) = (read_features(&self.left)?, read_features(&self.right)?);
        check_same("rows", (&self.left, left.rows), (&self.right, right.rows))?;
        let split = match &self.split {
            None => Split::random(left.rows, seed),
            Some(source) => {
                let labels = read_integers(source)?;
                check_same("rows", (&self.left, left.rows), (source, labels.len()))?;
                Split::from_labels(&labels)
            }
        };
        let views = self.views.iter().map(read_features).collect::<Result<Vec<_>, _>>()?;
        let labels = self.labels.as_ref().map(read_integers).transpose()?;
        let data = split.and_then(|split| Data::new(left, right, split)?.with_views(views));
        let data = data.and_then(|data| match labels {
            Some(labels) => data.with_classes(labels),
            None => Ok(data),
        });
        data.map_err(|error| words::flags(error, self))
    }
}

/// Refuses arrays of different lengths; `what` is counted.
pub(crate) fn check_same(
    what: &str,
    (first, expected): (&Source, usize),
    (second, got): (&Source, usize),
) -> Result<(), Failure> {
    if expected == got {
        return Ok(());
    }
    Err(Failure::new(format!("{second}: expected {expected} {what}, as {first} has, got {got}")))
}

/// The file of the emoji data: in `data` of the current folder, else beside the folder where this program was compiled.
fn emoji(compiled: Option<&Path>) -> Result<PathBuf, Failure> {
    let name = Path::new("data").join("emoji.safetensors");
    let checkout = compiled.and_then(|folder| Some(folder.parent()?.join(&name)));
    std::iter::once(name).chain(checkout).find(|path| path.is_file()).ok_or_else(|| {
        Failure::new(
            "the emoji data (data/emoji.safetensors) is not here: it does not come with an installed program; \
             name your own features with --left FILE and --right FILE",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_installed_program_says_that_it_has_no_data() {
        // Tests run in the folder cli, which has no folder data.
        for compiled in [None, Some(Path::new("/nowhere/cli"))] {
            let Err(Failure::Message(message)) = emoji(compiled) else { panic!("found") };
            assert!(
                message.contains("not come with an installed program") && message.contains("--left"),
                "{message}"
            );
        }
        assert!(emoji(Some(Path::new(env!("CARGO_MANIFEST_DIR")))).is_ok());
    }
}
