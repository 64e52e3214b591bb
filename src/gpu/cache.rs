//! What a later process need not find out again: files in the user's cache folder. Nothing depends on them: one that is missing,
//! cut short or of another version is as good as none, and a folder that cannot be written to costs a warning.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The folder that `CROSSMODAL_CACHE` names, else `crossmodal` in the platform's folder for caches. None where that is `off` or
/// there is none.
pub(crate) fn folder() -> Option<PathBuf> {
    folder_of(|name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from))
}

fn folder_of(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    if let Some(named) = variable("CROSSMODAL_CACHE") {
        return Some(named).filter(|named| named.as_os_str() != "off");
    }
    let caches = if cfg!(windows) {
        variable("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        variable("HOME").map(|home| home.join("Library/Caches"))
    } else {
        // By the XDG specification a relative path is none.
        let named = variable("XDG_CACHE_HOME").filter(|folder| folder.is_absolute());
        named.or_else(|| variable("HOME").map(|home| home.join(".cache")))
    };
    caches.map(|caches| caches.join("crossmodal"))
}

/// What [`write`] wrote under this name, if this version of the crate did.
pub(crate) fn read(name: &str) -> Option<Vec<u8>> {
    read_in(&folder()?, name)
}

/// Keeps bytes under a name, which is a file's: letters, digits, `-`, `_` and `.`.
pub(crate) fn write(name: &str, bytes: &[u8]) {
    if let Some(folder) = folder() {
        write_in(&folder, name, bytes);
    }
}

/// The first line of a file: its version, its name and what is behind it.
fn header(name: &str, bytes: &[u8]) -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!("crossmodal {version} {name} {} {:016x}\n", bytes.len(), checksum(bytes))
}

/// FNV-1a: against files that are cut short or damaged, not against malice.
pub(super) fn checksum(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

fn read_in(folder: &Path, name: &str) -> Option<Vec<u8>> {
    let path = folder.join(name);
    let mut file = match std::fs::read(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => {
            log::warn!("the cache {} cannot be read: {error}", path.display());
            return None;
        }
    };
    let body = file.iter().position(|&byte| byte == b'\n').map_or(file.len(), |end| end + 1);
    let bytes = file.split_off(body);
    if file != header(name, &bytes).as_bytes() {
        log::warn!("the cache {} is damaged or of another version: ignored", path.display());
        return None;
    }
    Some(bytes)
}

/// Into a file of its own first: a reader sees the old file or the new one, never half of it.
fn write_in(folder: &Path, name: &str, bytes: &[u8]) {
    static WRITES: AtomicU64 = AtomicU64::new(0);
    let number = WRITES.fetch_add(1, Relaxed);
    let temporary = folder.join(format!("{name}.{}-{number}.tmp", std::process::id()));
    let content = [header(name, bytes).as_bytes(), bytes].concat();
    let written = std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&temporary, content))
        .and_then(|()| std::fs::rename(&temporary, folder.join(name)));
    if let Err(error) = written {
        log::warn!("nothing is kept in the cache folder {}: {error}", folder.display());
        // It may not even be there.
        let _ = std::fs::remove_file(&temporary);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(folder: &Path) -> Vec<u8> {
        std::fs::read(folder.join("numbers")).unwrap()
    }

    #[test]
    fn what_is_written_is_read_again_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("made on the way");
        assert_eq!(read_in(&inner, "numbers"), None);
        for bytes in [&b"1\n2"[..], b"", &[0, 255, 10]] {
            write_in(&inner, "numbers", bytes);
            assert_eq!(read_in(&inner, "numbers").as_deref(), Some(bytes));
        }
        assert_eq!(std::fs::read_dir(&inner).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_is_damaged_is_ignored() {
        let folder = tempfile::tempdir().unwrap();
        write_in(folder.path(), "numbers", b"12345");
        let whole = file(folder.path());
        for at in 0..whole.len() {
            let mut other = whole.clone();
            other[at] ^= 1;
            for damaged in [&other[..], &whole[..at]] {
                std::fs::write(folder.path().join("numbers"), damaged).unwrap();
                assert_eq!(read_in(folder.path(), "numbers"), None, "{damaged:?}");
            }
        }
    }

    #[test]
    fn a_file_of_another_version_or_name_is_ignored() {
        let folder = tempfile::tempdir().unwrap();
        write_in(folder.path(), "numbers", b"12345");
        std::fs::copy(folder.path().join("numbers"), folder.path().join("others")).unwrap();
        assert_eq!(read_in(folder.path(), "others"), None);
        let version = concat!("crossmodal ", env!("CARGO_PKG_VERSION"));
        let older = String::from_utf8(file(folder.path())).unwrap().replace(version, "crossmodal 0.0.9");
        std::fs::write(folder.path().join("numbers"), older).unwrap();
        assert_eq!(read_in(folder.path(), "numbers"), None);
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_no_failure() {
        let folder = tempfile::tempdir().unwrap();
        let in_the_way = folder.path().join("file");
        std::fs::write(&in_the_way, "").unwrap();
        write_in(&in_the_way, "numbers", b"12345");
        assert_eq!(read_in(&in_the_way, "numbers"), None);
    }

    #[test]
    fn the_folder_is_the_named_one_or_the_platforms() {
        let with = |all: &'static [(&str, &str)]| {
            folder_of(|name| all.iter().find(|own| own.0 == name).map(|own| PathBuf::from(own.1)))
        };
        assert_eq!(with(&[("CROSSMODAL_CACHE", "off"), ("HOME", "/home/me")]), None);
        assert_eq!(with(&[("CROSSMODAL_CACHE", "here"), ("HOME", "/home/me")]), Some("here".into()));
        assert_eq!(with(&[]), None);
        #[cfg(target_os = "linux")]
        {
            let home = "/home/me/.cache/crossmodal";
            assert_eq!(with(&[("HOME", "/home/me")]), Some(home.into()));
            assert_eq!(with(&[("HOME", "/home/me"), ("XDG_CACHE_HOME", "here")]), Some(home.into()));
            assert_eq!(with(&[("XDG_CACHE_HOME", "/c")]), Some("/c/crossmodal".into()));
        }
    }
}
