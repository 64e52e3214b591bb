//! The `.npy` format.

use half::f16;

use super::*;
use crate::io::{read_features, read_integers};

/// A version 1 file.
fn npy(descr: &str, fortran: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n");
    [MAGIC, &[1, 0], &(header.len() as u16).to_le_bytes(), header.as_bytes(), data].concat()
}

/// What a reader says of these bytes; a message without the file's name.
fn read<T>(reader: fn(&Source) -> Result<T>, bytes: &[u8]) -> std::result::Result<T, String> {
    let folder = tempfile::tempdir().unwrap();
    let source = Source { path: folder.path().join("a.npy"), tensor: None };
    std::fs::write(&source.path, bytes).unwrap();
    reader(&source).map_err(|error| {
        let text = error.to_string();
        assert!(!text.contains('\n'), "{text}");
        text.strip_prefix(&format!("{source}: ")).unwrap().to_string()
    })
}

fn bytes<const N: usize, T: Copy>(values: &[T], convert: fn(T) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(|&value| convert(value)).collect()
}

const SIX: [f32; 6] = [1.0, -2.0, 3.5, 0.25, 0.0, 65504.0];

#[test]
fn float_types_in_both_byte_orders() {
    let (halves, doubles) = (SIX.map(f16::from_f32), SIX.map(f64::from));
    let cases = [
        ("'<f4'", bytes(&SIX, f32::to_le_bytes)),
        ("'>f4'", bytes(&SIX, f32::to_be_bytes)),
        ("'<f2'", bytes(&halves, f16::to_le_bytes)),
        ("'>f2'", bytes(&halves, f16::to_be_bytes)),
        ("'<f8'", bytes(&doubles, f64::to_le_bytes)),
        ("\">f8\"", bytes(&doubles, f64::to_be_bytes)),
    ];
    for (descr, data) in cases {
        let features = read(read_features, &npy(descr, "False", "(2, 3)", &data)).unwrap();
        assert_eq!((features.rows, features.cols, &features.values[..]), (2, 3, &SIX[..]), "{descr}");
    }
}

#[test]
fn fortran_order_is_transposed() {
    let columns = bytes(&[1.0, 4.0, 2.0, 5.0, 3.0, 6.0], f32::to_be_bytes);
    let features = read(read_features, &npy("'>f4'", "True", "(2, 3)", &columns)).unwrap();
    assert_eq!(features.values, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let bad = bytes(&[1.0, 4.0, 2.0, 5.0, f64::INFINITY, 6.0], f64::to_le_bytes);
    let message = read(read_features, &npy("'<f8'", "True", "(2, 3)", &bad)).unwrap_err();
    assert_eq!(message, "row 0, column 2 (counted from 0): expected a finite number, got inf");
}

#[test]
fn integer_types_in_both_byte_orders() {
    let cases = [
        ("'|i1'", bytes(&[-1i8, 7], i8::to_le_bytes), [-1, 7]),
        ("'<i2'", bytes(&[-300i16, 7], i16::to_le_bytes), [-300, 7]),
        ("'>i4'", bytes(&[-70000i32, 7], i32::to_be_bytes), [-70000, 7]),
        ("'<i8'", bytes(&[i64::MIN, i64::MAX], i64::to_le_bytes), [i64::MIN, i64::MAX]),
        ("'|u1'", vec![255, 7], [255, 7]),
        ("'>u2'", bytes(&[65535u16, 7], u16::to_be_bytes), [65535, 7]),
        ("'<u4'", bytes(&[u32::MAX, 7], u32::to_le_bytes), [4294967295, 7]),
        ("'>u8'", bytes(&[i64::MAX as u64, 7], u64::to_be_bytes), [i64::MAX, 7]),
        ("'|b1'", vec![1, 0], [1, 0]),
    ];
    for (descr, data, expected) in cases {
        for shape in ["(2,)", "(2, 1)"] {
            assert_eq!(read(read_integers, &npy(descr, "False", shape, &data)).unwrap(), expected, "{descr}");
        }
    }
}

#[test]
fn values_that_do_not_fit_are_named() {
    let six = |at: usize, value: f64| {
        let mut values = [0.5; 6];
        values[at] = value;
        npy("'<f8'", "False", "(2, 3)", &bytes(&values, f64::to_le_bytes))
    };
    let place = "row 1, column 2 (counted from 0): expected";
    let cases = [(f64::NAN, "a finite number, got NaN"), (-1e300, "a value that fits f32, got -1e300")];
    for (value, rest) in cases {
        assert_eq!(read(read_features, &six(5, value)).unwrap_err(), format!("{place} {rest}"));
    }
    // Halfway between the largest f32 and 2^128 rounds up, anything below it down.
    assert!(read(read_features, &six(0, 3.4028235677973366e38)).is_err());
    assert_eq!(read(read_features, &six(0, 3.4028235677973362e38)).unwrap().values[0], f32::MAX);
    let long = npy("'<u8'", "False", "(2,)", &bytes(&[0, 1u64 << 63], u64::to_le_bytes));
    let expected = "row 1 (counted from 0): expected at most 9223372036854775807, got 9223372036854775808";
    assert_eq!(read(read_integers, &long).unwrap_err(), expected);
}

#[test]
fn types_and_shapes_that_do_not_fit_are_named() {
    let features =
        |descr, shape, size| read(read_features, &npy(descr, "False", shape, &vec![0; size])).unwrap_err();
    assert_eq!(features("'<i4'", "(2, 3)", 24), "expected f64, f32, f16 or bf16 values, got numpy's '<i4'");
    assert_eq!(features("'<c8'", "(1, 1)", 8), "expected f64, f32, f16 or bf16 values, got numpy's '<c8'");
    assert_eq!(features("'<f4'", "(3,)", 12), "expected a matrix [rows, columns], got shape [3]");
    assert_eq!(features("'<f4'", "(1, 1, 1)", 4), "expected a matrix [rows, columns], got shape [1, 1, 1]");
    assert_eq!(features("'<f4'", "()", 4), "expected a matrix [rows, columns], got shape []");
    assert_eq!(features("'<f4'", "(0, 3)", 0), "expected at least one row and one column, got shape [0, 3]");
    assert_eq!(features("'<f4'", "(3, 0)", 0), "expected at least one row and one column, got shape [3, 0]");
    let structured = features("[('a', '<f4')]", "(1,)", 4);
    assert_eq!(structured, "bad .npy header: expected numbers, got a structured type");
    let integers =
        |descr, shape, size| read(read_integers, &npy(descr, "False", shape, &vec![0; size])).unwrap_err();
    assert_eq!(integers("'<f4'", "(2,)", 8), "expected integers, got numpy's '<f4'");
    assert_eq!(integers("'|u1'", "(2, 3)", 6), "expected shape [n] or [n, 1], got [2, 3]");
    assert_eq!(integers("'|u1'", "(0,)", 0), "expected at least one integer, got shape [0]");
}

#[test]
fn sizes_that_overflow_are_refused() {
    for shape in
        ["(4294967296, 4294967296)", "(99999999999999999999, 1)", "(18446744073709551615, 1)", "(0x2, 1)"]
    {
        assert!(read(read_features, &npy("'<f4'", "False", shape, &[0; 4])).is_err(), "{shape}");
    }
}

#[test]
fn other_versions_and_key_orders() {
    let text = "{\"shape\":(1,1),\"fortran_order\":True,\"descr\":\"<f4\"}";
    for version in [2, 3] {
        let length = (text.len() as u32).to_le_bytes();
        let file = [MAGIC, &[version, 0], &length, text.as_bytes(), &1f32.to_le_bytes()].concat();
        assert_eq!(read(read_features, &file).unwrap().values, [1.0]);
    }
    let message = read(read_features, b"\x93NUMPY\x04\x00").unwrap_err();
    assert_eq!(message, "expected .npy version 1, 2 or 3, got 4.0");
    assert!(read(read_features, b"PK\x03\x04 an archive").unwrap_err().starts_with("not a .npy file"));
}

#[test]
fn truncated_and_changed_files_never_panic() {
    let whole = npy("'<f4'", "False", "(2, 3)", &bytes(&SIX, f32::to_le_bytes));
    for len in 0..whole.len() {
        assert!(read(read_features, &whole[..len]).is_err(), "{len} bytes");
    }
    assert!(read(read_features, &[&whole[..], &[0]].concat()).is_err());
    let folder = tempfile::tempdir().unwrap();
    let source = Source { path: folder.path().join("a.npy"), tensor: None };
    for at in 0..whole.len() {
        for value in [0, b'\'', b'(', b')', b'9', 0x80, 0xff, whole[at] ^ 1, whole[at] ^ 0x10] {
            let mut changed = whole.clone();
            changed[at] = value;
            std::fs::write(&source.path, &changed).unwrap();
            let _ = (read_features(&source), read_integers(&source));
        }
    }
}

#[test]
fn an_independent_reader_and_writer_agree() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.NPY");
    write_npy(&path, 2, 3, &SIX).unwrap();
    let written = std::fs::read(&path).unwrap();
    assert_eq!(written.len(), 128 + 24);
    let theirs = npyz::NpyFile::new(&written[..]).unwrap();
    assert_eq!((theirs.shape(), theirs.order()), (&[2, 3][..], npyz::Order::C));
    assert_eq!(theirs.into_vec::<f32>().unwrap(), SIX);

    use npyz::WriterBuilder;
    let mut file = vec![];
    let options = npyz::WriteOptions::new().dtype(npyz::DType::Plain(">f8".parse().unwrap()));
    let mut writer = options.shape(&[2, 3]).order(npyz::Order::Fortran).writer(&mut file).begin_nd().unwrap();
    writer.extend([1.0, 4.0, 2.0, 5.0, 3.0, 6.0f64]).unwrap();
    writer.finish().unwrap();
    assert_eq!(read(read_features, &file).unwrap().values, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
}

#[test]
fn any_number_of_axes_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npy");
    let shapes: [&[usize]; 6] = [&[], &[6], &[2, 3], &[1, 2, 3], &[3, 1, 2, 1], &[1; MAX_AXES]];
    for shape in shapes {
        let values = &SIX[..shape.iter().product()];
        write_npy_array(&path, shape, values).unwrap();
        let written = std::fs::read(&path).unwrap();
        assert_eq!((written.len() - 4 * values.len()) % 64, 0);
        let theirs = npyz::NpyFile::new(&written[..]).unwrap();
        let own: Vec<u64> = shape.iter().map(|&n| n as u64).collect();
        assert_eq!((theirs.shape(), theirs.order()), (&own[..], npyz::Order::C));
        assert_eq!(theirs.into_vec::<f32>().unwrap(), values);
    }
}

#[test]
fn wrong_counts_are_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npy");
    for (rows, cols) in [(2, 2), (0, 6), (usize::MAX, 2)] {
        assert!(matches!(write_npy(&path, rows, cols, &SIX), Err(Error::Argument { .. })));
    }
    for shape in [&[][..], &[5], &[1, 2, 4], &[0, 6], &[usize::MAX, 2, 3]] {
        assert!(matches!(write_npy_array(&path, shape, &SIX), Err(Error::Argument { .. })), "{shape:?}");
    }
    let message = write_npy_array(&path, &[1, 2, 4], &SIX).unwrap_err().to_string();
    assert_eq!(message, "write_npy_array: values: expected 1 x 2 x 4 of them, got 6");
    let message = write_npy_array(&path, &[1; MAX_AXES + 1], &[1.]).unwrap_err().to_string();
    assert_eq!(message, "write_npy_array: shape: expected at most 32 axes, got 33");
    assert!(!path.exists());
}
