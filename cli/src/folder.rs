//! The folder that a run of `align` writes to.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crossmodal::io::read_safetensors;

use crate::failure::Failure;
use crate::inputs::Inputs;
use crate::{journal, metrics};

pub(crate) const CHECKPOINT: &str = "checkpoint.safetensors";
pub(crate) const HEADS: &str = "heads.safetensors";
pub(crate) const JOURNAL: &str = "log.jsonl";
pub(crate) const LEFT: &str = "left.npy";
pub(crate) const METRICS: &str = "metrics.json";
pub(crate) const RIGHT: &str = "right.npy";

/// Where runs go that are not told where.
const RUNS: &str = "runs";

/// Every file that a run writes. Nothing else in a folder is ever touched.
const OURS: [&str; 6] = [CHECKPOINT, HEADS, JOURNAL, LEFT, METRICS, RIGHT];

/// What is to become of which folder. Making the plan changes nothing on the disk.
pub(crate) enum Plan {
    /// The first of runs/align-1, runs/align-2, … that is free.
    Next,
    /// A folder that is not there yet or has nothing in it.
    Fresh(PathBuf),
    /// A folder whose run makes way as soon as the new one has results.
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
        match is_free(out)? {
            true => Ok(Plan::Fresh(path)),
            false if !force => Err(taken(out)),
            false if has_run(out) => Ok(Plan::Replace(path)),
            false => Err(Failure::new(format!(
                "{name}: the output folder is not empty and has no run that --force could replace"
            ))),
        }
    }

    /// Refuses inputs that the run would write over, and what it could not write over.
    pub(crate) fn spare(&self, inputs: &Inputs) -> Result<(), Failure> {
        let (Plan::Replace(folder) | Plan::Resume(folder)) = self else { return Ok(()) };
        for path in OURS.map(|name| folder.join(name)) {
            if std::fs::metadata(&path).is_ok_and(|about| !about.is_file()) {
                let path = path.display();
                return Err(Failure::new(format!("{path}: expected a file, got a folder or a device")));
            }
        }
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

    /// Refuses a folder that cannot be made, before there is work to lose. It is made and removed again.
    pub(crate) fn probe(&self) -> Result<(), Failure> {
        let folder = match self {
            Plan::Next => Path::new(RUNS),
            Plan::Fresh(folder) => folder,
            Plan::Replace(_) | Plan::Resume(_) => return Ok(()),
        };
        let missing: Vec<_> = folder.ancestors().take_while(|path| is_missing(path)).collect();
        let made = std::fs::create_dir_all(folder);
        for path in missing {
            // It stays where another program has put something into it.
            let _ = std::fs::remove_dir(path);
        }
        made.map_err(|error| refused(folder, &error))
    }

    /// Carries the plan out, now that there is something to write; the folder.
    pub(crate) fn open(self) -> Result<PathBuf, Failure> {
        match self {
            Plan::Next => next(Path::new(RUNS)),
            // It was free when the plan was made; another run may have been faster.
            Plan::Fresh(folder) if !is_free(&folder)? => Err(taken(&folder)),
            Plan::Fresh(folder) => {
                std::fs::create_dir_all(&folder).map_err(|e| refused(&folder, &e)).map(|()| folder)
            }
            Plan::Replace(folder) => clear(&folder).map(|()| folder),
            Plan::Resume(folder) => Ok(folder),
        }
    }
}

/// Whether the results of a finished run are all there, apart from the metrics.
pub(crate) fn has_results(folder: &Path) -> bool {
    [HEADS, LEFT, RIGHT].iter().all(|name| folder.join(name).is_file())
}

/// Whether a folder is not there or empty. The empty journal of a run without an epoch, as earlier versions left it, does
/// not count.
fn is_free(folder: &Path) -> Result<bool, Failure> {
    let no_epoch = |entry: &std::fs::DirEntry| {
        entry.file_name() == JOURNAL
            && entry.metadata().is_ok_and(|about| about.is_file() && about.len() == 0)
    };
    match std::fs::read_dir(folder) {
        Ok(mut entries) => Ok(entries.all(|entry| entry.is_ok_and(|entry| no_epoch(&entry)))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotADirectory => {
            Err(Failure::new(format!("{}: expected a folder to write to, got a file", folder.display())))
        }
        Err(error) => Err(refused(folder, &error)),
    }
}

/// Whether one of the files that only a run leaves shows that there was one. The other names are anybody's.
fn has_run(folder: &Path) -> bool {
    let checkpoint = || read_safetensors(&folder.join(CHECKPOINT));
    metrics::read(folder).is_some_and(|metrics| metrics::summary(&metrics, folder).is_some())
        || journal::has_epochs(&folder.join(JOURNAL))
        || checkpoint().is_ok_and(|(_, metadata)| metadata.contains_key("epochs_done"))
}

fn is_missing(path: &Path) -> bool {
    !path.as_os_str().is_empty() && path.symlink_metadata().is_err()
}

/// Makes the first folder align-N that is not there yet, even if others do the same at the same time.
fn next(parent: &Path) -> Result<PathBuf, Failure> {
    let mut number = 1;
    loop {
        std::fs::create_dir_all(parent).map_err(|error| refused(parent, &error))?;
        let folder = parent.join(format!("align-{number}"));
        match std::fs::create_dir(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
            // The probe of another run has just removed the parent.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(refused(&folder, &error)),
        }
    }
}

/// Removes our files and nothing else. The journal, which shows that a run was here, stays to be replaced in one step.
fn clear(folder: &Path) -> Result<(), Failure> {
    // As long as the checkpoint is there the others can be made again.
    for path in [METRICS, HEADS, LEFT, RIGHT, CHECKPOINT].map(|name| folder.join(name)) {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(Failure::new(format!("{}: cannot remove: {error}", path.display())));
            }
            _ => {}
        }
    }
    Ok(())
}

fn taken(folder: &Path) -> Failure {
    let name = folder.display();
    Failure::new(format!(
        "{name}: the output folder is not empty; --resume continues the run in it, --force replaces it"
    ))
}

fn refused(folder: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("{}: cannot be the output folder: {error}", folder.display()))
}
