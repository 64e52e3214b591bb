//! A file to write.

use std::path::Path;

use crate::failure::Failure;

/// Refuses a file that is there, unless it may be replaced; one of those that are read; one in a folder that is not there.
pub(crate) fn check<'a>(
    out: &Path,
    mut read: impl Iterator<Item = &'a Path>,
    force: bool,
) -> Result<(), Failure> {
    let shown = out.display();
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    if real(out).is_some_and(|out| read.any(|read| real(read).as_ref() == Some(&out))) {
        return Err(Failure::new(format!("--out {shown}: expected another file than those that are read")));
    }
    // Also a link that leads nowhere is something that is there.
    if !force && out.symlink_metadata().is_ok() {
        return Err(Failure::new(format!("{shown}: it exists already; --force replaces it")));
    }
    // Found now, not when hours of work are to be written.
    if out.parent().is_some_and(|folder| !folder.as_os_str().is_empty() && !folder.is_dir()) {
        return Err(Failure::new(format!("{shown}: cannot write: no such folder")));
    }
    Ok(())
}
