//! Stored features, labels and checkpoints: `.npy` and `.safetensors` files.
//!
//! A [`Source`] names one stored array, `FILE` or `FILE#TENSOR`. [`read_features`], [`read_tokens`] and [`read_integers`]
//! check what they read, so that nothing later meets a NaN, an empty matrix or a wrong rank; every refusal is one line that
//! names the file, the tensor, what was expected and what came. Files are written whole or not at all.
//! [`MappedFeatures`] reads rows of a file that is larger than memory.
//!
//! ```
//! use crossmodal::io::{Source, read_features, write_npy};
//!
//! let path = std::env::temp_dir().join("crossmodal-io-example.npy");
//! write_npy(&path, 2, 3, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])?;
//! let features = read_features(&Source::parse(&path.display().to_string()))?;
//! assert_eq!((features.rows, features.cols), (2, 3));
//! assert_eq!(features.values, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
//! # std::fs::remove_file(&path).unwrap();
//! # Ok::<(), crossmodal::Error>(())
//! ```

mod checkpoint;
mod file;
mod mapped;
mod npy;
mod safetensors;
mod shards;
mod source;
mod stored;
mod tokens;

pub use checkpoint::{Array, read_metadata, read_safetensors, write_safetensors};
pub use file::write_atomically;
pub use mapped::MappedFeatures;
pub use npy::{write_npy, write_npy_array, write_npy_u32};
pub use shards::shards;
pub use source::Source;
pub use tokens::{Tokens, read_shape, read_tokens};

use crate::error::{Error, Result};
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::ops::Range;
use stored::Stored;

/// A matrix of stored features on the host, row-major: row `r`, column `c` is `values[r * cols + c]`.
///
/// ```
/// use crossmodal::io::Features;
/// let features = Features { rows: 2, cols: 3, values: vec![1., 2., 3., 4., 5., 6.] };
/// let (row, col) = (1, 2);
/// assert_eq!(features.values[row * features.cols + col], 6.);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Features {
    /// Samples.
    pub rows: usize,
    /// Features of a sample.
    pub cols: usize,
    /// `rows * cols` finite values.
    pub values: Vec<f32>,
}

impl Features {
    /// The given rows, in the given order.
    ///
    /// Errors: a row that is not there.
    ///
    /// ```
    /// use crossmodal::io::Features;
    /// let features = Features { rows: 3, cols: 1, values: vec![10., 20., 30.] };
    /// assert_eq!(features.select(&[2, 0])?.values, [30., 10.]);
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    pub fn select(&self, rows: &[u32]) -> Result<Features> {
        if self.rows.checked_mul(self.cols) != Some(self.values.len()) {
            let expected = format!("{} x {} values", self.rows, self.cols);
            return Err(Error::argument("select", "self", expected, self.values.len()));
        }
        if let Some(row) = rows.iter().find(|&&row| row as usize >= self.rows) {
            let expected = format!("row numbers below {}", self.rows);
            return Err(Error::argument("select", "rows", expected, row));
        }
        let row = |&row: &u32| &self.values[row as usize * self.cols..][..self.cols];
        let values = rows.iter().flat_map(row).copied().collect();
        Ok(Features { rows: rows.len(), cols: self.cols, values })
    }
}

/// Reads a matrix `[rows, cols]` of f64, f32, f16 or bf16 values as f32.
///
/// Where the source is a folder, its [`shards`] make one matrix. f64 values are rounded to the nearest f32; the other types fit
/// exactly. `.npy` files may be in C or Fortran order
/// and of either byte order.
///
/// # Errors
///
/// [`Error::File`] if the file is missing, no file, truncated or corrupt; if the tensor is missing, or is not named
/// where the file holds several; if its values are not of one of these four types; if it does not have two axes, or
/// has no rows or no columns; if a value is NaN or infinite or does not fit f32 (the message names row and column,
/// counted from 0).
///
/// ```no_run
/// use crossmodal::io::{Source, read_features};
///
/// let images = read_features(&Source::parse("emoji.safetensors#image_twemoji"))?;
/// println!("{} rows of {} features", images.rows, images.cols);
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn read_features(source: &Source) -> Result<Features> {
    if is_sharded(source) {
        let shards = MappedFeatures::open(source)?;
        return shards.read(0..shards.rows());
    }
    read_stored(source)?.features()
}

/// Reads labels, splits or lengths: a vector `[n]`, or a matrix `[n, 1]`, of any integer type or bool, as i64.
///
/// Integers are `i8` to `i64` and `u8` to `u64`; false is 0 and true is 1.
///
/// # Errors
///
/// [`Error::File`] for what [`read_features`] refuses in a file; for values that are not integers; for another shape
/// or none at all; for a `u64` above `i64::MAX` (the message names its row, counted from 0).
///
/// ```no_run
/// use crossmodal::io::{Source, read_integers};
///
/// let labels = read_integers(&Source::parse("emoji.safetensors#label"))?;
/// assert!(labels.iter().all(|&label| label >= 0));
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn read_integers(source: &Source) -> Result<Vec<i64>> {
    read_stored(source)?.integers()
}

/// Reads numbers to be told: a vector `[n]`, or a matrix `[n, 1]`, of floating-point numbers, integers or bool, as f32.
///
/// f64 values and integers are rounded to the nearest f32.
///
/// # Errors
///
/// [`Error::File`] for what [`read_features`] refuses in a file; for another shape or none at all; if a value is NaN or infinite or does
/// not fit f32 (the message names its row, counted from 0).
///
/// ```
/// use crossmodal::io::{Source, read_numbers, write_npy};
/// # let path = std::env::temp_dir().join(format!("crossmodal-numbers-{}.npy", std::process::id()));
/// write_npy(&path, 3, 1, &[0.5, -1., 2.])?;
/// assert_eq!(read_numbers(&Source::parse(&path.display().to_string()))?, [0.5, -1., 2.]);
/// # std::fs::remove_file(&path).unwrap();
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn read_numbers(source: &Source) -> Result<Vec<f32>> {
    read_stored(source)?.numbers()
}

/// The array a source names, as it lies in its file.
fn read_stored(source: &Source) -> Result<Stored> {
    let (mut stored, mut file, place) = locate(source)?;
    file.seek(SeekFrom::Start(place.start)).map_err(|error| file::failed(&source.path, &error))?;
    stored.bytes = file::read_exactly(&source.path, file, place.end - place.start)?;
    Ok(stored)
}

/// Whether a source is a folder of shards: one that ends as a file would is not.
fn is_sharded(source: &Source) -> bool {
    let named = ["npy", "safetensors"].iter().any(|own| source::has_extension(&source.path, own));
    source.tensor.is_none() && !named && source.path.is_dir()
}

/// The array a source names without its elements, the file, and where in the file they lie.
fn locate(source: &Source) -> Result<(Stored, File, Range<u64>)> {
    // A missing file is said to be missing, whatever its name ends in.
    let (mut file, len) = file::open(&source.path)?;
    let (stored, place) = if source::has_extension(&source.path, "safetensors") {
        self::safetensors::locate(source, &mut file, len)?
    } else if source::has_extension(&source.path, "npy") {
        npy::locate(source, &mut file, len)?
    } else {
        let message = "expected a file that ends in .npy or .safetensors, or FILE.safetensors#TENSOR";
        return Err(Error::file(&source.path, message));
    };
    Ok((stored, file, place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_none_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let message = |name: &str| {
            let text = folder.path().join(name).display().to_string();
            let message = read_features(&Source::parse(&text)).unwrap_err().to_string();
            let message = message.replace(&folder.path().display().to_string(), "D");
            message.replace(std::path::MAIN_SEPARATOR, "/")
        };
        std::fs::write(folder.path().join("a.h5"), b"x").unwrap();
        std::fs::write(folder.path().join("a.npy"), b"x").unwrap();
        std::fs::create_dir(folder.path().join("b.npy")).unwrap();
        assert_eq!(message("c.npy"), "D/c.npy: no such file");
        assert_eq!(message("c.safetensors#x"), "D/c.safetensors: no such file");
        assert_eq!(message("b.npy"), "D/b.npy: expected a file, got a folder");
        assert!(message("a.h5").starts_with("D/a.h5: expected a file that ends in .npy or .safetensors"));
        assert!(message("a.npy#x").ends_with("expected no tensor name, got \"x\""));
    }
}
