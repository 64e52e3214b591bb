//! The folder that a run of `align` writes to.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::inputs::Inputs;

pub(crate) const CHECKPOINT: &str = "checkpoint.safetensors";
pub(crate) const HEADS: &str = "heads.safetensors";
pub(crate) const JOURNAL: &str = "log.jsonl";
pub(crate) const LEFT: &str = "left.npy";
pub(crate) const METRICS: &str = "metrics.json";
pub(crate) const RIGHT: &str = "right.npy";

/// Every file that a run writes. Nothing else in a folder is ever touched.
const OURS: [&str; 6] = [CHECKPOINT, HEADS, JOURNAL, LEFT, METRICS, RIGHT];

/// What is to become of which folder. Making the plan changes nothing on the disk.
pub(crate) enum Plan {
    /// The first of runs/align-1, runs/align-2, … that is free.
    Next,
    /// A folder that is empty or not there yet.
    Fresh(PathBuf),
    /// A folder whose run makes way.
    Replace(PathBuf),
    /// A folder whose run goes on.
    Resume(PathBuf),
}

impl Plan {
    /// The plan that the command line asks for.
    pub(crate) fn new(out: Option<&Path>, resume: bool, force: bool) -> Result<Plan, Failure> {
        let Some(out) = out else {
            return if resume {
                Err(Failure::new("--resume needs --out DIR: which run?"))
            } else {
                Ok(Plan::Next)
            };
        };
        let name = out.display();
        let path = out.to_path_buf();
        if resume {
            let found = out.join(CHECKPOINT).is_file();
            let missing = || Failure::new(format!("{name}: there is no run to resume: no {CHECKPOINT}"));
            return if found { Ok(Plan::Resume(path)) } else { Err(missing()) };
        }
        match std::fs::read_dir(out).map(|mut entries| entries.next().is_none()) {
            Ok(true) => Ok(Plan::Fresh(path)),
            Ok(false) if force => Ok(Plan::Replace(path)),
            Ok(false) => Err(Failure::new(format!(
                "{name}: the output folder is not empty; --resume continues the run in it, --force replaces it"
            ))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Plan::Fresh(path)),
            Err(error) if error.kind() == ErrorKind::NotADirectory => {
                Err(Failure::new(format!("{name}: expected a folder to write to, got a file")))
            }
            Err(error) => Err(refused(out, &error)),
        }
    }

    /// Refuses inputs that the run would write over.
    pub(crate) fn spare(&self, inputs: &Inputs) -> Result<(), Failure> {
        let (Plan::Replace(folder) | Plan::Resume(folder)) = self else { return Ok(()) };
        let real = |path: &Path| std::fs::canonicalize(path).ok();
        for source in inputs.sources() {
            if OURS
                .iter()
                .any(|name| real(&folder.join(name)).is_some_and(|ours| Some(ours) == real(&source.path)))
            {
                let folder = folder.display();
                return Err(Failure::new(format!(
                    "{source}: an input cannot be a file of the output folder {folder}"
                )));
            }
        }
        Ok(())
    }

    /// The checkpoint to go on from.
    pub(crate) fn checkpoint(&self) -> Option<PathBuf> {
        if let Plan::Resume(folder) = self { Some(folder.join(CHECKPOINT)) } else { None }
    }

    /// Carries the plan out; the folder.
    pub(crate) fn open(self) -> Result<PathBuf, Failure> {
        match self {
            Plan::Next => next(Path::new("runs")),
            Plan::Fresh(folder) => {
                std::fs::create_dir_all(&folder).map_err(|e| refused(&folder, &e)).map(|()| folder)
            }
            Plan::Replace(folder) => clear(&folder).map(|()| folder),
            Plan::Resume(folder) => Ok(folder),
        }
    }
}

/// Makes the first folder align-N that is not there yet, even if others do the same at the same time.
fn next(parent: &Path) -> Result<PathBuf, Failure> {
    std::fs::create_dir_all(parent).map_err(|error| refused(parent, &error))?;
    let mut number = 1;
    loop {
        let folder = parent.join(format!("align-{number}"));
        match std::fs::create_dir(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(refused(&folder, &error)),
        }
    }
}

/// Removes our files and nothing else.
fn clear(folder: &Path) -> Result<(), Failure> {
    for path in OURS.map(|name| folder.join(name)) {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(Failure::new(format!("{}: cannot remove: {error}", path.display())));
            }
            _ => {}
        }
    }
    Ok(())
}

fn refused(folder: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("{}: cannot be the output folder: {error}", folder.display()))
}
