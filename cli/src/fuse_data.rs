//! What `fuse` reads.

use std::path::PathBuf;

use crossmodal::fusion::{FusionData, Target};
use crossmodal::io::Source;

use crate::failure::Failure;
use crate::inputs::{self, Inputs};
use crate::{names, words};

/// The flags that name it.
#[derive(clap::Args)]
pub(crate) struct DataArgs {
    /// Features of a modality by its name; again: more
    #[arg(long, value_name = "NAME=FILE", value_parser = inputs::named())]
    modality: Vec<(String, Source)>,
    /// The class of each row, any integers
    #[arg(long, value_name = "FILE", value_parser = inputs::source())]
    labels: Option<Source>,
    /// 0 train, 1 validation, 2 test [default: 80/10/10]
    #[arg(long, value_name = "FILE", value_parser = inputs::source())]
    split: Option<Source>,
    /// Names of the classes 0, 1, …, a line each
    #[arg(long, value_name = "FILE")]
    class_names: Option<PathBuf>,
}

impl DataArgs {
    /// Where everything is.
    pub(crate) fn inputs(&self) -> Result<Inputs, Failure> {
        let mut inputs = if self.modality.is_empty() && self.labels.is_none() {
            Inputs::emoji_classes(self.split.clone())?
        } else {
            Inputs::new(self.modality.clone(), [self.split.clone(), self.labels.clone()], None)?
        };
        if inputs.labels.is_none() {
            return Err(Failure::new("--labels FILE is missing: the class of each row"));
        }
        let names = self.class_names.iter().map(|path| Source { path: path.clone(), tensor: None });
        inputs.others = names.collect();
        Ok(inputs)
    }

    /// Reads and checks it; the split is drawn with a seed where there is none.
    pub(crate) fn read(&self, inputs: &Inputs, seed: u64) -> Result<FusionData, Failure> {
        let read = inputs.read(seed)?;
        let target = Target::of_labels(&read.classes.unwrap_or_default());
        FusionData::new(read.modalities, target, read.split).map_err(|error| words::flags(error, inputs))
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
