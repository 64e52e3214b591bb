//! Opening files, and writing them whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Temporary names tried before giving up; one is taken only while another writer is at work in the folder, or after
/// one was killed.
const TEMPORARY_NAMES: usize = 100;

/// Opens a regular file for reading; with its length in bytes.
pub(super) fn open(path: &Path) -> Result<(File, u64)> {
    let about = fs::metadata(path).map_err(|error| failed(path, &error))?;
    if about.is_dir() {
        return Err(Error::file(path, "expected a file, got a folder"));
    }
    if !about.is_file() {
        return Err(Error::file(path, "expected a regular file"));
    }
    let file = File::open(path).map_err(|error| failed(path, &error))?;
    Ok((file, about.len()))
}

/// Reads exactly `len` bytes. Memory grows with what comes, so a length from a corrupt header costs nothing.
pub(super) fn read_exactly(path: &Path, file: impl Read, len: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(len).read_to_end(&mut bytes).map_err(|error| failed(path, &error))?;
    if bytes.len() as u64 == len {
        return Ok(bytes);
    }
    Err(Error::file(path, format!("truncated: expected {len} more bytes, got {}", bytes.len())))
}

/// Reads a length of `size` bytes, little-endian.
pub(super) fn read_length(path: &Path, file: impl Read, size: u64) -> Result<u64> {
    let bytes = read_exactly(path, file, size)?;
    Ok(bytes.iter().rev().fold(0, |length, &byte| length << 8 | u64::from(byte)))
}

/// An I/O error in one plain line.
pub(super) fn failed(path: &Path, error: &std::io::Error) -> Error {
    match error.kind() {
        ErrorKind::NotFound => Error::file(path, "no such file"),
        ErrorKind::PermissionDenied => Error::file(path, "permission denied"),
        _ => Error::file(path, error),
    }
}

/// Writes a file whole or not at all: to a temporary file beside `path`, which is synced to the disk and then renamed.
///
/// A reader sees the old file or the new one, never half of one. The temporary file is removed if anything fails.
///
/// # Errors
///
/// [`Error::File`] if the folder does not exist, cannot be written to or is full, or if `path` is a folder or a device.
///
/// ```
/// use crossmodal::io::write_atomically;
///
/// let path = std::env::temp_dir().join("crossmodal-atomic-example.txt");
/// write_atomically(&path, b"all of it")?;
/// assert_eq!(std::fs::read(&path).unwrap(), b"all of it");
/// # std::fs::remove_file(&path).unwrap();
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    write_parts(path, &[bytes])
}

/// [`write_atomically`] of several pieces one behind the other, which spares joining them in memory.
pub(super) fn write_parts(path: &Path, parts: &[&[u8]]) -> Result<()> {
    // Renaming onto a device such as /dev/null would replace it.
    if fs::metadata(path).is_ok_and(|about| !about.is_file()) {
        return Err(Error::file(path, "cannot write: expected a file, got a folder or a device"));
    }
    let (mut file, temporary) = create_beside(path)?;
    let written = parts.iter().try_for_each(|part| file.write_all(part)).and_then(|()| file.sync_all());
    drop(file);
    written.and_then(|()| fs::rename(&temporary, path)).map_err(|error| {
        // What is reported is why the write failed, not whether the removal did.
        let _ = fs::remove_file(&temporary);
        Error::file(path, format!("cannot write: {error}"))
    })
}

/// Creates a new file `.crossmodal-N.tmp` in the folder of `path`: a rename is atomic only within one file system.
fn create_beside(path: &Path) -> Result<(File, PathBuf)> {
    if path.file_name().is_none() {
        return Err(Error::file(path, "cannot write: expected a file name"));
    }
    for attempt in 0..TEMPORARY_NAMES {
        let temporary = path.with_file_name(format!(".crossmodal-{attempt}.tmp"));
        match OpenOptions::new().write(true).create_new(true).open(&temporary) {
            Ok(file) => return Ok((file, temporary)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(Error::file(path, "cannot write: no such folder"));
            }
            Err(error) => return Err(Error::file(path, format!("cannot write: {error}"))),
        }
    }
    Err(Error::file(path, "cannot write: remove the old temporary files .crossmodal-N.tmp beside it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn replaces_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.bin");
        write_atomically(&path, b"old").unwrap();
        write_parts(&path, &[b"ne", b"", b"w"]).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(names(folder.path()), ["a.bin"]);
    }

    #[test]
    fn a_temporary_file_of_another_writer_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(".crossmodal-0.tmp"), b"theirs").unwrap();
        write_atomically(&folder.path().join("a.bin"), b"ours").unwrap();
        assert_eq!(names(folder.path()), [".crossmodal-0.tmp", "a.bin"]);
    }

    #[test]
    fn refuses_folders_and_missing_folders() {
        let folder = tempfile::tempdir().unwrap();
        let message = |path: &Path| write_atomically(path, b"x").unwrap_err().to_string();
        assert!(message(folder.path()).ends_with("expected a file, got a folder or a device"));
        assert!(message(&folder.path().join("no/a.bin")).ends_with("cannot write: no such folder"));
        assert!(message(Path::new("")).ends_with("expected a file name"));
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn a_failed_rename_removes_the_temporary_file() {
        let folder = tempfile::tempdir().unwrap();
        // No file system takes a name this long, so all is written and the rename fails.
        let error = write_atomically(&folder.path().join("x".repeat(1000)), b"x").unwrap_err();
        assert!(error.to_string().contains(": cannot write: "), "{error}");
        assert!(names(folder.path()).is_empty());
    }

    #[cfg(unix)]
    #[test]
    fn refuses_devices() {
        assert!(write_atomically(Path::new("/dev/null"), b"x").is_err());
        assert!(open(Path::new("/dev/null")).is_err());
    }
}
