//! The `.npy` format: a Python dict literal for a header, then the elements of one array.
//!
//! The header is read here, and only the three entries that the format defines are understood: the `npyz` library
//! parses any Python literal and multiplies the sizes unchecked, which overflows on a corrupt file. The tests use it as
//! an independent reader and writer.

use std::fs::File;
use std::io::Seek;
use std::ops::Range;
use std::path::Path;

use super::Source;
use super::file::{failed, read_exactly, read_length, write_parts};
use super::stored::{Kind, Stored};
use crate::error::{Error, Result};

const MAGIC: &[u8] = b"\x93NUMPY";

/// The header's three entries.
#[derive(Debug, PartialEq)]
struct Header {
    /// The type with its byte order, such as `<f4`.
    descr: String,
    fortran: bool,
    shape: Vec<usize>,
}

/// The array of a file of `len` bytes without its elements, and where in the file they lie: nowhere if their type is not read.
pub(super) fn locate(source: &Source, file: &mut File, len: u64) -> Result<(Stored, Range<u64>)> {
    let path = &source.path;
    if let Some(tensor) = &source.tensor {
        let message =
            format!("a .npy file holds one array without a name: expected no tensor name, got {tensor:?}");
        return Err(Error::file(path, message));
    }
    let start = read_exactly(path, &mut *file, 8)?;
    if !start.starts_with(MAGIC) {
        return Err(Error::file(path, "not a .npy file: it does not start with \\x93NUMPY"));
    }
    // Version 1 counts the header's bytes in 2 bytes, 2 and 3 in 4.
    let header_len = match start[6] {
        1 => read_length(path, &mut *file, 2)?,
        2 | 3 => read_length(path, &mut *file, 4)?,
        version => {
            let message = format!("expected .npy version 1, 2 or 3, got {version}.{}", start[7]);
            return Err(Error::file(path, message));
        }
    };
    let text = read_exactly(path, &mut *file, header_len)?;
    let header = parse_header(&text).map_err(|why| Error::file(path, format!("bad .npy header: {why}")))?;
    let (big_endian, type_name) = match header.descr.as_bytes() {
        [b'>', ..] => (true, &header.descr[1..]),
        [b'<' | b'|', ..] => (false, &header.descr[1..]),
        _ => (false, &header.descr[..]),
    };
    let stored = Stored {
        source: source.clone(),
        kind: kind(type_name),
        type_name: format!("numpy's '{}'", header.descr.escape_debug()),
        shape: header.shape,
        big_endian,
        fortran: header.fortran,
        first_row: 0,
        bytes: vec![],
    };
    let Some(kind) = stored.kind else { return Ok((stored, 0..0)) };
    let expected =
        stored.shape.iter().try_fold(kind.size() as u64, |product, &n| product.checked_mul(n as u64));
    let at = file.stream_position().map_err(|error| failed(path, &error))?;
    let got = len.saturating_sub(at);
    if expected != Some(got) {
        let shape = format!("shape {:?} of {}", stored.shape, stored.type_name);
        let expected = expected.map_or("at least 2^64".to_string(), |n| n.to_string());
        let message = format!("truncated or corrupt: expected {expected} bytes for {shape}, got {got}");
        return Err(Error::file(path, message));
    }
    Ok((stored, at..len))
}

/// A type by numpy's letter and size in bytes.
fn kind(name: &str) -> Option<Kind> {
    Some(match name {
        "f8" => Kind::F64,
        "f4" => Kind::F32,
        "f2" => Kind::F16,
        "i8" => Kind::I64,
        "i4" => Kind::I32,
        "i2" => Kind::I16,
        "i1" => Kind::I8,
        "u8" => Kind::U64,
        "u4" => Kind::U32,
        "u2" => Kind::U16,
        "u1" => Kind::U8,
        "b1" => Kind::Bool,
        _ => return None,
    })
}

/// Reads `{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }`, in any order; the error says what is missing.
fn parse_header(bytes: &[u8]) -> std::result::Result<Header, &'static str> {
    let mut rest = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8")?.trim();
    let (mut descr, mut fortran, mut shape) = (None, None, None);
    if !eat(&mut rest, "{") {
        return Err("expected {");
    }
    while !eat(&mut rest, "}") {
        let key = quoted(&mut rest).ok_or("expected a quoted key")?;
        if !eat(&mut rest, ":") {
            return Err("expected : behind a key");
        }
        match key {
            "descr" if rest.trim_start().starts_with('[') => {
                return Err("expected numbers, got a structured type");
            }
            "descr" => descr = Some(quoted(&mut rest).ok_or("expected a quoted type")?.to_string()),
            "fortran_order" if eat(&mut rest, "False") => fortran = Some(false),
            "fortran_order" if eat(&mut rest, "True") => fortran = Some(true),
            "fortran_order" => return Err("expected True or False for fortran_order"),
            "shape" => shape = Some(sizes(&mut rest).ok_or("expected a tuple of sizes for shape")?),
            _ => return Err("expected the keys descr, fortran_order and shape alone"),
        }
        if !eat(&mut rest, ",") && !rest.trim_start().starts_with('}') {
            return Err("expected , or } behind a value");
        }
    }
    if !rest.trim().is_empty() {
        return Err("expected nothing behind }");
    }
    let missing = "expected the keys descr, fortran_order and shape";
    Ok(Header {
        descr: descr.ok_or(missing)?,
        fortran: fortran.ok_or(missing)?,
        shape: shape.ok_or(missing)?,
    })
}

/// Steps over spaces and `token`, if it comes next.
fn eat(rest: &mut &str, token: &str) -> bool {
    match rest.trim_start().strip_prefix(token) {
        Some(behind) => {
            *rest = behind;
            true
        }
        None => false,
    }
}

/// Steps over a string in single or double quotes. No string of the format has an escape in it.
fn quoted<'a>(rest: &mut &'a str) -> Option<&'a str> {
    let quote = if eat(rest, "'") { '\'' } else { eat(rest, "\"").then_some('"')? };
    let (text, behind) = rest.split_once(quote)?;
    *rest = behind;
    Some(text)
}

/// Steps over a tuple of sizes: `()`, `(3,)`, `(2, 3)`.
fn sizes(rest: &mut &str) -> Option<Vec<usize>> {
    let mut sizes = vec![];
    if !eat(rest, "(") {
        return None;
    }
    while !eat(rest, ")") {
        let text = rest.trim_start();
        let end = text.find(|c: char| !c.is_ascii_digit())?;
        sizes.push(text[..end].parse().ok()?);
        *rest = &text[end..];
        if !eat(rest, ",") && !rest.trim_start().starts_with(')') {
            return None;
        }
    }
    Some(sizes)
}

/// The most axes that numpy 1 reads.
const MAX_AXES: usize = 32;

/// Writes a matrix `[rows, cols]` of f32 as `.npy`, row-major, whole or not at all; numpy reads it with `numpy.load`.
///
/// # Errors
///
/// [`Error::Argument`] if there are not `rows * cols` values; [`Error::File`] as
/// [`write_atomically`](super::write_atomically) has it.
///
/// ```
/// use crossmodal::io::write_npy;
///
/// let path = std::env::temp_dir().join("crossmodal-npy-example.npy");
/// write_npy(&path, 1, 2, &[0.5, -1.0])?;
/// assert!(write_npy(&path, 2, 2, &[0.5, -1.0]).is_err());
/// # std::fs::remove_file(&path).unwrap();
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn write_npy(path: &Path, rows: usize, cols: usize, values: &[f32]) -> Result<()> {
    write_array(path, "write_npy", "<f4", &[rows, cols], values)
}

/// As [`write_npy`], of any number of axes up to 32.
///
/// Errors: as [`write_npy`]; more axes.
///
/// ```
/// # let path = std::env::temp_dir().join("crossmodal-npy-array-example.npy");
/// use crossmodal::io::{Source, read_tokens, write_npy_array};
///
/// write_npy_array(&path, &[1, 2, 2], &[1., 2., 3., 4.])?;
/// let tokens = read_tokens(&Source { path: path.clone(), tensor: None })?;
/// assert_eq!((tokens.rows, tokens.length, tokens.width), (1, 2, 2));
/// # std::fs::remove_file(&path).unwrap();
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn write_npy_array(path: &Path, shape: &[usize], values: &[f32]) -> Result<()> {
    if shape.len() > MAX_AXES {
        let expected = format!("at most {MAX_AXES} axes");
        return Err(Error::argument("write_npy_array", "shape", expected, shape.len()));
    }
    write_array(path, "write_npy_array", "<f4", shape, values)
}

/// As [`write_npy`], of row numbers: u32.
///
/// Errors: as [`write_npy`].
///
/// ```
/// use crossmodal::io::write_npy_u32;
///
/// let path = std::env::temp_dir().join("crossmodal-npy-u32-example.npy");
/// write_npy_u32(&path, 1, 2, &[7, 0])?;
/// assert!(std::fs::read(&path).unwrap().ends_with(&[7, 0, 0, 0, 0, 0, 0, 0]));
/// # std::fs::remove_file(&path).unwrap();
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn write_npy_u32(path: &Path, rows: usize, cols: usize, values: &[u32]) -> Result<()> {
    write_array(path, "write_npy_u32", "<u4", &[rows, cols], values)
}

fn write_array<T: bytemuck::NoUninit>(
    path: &Path,
    op: &'static str,
    descr: &str,
    shape: &[usize],
    values: &[T],
) -> Result<()> {
    if shape.iter().try_fold(1, |product: usize, &n| product.checked_mul(n)) != Some(values.len()) {
        let sizes: Vec<_> = shape.iter().map(ToString::to_string).collect();
        let expected = if sizes.is_empty() { "one".into() } else { format!("{} of them", sizes.join(" x ")) };
        return Err(Error::argument(op, "values", expected, values.len()));
    }
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {}, }}", tuple(shape));
    // Spaces and a line break bring the data to a multiple of 64 bytes, as numpy does it.
    let before = MAGIC.len() + 4;
    let padded = (before + header.len() + 1).next_multiple_of(64) - before;
    let header = format!("{header:<width$}\n", width = padded - 1);
    let start = [MAGIC, &[1, 0], &(padded as u16).to_le_bytes(), header.as_bytes()].concat();
    write_parts(path, &[&start, bytemuck::cast_slice(values)])
}

/// Sizes as Python writes a tuple.
fn tuple(shape: &[usize]) -> String {
    match shape {
        [only] => format!("({only},)"),
        _ => format!("({})", shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
    }
}

#[cfg(test)]
mod tests;
