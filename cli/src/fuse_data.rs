//! What `fuse` reads.

use std::path::PathBuf;

use clap::ValueEnum;
use crossmodal::align::Split;
use crossmodal::fusion::{FusionData, Target};
use crossmodal::io::{Source, read_integers, read_numbers};

use crate::failure::Failure;
use crate::inputs::{self, Inputs, check_same};
use crate::{names, present, token_inputs, words};

/// The flags that name it.
#[derive(clap::Args)]
pub(crate) struct DataArgs {
    /// Features of a modality by its name; again: more
    #[arg(long, value_name = "NAME=FILE", value_parser = inputs::named())]
    modality: Vec<(String, Source)>,
    /// The class of each row, any integers; or a number
    #[arg(long, value_name = "FILE", value_parser = inputs::source())]
    labels: Option<Source>,
    /// 0 train, 1 validation, 2 test [default: 80/10/10]
    #[arg(long, value_name = "FILE", value_parser = inputs::source())]
    split: Option<Source>,
    /// 0 in rows without the modality, 1 in others
    #[arg(long, value_name = "NAME=FILE", value_parser = inputs::named())]
    pub(crate) present: Vec<(String, Source)>,
    /// How many tokens of each row are there; again: more
    #[arg(long, value_name = "NAME=FILE", value_parser = inputs::named())]
    pub(crate) lengths: Vec<(String, Source)>,
    /// What is told: class (the default), regression
    #[arg(long, value_name = "TASK", hide_possible_values = true)]
    task: Option<Task>,
    /// Names of the classes 0, 1, …, a line each
    #[arg(long, value_name = "FILE")]
    class_names: Option<PathBuf>,
}

/// What is told.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub(crate) enum Task {
    Class,
    Regression,
}

impl DataArgs {
    pub(crate) fn task(&self) -> Task {
        self.task.unwrap_or(Task::Class)
    }

    /// Where everything is.
    pub(crate) fn inputs(&self) -> Result<Inputs, Failure> {
        let is_regression = self.task() == Task::Regression;
        if is_regression && self.class_names.is_some() {
            return Err(Failure::new("--class-names is for --task class"));
        }
        let names: Vec<_> = self.modality.iter().map(|(name, _)| name).collect();
        if let Some(at) = (1..names.len()).find(|&at| names[..at].contains(&names[at])) {
            let (name, source) = &self.modality[at];
            return Err(Failure::new(format!("--modality {name}={source}: {name} is given twice")));
        }
        let mut inputs = if self.modality.is_empty() && self.labels.is_none() {
            if is_regression {
                let expected =
                    "--task regression: expected --modality and --labels: the emoji data has classes alone";
                return Err(Failure::new(expected));
            }
            Inputs::emoji_classes(self.split.clone())?
        } else {
            Inputs::new(self.modality.clone(), [self.split.clone(), self.labels.clone()], None)?
        };
        if inputs.labels.is_none() {
            let what = if is_regression { "number" } else { "class" };
            return Err(Failure::new(format!("--labels FILE is missing: the {what} of each row")));
        }
        let names = self.class_names.iter().map(|path| Source { path: path.clone(), tensor: None });
        inputs.others = names.chain(self.present.iter().map(|(_, source)| source.clone())).collect();
        inputs.lengths.clone_from(&self.lengths);
        Ok(inputs)
    }

    /// Reads and checks it; the split is drawn with a seed where there is none.
    pub(crate) fn read(&self, inputs: &Inputs, seed: u64) -> Result<FusionData, Failure> {
        let said = |error| words::flags(error, inputs);
        let mut lengths = vec![];
        let mut reader = |_: &str, source: &Source| {
            let (features, length) = token_inputs::read(source)?;
            lengths.push(length);
            Ok(features)
        };
        let read = inputs.read_by(seed, &mut reader)?;
        let first = inputs.first(&read);
        let target = match (self.task(), &inputs.labels) {
            (Task::Regression, Some(source)) => {
                let values = read_numbers(source)?;
                check_same("rows", first, (source, values.len()))?;
                differ(&values, source, &read.split)?;
                Target::Values(values)
            }
            (_, Some(source)) => {
                let labels = read_integers(source).map_err(|error| match read_numbers(source) {
                    Ok(_) => Failure::new(format!("--labels {error}; --task regression tells numbers")),
                    Err(_) => error.into(),
                })?;
                check_same("rows", first, (source, labels.len()))?;
                Target::of_labels(&labels)
            }
            (_, None) => unreachable!("inputs have labels"),
        };
        let names = inputs.names();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let present = present::read(&self.present, &names, first)?;
        let modalities: Vec<_> = names.iter().copied().zip(lengths).collect();
        let counts = token_inputs::counts(&self.lengths, &modalities, first)?;
        let mut data = FusionData::new(read.modalities, target, read.split).map_err(said)?;
        for (name, count) in names.iter().zip(counts) {
            if let Some(count) = count {
                data = data.with_tokens(name, count).map_err(said)?;
            }
        }
        for (name, own) in present {
            data = data.with_presence(&name, own).map_err(said)?;
        }
        Ok(data)
    }

    /// What the classes are called; none where nobody says so.
    pub(crate) fn names(&self, inputs: &Inputs, data: &FusionData) -> Result<Vec<String>, Failure> {
        match (&data.target, &inputs.labels) {
            (Target::Classes { labels, .. }, Some(source)) => {
                names::of_classes(self.class_names.as_deref(), source, labels)
            }
            _ => Ok(vec![]),
        }
    }
}

/// Refuses numbers that are all the same in a part of the rows: nothing can be learned of them, and R² is a part of their variance.
fn differ(values: &[f32], source: &Source, split: &Split) -> Result<(), Failure> {
    for (part, rows) in [("training", &split.train), ("validation", &split.validation), ("test", &split.test)]
    {
        let first = values[rows[0] as usize];
        if rows.iter().all(|&row| values[row as usize] == first) {
            let expected = format!("numbers that differ among the {part} rows");
            return Err(Failure::new(format!("--labels {source}: expected {expected}, got {first} alone")));
        }
    }
    Ok(())
}
