//! What `align` reads.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::builder::{OsStringValueParser, TypedValueParser};
use crossmodal::align::{Data, Modality, Split};
use crossmodal::io::{Features, MappedFeatures, Source, read_integers, shards};

use crate::failure::Failure;
use crate::{output, token_inputs, words};

/// Reads `FILE` or `FILE#TENSOR` on the command line. A path that is not Unicode is a file without a tensor's name.
pub(crate) fn source() -> impl TypedValueParser<Value = Source> {
    OsStringValueParser::new().map(|text: OsString| match text.to_str() {
        Some(text) => Source::parse(text),
        None => Source { path: PathBuf::from(text), tensor: None },
    })
}

/// Reads `NAME=FILE` or `NAME=FILE#TENSOR` on the command line.
pub(crate) fn named() -> impl TypedValueParser<Value = (String, Source)> {
    OsStringValueParser::new().try_map(|text: OsString| {
        let named = text.to_str().and_then(|text| text.split_once('='));
        let named = named.filter(|(name, file)| !name.is_empty() && !file.is_empty());
        let named = named.map(|(name, file)| (name.to_string(), Source::parse(file)));
        named.ok_or("expected NAME=FILE")
    })
}

/// One modality: where its features are, and those of further views of it.
pub(crate) struct Input {
    pub(crate) name: String,
    pub(crate) sources: Vec<Source>,
}

/// The arrays that a run is about.
pub(crate) struct Inputs {
    /// At least two.
    pub(crate) modalities: Vec<Input>,
    /// None: by chance.
    pub(crate) split: Option<Source>,
    /// Classes of the rows.
    pub(crate) labels: Option<Source>,
    /// What else is read.
    pub(crate) others: Vec<Source>,
    /// How many tokens of each row are there, of the modalities whose features are tokens.
    pub(crate) lengths: Vec<(String, Source)>,
}

/// Adds each to the modality of its name.
fn by_name(named: impl IntoIterator<Item = (String, Source)>) -> Vec<Input> {
    let mut all: Vec<Input> = vec![];
    for (name, source) in named {
        match all.iter_mut().find(|input| input.name == name) {
            Some(input) => input.sources.push(source),
            None => all.push(Input { name, sources: vec![source] }),
        }
    }
    all
}

impl Inputs {
    /// What is named, else what the `notes` of the run to be resumed say, else the emoji data where no modality is named.
    pub(crate) fn new(
        named: Vec<(String, Source)>,
        [split, labels]: [Option<Source>; 2],
        notes: Option<&BTreeMap<String, String>>,
    ) -> Result<Inputs, Failure> {
        let noted = |key: &str| notes?.get(key).map(|text| Source::parse(text));
        let of_run = |what: &str, i: usize| {
            let (name, file) = notes?.get(&format!("{what} {i}"))?.split_once('=')?;
            Some((name.to_string(), Source::parse(file)))
        };
        let mut modalities = by_name((0..).map_while(|i| of_run("modality", i)));
        let lengths = (0..).map_while(|i| of_run("lengths", i)).collect();
        if let (true, Some(first), Some(folder)) =
            (named.is_empty(), modalities.first(), notes.and_then(|notes| notes.get("folder")))
            && !first.sources[0].path.exists()
        {
            let source = &first.sources[0];
            return Err(Failure::new(format!(
                "{source}: no such file here; the run was started in {folder}: resume it there, or name its inputs"
            )));
        }
        for (name, _) in &named {
            // So that a key of the scores tells its two names, and a table of two fits a terminal.
            if name.contains("_to_") || name.len() > 15 {
                let expected = "a name of at most 15 letters, digits, _ and -, without _to_";
                return Err(Failure::new(format!("--modality {name}: expected {expected}")));
            }
        }
        for given in by_name(named) {
            match modalities.iter_mut().find(|input| input.name == given.name) {
                Some(input) => *input = given,
                None => modalities.push(given),
            }
        }
        let (split, labels) = (split.or_else(|| noted("split")), labels.or_else(|| noted("labels")));
        match &modalities[..] {
            [] => {
                let path = emoji(option_env!("CARGO_MANIFEST_DIR").map(Path::new))?;
                let tensor = |name: &str| Source { path: path.clone(), tensor: Some(name.into()) };
                let split = split.unwrap_or_else(|| tensor("split"));
                let pair = [("left", "image_twemoji"), ("right", "text")];
                let modalities = by_name(pair.map(|(name, own)| (name.to_string(), tensor(own))));
                Ok(Inputs { modalities, split: Some(split), labels, others: vec![], lengths: vec![] })
            }
            [only] => {
                let missing = match only.name.as_str() {
                    "left" => "--right is missing",
                    "right" => "--left is missing",
                    _ => "another --modality is missing",
                };
                let given = only.flag();
                Err(Failure::new(format!(
                    "{given} is given, {missing}: name two modalities or more, or none for the emoji data"
                )))
            }
            _ => Ok(Inputs { modalities, split, labels, others: vec![], lengths }),
        }
    }

    /// The emoji data with their categories.
    pub(crate) fn emoji_classes(split: Option<Source>) -> Result<Inputs, Failure> {
        let path = emoji(option_env!("CARGO_MANIFEST_DIR").map(Path::new))?;
        let tensor = |name: &str| Source { path: path.clone(), tensor: Some(name.into()) };
        let pair = [("image", "image_twemoji"), ("text", "text")];
        let modalities = by_name(pair.map(|(name, own)| (name.to_string(), tensor(own))));
        let split = split.unwrap_or_else(|| tensor("split"));
        Ok(Inputs {
            modalities,
            split: Some(split),
            labels: Some(tensor("label")),
            others: vec![],
            lengths: vec![],
        })
    }

    /// Every one of them.
    pub(crate) fn sources(&self) -> impl Iterator<Item = &Source> {
        let lengths = self.lengths.iter().map(|(_, source)| source);
        self.features().chain(&self.split).chain(&self.labels).chain(&self.others).chain(lengths)
    }

    fn features(&self) -> impl Iterator<Item = &Source> {
        self.modalities.iter().flat_map(|input| &input.sources)
    }

    /// The first features, with how many rows they have.
    pub(crate) fn first(&self, read: &Data) -> (&Source, usize) {
        (&self.modalities[0].sources[0], read.modalities[0].features.rows)
    }

    /// The names of the modalities.
    pub(crate) fn names(&self) -> Vec<String> {
        self.modalities.iter().map(|input| input.name.clone()).collect()
    }

    /// What [`new`](Self::new) finds them by again.
    pub(crate) fn notes(&self) -> BTreeMap<String, String> {
        let named = |input: &'_ Input| {
            let of = |source: &Source| format!("{}={source}", input.name);
            input.sources.iter().map(of).collect::<Vec<_>>()
        };
        let all = self.modalities.iter().flat_map(named).enumerate();
        let all = all.map(|(i, text)| (format!("modality {i}"), text));
        let lengths = self.lengths.iter().map(|(name, source)| format!("{name}={source}")).enumerate();
        let all = all.chain(lengths.map(|(i, text)| (format!("lengths {i}"), text)));
        let other =
            |key: &str, source: &Option<Source>| Some((key.to_string(), source.as_ref()?.to_string()));
        let others = [other("split", &self.split), other("labels", &self.labels)].into_iter().flatten();
        let here = std::env::current_dir().map(|folder| ("folder".to_string(), folder.display().to_string()));
        all.chain(others).chain(here.ok()).collect()
    }

    /// How the rows are split, in words.
    pub(crate) fn split_name(&self) -> String {
        self.split.as_ref().map_or("80/10/10 by the seed".to_string(), Source::to_string)
    }

    /// Says which shards of a folder are read in which order, and refuses two sides whose shards differ in their rows.
    fn tell_shards(&self) -> Result<(), Failure> {
        let mut all = vec![];
        for source in self.features() {
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

    /// Reads and checks everything; of tokens their mean.
    pub(crate) fn read(&self, seed: u64) -> Result<Data, Failure> {
        let names = self.names();
        if let Some((name, source)) = self.lengths.iter().find(|(name, _)| !names.contains(name)) {
            let expected = names.join(", ");
            return Err(Failure::new(format!("--lengths {name}={source}: expected one of {expected}")));
        }
        let data =
            self.read_by(seed, &mut |name, source| token_inputs::pooled(name, source, &self.lengths))?;
        match self.labels.as_ref().map(read_integers).transpose()? {
            Some(labels) => data.with_classes(labels).map_err(|error| words::flags(error, self)),
            None => Ok(data),
        }
    }

    /// Reads and checks the features, those of a modality's name in any way, and the split.
    pub(crate) fn read_by(
        &self,
        seed: u64,
        read: &mut dyn FnMut(&str, &Source) -> Result<Features, Failure>,
    ) -> Result<Data, Failure> {
        self.tell_shards()?;
        let mut modality = |input: &Input| -> Result<Modality, Failure> {
            let views = input.sources.iter().map(|source| read(&input.name, source));
            let mut views = views.collect::<Result<Vec<_>, _>>()?;
            for (source, view) in input.sources.iter().zip(&views) {
                check_same("columns", (&input.sources[0], views[0].cols), (source, view.cols))?;
            }
            let features = views.remove(0);
            Ok(Modality { name: input.name.clone(), features, views })
        };
        let modalities = self.modalities.iter().map(&mut modality).collect::<Result<Vec<_>, _>>()?;
        let rows = modalities[0].features.rows;
        let views = modalities.iter().flat_map(|own| std::iter::once(&own.features).chain(&own.views));
        for (source, view) in self.features().zip(views) {
            check_same("rows", (&self.modalities[0].sources[0], rows), (source, view.rows))?;
        }
        let split = match &self.split {
            None => Split::random(rows, seed),
            Some(source) => {
                let labels = read_integers(source)?;
                check_same("rows", (&self.modalities[0].sources[0], rows), (source, labels.len()))?;
                Split::from_labels(&labels)
            }
        };
        let data = split.and_then(|split| Data::of_modalities(modalities, split));
        data.map_err(|error| words::flags(error, self))
    }
}

/// Sources by their names, for `metrics.json`.
pub(crate) fn by_name_json(sources: &[(String, Source)]) -> serde_json::Map<String, serde_json::Value> {
    sources.iter().map(|(name, own)| (name.clone(), own.to_string().into())).collect()
}

impl Input {
    /// The flag that names its features.
    pub(crate) fn flag(&self) -> String {
        match self.name.as_str() {
            "left" | "right" => format!("--{}", self.name),
            name => format!("--modality {name}"),
        }
    }

    /// The flag with what it is given.
    pub(crate) fn argument(&self) -> String {
        let between = if self.flag().starts_with("--modality") { '=' } else { ' ' };
        format!("{}{between}{}", self.flag(), self.sources[0])
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
