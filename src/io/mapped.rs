//! Features read row by row from where they lie on disk.

use super::stored::Stored;
use super::{Features, Source, file, is_sharded, locate, shards};
use crate::error::{Error, Result};
use memmap2::Mmap;
use rayon::prelude::*;
use std::fs::File;
use std::ops::Range;

/// Elements that one task widens.
const ELEMENTS_PER_TASK: usize = 1 << 16;

/// A stored matrix `[rows, cols]`, mapped into memory: the system reads the rows that are asked for, and drops them again when it
/// needs the room, so that the file may be larger than memory.
///
/// Types are those of [`read_features`](super::read_features), widened or rounded to f32 as they are read. The file must not be
/// changed while it is mapped: one that has shrunk is refused by the next [`read`](Self::read), but while rows are being read the
/// system ends the program for it.
///
/// ```
/// use crossmodal::io::{MappedFeatures, Source, write_npy};
/// let path = std::env::temp_dir().join("crossmodal-mapped-example.npy");
/// write_npy(&path, 3, 2, &[1., 2., 3., 4., 5., 6.])?;
/// let corpus = MappedFeatures::open(&Source { path: path.clone(), tensor: None })?;
/// assert_eq!((corpus.rows(), corpus.cols()), (3, 2));
/// assert_eq!(corpus.read(1..3)?.values, [3., 4., 5., 6.]);
/// # drop(corpus);
/// # std::fs::remove_file(&path).unwrap();
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug)]
pub struct MappedFeatures {
    /// The matrix, or its shards, one behind the other.
    parts: Vec<Part>,
    rows: usize,
    cols: usize,
}

/// One file.
#[derive(Debug)]
struct Part {
    /// The array without its elements.
    stored: Stored,
    file: File,
    map: Mmap,
    place: Range<usize>,
    rows: usize,
    cols: usize,
}

impl MappedFeatures {
    /// Maps the matrix that a source names, or the [`shards`](super::shards) of a folder, without reading it.
    ///
    /// Errors: what [`read_features`](super::read_features) refuses in a file but for its values, which are looked at when they are
    /// read; a matrix in Fortran order, whose rows lie scattered over the file; shards of different widths; the system's.
    /// Example: [`MappedFeatures`].
    pub fn open(source: &Source) -> Result<MappedFeatures> {
        let parts = if is_sharded(source) {
            let shard = |path| Part::open(&Source { path, tensor: None });
            shards(&source.path)?.into_iter().map(shard).collect::<Result<Vec<_>>>()?
        } else {
            vec![Part::open(source)?]
        };
        let (rows, cols) = (parts.iter().map(|part| part.rows).sum(), parts[0].cols);
        if let Some(part) = parts.iter().find(|part| part.cols != cols) {
            let message = format!("expected {cols} columns, as the first shard has, got {}", part.cols);
            return Err(part.stored.refuse(message));
        }
        Ok(MappedFeatures { parts, rows, cols })
    }

    /// Samples. Example: [`MappedFeatures`].
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Features of a sample. Example: [`MappedFeatures`].
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The given rows as f32.
    ///
    /// Errors: rows that are not there; a value that is NaN or infinite or does not fit f32 (the message names file, row and
    /// column); the file has shrunk. Example: [`MappedFeatures`].
    pub fn read(&self, rows: Range<usize>) -> Result<Features> {
        if rows.start > rows.end || rows.end > self.rows {
            let (expected, got) = (format!("a range within 0..{}", self.rows), format!("{rows:?}"));
            return Err(Error::argument("read", "rows", expected, got));
        }
        let mut values = vec![0.; rows.len() * self.cols];
        let (mut first, mut rest) = (0, values.as_mut_slice());
        for part in &self.parts {
            let own = rows.start.max(first)..rows.end.min(first + part.rows);
            if !own.is_empty() {
                let (now, later) = rest.split_at_mut(own.len() * self.cols);
                part.read(own.start - first, now)?;
                rest = later;
            }
            first += part.rows;
        }
        Ok(Features { rows: rows.len(), cols: self.cols, values })
    }
}

impl Part {
    fn open(source: &Source) -> Result<Part> {
        let (stored, file, place) = locate(source)?;
        let (_, [rows, cols]) = stored.matrix()?;
        if stored.fortran {
            return Err(
                stored.refuse("expected rows one behind the other (C order), got Fortran order".into())
            );
        }
        // SAFETY: the map is only read, and only as bytes, of which every value is valid. That nobody changes the file meanwhile is
        // what the documentation asks for; `read` looks whether it has shrunk.
        #[allow(unsafe_code, reason = "a file that others can change is mapped")]
        let map = unsafe { Mmap::map(&file) }.map_err(|error| file::failed(&source.path, &error))?;
        // Advice that is not taken costs nothing but time.
        #[cfg(unix)]
        let _ = map.advise(memmap2::Advice::Sequential);
        let place = place.start as usize..place.end as usize;
        Ok(Part { stored, file, map, place, rows, cols })
    }

    /// Rows from `first` on, as many as `values` holds.
    fn read(&self, first: usize, values: &mut [f32]) -> Result<()> {
        let now = self.file.metadata().map_err(|error| file::failed(&self.stored.source.path, &error))?.len();
        if now < self.place.end as u64 {
            return Err(self.stored.refuse(format!("the file has shrunk to {now} bytes while it was read")));
        }
        let each = (ELEMENTS_PER_TASK / self.cols).max(1);
        let tasks = values.par_chunks_mut(each * self.cols).enumerate();
        let done: Vec<Result<()>> =
            tasks.map(|(task, values)| self.widen(first + task * each, values)).collect();
        // The first in the file, whichever was found first.
        done.into_iter().collect()
    }

    /// Rows from `first` on, as many as `values` holds.
    fn widen(&self, first: usize, values: &mut [f32]) -> Result<()> {
        let count = values.len() / self.cols;
        let row_bytes = (self.place.end - self.place.start) / self.rows;
        let bytes = &self.map[self.place.start + first * row_bytes..][..count * row_bytes];
        let part = Stored {
            source: self.stored.source.clone(),
            type_name: self.stored.type_name.clone(),
            shape: vec![count, self.cols],
            first_row: first,
            bytes: bytes.to_vec(),
            ..self.stored
        };
        values.copy_from_slice(&part.features()?.values);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{read_features, write_npy};
    use half::{bf16, f16};

    /// A `.safetensors` file of one tensor of 5 rows of 3.
    fn safetensors(dtype: &str, data: &[u8]) -> Vec<u8> {
        let header =
            format!(r#"{{"x":{{"dtype":"{dtype}","shape":[5,3],"data_offsets":[0,{}]}}}}"#, data.len());
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
    }

    fn opened(name: &str, bytes: &[u8]) -> (tempfile::TempDir, Source, Result<MappedFeatures>) {
        let folder = tempfile::tempdir().unwrap();
        let source = Source { path: folder.path().join(name), tensor: None };
        std::fs::write(&source.path, bytes).unwrap();
        let mapped = MappedFeatures::open(&source);
        (folder, source, mapped)
    }

    #[test]
    fn every_type_and_range_is_what_the_whole_has() {
        let values: Vec<f32> = (0..15).map(|i| i as f32 * 0.25 - 1.).collect();
        let of =
            |convert: &dyn Fn(f32) -> Vec<u8>| values.iter().flat_map(|&v| convert(v)).collect::<Vec<_>>();
        for (dtype, data) in [
            ("F64", of(&|v| f64::from(v).to_le_bytes().to_vec())),
            ("F32", of(&|v| v.to_le_bytes().to_vec())),
            ("F16", of(&|v| f16::from_f32(v).to_le_bytes().to_vec())),
            ("BF16", of(&|v| bf16::from_f32(v).to_le_bytes().to_vec())),
        ] {
            let (_folder, source, mapped) = opened("a.safetensors", &safetensors(dtype, &data));
            let mapped = mapped.unwrap();
            assert_eq!(mapped.read(0..5).unwrap(), read_features(&source).unwrap(), "{dtype}");
            for first in 0..=5 {
                for last in first..=5 {
                    let part = mapped.read(first..last).unwrap();
                    assert_eq!((part.rows, &part.values[..]), (last - first, &values[3 * first..3 * last]));
                }
            }
        }
    }

    #[test]
    fn many_rows_are_widened_in_tasks() {
        let (rows, cols) = (3 * ELEMENTS_PER_TASK / 7 + 5, 7);
        let values: Vec<f32> = (0..rows * cols).map(|i| i as f32).collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        write_npy(&path, rows, cols, &values).unwrap();
        let mapped = MappedFeatures::open(&Source { path, tensor: None }).unwrap();
        assert!(mapped.read(1..rows).unwrap().values == values[cols..]);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let mut data: Vec<u8> = [1f32; 15].iter().flat_map(|v| v.to_le_bytes()).collect();
        data[4 * 10..4 * 11].copy_from_slice(&f32::NAN.to_le_bytes());
        let (_folder, source, mapped) = opened("a.safetensors", &safetensors("F32", &data));
        let mapped = mapped.unwrap();
        assert!(mapped.read(0..3).is_ok() && mapped.read(4..5).is_ok(), "the bad row is not among them");
        let message = |rows| mapped.read(rows).unwrap_err().to_string();
        assert!(
            message(2..5).ends_with("row 3, column 1 (counted from 0): expected a finite number, got NaN")
        );
        assert!(message(4..6).contains("expected a range within 0..5, got 4..6"), "{}", message(4..6));
        let file = std::fs::OpenOptions::new().write(true).open(&source.path).unwrap();
        file.set_len(100).unwrap();
        assert!(message(0..1).contains("shrunk to 100 bytes"), "{}", message(0..1));
    }

    #[test]
    fn fortran_order_and_other_types_are_refused() {
        let npy = |descr: &str, fortran: &str, size: usize| {
            let header = format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': (2, 1), }}\n");
            let start = [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..]].concat();
            [start, header.into_bytes(), vec![0; 2 * size]].concat()
        };
        let message = |bytes: &[u8]| opened("a.npy", bytes).2.unwrap_err().to_string();
        assert!(message(&npy("<f4", "True", 4)).contains("C order"));
        assert!(message(&npy("<i4", "False", 4)).contains("expected f64, f32, f16 or bf16 values"));
        assert!(message(&npy("<f4", "False", 3)).contains("truncated"));
        assert!(opened("a.npy", &npy("<f4", "False", 4)).2.is_ok());
    }
}
