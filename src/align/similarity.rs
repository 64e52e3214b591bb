//! Cosine similarities in blocks.
//!
//! A similarity has the same bits wherever its rows stand and however the work is cut: rows are padded to whole lanes, each lane
//! is summed from the first column to the last, and the lanes are added in one order. So rows that are the same tie exactly,
//! which a general matrix product does not promise.

use crate::error::{Error, Result};
use crate::io::Features;
use crate::reference::l2_normalize;
use std::ops::Range;

/// Partial sums of a similarity: enough for any vector width.
const LANES: usize = 16;
/// Rows and columns whose similarities stand in registers at once.
const HIGH: usize = 4;
const WIDE: usize = 4;
/// Rows and columns of a block: the rows of one side stay in a core's cache while those of the other pass.
pub(crate) const ROWS: usize = 64;
pub(crate) const COLS: usize = 128;

/// Rows of length one, or zero.
pub(crate) struct UnitRows {
    rows: usize,
    /// The width in whole groups of lanes.
    lanes: usize,
    values: Vec<[f32; LANES]>,
}

impl UnitRows {
    /// Normalises in f64. Errors: no rows or columns; not as many values as these need; a value that is not finite, with its row:
    /// such a similarity would be neither more nor less than another, and the row would rank first.
    pub(crate) fn new(op: &'static str, argument: &'static str, features: &Features) -> Result<UnitRows> {
        check(op, argument, features)?;
        let lanes = features.cols.div_ceil(LANES);
        let mut values = Vec::with_capacity(features.rows * lanes);
        for row in features.values.chunks_exact(features.cols) {
            let wide: Vec<f64> = row.iter().map(|&v| f64::from(v)).collect();
            for group in l2_normalize(&wide, features.cols).0.chunks(LANES) {
                let mut padded = [0.; LANES];
                padded.iter_mut().zip(group).for_each(|(to, &v)| *to = v as f32);
                values.push(padded);
            }
        }
        Ok(UnitRows { rows: features.rows, lanes, values })
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// A row, padded with zeros.
    pub(crate) fn row(&self, i: usize) -> &[f32] {
        self.groups(i).as_flattened()
    }

    /// Whether a row is zero, which has no direction.
    pub(crate) fn is_zero(&self, i: usize) -> bool {
        self.row(i).iter().all(|&v| v == 0.)
    }

    fn groups(&self, i: usize) -> &[[f32; LANES]] {
        &self.values[i * self.lanes..][..self.lanes]
    }

    /// The similarity of row i with row j of rows of the same width.
    pub(crate) fn similarity(&self, i: usize, other: &UnitRows, j: usize) -> f32 {
        let mut sim = [0.];
        self.block(&(i..i + 1), other, &(j..j + 1), &mut sim);
        sim[0]
    }

    /// The similarities of `rows` with the rows `cols` of `other`, row-major, in the front of `out`.
    pub(crate) fn block(&self, rows: &Range<usize>, other: &UnitRows, cols: &Range<usize>, out: &mut [f32]) {
        pulp::Arch::new().dispatch(Block { left: self, rows, right: other, cols, out });
    }

    #[inline(always)]
    fn fill(&self, rows: &Range<usize>, other: &UnitRows, cols: &Range<usize>, out: &mut [f32]) {
        let width = cols.len();
        let (whole_rows, whole_cols) = (rows.len() / HIGH * HIGH, width / WIDE * WIDE);
        for r in (0..whole_rows).step_by(HIGH) {
            let a: [_; HIGH] = std::array::from_fn(|k| self.groups(rows.start + r + k));
            for c in (0..whole_cols).step_by(WIDE) {
                let b: [_; WIDE] = std::array::from_fn(|k| other.groups(cols.start + c + k));
                for (k, sims) in products(a, b).iter().enumerate() {
                    out[(r + k) * width + c..][..WIDE].copy_from_slice(sims);
                }
            }
        }
        for r in 0..rows.len() {
            let first = if r < whole_rows { whole_cols } else { 0 };
            for c in first..width {
                let [[sim]] = products([self.groups(rows.start + r)], [other.groups(cols.start + c)]);
                out[r * width + c] = sim;
            }
        }
    }
}

struct Block<'a> {
    left: &'a UnitRows,
    rows: &'a Range<usize>,
    right: &'a UnitRows,
    cols: &'a Range<usize>,
    out: &'a mut [f32],
}

impl pulp::WithSimd for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        self.left.fill(self.rows, self.right, self.cols, self.out);
    }
}

/// Every product of a row of `a` with a row of `b`.
#[inline(always)]
fn products<const R: usize, const C: usize>(
    a: [&[[f32; LANES]]; R],
    b: [&[[f32; LANES]]; C],
) -> [[f32; C]; R] {
    let mut sums = [[[0f32; LANES]; C]; R];
    let groups = a[0].len();
    let (a, b) = (a.map(|row| &row[..groups]), b.map(|row| &row[..groups]));
    for group in 0..groups {
        for r in 0..R {
            for c in 0..C {
                for lane in 0..LANES {
                    sums[r][c][lane] += a[r][group][lane] * b[c][group][lane];
                }
            }
        }
    }
    sums.map(|row| row.map(total))
}

/// The sum of the lanes, by halves.
#[inline(always)]
fn total(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// `0..count` in pieces of `size`.
pub(crate) fn pieces(count: usize, size: usize) -> impl ExactSizeIterator<Item = Range<usize>> {
    (0..count.div_ceil(size)).map(move |piece| piece * size..count.min((piece + 1) * size))
}

/// Refuses features without rows or columns, of a wrong number of values, or with one that is not finite.
pub(crate) fn check(op: &'static str, argument: &'static str, features: &Features) -> Result<()> {
    let Features { rows, cols, values } = features;
    if *rows == 0 || *cols == 0 {
        let got = format!("{rows} x {cols}");
        return Err(Error::argument(op, argument, "at least one row and one column", got));
    }
    if rows.checked_mul(*cols) != Some(values.len()) {
        return Err(Error::argument(op, argument, format!("{rows} x {cols} values"), values.len()));
    }
    if let Some(at) = values.iter().position(|v| !v.is_finite()) {
        let got = format!("{} in row {}", values[at], at / cols);
        return Err(Error::argument(op, argument, "finite values", got));
    }
    Ok(())
}

/// Refuses two sides of different widths.
pub(crate) fn check_widths(
    op: &'static str,
    argument: &'static str,
    expected: &Features,
    got: &Features,
) -> Result<()> {
    if expected.cols == got.cols {
        return Ok(());
    }
    let expected = format!("{} columns as the other side", expected.cols);
    Err(Error::argument(op, argument, expected, format!("{} x {}", got.rows, got.cols)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};

    fn noise(rows: usize, cols: usize, seed: u64) -> Features {
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let values = (0..rows * cols).map(|_| random.random_range(-1f32..1.)).collect();
        Features { rows, cols, values }
    }

    /// The bits of a similarity in blocks of every cut, beside those of the pair alone.
    #[test]
    fn a_similarity_has_the_same_bits_wherever_it_stands() {
        for cols in [1, 15, 16, 17, 100, 385] {
            let (x, y) = (noise(23, cols, 1), noise(37, cols, 2));
            let (x, y) = (UnitRows::new("t", "x", &x).unwrap(), UnitRows::new("t", "y", &y).unwrap());
            for (high, wide) in [(1, 1), (3, 5), (4, 2), (7, 37), (23, 1), (23, 37)] {
                let mut out = vec![f32::NAN; high * wide];
                for rows in pieces(x.rows(), high) {
                    for cols in pieces(y.rows(), wide) {
                        x.block(&rows, &y, &cols, &mut out);
                        for (i, row) in rows.clone().zip(out.chunks(cols.len())) {
                            for (j, sim) in cols.clone().zip(row) {
                                assert_eq!(sim.to_bits(), x.similarity(i, &y, j).to_bits());
                                assert_eq!(sim.to_bits(), y.similarity(j, &x, i).to_bits());
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_similarity_is_the_cosine() {
        let (x, y) = (noise(9, 50, 3), noise(5, 50, 4));
        let sims = [&x, &y].map(|side| UnitRows::new("t", "x", side).unwrap());
        for (i, a) in x.values.chunks(50).enumerate() {
            for (j, b) in y.values.chunks(50).enumerate() {
                let dot = |a: &[f32], b: &[f32]| {
                    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>()
                };
                let want = dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
                assert!((f64::from(sims[0].similarity(i, &sims[1], j)) - want).abs() < 1e-6);
            }
        }
    }
}
