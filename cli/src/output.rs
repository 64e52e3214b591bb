//! Standard output and standard error, either of which may be closed at any time.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use crossmodal::io::write_atomically;
use serde_json::Value;

use crate::failure::Failure;

/// Writes lines of a result to standard output.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()).map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => Failure::ClosedPipe,
        _ => Failure::new(format!("cannot write to standard output: {error}")),
    })
}

/// Writes a result as JSON to standard output.
pub(crate) fn print_json(value: &Value) -> Result<(), Failure> {
    print(&format!("{value:#}"))
}

/// Writes a line about the work to standard error.
pub(crate) fn note(line: &str) {
    // There is nobody else to tell.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Writes files, each whole or not at all, and makes the folders that they lie in. Before the first is written it refuses what
/// is there already, unless `force` says to replace it; other files in the folders are left alone.
pub(crate) fn write_all(files: &[(PathBuf, Vec<u8>)], force: bool) -> Result<(), Failure> {
    for (path, _) in files {
        // Also a link that leads nowhere is something that is there.
        if !force && path.symlink_metadata().is_ok() {
            let path = path.display();
            return Err(Failure::new(format!("{path}: it exists already; --force replaces it")));
        }
    }
    for (path, bytes) in files {
        let folder = path.parent().unwrap_or(Path::new(""));
        if !folder.as_os_str().is_empty() {
            let refused =
                |error| Failure::new(format!("{}: cannot be the folder: {error}", folder.display()));
            std::fs::create_dir_all(folder).map_err(refused)?;
        }
        write_atomically(path, bytes)?;
    }
    Ok(())
}
