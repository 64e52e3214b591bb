//! An array as it lies in a file, and its values as features, tokens or integers. Both formats come through here.

use half::{bf16, f16};

use super::{Features, Source, Tokens};
use crate::error::{Error, Result};

/// The stored types that this crate reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    F64,
    F32,
    F16,
    Bf16,
    I64,
    I32,
    I16,
    I8,
    U64,
    U32,
    U16,
    U8,
    Bool,
}

impl Kind {
    /// Bytes an element takes.
    pub(super) fn size(self) -> usize {
        match self {
            Kind::F64 | Kind::I64 | Kind::U64 => 8,
            Kind::F32 | Kind::I32 | Kind::U32 => 4,
            Kind::F16 | Kind::Bf16 | Kind::I16 | Kind::U16 => 2,
            Kind::I8 | Kind::U8 | Kind::Bool => 1,
        }
    }
}

/// An array as it lies in a file; `bytes` holds exactly the elements of `shape`.
#[derive(Debug)]
pub(super) struct Stored {
    /// File and tensor, for messages.
    pub(super) source: Source,
    /// `None` for a type this crate does not read.
    pub(super) kind: Option<Kind>,
    /// The type's name as the file has it, for messages.
    pub(super) type_name: String,
    pub(super) shape: Vec<usize>,
    pub(super) big_endian: bool,
    /// The first axis varies fastest.
    pub(super) fortran: bool,
    /// The number of the first of these rows in the file, for messages.
    pub(super) first_row: usize,
    pub(super) bytes: Vec<u8>,
}

impl Stored {
    /// A finite f32 matrix, or why it is none.
    pub(super) fn features(self) -> Result<Features> {
        let (kind, [rows, cols]) = self.matrix()?;
        Ok(Features { rows, cols, values: self.finite(kind)? })
    }

    /// Finite f32 vectors, several a row or one, or why they are none.
    pub(super) fn tokens(self) -> Result<Tokens> {
        let kind = self.float()?;
        let (rows, length, width) = match self.shape[..] {
            [rows, length, width] => (rows, length, width),
            [rows, width] => (rows, 1, width),
            _ => {
                let expected = "expected tokens [rows, tokens, columns] or a matrix [rows, columns]";
                return Err(self.refuse(format!("{expected}, got shape {:?}", self.shape)));
            }
        };
        if rows == 0 || length == 0 || width == 0 {
            let expected = "expected at least one row, one token and one column";
            return Err(self.refuse(format!("{expected}, got shape {:?}", self.shape)));
        }
        Ok(Tokens { rows, length, width, values: self.finite(kind)? })
    }

    /// The elements as f32 in row-major order, or which of them is none.
    fn finite(&self, kind: Kind) -> Result<Vec<f32>> {
        let values = match kind {
            Kind::F32 => self.decode(f32::from_le_bytes),
            Kind::F16 => self.decode(|bytes| f16::from_le_bytes(bytes).to_f32()),
            Kind::Bf16 => self.decode(|bytes| bf16::from_le_bytes(bytes).to_f32()),
            _ => self.decode(|bytes| f64::from_le_bytes(bytes) as f32),
        };
        let Some(bad) = values.iter().position(|value| !value.is_finite()) else { return Ok(values) };
        // An f64 can be finite and still too large for f32.
        let stored = match kind {
            Kind::F64 => self.element(self.position(bad), f64::from_le_bytes),
            _ => f64::from(values[bad]),
        };
        let expected = if stored.is_finite() { "a value that fits f32" } else { "a finite number" };
        let place = match self.shape[..] {
            [_, length, width] => {
                let (row, token) = (bad / width / length, bad / width % length);
                format!("row {}, token {token}, column {}", self.first_row + row, bad % width)
            }
            [_, cols] => format!("row {}, column {}", self.first_row + bad / cols, bad % cols),
            _ => format!("element {bad}"),
        };
        Err(self.refuse(format!("{place} (counted from 0): expected {expected}, got {stored:?}")))
    }

    /// The type of floating-point numbers, or why they are none.
    fn float(&self) -> Result<Kind> {
        match self.kind {
            Some(kind @ (Kind::F64 | Kind::F32 | Kind::F16 | Kind::Bf16)) => Ok(kind),
            _ => {
                let message = format!("expected f64, f32, f16 or bf16 values, got {}", self.type_name);
                Err(self.refuse(message))
            }
        }
    }

    /// The type and shape of a matrix of floating-point numbers, or why it is none.
    pub(super) fn matrix(&self) -> Result<(Kind, [usize; 2])> {
        // The type first: for labels given as features it says more than their rank.
        let kind = self.float()?;
        let [rows, cols] = self.shape[..] else {
            return Err(self.refuse(format!("expected a matrix [rows, columns], got shape {:?}", self.shape)));
        };
        if rows == 0 || cols == 0 {
            let message = format!("expected at least one row and one column, got shape {:?}", self.shape);
            return Err(self.refuse(message));
        }
        Ok((kind, [rows, cols]))
    }

    /// Finite numbers of any type, or why they are none.
    pub(super) fn numbers(mut self) -> Result<Vec<f32>> {
        match self.kind {
            Some(Kind::F64 | Kind::F32 | Kind::F16 | Kind::Bf16) => {}
            Some(_) => return Ok(self.integers()?.into_iter().map(|value| value as f32).collect()),
            None => return Err(self.refuse(format!("expected numbers, got {}", self.type_name))),
        }
        match self.shape[..] {
            [0] | [0, 1] => {
                Err(self.refuse(format!("expected at least one number, got shape {:?}", self.shape)))
            }
            [rows] | [rows, 1] => {
                self.shape = vec![rows, 1];
                Ok(self.features()?.values)
            }
            _ => Err(self.refuse(format!("expected shape [n] or [n, 1], got {:?}", self.shape))),
        }
    }

    /// Integers, or why they are none.
    pub(super) fn integers(self) -> Result<Vec<i64>> {
        let kind = match self.kind {
            None | Some(Kind::F64 | Kind::F32 | Kind::F16 | Kind::Bf16) => {
                return Err(self.refuse(format!("expected integers, got {}", self.type_name)));
            }
            Some(kind) => kind,
        };
        let ([rows] | [rows, 1]) = self.shape[..] else {
            return Err(self.refuse(format!("expected shape [n] or [n, 1], got {:?}", self.shape)));
        };
        if rows == 0 {
            return Err(self.refuse(format!("expected at least one integer, got shape {:?}", self.shape)));
        }
        let values = match kind {
            Kind::I32 => self.decode(|bytes| i64::from(i32::from_le_bytes(bytes))),
            Kind::I16 => self.decode(|bytes| i64::from(i16::from_le_bytes(bytes))),
            Kind::I8 => self.decode(|bytes| i64::from(i8::from_le_bytes(bytes))),
            Kind::U32 => self.decode(|bytes| i64::from(u32::from_le_bytes(bytes))),
            Kind::U16 => self.decode(|bytes| i64::from(u16::from_le_bytes(bytes))),
            Kind::U8 => self.decode(|bytes| i64::from(u8::from_le_bytes(bytes))),
            Kind::Bool => self.decode(|[byte]| i64::from(byte != 0)),
            // A u64 above i64::MAX comes out negative and is refused below.
            _ => self.decode(i64::from_le_bytes),
        };
        if kind == Kind::U64
            && let Some(row) = values.iter().position(|&value| value < 0)
        {
            let (most, got) = (i64::MAX, values[row] as u64);
            let message = format!("row {row} (counted from 0): expected at most {most}, got {got}");
            return Err(self.refuse(message));
        }
        Ok(values)
    }

    /// The elements in row-major order.
    fn decode<const N: usize, T>(&self, convert: impl Fn([u8; N]) -> T) -> Vec<T> {
        if !self.big_endian && !self.fortran {
            return self.bytes.as_chunks().0.iter().map(|&bytes| convert(bytes)).collect();
        }
        (0..self.bytes.len() / N).map(|index| self.element(self.position(index), &convert)).collect()
    }

    /// The element at a place in the file, from its bytes in little-endian order.
    fn element<const N: usize, T>(&self, place: usize, convert: impl Fn([u8; N]) -> T) -> T {
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.bytes[place * N..][..N]);
        if self.big_endian {
            bytes.reverse();
        }
        convert(bytes)
    }

    /// Where the element of a row-major index lies in the file. In Fortran order that of row `r`, token `t`, column `c` is at
    /// `(c * tokens + t) * rows + r`.
    fn position(&self, index: usize) -> usize {
        if !self.fortran {
            return index;
        }
        let step = |(place, rest): (usize, usize), &size: &usize| (place * size + rest % size, rest / size);
        self.shape.iter().rev().fold((0, index), step).0
    }

    /// An error that names the file and the tensor.
    pub(super) fn refuse(&self, message: String) -> Error {
        Error::file(self.source.to_string(), message)
    }
}
