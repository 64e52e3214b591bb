//! A matrix in several files, as clip-retrieval writes them: `img_emb_0.npy`, `img_emb_1.npy`, …

use super::source::has_extension;
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

/// The shards of a folder in the order of their numbers: its files `PREFIX_NUMBER.npy` or `PREFIXNUMBER.npy`. Files of other
/// types are left alone.
///
/// Errors: the folder cannot be read; it has none; two prefixes; a `.npy` file without a number, two with one number, or one
/// that is missing between others.
///
/// ```
/// # let folder = std::env::temp_dir().join(format!("crossmodal-doc-shards-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder).unwrap();
/// use crossmodal::io::{Source, read_features, shards, write_npy};
/// for (name, value) in [("emb_10.npy", 3.), ("emb_9.npy", 2.), ("emb_8.npy", 1.)] {
///     write_npy(&folder.join(name), 1, 1, &[value])?;
/// }
/// assert!(shards(&folder)?[2].ends_with("emb_10.npy"));
/// let all = read_features(&Source::parse(&folder.display().to_string()))?;
/// assert_eq!(all.values, [1., 2., 3.]);
/// # std::fs::remove_dir_all(&folder).unwrap();
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn shards(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).map_err(|error| Error::file(folder, error))?;
    let mut found: Vec<(u64, String, PathBuf)> = vec![];
    for entry in entries {
        let path = entry.map_err(|error| Error::file(folder, error))?.path();
        if !has_extension(&path, "npy") {
            continue;
        }
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let prefix = stem.trim_end_matches(|c: char| c.is_ascii_digit());
        let Ok(number) = stem[prefix.len()..].parse() else {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let expected = "is a folder: expected shards named PREFIX_NUMBER.npy in it";
            return Err(Error::file(folder, format!("{expected}, got {name}")));
        };
        found.push((number, prefix.to_string(), path));
    }
    found.sort();
    let Some((_, prefix, _)) = found.first() else {
        return Err(Error::file(
            folder,
            "is a folder: expected shards named PREFIX_NUMBER.npy in it, got none",
        ));
    };
    let one = found.iter().all(|(_, own, _)| own == prefix);
    if !one || found.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        let expected = "is a folder: expected shards of one prefix and different numbers in it";
        let names: Vec<_> =
            found.iter().filter_map(|(_, _, path)| path.file_name()?.to_str()).take(4).collect();
        return Err(Error::file(folder, format!("{expected}, got {}", names.join(", "))));
    }
    if let Some(pair) = found.windows(2).find(|pair| pair[1].0 != pair[0].0 + 1) {
        let (missing, next) = (pair[0].0 + 1, pair[1].2.file_name().unwrap_or_default().to_string_lossy());
        let message = format!("is a folder: expected a shard of number {missing}, the next in it is {next}");
        return Err(Error::file(folder, message));
    }
    Ok(found.into_iter().map(|(.., path)| path).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{Source, read_features, write_npy};

    #[test]
    fn what_is_no_row_of_shards_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let refused = || shards(folder.path()).unwrap_err().to_string();
        assert!(refused().contains("got none"));
        let write =
            |name: &str, cols: usize| write_npy(&folder.path().join(name), 1, cols, &vec![1.; cols]).unwrap();
        write("emb_0.npy", 2);
        write("emb_1.npy", 3);
        std::fs::write(folder.path().join("metadata_0.parquet"), "").unwrap();
        assert_eq!(shards(folder.path()).unwrap().len(), 2);
        let whole = || read_features(&Source { path: folder.path().into(), tensor: None });
        let message = whole().unwrap_err().to_string();
        assert!(message.contains("emb_1.npy: expected 2 columns"), "{message}");
        std::fs::remove_file(folder.path().join("emb_1.npy")).unwrap();
        write("emb_2.npy", 2);
        assert!(refused().contains("expected a shard of number 1, the next in it is emb_2.npy"));
        write("emb_1.npy", 2);
        assert_eq!(whole().unwrap().rows, 3);
        write("emb_01.npy", 2);
        assert!(refused().contains("different numbers"));
        std::fs::remove_file(folder.path().join("emb_01.npy")).unwrap();
        write("other_3.npy", 2);
        assert!(refused().contains("one prefix"));
        write("all.npy", 2);
        assert!(refused().contains("got all.npy"));
    }
}
