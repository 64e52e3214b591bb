//! Reading `.safetensors`: the header's length in 8 bytes, a JSON header, then the elements of all tensors.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

use safetensors::tensor::{Dtype, Metadata, TensorInfo};

use super::Source;
use super::file::{failed, read_exactly, read_length};
use super::stored::{Kind, Stored};
use crate::error::{Error, Result};

/// The longest header that readers of the format accept, in bytes.
pub(super) const MAX_HEADER: u64 = 100_000_000;

/// Tensors that a message lists before it only counts them.
const MAX_LISTED: usize = 20;

/// An open file with its header.
pub(super) struct Opened<F> {
    path: std::path::PathBuf,
    file: F,
    pub(super) header: Metadata,
    /// Where the elements begin, in bytes.
    start: u64,
}

impl<F: Read + Seek> Opened<F> {
    /// Reads and checks the header of a file of `len` bytes.
    pub(super) fn new(path: &Path, mut file: F, len: u64) -> Result<Opened<F>> {
        let header_len = read_length(path, &mut file, 8)?;
        if header_len > MAX_HEADER {
            let message =
                format!("corrupt: expected a header of at most {MAX_HEADER} bytes, got {header_len}");
            return Err(Error::file(path, message));
        }
        let text = read_exactly(path, &mut file, header_len)?;
        // The library checks that every tensor's bytes match its shape and type and follow those of the one before.
        let header: Metadata = serde_json::from_slice(&text)
            .map_err(|error| Error::file(path, format!("corrupt .safetensors header: {error}")))?;
        let (start, expected) = (8 + header_len, header.data_len() as u64);
        let got = len.saturating_sub(start);
        if got != expected {
            let message = format!("truncated or corrupt: expected {expected} bytes of tensors, got {got}");
            return Err(Error::file(path, message));
        }
        Ok(Opened { path: path.to_path_buf(), file, header, start })
    }

    /// The bytes of one tensor.
    pub(super) fn bytes(&mut self, info: &TensorInfo) -> Result<Vec<u8>> {
        let (from, to) = (info.data_offsets.0 as u64, info.data_offsets.1 as u64);
        let at = SeekFrom::Start(self.start + from);
        self.file.seek(at).map_err(|error| failed(&self.path, &error))?;
        read_exactly(&self.path, self.file.by_ref(), to - from)
    }

    /// The text of the header.
    pub(super) fn metadata(&self) -> BTreeMap<String, String> {
        let all = self.header.metadata().iter().flatten();
        all.map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// The tensors in order of their names.
    pub(super) fn tensors(&self) -> BTreeMap<String, TensorInfo> {
        self.header.tensors().into_iter().map(|(name, info)| (name, info.clone())).collect()
    }
}

/// The tensor that a source names in a file of `len` bytes, without its elements, and where in the file they lie.
pub(super) fn locate(source: &Source, file: &mut File, len: u64) -> Result<(Stored, Range<u64>)> {
    let opened = Opened::new(&source.path, file, len)?;
    let tensors = opened.tensors();
    let found = match &source.tensor {
        Some(name) => tensors.get_key_value(name),
        None if tensors.len() == 1 => tensors.first_key_value(),
        None => None,
    };
    let Some((name, info)) = found else {
        let message = match &source.tensor {
            Some(name) => format!("no tensor {name:?}; it holds {}", list(&tensors)),
            None => format!("expected FILE#TENSOR, got no tensor name; it holds {}", list(&tensors)),
        };
        return Err(Error::file(&source.path, message));
    };
    let stored = Stored {
        source: Source { path: source.path.clone(), tensor: Some(name.clone()) },
        kind: kind(info.dtype),
        type_name: info.dtype.to_string(),
        shape: info.shape.clone(),
        big_endian: false,
        fortran: false,
        first_row: 0,
        bytes: vec![],
    };
    let (from, to) = info.data_offsets;
    Ok((stored, opened.start + from as u64..opened.start + to as u64))
}

/// Names, types and shapes for a message.
fn list(tensors: &BTreeMap<String, TensorInfo>) -> String {
    if tensors.is_empty() {
        return "none".to_string();
    }
    let mut parts: Vec<String> = tensors
        .iter()
        .take(MAX_LISTED)
        .map(|(name, info)| format!("{name:?} {} {:?}", info.dtype, info.shape))
        .collect();
    if tensors.len() > MAX_LISTED {
        parts.push(format!("and {} more", tensors.len() - MAX_LISTED));
    }
    parts.join(", ")
}

/// The stored type that is read as `dtype`.
fn kind(dtype: Dtype) -> Option<Kind> {
    Some(match dtype {
        Dtype::F64 => Kind::F64,
        Dtype::F32 => Kind::F32,
        Dtype::F16 => Kind::F16,
        Dtype::BF16 => Kind::Bf16,
        Dtype::I64 => Kind::I64,
        Dtype::I32 => Kind::I32,
        Dtype::I16 => Kind::I16,
        Dtype::I8 => Kind::I8,
        Dtype::U64 => Kind::U64,
        Dtype::U32 => Kind::U32,
        Dtype::U16 => Kind::U16,
        Dtype::U8 => Kind::U8,
        Dtype::BOOL => Kind::Bool,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{read_features, read_integers};

    /// A file of tensors given as (name, type, shape, bytes).
    fn tensors(list: &[(&str, &str, &str, &[u8])]) -> Vec<u8> {
        let (mut entries, mut data) = (vec![], vec![]);
        for (name, dtype, shape, bytes) in list {
            let (from, to) = (data.len(), data.len() + bytes.len());
            let offsets = format!("\"data_offsets\":[{from},{to}]");
            entries.push(format!("\"{name}\":{{\"dtype\":\"{dtype}\",\"shape\":{shape},{offsets}}}"));
            data.extend_from_slice(bytes);
        }
        let header = format!("{{{}}}", entries.join(","));
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
    }

    /// What a reader says of these bytes; a message with the file's name as `F`.
    fn read<T>(
        reader: fn(&Source) -> Result<T>,
        bytes: &[u8],
        tensor: Option<&str>,
    ) -> std::result::Result<T, String> {
        let folder = tempfile::tempdir().unwrap();
        let source = Source { path: folder.path().join("a.safetensors"), tensor: tensor.map(str::to_string) };
        std::fs::write(&source.path, bytes).unwrap();
        reader(&source).map_err(|error| {
            let text = error.to_string();
            assert!(!text.contains('\n'), "{text}");
            text.replace(&source.path.display().to_string(), "F")
        })
    }

    fn bytes<const N: usize, T: Copy>(values: &[T], convert: fn(T) -> [u8; N]) -> Vec<u8> {
        values.iter().flat_map(|&value| convert(value)).collect()
    }

    #[test]
    fn every_type() {
        let values = [1.0f32, -2.5];
        let cases = [
            ("F64", bytes(&values.map(f64::from), f64::to_le_bytes)),
            ("F32", bytes(&values, f32::to_le_bytes)),
            ("F16", bytes(&values.map(half::f16::from_f32), half::f16::to_le_bytes)),
            ("BF16", bytes(&values.map(half::bf16::from_f32), half::bf16::to_le_bytes)),
        ];
        for (dtype, data) in cases {
            let features = read(read_features, &tensors(&[("x", dtype, "[2,1]", &data)]), Some("x")).unwrap();
            assert_eq!((features.rows, features.cols, &features.values[..]), (2, 1, &values[..]), "{dtype}");
        }
        let cases = [
            ("I8", bytes(&[1i8, -2], i8::to_le_bytes), [1, -2]),
            ("I16", bytes(&[1i16, -2], i16::to_le_bytes), [1, -2]),
            ("I32", bytes(&[1i32, -2], i32::to_le_bytes), [1, -2]),
            ("I64", bytes(&[1i64, -2], i64::to_le_bytes), [1, -2]),
            ("U8", vec![1, 254], [1, 254]),
            ("U16", bytes(&[1u16, 65534], u16::to_le_bytes), [1, 65534]),
            ("U32", bytes(&[1u32, 4294967294], u32::to_le_bytes), [1, 4294967294]),
            ("U64", bytes(&[1u64, 2], u64::to_le_bytes), [1, 2]),
            ("BOOL", vec![1, 0], [1, 0]),
        ];
        for (dtype, data, expected) in cases {
            let file = tensors(&[("x", dtype, "[2]", &data)]);
            assert_eq!(read(read_integers, &file, None).unwrap(), expected, "{dtype}");
        }
    }

    #[test]
    fn messages_name_the_tensor() {
        let nan = bytes(&[0.0, f32::NAN], f32::to_le_bytes);
        let file = tensors(&[("b", "F32", "[1,2]", &nan), ("a", "F8_E4M3", "[2]", &[0; 2])]);
        let features = |tensor| read(read_features, &file, tensor).unwrap_err();
        let held = "it holds \"a\" F8_E4M3 [2], \"b\" F32 [1, 2]";
        assert_eq!(features(None), format!("F: expected FILE#TENSOR, got no tensor name; {held}"));
        assert_eq!(features(Some("c")), format!("F: no tensor \"c\"; {held}"));
        assert_eq!(features(Some("a")), "F#a: expected f64, f32, f16 or bf16 values, got F8_E4M3");
        let message = "F#b: row 0, column 1 (counted from 0): expected a finite number, got NaN";
        assert_eq!(features(Some("b")), message);
        assert_eq!(read(read_integers, &file, Some("b")).unwrap_err(), "F#b: expected integers, got F32");
        assert_eq!(
            read(read_features, &tensors(&[]), None).unwrap_err(),
            "F: expected FILE#TENSOR, got no tensor name; it holds none"
        );
    }

    #[test]
    fn long_lists_are_cut() {
        let names: Vec<String> = (10..40).map(|n| format!("t{n}")).collect();
        let all: Vec<_> = names.iter().map(|name| (&name[..], "U8", "[1]", &[0u8][..])).collect();
        let message = read(read_features, &tensors(&all), None).unwrap_err();
        assert!(message.ends_with("\"t29\" U8 [1], and 10 more"), "{message}");
    }

    #[test]
    fn truncated_and_changed_files_never_panic() {
        let whole = tensors(&[("x", "F32", "[1,2]", &[0; 8]), ("y", "U8", "[3]", &[1, 2, 3])]);
        for len in 0..whole.len() {
            assert!(read(read_features, &whole[..len], Some("x")).is_err(), "{len} bytes");
        }
        assert!(read(read_features, &[&whole[..], &[0]].concat(), Some("x")).is_err());
        let folder = tempfile::tempdir().unwrap();
        let source = Source { path: folder.path().join("a.safetensors"), tensor: Some("x".to_string()) };
        for at in 0..whole.len() {
            for value in [0, b'"', b'[', b'{', b'9', 0x80, 0xff, whole[at] ^ 1, whole[at] ^ 0x10] {
                let mut changed = whole.clone();
                changed[at] = value;
                std::fs::write(&source.path, &changed).unwrap();
                let _ = (read_features(&source), read_integers(&source));
                let _ = crate::io::read_safetensors(&source.path);
            }
        }
    }

    #[test]
    fn sizes_that_overflow_are_refused() {
        let huge = [
            r#"{"x":{"dtype":"F64","shape":[2305843009213693951],"data_offsets":[0,18446744073709551608]}}"#,
            r#"{"x":{"dtype":"U8","shape":[18446744073709551615],"data_offsets":[0,18446744073709551615]}}"#,
            r#"{"x":{"dtype":"U8","shape":[2305843009213693951],"data_offsets":[0,2305843009213693951]}}"#,
            r#"{"x":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#,
        ];
        for header in huge {
            let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat();
            assert!(read(read_features, &file, Some("x")).unwrap_err().contains("corrupt"), "{header}");
        }
    }
}
