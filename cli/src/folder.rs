//! The folder that a run of `align` writes to.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crossmodal::io::{read_safetensors, write_atomically};

use crate::failure::Failure;
use crate::inputs::Inputs;
use crate::lock::{LOCK, Lock};
use crate::{journal, metrics};

pub(crate) const CHECKPOINT: &str = "checkpoint.safetensors";
pub(crate) const HEADS: &str = "heads.safetensors";
pub(crate) const JOURNAL: &str = "log.jsonl";
pub(crate) const METRICS: &str = "metrics.json";

/// Where runs go that are not told where.
const RUNS: &str = "runs";

/// Where, in the folder of a run, the one that replaces it is until it is finished.
const UNFINISHED: &str = "unfinished";

/// The files that every run writes, apart from its lock and the embeddings of each modality. Nothing else in a folder is ever
/// touched.
const OURS: [&str; 4] = [CHECKPOINT, HEADS, JOURNAL, METRICS];

/// The file of a modality's projected test rows.
pub(crate) fn embeddings(name: &str) -> String {
    format!("{name}.npy")
}

/// The modalities of the run in a folder, finished or not: what its metrics, its heads or its checkpoint call them, as far as a run could
/// have called them so.
fn names_in(folder: &Path) -> Vec<String> {
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
fn ours(folder: &Path, names: &[String]) -> Vec<PathBuf> {
    let embeddings = names.iter().map(|name| embeddings(name));
    OURS.iter().map(ToString::to_string).chain(embeddings).map(|name| folder.join(name)).collect()
}

/// What is to become of which folder. Making the plan changes nothing on the disk.
pub(crate) enum Plan {
    /// The first of runs/align-1, runs/align-2, … that is free.
    Next,
    /// A folder that is not there yet or has nothing in it.
    Fresh(PathBuf),
    /// A folder whose run makes way as soon as the new one is finished.
    Replace(PathBuf),
    /// A folder whose run goes on.
    Resume(PathBuf),
}

/// The folder of a run, which no other run can write to meanwhile.
pub(crate) struct Output {
    /// The folder as it was named.
    pub(crate) folder: PathBuf,
    /// Where files go until the run is finished: the folder itself, unless there is a run to replace.
    pub(crate) work: PathBuf,
    /// The names of the modalities.
    names: Vec<String>,
    _lock: Lock,
}

impl Plan {
    /// The plan that the command line asks for.
    pub(crate) fn new(out: Option<&Path>, resume: bool, force: bool) -> Result<Plan, Failure> {
        let Some(out) = out else {
            return match [resume, force] {
                [true, _] => Err(Failure::new("--resume needs --out DIR: which run?")),
                [_, true] => Err(Failure::new("--force needs --out DIR: which run?")),
                _ => Ok(Plan::Next),
            };
        };
        let name = out.display();
        let path = out.to_path_buf();
        if resume {
            let found = work(out).join(CHECKPOINT).is_file();
            let missing = || Failure::new(format!("{name}: there is no run to resume: no {CHECKPOINT}"));
            return if found { Ok(Plan::Resume(path)) } else { Err(missing()) };
        }
        match is_free(out)? {
            true => Ok(Plan::Fresh(path)),
            false if !force => Err(taken(out)),
            false if has_run(out) || has_run(&out.join(UNFINISHED)) => Ok(Plan::Replace(path)),
            false => Err(Failure::new(format!(
                "{name}: the output folder is not empty and has no run that --force could replace"
            ))),
        }
    }

    /// Refuses inputs that the run would write over, and what it could not write over.
    pub(crate) fn spare(&self, inputs: &Inputs) -> Result<(), Failure> {
        let (Plan::Replace(folder) | Plan::Resume(folder)) = self else { return Ok(()) };
        let unfinished = folder.join(UNFINISHED);
        if std::fs::metadata(&unfinished).is_ok_and(|about| !about.is_dir()) {
            return Err(Failure::new(format!("{}: expected a folder, got a file", unfinished.display())));
        }
        let old = [names_in(folder), names_in(&unfinished)].concat();
        let is_old = |name: &String| old.iter().any(|own| own.eq_ignore_ascii_case(name));
        let taken = |name: &String| {
            let path = folder.join(embeddings(name));
            (!is_old(name) && path.exists()).then_some(path)
        };
        if let Some(path) = inputs.names().iter().find_map(taken) {
            let path = path.display();
            return Err(Failure::new(format!(
                "{path}: this file is not of the run in the folder; it is in the way"
            )));
        }
        let names = [inputs.names(), old].concat();
        let ours = || [folder, &unfinished].into_iter().flat_map(|folder| ours(folder, &names));
        if let Some(path) = ours().find(|path| std::fs::metadata(path).is_ok_and(|about| !about.is_file())) {
            let path = path.display();
            return Err(Failure::new(format!("{path}: expected a file, got a folder or a device")));
        }
        let real = |path: &Path| std::fs::canonicalize(path).ok();
        let is_ours = |input: &Path| {
            real(input).is_some_and(|input| ours().any(|path| real(&path).as_ref() == Some(&input)))
        };
        match inputs.sources().find(|source| is_ours(&source.path)) {
            None => Ok(()),
            Some(source) => {
                let folder = folder.display();
                Err(Failure::new(format!(
                    "{source}: an input cannot be a file of the output folder {folder}"
                )))
            }
        }
    }

    /// Locks a folder that has a run, before anything of it is read.
    pub(crate) fn lock(&self) -> Result<Option<Lock>, Failure> {
        match self {
            Plan::Replace(folder) | Plan::Resume(folder) => Lock::take(folder).map(Some),
            Plan::Next | Plan::Fresh(_) => Ok(None),
        }
    }

    /// The checkpoint to go on from.
    pub(crate) fn checkpoint(&self) -> Option<PathBuf> {
        if let Plan::Resume(folder) = self { Some(work(folder).join(CHECKPOINT)) } else { None }
    }

    /// Refuses a folder that cannot be made, before there is work to lose. It is made and removed again.
    pub(crate) fn probe(&self) -> Result<(), Failure> {
        let folder = match self {
            Plan::Next => Path::new(RUNS),
            Plan::Fresh(folder) => folder,
            Plan::Replace(_) | Plan::Resume(_) => return Ok(()),
        };
        let missing: Vec<_> = folder.ancestors().take_while(|path| is_missing(path)).collect();
        let made = make(folder);
        for path in missing {
            // It stays where another program has put something into it.
            let _ = std::fs::remove_dir(path);
        }
        made
    }

    /// Carries the plan out, now that there is something to write. `lock` is that of [`Plan::lock`].
    pub(crate) fn open(self, lock: Option<Lock>, names: Vec<String>) -> Result<Output, Failure> {
        self.open_for("align", lock, names)
    }

    /// The same for another verb, which has no run to replace or to go on with.
    pub(crate) fn open_as(self, verb: &str, names: Vec<String>) -> Result<Output, Failure> {
        self.open_for(verb, None, names)
    }

    fn open_for(self, verb: &str, lock: Option<Lock>, names: Vec<String>) -> Result<Output, Failure> {
        let folder = match &self {
            Plan::Next => next(Path::new(RUNS), verb)?,
            Plan::Fresh(folder) | Plan::Replace(folder) | Plan::Resume(folder) => folder.clone(),
        };
        let fresh = matches!(self, Plan::Fresh(_));
        if fresh {
            make(&folder)?;
        }
        let lock = lock.map_or_else(|| Lock::take(&folder), Ok)?;
        // It was free when the plan was made; another run may have been faster.
        if fresh && !is_free(&folder)? {
            return Err(taken(&folder));
        }
        let work = match self {
            Plan::Next | Plan::Fresh(_) => folder.clone(),
            Plan::Resume(_) => work(&folder),
            Plan::Replace(_) => {
                let work = folder.join(UNFINISHED);
                clear(&work, &names)?;
                make(&work)?;
                work
            }
        };
        Ok(Output { folder, work, names, _lock: lock })
    }
}

impl Output {
    /// The path of a file of the run in the making.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.work.join(name)
    }

    /// Whether the results of a finished run are all there, apart from the metrics.
    pub(crate) fn has_results(&self) -> bool {
        let embeddings = self.names.iter().map(|name| embeddings(name));
        embeddings.chain([HEADS.to_string()]).all(|name| self.file(&name).is_file())
    }

    /// Puts a finished run in the place of the one that it replaces. Killed at any point, it is done again by `--resume`:
    /// the checkpoint, from which all of it can be made, moves last.
    pub(crate) fn publish(&self) -> Result<(), Failure> {
        if self.work == self.folder {
            return Ok(());
        }
        // What tells the old run's names goes last of it: its heads make way for the new ones.
        let old = names_in(&self.folder);
        old.iter().try_for_each(|name| remove(&self.folder.join(embeddings(name))))?;
        remove(&self.folder.join(METRICS))?;
        // Heads that a formula gave have no checkpoint, and must not be taken for a run that could go on from the old one.
        let trained = self.file(CHECKPOINT).exists();
        if !trained {
            remove(&self.folder.join(CHECKPOINT))?;
        }
        let journal = std::fs::read(self.file(JOURNAL)).map_err(|e| stuck(&self.file(JOURNAL), &e))?;
        write_atomically(&self.folder.join(JOURNAL), &journal)?;
        let first = self.names.iter().map(|name| embeddings(name)).chain([HEADS.to_string()]);
        let last = [METRICS].into_iter().chain(trained.then_some(CHECKPOINT)).map(String::from);
        for name in first.chain(last) {
            let (from, to) = (self.file(&name), self.folder.join(&name));
            std::fs::rename(&from, &to).map_err(|error| stuck(&from, &error))?;
        }
        clear(&self.work, &self.names)?;
        // It stays where somebody has put something into it.
        let _ = std::fs::remove_dir(&self.work);
        Ok(())
    }
}

/// Where the run in a folder goes on: the one that is to replace it, if there is one.
fn work(folder: &Path) -> PathBuf {
    let unfinished = folder.join(UNFINISHED);
    if unfinished.join(CHECKPOINT).is_file() { unfinished } else { folder.to_path_buf() }
}

/// Whether a folder is not there or empty, but for a lock and for a journal that holds no epoch.
pub(crate) fn is_free(folder: &Path) -> Result<bool, Failure> {
    let counts = |entry: &std::fs::DirEntry| {
        let empty = || entry.metadata().is_ok_and(|about| about.is_file() && about.len() == 0);
        !([LOCK, JOURNAL].iter().any(|name| entry.file_name() == *name) && empty())
    };
    match std::fs::read_dir(folder) {
        Ok(mut entries) => Ok(!entries.any(|entry| entry.is_ok_and(|entry| counts(&entry)))),
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

/// Makes a folder and those that it lies in.
fn make(folder: &Path) -> Result<(), Failure> {
    // The probes of other runs may remove one of them between two steps of this.
    let mut attempts = 0;
    loop {
        attempts += 1;
        match std::fs::create_dir_all(folder) {
            Err(error)
                if attempts < 100
                    && !folder.is_file()
                    && matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::NotFound) => {}
            made => return made.map_err(|error| refused(folder, &error)),
        }
    }
}

/// Makes the first folder VERB-N that is not there yet, even if others do the same at the same time.
fn next(parent: &Path, verb: &str) -> Result<PathBuf, Failure> {
    let mut number = 1;
    loop {
        make(parent)?;
        let folder = parent.join(format!("{verb}-{number}"));
        match std::fs::create_dir(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
            // The probe of another run has just removed the parent.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(refused(&folder, &error)),
        }
    }
}

/// Removes a run's files and nothing else.
fn clear(folder: &Path, names: &[String]) -> Result<(), Failure> {
    let names = [names.to_vec(), names_in(folder)].concat();
    ours(folder, &names).iter().try_for_each(|path| remove(path))
}

fn remove(path: &Path) -> Result<(), Failure> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Failure::new(format!("{}: cannot remove: {error}", path.display())))
        }
        _ => Ok(()),
    }
}

fn taken(folder: &Path) -> Failure {
    let name = folder.display();
    Failure::new(format!(
        "{name}: the output folder is not empty; --resume continues the run in it, --force replaces it"
    ))
}

fn stuck(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("{}: the finished run cannot take its place: {error}", path.display()))
}

fn refused(folder: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("{}: cannot be the output folder: {error}", folder.display()))
}
