//! One run at a time in a folder.

use std::fs::{File, TryLockError};
use std::path::Path;

use crate::failure::Failure;

/// The file whose lock a run holds. It stays: were it removed, a run that had it open and one that made it anew could
/// both hold a lock.
pub(crate) const LOCK: &str = ".lock";

/// Held as long as a run writes to its folder. The system takes it back however the run ends.
pub(crate) struct Lock {
    _file: Option<File>,
}

impl Lock {
    /// Takes the lock of a folder that is there, or says that another run has it.
    pub(crate) fn take(folder: &Path) -> Result<Lock, Failure> {
        let name = folder.display();
        let file = File::options().create(true).append(true).open(folder.join(LOCK));
        let file = file.map_err(|error| Failure::new(format!("{name}: cannot be written to: {error}")))?;
        match file.try_lock() {
            Ok(()) => Ok(Lock { _file: Some(file) }),
            Err(TryLockError::WouldBlock) => Err(Failure::new(format!(
                "{name}: another run is writing to this folder; wait for it, or name another with --out"
            ))),
            // Some network file systems have none.
            Err(TryLockError::Error(error)) => {
                log::warn!("{name}: without a lock, so let no other run write to it: {error}");
                Ok(Lock { _file: None })
            }
        }
    }
}
