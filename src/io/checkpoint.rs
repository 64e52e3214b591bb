//! Checkpoints: named arrays and text in one `.safetensors` file.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorInfo};

use super::file::{open, write_parts};
use super::safetensors::{MAX_HEADER, Opened};
use crate::dtype::{DType, HostData};
use crate::error::{Error, Result};

/// The key of the header that holds text instead of a tensor.
const METADATA: &str = "__metadata__";

/// One named array on the host, for checkpoints.
///
/// ```
/// use crossmodal::{DType, dtype::HostData, io::Array};
/// let scalar = Array { shape: vec![], data: HostData::F64(vec![0.5]) };
/// assert_eq!(scalar.data.dtype(), DType::F64);
/// ```
#[derive(Debug, Clone)]
pub struct Array {
    /// The sizes of its axes, row-major; `[]` is a scalar.
    pub shape: Vec<usize>,
    /// As many elements as the product of `shape`.
    pub data: HostData,
}

/// Reads every array of a file, and its metadata: what [`write_safetensors`] wrote, or anyone else.
///
/// # Errors
///
/// [`Error::File`] if the file is missing, no file, truncated or corrupt, or holds a tensor of another type than F32,
/// F16, F64 and U32. Example: [`write_safetensors`].
pub fn read_safetensors(path: &Path) -> Result<(BTreeMap<String, Array>, BTreeMap<String, String>)> {
    let (file, len) = open(path)?;
    let mut opened = Opened::new(path, file, len)?;
    let mut arrays = BTreeMap::new();
    for (name, info) in opened.tensors() {
        let dtype = match info.dtype {
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            Dtype::F64 => DType::F64,
            Dtype::U32 => DType::U32,
            other => {
                let message = format!("tensor {name:?}: expected F32, F16, F64 or U32, got {other}");
                return Err(Error::file(path, message));
            }
        };
        let data = HostData::from_bytes(dtype, &opened.bytes(&info)?);
        arrays.insert(name, Array { shape: info.shape, data });
    }
    Ok((arrays, opened.metadata()))
}

/// The metadata of a file alone: its arrays may be of any type and size, and are not read.
///
/// # Errors
///
/// [`Error::File`] if the file is missing, no file, truncated or corrupt.
///
/// ```
/// use crossmodal::io::{read_metadata, write_safetensors};
/// # let path = std::env::temp_dir().join(format!("crossmodal-metadata-{}.safetensors", std::process::id()));
/// write_safetensors(&path, &Default::default(), &[("step".to_string(), "100".to_string())].into())?;
/// assert_eq!(read_metadata(&path)?["step"], "100");
/// # std::fs::remove_file(&path).unwrap();
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn read_metadata(path: &Path) -> Result<BTreeMap<String, String>> {
    let (file, len) = open(path)?;
    Ok(Opened::new(path, file, len)?.metadata())
}

/// Writes arrays and metadata as `.safetensors`, whole or not at all. The same arguments give the same bytes.
///
/// The header lists the metadata and then the arrays, wider types first so that each lies aligned, then by name.
///
/// # Errors
///
/// [`Error::Argument`] if an array does not have as many elements as its shape says, is named `__metadata__`, or if
/// names and metadata make a header above the format's 100 MB; [`Error::File`] as
/// [`write_atomically`](super::write_atomically) has it.
///
/// ```
/// use crossmodal::dtype::HostData;
/// use crossmodal::io::{Array, read_safetensors, write_safetensors};
/// use std::collections::BTreeMap;
///
/// let path = std::env::temp_dir().join("crossmodal-checkpoint-example.safetensors");
/// let weight = Array { shape: vec![2, 1], data: HostData::F32(vec![0.5, -0.5]) };
/// let arrays = BTreeMap::from([("head.weight".to_string(), weight)]);
/// let metadata = BTreeMap::from([("step".to_string(), "100".to_string())]);
/// write_safetensors(&path, &arrays, &metadata)?;
///
/// let (arrays, metadata) = read_safetensors(&path)?;
/// assert_eq!(arrays["head.weight"].shape, [2, 1]);
/// assert_eq!(metadata["step"], "100");
/// # std::fs::remove_file(&path).unwrap();
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn write_safetensors(
    path: &Path,
    arrays: &BTreeMap<String, Array>,
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    let mut sorted: Vec<(&String, &Array)> = arrays.iter().collect();
    sorted.sort_by_key(|(_, array)| std::cmp::Reverse(array.data.dtype().size())); // stable: names stay in order
    // The library takes its metadata in a hash map, whose order changes from run to run; so the header is joined here.
    let json_failed = |error: serde_json::Error| Error::file(path, error);
    let mut entries = vec![];
    if !metadata.is_empty() {
        entries.push(format!("\"{METADATA}\":{}", serde_json::to_string(metadata).map_err(json_failed)?));
    }
    let mut parts: Vec<&[u8]> = vec![];
    let mut end = 0;
    for (name, array) in sorted {
        let bytes = check(name, array)?;
        let data_offsets = (end, end + bytes.len());
        let info = TensorInfo { dtype: stored_type(array), shape: array.shape.clone(), data_offsets };
        let name = serde_json::to_string(name).map_err(json_failed)?;
        entries.push(format!("{name}:{}", serde_json::to_string(&info).map_err(json_failed)?));
        parts.push(bytes);
        end = data_offsets.1;
    }
    let mut header = format!("{{{}}}", entries.join(",")).into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    let header_len = header.len() as u64;
    if header_len > MAX_HEADER {
        let expected = format!("names and metadata of at most {MAX_HEADER} bytes");
        return Err(Error::argument("write_safetensors", "metadata", expected, header_len));
    }
    let start = [&header_len.to_le_bytes()[..], &header].concat();
    parts.insert(0, &start);
    write_parts(path, &parts)
}

/// The bytes of an array that fits its shape.
fn check<'a>(name: &str, array: &'a Array) -> Result<&'a [u8]> {
    let refuse =
        |expected: String, got: String| Err(Error::argument("write_safetensors", "arrays", expected, got));
    if name == METADATA {
        return refuse("names of tensors".to_string(), format!("{METADATA}, which the format reserves"));
    }
    let bytes = array.data.bytes();
    let got = bytes.len() / array.data.dtype().size();
    let expected = array.shape.iter().try_fold(1usize, |product, &n| product.checked_mul(n));
    if expected != Some(got) {
        let expected = expected.map_or("fewer".to_string(), |n| n.to_string());
        return refuse(
            format!("{expected} elements in {name:?} of shape {:?}", array.shape),
            got.to_string(),
        );
    }
    Ok(bytes)
}

/// The format's name for an array's type.
fn stored_type(array: &Array) -> Dtype {
    match array.data.dtype() {
        DType::F32 => Dtype::F32,
        DType::F16 => Dtype::F16,
        DType::F64 => Dtype::F64,
        DType::U32 => Dtype::U32,
    }
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;

    fn example() -> (BTreeMap<String, Array>, BTreeMap<String, String>) {
        let array = |shape: &[usize], data| Array { shape: shape.to_vec(), data };
        let arrays = [
            ("half é", array(&[3], HostData::F16([1.0, -2.0, 0.5].map(f16::from_f32).to_vec()))),
            ("single", array(&[2, 1], HostData::F32(vec![f32::NAN, f32::MIN_POSITIVE]))),
            ("double \"quoted\"", array(&[], HostData::F64(vec![0.1]))),
            ("index", array(&[1, 2], HostData::U32(vec![0, u32::MAX]))),
            ("empty", array(&[0, 4], HostData::F32(vec![]))),
        ];
        let arrays = arrays.into_iter().map(|(name, array)| (name.to_string(), array)).collect();
        let metadata = (0..20).map(|n| (format!("key {n}"), format!("{{\"n\": {n}}}\n"))).collect();
        (arrays, metadata)
    }

    #[test]
    fn a_round_trip_keeps_every_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let (arrays, metadata) = example();
        write_safetensors(&path, &arrays, &metadata).unwrap();
        let first = std::fs::read(&path).unwrap();
        let (read, read_metadata) = read_safetensors(&path).unwrap();
        assert_eq!(read_metadata, metadata);
        assert!(read.keys().eq(arrays.keys()));
        for (name, array) in &arrays {
            assert_eq!(read[name].shape, array.shape);
            assert_eq!(read[name].data.dtype(), array.data.dtype());
            assert_eq!(read[name].data.bytes(), array.data.bytes());
        }
        write_safetensors(&path, &read, &read_metadata).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), first);
    }

    #[test]
    fn the_library_reads_it_aligned() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let (arrays, metadata) = example();
        write_safetensors(&path, &arrays, &metadata).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let (header_len, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        assert_eq!(header_len % 8, 0);
        assert_eq!(header.metadata().as_ref().unwrap().len(), metadata.len());
        for (name, array) in &arrays {
            let info = header.info(name).unwrap();
            assert_eq!(info.data_offsets.0 % array.data.dtype().size(), 0, "{name}");
        }
        write_safetensors(&path, &BTreeMap::new(), &BTreeMap::new()).unwrap();
        assert!(safetensors::SafeTensors::deserialize(&std::fs::read(&path).unwrap()).unwrap().is_empty());
    }

    #[test]
    fn arrays_that_do_not_fit_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let refused = |name: &str, shape: &[usize]| {
            let array = Array { shape: shape.to_vec(), data: HostData::F32(vec![0.0; 6]) };
            let arrays = BTreeMap::from([(name.to_string(), array)]);
            write_safetensors(&path, &arrays, &BTreeMap::new()).unwrap_err().to_string()
        };
        let message = "write_safetensors: arrays: expected 4 elements in \"w\" of shape [2, 2], got 6";
        assert_eq!(refused("w", &[2, 2]), message);
        assert!(refused("w", &[usize::MAX, 2]).contains("expected fewer elements"));
        assert!(refused(METADATA, &[6]).ends_with("which the format reserves"));
        assert!(!path.exists());
    }

    #[test]
    fn other_types_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let header = br#"{"x":{"dtype":"I8","shape":[1],"data_offsets":[0,1]}}"#;
        std::fs::write(&path, [&(header.len() as u64).to_le_bytes()[..], header, &[0]].concat()).unwrap();
        let message = read_safetensors(&path).unwrap_err().to_string();
        assert!(message.ends_with(": tensor \"x\": expected F32, F16, F64 or U32, got I8"), "{message}");
    }
}
