//! The folder that a run writes to.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crossmodal::io::write_atomically;

use crate::failure::Failure;
use crate::inputs::Inputs;
use crate::lock::{LOCK, Lock};
use crate::runs::Verb;

pub(crate) const CHECKPOINT: &str = "checkpoint.safetensors";
pub(crate) const HEADS: &str = "heads.safetensors";
pub(crate) const JOURNAL: &str = "log.jsonl";
pub(crate) const METRICS: &str = "metrics.json";

/// Where runs go that are not told where.
const RUNS: &str = "runs";

/// Where, in the folder of a run, the one that replaces it is until it is finished.
const UNFINISHED: &str = "unfinished";

/// The file of a modality's projected test rows.
pub(crate) fn embeddings(name: &str) -> String {
    format!("{name}.npy")
}

/// What is to become of which folder. Making the plan changes nothing on the disk.
pub(crate) struct Plan {
    verb: Verb,
    aim: Aim,
}

enum Aim {
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
    verb: Verb,
    /// The names of the modalities that have files.
    names: Vec<String>,
    _lock: Lock,
}

impl Plan {
    /// The plan that the command line asks for.
    pub(crate) fn new(verb: Verb, out: Option<&Path>, resume: bool, force: bool) -> Result<Plan, Failure> {
        Ok(Plan { verb, aim: Aim::new(verb, out, resume, force)? })
    }

    /// Refuses inputs that the run would write over, and what it could not write over.
    pub(crate) fn spare(&self, inputs: &Inputs) -> Result<(), Failure> {
        let (Aim::Replace(folder) | Aim::Resume(folder)) = &self.aim else { return Ok(()) };
        let unfinished = folder.join(UNFINISHED);
        if std::fs::metadata(&unfinished).is_ok_and(|about| !about.is_dir()) {
            return Err(Failure::new(format!("{}: expected a folder, got a file", unfinished.display())));
        }
        let (verb, new) = (self.verb, self.verb.names(inputs));
        let old = [verb.names_in(folder), verb.names_in(&unfinished)].concat();
        let is_old = |name: &String| old.iter().any(|own| own.eq_ignore_ascii_case(name));
        let taken = |name: &String| {
            let path = folder.join(embeddings(name));
            (!is_old(name) && path.exists()).then_some(path)
        };
        if let Some(path) = new.iter().find_map(taken) {
            let path = path.display();
            return Err(Failure::new(format!(
                "{path}: this file is not of the run in the folder; it is in the way"
            )));
        }
        let names = [new, old].concat();
        let ours = || [folder, &unfinished].into_iter().flat_map(|folder| verb.ours(folder, &names));
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
        match &self.aim {
            Aim::Replace(folder) | Aim::Resume(folder) => Lock::take(folder).map(Some),
            Aim::Next | Aim::Fresh(_) => Ok(None),
        }
    }

    /// The checkpoint to go on from.
    pub(crate) fn checkpoint(&self) -> Option<PathBuf> {
        if let Aim::Resume(folder) = &self.aim { Some(work(folder).join(CHECKPOINT)) } else { None }
    }

    /// Refuses a folder that cannot be made, before there is work to lose. It is made and removed again.
    pub(crate) fn probe(&self) -> Result<(), Failure> {
        let folder = match &self.aim {
            Aim::Next => Path::new(RUNS),
            Aim::Fresh(folder) => folder,
            Aim::Replace(_) | Aim::Resume(_) => return Ok(()),
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
    pub(crate) fn open(self, lock: Option<Lock>, inputs: &Inputs) -> Result<Output, Failure> {
        let names = self.verb.names(inputs);
        self.open_for(lock, names)
    }

    /// The same for a verb that never replaces a run.
    pub(crate) fn open_new(self) -> Result<Output, Failure> {
        self.open_for(None, vec![])
    }

    fn open_for(self, lock: Option<Lock>, names: Vec<String>) -> Result<Output, Failure> {
        let verb = self.verb;
        let folder = match &self.aim {
            Aim::Next => next(Path::new(RUNS), verb.word())?,
            Aim::Fresh(folder) | Aim::Replace(folder) | Aim::Resume(folder) => folder.clone(),
        };
        let fresh = matches!(self.aim, Aim::Fresh(_));
        if fresh {
            make(&folder)?;
        }
        let lock = lock.map_or_else(|| Lock::take(&folder), Ok)?;
        // It was free when the plan was made; another run may have been faster.
        if fresh && !is_free(&folder)? {
            return Err(taken(verb, &folder));
        }
        let work = match self.aim {
            Aim::Next | Aim::Fresh(_) => folder.clone(),
            Aim::Resume(_) => work(&folder),
            Aim::Replace(_) => {
                let work = folder.join(UNFINISHED);
                clear(verb, &work, &names)?;
                make(&work)?;
                work
            }
        };
        Ok(Output { folder, work, verb, names, _lock: lock })
    }
}

impl Aim {
    fn new(verb: Verb, out: Option<&Path>, resume: bool, force: bool) -> Result<Aim, Failure> {
        let Some(out) = out else {
            return match [resume, force] {
                [true, _] => Err(Failure::new("--resume needs --out DIR: which run?")),
                [_, true] => Err(Failure::new("--force needs --out DIR: which run?")),
                _ => Ok(Aim::Next),
            };
        };
        let name = out.display();
        let path = out.to_path_buf();
        if resume {
            let found = work(out).join(CHECKPOINT).is_file();
            let missing = || {
                Failure::new(format!(
                    "{name}: there is no run to resume: no {CHECKPOINT}, and heads by a formula have none"
                ))
            };
            return if found { Ok(Aim::Resume(path)) } else { Err(missing()) };
        }
        match is_free(out)? {
            true => Ok(Aim::Fresh(path)),
            false if !force => Err(taken(verb, out)),
            false if verb.has_run(out) || verb.has_run(&out.join(UNFINISHED)) => Ok(Aim::Replace(path)),
            false => Err(Failure::new(format!(
                "{name}: the output folder is not empty and has no run of {} that --force could replace",
                verb.word()
            ))),
        }
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
        let old = self.verb.names_in(&self.folder);
        old.iter().try_for_each(|name| remove(&self.folder.join(embeddings(name))))?;
        remove(&self.folder.join(METRICS))?;
        // Heads that a formula gave have no checkpoint, and must not be taken for a run that could go on from the old one. So with
        // all that the new run has not.
        let (has, has_not): (Vec<&str>, Vec<&str>) =
            self.verb.files().iter().partition(|name| self.file(name).exists());
        has_not.iter().try_for_each(|name| remove(&self.folder.join(name)))?;
        if has.contains(&JOURNAL) {
            let journal = std::fs::read(self.file(JOURNAL)).map_err(|e| stuck(&self.file(JOURNAL), &e))?;
            write_atomically(&self.folder.join(JOURNAL), &journal)?;
        }
        let last = [METRICS, CHECKPOINT];
        let first = has.iter().filter(|name| **name != JOURNAL && !last.contains(name));
        let all = first.chain(last.iter().filter(|name| has.contains(name)));
        let embeddings = self.names.iter().map(|name| embeddings(name));
        for name in embeddings.chain(all.map(ToString::to_string)) {
            let (from, to) = (self.file(&name), self.folder.join(&name));
            std::fs::rename(&from, &to).map_err(|error| stuck(&from, &error))?;
        }
        clear(self.verb, &self.work, &self.names)?;
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
fn clear(verb: Verb, folder: &Path, names: &[String]) -> Result<(), Failure> {
    let names = [names.to_vec(), verb.names_in(folder)].concat();
    verb.ours(folder, &names).iter().try_for_each(|path| remove(path))
}

fn remove(path: &Path) -> Result<(), Failure> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Failure::new(format!("{}: cannot remove: {error}", path.display())))
        }
        _ => Ok(()),
    }
}

fn taken(verb: Verb, folder: &Path) -> Failure {
    let (name, ways) = (folder.display(), verb.ways());
    Failure::new(format!("{name}: the output folder is not empty; {ways}"))
}

fn stuck(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("{}: the finished run cannot take its place: {error}", path.display()))
}

fn refused(folder: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("{}: cannot be the output folder: {error}", folder.display()))
}
