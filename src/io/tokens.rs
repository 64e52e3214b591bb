//! Several feature vectors a row: patches of a picture, pieces of a text.

use super::{Source, locate, read_stored};
use crate::error::{Error, Result};

/// Stored token features on the host, row-major: column `c` of token `t` of row `r` is `values[(r * length + t) * width + c]`.
///
/// How many tokens of a row are real, the others being padding, lies in an array of its own: [`read_integers`](super::read_integers)
/// reads it.
///
/// ```
/// use crossmodal::io::Tokens;
/// let tokens = Tokens { rows: 1, length: 3, width: 2, values: vec![1., 2., 3., 4., 5., 6.] };
/// let (row, token, column) = (0, 2, 1);
/// assert_eq!(tokens.values[(row * tokens.length + token) * tokens.width + column], 6.);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Tokens {
    /// Samples.
    pub rows: usize,
    /// Tokens of a sample, padding among them.
    pub length: usize,
    /// Features of a token.
    pub width: usize,
    /// `rows * length * width` finite values.
    pub values: Vec<f32>,
}

impl Tokens {
    /// The given rows, in the given order.
    ///
    /// Errors: a row that is not there.
    ///
    /// ```
    /// use crossmodal::io::Tokens;
    /// let tokens = Tokens { rows: 3, length: 2, width: 1, values: vec![10., 11., 20., 21., 30., 31.] };
    /// assert_eq!(tokens.select(&[2, 0])?.values, [30., 31., 10., 11.]);
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    pub fn select(&self, rows: &[u32]) -> Result<Tokens> {
        let Tokens { length, width, .. } = *self;
        let whole = length.checked_mul(width).and_then(|each| each.checked_mul(self.rows));
        if whole != Some(self.values.len()) {
            let expected = format!("{} x {length} x {width} values", self.rows);
            return Err(Error::argument("select", "self", expected, self.values.len()));
        }
        if let Some(row) = rows.iter().find(|&&row| row as usize >= self.rows) {
            let expected = format!("row numbers below {}", self.rows);
            return Err(Error::argument("select", "rows", expected, row));
        }
        let row = |&row: &u32| &self.values[row as usize * length * width..][..length * width];
        let values = rows.iter().flat_map(row).copied().collect();
        Ok(Tokens { rows: rows.len(), length, width, values })
    }
}

/// Reads tokens `[rows, tokens, columns]` of f64, f32, f16 or bf16 values as f32; a matrix `[rows, columns]` is one token a row.
///
/// Types, byte orders and orders of the axes are those of [`read_features`](super::read_features); shards are not read.
///
/// # Errors
///
/// [`Error::File`] for what [`read_features`](super::read_features) refuses in a file, but for the rank: two axes or three, none of
/// them empty. A value that is NaN or infinite or does not fit f32 is named by row, token and column, counted from 0.
///
/// ```no_run
/// use crossmodal::io::{Source, read_integers, read_tokens};
///
/// let texts = read_tokens(&Source::parse("emoji_tokens.safetensors#text_tokens"))?;
/// let lengths = read_integers(&Source::parse("emoji_tokens.safetensors#text_length"))?;
/// assert!(lengths.iter().all(|&length| length <= texts.length as i64));
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn read_tokens(source: &Source) -> Result<Tokens> {
    read_stored(source)?.tokens()
}

/// The axes of a stored array, without reading what it holds.
///
/// # Errors
///
/// [`Error::File`] if the file or the tensor is missing, or is not of either format.
///
/// ```no_run
/// use crossmodal::io::{Source, read_shape};
/// assert_eq!(read_shape(&Source::parse("emoji_tokens.safetensors#text_tokens"))?, [1911, 32, 32]);
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn read_shape(source: &Source) -> Result<Vec<usize>> {
    Ok(locate(source)?.0.shape)
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::{bf16, f16};

    /// Two rows of two tokens of three columns.
    const VALUES: [f32; 12] = [0., 1., -2., 3.5, 4., 5., 6., 7., 8., 0.25, 10., 11.];

    /// What is read of a `.npy` file; a message without the file's name.
    fn npy(descr: &str, fortran: &str, shape: &str, data: &[u8]) -> std::result::Result<Tokens, String> {
        let header = format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n");
        let start = [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..]].concat();
        read("a.npy", &[start, header.into_bytes(), data.to_vec()].concat())
    }

    fn safetensors(dtype: &str, shape: &str, data: &[u8]) -> std::result::Result<Tokens, String> {
        let header =
            format!(r#"{{"x":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[0,{}]}}}}"#, data.len());
        read("a.safetensors", &[&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat())
    }

    fn read(name: &str, bytes: &[u8]) -> std::result::Result<Tokens, String> {
        let folder = tempfile::tempdir().unwrap();
        let source = Source { path: folder.path().join(name), tensor: None };
        std::fs::write(&source.path, bytes).unwrap();
        let said = |error: Error| error.to_string().split_once(": ").unwrap().1.to_string();
        read_tokens(&source).map_err(said)
    }

    fn bytes<const N: usize, T: Copy>(values: &[T], convert: impl Fn(T) -> [u8; N]) -> Vec<u8> {
        values.iter().flat_map(|&value| convert(value)).collect()
    }

    /// The values in the order of a Fortran file.
    fn fortran() -> Vec<f32> {
        let of = |(c, t, r): (usize, usize, usize)| VALUES[(r * 2 + t) * 3 + c];
        let places = (0..3).flat_map(|c| (0..2).flat_map(move |t| (0..2).map(move |r| (c, t, r))));
        places.map(of).collect()
    }

    #[test]
    fn every_type_and_order() {
        let whole = Tokens { rows: 2, length: 2, width: 3, values: VALUES.to_vec() };
        let wide = |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
        let half = |values: &[f32]| values.iter().map(|&v| f16::from_f32(v)).collect::<Vec<_>>();
        for (order, own) in [("False", VALUES.to_vec()), ("True", fortran())] {
            for (descr, data) in [
                ("<f4", bytes(&own, f32::to_le_bytes)),
                (">f4", bytes(&own, f32::to_be_bytes)),
                ("<f2", bytes(&half(&own), f16::to_le_bytes)),
                (">f2", bytes(&half(&own), f16::to_be_bytes)),
                ("<f8", bytes(&wide(&own), f64::to_le_bytes)),
                (">f8", bytes(&wide(&own), f64::to_be_bytes)),
            ] {
                assert_eq!(npy(descr, order, "(2, 2, 3)", &data).unwrap(), whole, "{descr} {order}");
            }
        }
        for (dtype, data) in [
            ("F32", bytes(&VALUES, f32::to_le_bytes)),
            ("F16", bytes(&half(&VALUES), f16::to_le_bytes)),
            ("BF16", bytes(&VALUES, |v| bf16::from_f32(v).to_le_bytes())),
            ("F64", bytes(&wide(&VALUES), f64::to_le_bytes)),
        ] {
            assert_eq!(safetensors(dtype, "[2,2,3]", &data).unwrap(), whole, "{dtype}");
        }
    }

    #[test]
    fn a_matrix_is_one_token_a_row() {
        let data = bytes(&VALUES, f32::to_le_bytes);
        let expected = Tokens { rows: 4, length: 1, width: 3, values: VALUES.to_vec() };
        assert_eq!(npy("<f4", "False", "(4, 3)", &data).unwrap(), expected);
        assert_eq!(safetensors("F32", "[4,3]", &data).unwrap(), expected);
    }

    #[test]
    fn values_that_do_not_fit_are_named() {
        let with = |values: &[f32], at: usize, bad: f64| {
            let mut values: Vec<f64> = values.iter().map(|&v| f64::from(v)).collect();
            values[at] = bad;
            bytes(&values, f64::to_le_bytes)
        };
        let place = "row 1, token 0, column 2 (counted from 0): expected";
        for (bad, rest) in
            [(f64::NAN, "a finite number, got NaN"), (1e300, "a value that fits f32, got 1e300")]
        {
            let message = npy("<f8", "False", "(2, 2, 3)", &with(&VALUES, 8, bad)).unwrap_err();
            assert_eq!(message, format!("{place} {rest}"));
            // In Fortran order: (2 * 2 + 0) * 2 + 1.
            let message = npy("<f8", "True", "(2, 2, 3)", &with(&fortran(), 9, bad)).unwrap_err();
            assert_eq!(message, format!("{place} {rest}"));
        }
        let message = npy("<f8", "False", "(4, 3)", &with(&VALUES, 8, f64::INFINITY)).unwrap_err();
        assert_eq!(message, "row 2, column 2 (counted from 0): expected a finite number, got inf");
        let nan = bytes(&[f32::NAN; 12], f32::to_le_bytes);
        let message = safetensors("F32", "[2,2,3]", &nan).unwrap_err();
        assert!(message.contains("row 0, token 0, column 0 (counted from 0)"), "{message}");
    }

    #[test]
    fn other_types_and_shapes_are_refused() {
        let said = |descr: &str, shape: &str, size| npy(descr, "False", shape, &vec![0; size]).unwrap_err();
        let expected = "expected tokens [rows, tokens, columns] or a matrix [rows, columns], got shape";
        assert_eq!(said("<f4", "(3,)", 12), format!("{expected} [3]"));
        assert_eq!(said("<f4", "(1, 1, 1, 2)", 8), format!("{expected} [1, 1, 1, 2]"));
        assert_eq!(said("<f4", "()", 4), format!("{expected} []"));
        let expected = "expected at least one row, one token and one column, got shape";
        for shape in ["[0, 2, 3]", "[2, 0, 3]", "[2, 2, 0]", "[0, 3]", "[2, 0]"] {
            let tuple = shape.replace('[', "(").replace(']', ")");
            assert_eq!(said("<f4", &tuple, 0), format!("{expected} {shape}"));
        }
        let message = said("<i4", "(1, 1, 1)", 4);
        assert_eq!(message, "expected f64, f32, f16 or bf16 values, got numpy's '<i4'");
        assert!(said("<f4", "(2, 2, 3)", 47).contains("truncated or corrupt: expected 48 bytes"));
    }

    #[test]
    fn rows_that_are_not_there_are_not_selected() {
        let tokens = Tokens { rows: 2, length: 2, width: 3, values: VALUES.to_vec() };
        assert_eq!(tokens.select(&[1]).unwrap().values, VALUES[6..]);
        assert_eq!(tokens.select(&[]).unwrap().rows, 0);
        assert!(tokens.select(&[2]).unwrap_err().to_string().contains("row numbers below 2, got 2"));
        let short = Tokens { rows: 3, ..tokens };
        assert!(short.select(&[0]).unwrap_err().to_string().contains("3 x 2 x 3 values, got 12"));
    }
}
