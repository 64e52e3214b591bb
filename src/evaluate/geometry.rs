//! How embeddings lie on the sphere.

use crate::align::{COLS, Correct, Labels, ROWS, UnitRows, pieces, sides};
use crate::error::{Error, Result};
use crate::io::Features;
use rayon::prelude::*;
use std::ops::Range;

/// `mean ‖x̂ − ŷ‖^α` over all pairs of a left row and a correct right row, of length one; 0 is perfect, α = 2 usual. A zero row
/// stays zero.
///
/// Errors: as those of [`matching`](crate::align::matching()); an α that is not positive and finite.
///
/// ```
/// use crossmodal::{align::Correct, evaluate::alignment, io::Features};
/// let left = Features { rows: 2, cols: 2, values: vec![1., 0., 0., 1.] };
/// let right = Features { rows: 2, cols: 2, values: vec![2., 0., 1., 0.] };
/// assert!((alignment(&left, &right, &Correct::Pairs, 2.)? - 1.).abs() < 1e-6); // 0 and 2
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn alignment(left: &Features, right: &Features, correct: &Correct<'_>, alpha: f64) -> Result<f64> {
    positive("alignment", "alpha", alpha)?;
    let [x, y] = sides("alignment", left, right)?;
    let labels = Labels::new("alignment", correct, [x.rows(), y.rows()])?;
    let partners = labels.rows_of(&labels.right);
    let of_row = |(i, &id): (usize, &u32)| {
        let power = |&j: &usize| squared_distance(x.row(i), y.row(j)).powf(0.5 * alpha);
        let partners = &partners[id as usize];
        (partners.iter().map(power).sum::<f64>(), partners.len())
    };
    let rows: Vec<_> = labels.left.par_iter().enumerate().map(of_row).collect();
    // In the order of the rows: the same bits on any number of threads.
    let sum: f64 = rows.iter().map(|row| row.0).sum();
    Ok(sum / rows.iter().map(|row| row.1).sum::<usize>() as f64)
}

/// `log mean_{i<j} e^{−t ‖x̂_i − x̂_j‖²}` of rows of length one: the lower, the more evenly they lie; t = 2 is usual. 0 for one
/// row, and for rows that are all the same. A zero row stays zero.
///
/// Takes O(rows² · columns) work and O(rows) memory. Errors: no rows; a value that is not finite; a t that is not positive and
/// finite.
///
/// ```
/// use crossmodal::{evaluate::uniformity, io::Features};
/// let opposite = Features { rows: 2, cols: 1, values: vec![1., -3.] };
/// assert!((uniformity(&opposite, 2.)? - -8.).abs() < 1e-6); // -2 · 2²
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn uniformity(features: &Features, t: f64) -> Result<f64> {
    positive("uniformity", "t", t)?;
    let x = UnitRows::new("uniformity", "features", features)?;
    let rows = x.rows();
    if rows == 1 {
        return Ok(0.);
    }
    let square = |i| if x.is_zero(i) { 0. } else { 1. };
    let squares: Vec<f64> = (0..rows).map(square).collect();
    let of_chunk = |chunk: &Range<usize>| {
        let mut sums = vec![0f64; chunk.len()];
        let mut sims = vec![0f32; ROWS * COLS];
        // What stands left of the diagonal is skipped, but for the block that it cuts.
        for cols in pieces(rows, COLS).filter(|cols| cols.end > chunk.start) {
            x.block(chunk, &x, &cols, &mut sims);
            for ((i, sum), sims) in chunk.clone().zip(&mut sums).zip(sims.chunks_exact(cols.len())) {
                for (j, &sim) in cols.clone().zip(sims).filter(|&(j, _)| j > i) {
                    // Rounding must not bring rows nearer than the same.
                    let distance = (squares[i] + squares[j] - 2. * f64::from(sim)).max(0.);
                    *sum += (-t * distance).exp();
                }
            }
        }
        sums
    };
    let chunks: Vec<_> = pieces(rows, ROWS).collect();
    let sums: Vec<f64> = chunks.par_iter().flat_map_iter(of_chunk).collect();
    let pairs = 0.5 * rows as f64 * (rows as f64 - 1.);
    Ok((sums.iter().sum::<f64>() / pairs).ln())
}

/// `‖mean x̂ − mean ŷ‖`: the distance of the two centroids, from 0 to 2. The sides may have different numbers of rows.
///
/// Errors: a side has no rows, or a value that is not finite; widths differ.
///
/// ```
/// use crossmodal::{evaluate::modality_gap, io::Features};
/// let left = Features { rows: 2, cols: 2, values: vec![1., 0., 0., 1.] };
/// let right = Features { rows: 1, cols: 2, values: vec![-5., 0.] };
/// assert!((modality_gap(&left, &right)? - 2.5f64.sqrt()).abs() < 1e-6); // (0.5, 0.5) and (-1, 0)
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn modality_gap(left: &Features, right: &Features) -> Result<f64> {
    let [x, y] = sides("modality_gap", left, right)?.map(|side| centroid(&side));
    Ok(x.iter().zip(&y).map(|(x, y)| (x - y) * (x - y)).sum::<f64>().sqrt())
}

fn centroid(side: &UnitRows) -> Vec<f64> {
    let mut sums = vec![0f64; side.row(0).len()];
    for i in 0..side.rows() {
        sums.iter_mut().zip(side.row(i)).for_each(|(sum, &v)| *sum += f64::from(v));
    }
    sums.iter().map(|sum| sum / side.rows() as f64).collect()
}

fn squared_distance(x: &[f32], y: &[f32]) -> f64 {
    x.iter().zip(y).map(|(&x, &y)| (f64::from(x) - f64::from(y)).powi(2)).sum()
}

fn positive(op: &'static str, argument: &'static str, value: f64) -> Result<()> {
    if value > 0. && value.is_finite() {
        return Ok(());
    }
    Err(Error::argument(op, argument, "a positive, finite number", value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};

    fn features(cols: usize, values: &[f32]) -> Features {
        Features { rows: values.len() / cols, cols, values: values.to_vec() }
    }

    #[test]
    fn alignment_is_over_every_correct_pair() {
        let left = features(2, &[1., 0., 0., 1.]);
        let right = features(2, &[1., 0., -1., 0., 0., 5.]);
        let correct = Correct::Ids { left: &[1, 2], right: &[1, 1, 3] };
        // Distances 0 and 2.
        assert!((alignment(&left, &right, &correct, 2.).unwrap() - 2.).abs() < 1e-12);
        assert!((alignment(&left, &right, &correct, 1.).unwrap() - 1.).abs() < 1e-12);
        assert!(alignment(&left, &right, &correct, 0.).is_err());
    }

    #[test]
    fn uniformity_is_that_of_all_pairs() {
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        for rows in [2, 3, 64, 65, 129, 200] {
            let x = features(5, &(0..rows * 5).map(|_| random.random_range(-1f32..1.)).collect::<Vec<_>>());
            let unit: Vec<Vec<f64>> = x
                .values
                .chunks(5)
                .map(|row| {
                    let norm = row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
                    row.iter().map(|&v| f64::from(v) / norm).collect()
                })
                .collect();
            let mut sum = 0.;
            for i in 0..rows {
                for j in 0..i {
                    let squared = unit[i].iter().zip(&unit[j]).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
                    sum += (-2. * squared).exp();
                }
            }
            let want = (sum / (rows * (rows - 1) / 2) as f64).ln();
            assert!((uniformity(&x, 2.).unwrap() - want).abs() < 1e-6, "{rows}");
        }
    }

    #[test]
    fn one_row_and_zero_rows_have_an_answer() {
        let one = features(2, &[3., 4.]);
        assert_eq!(uniformity(&one, 2.).unwrap(), 0.);
        assert_eq!(alignment(&one, &one, &Correct::Pairs, 2.).unwrap(), 0.);
        assert_eq!(modality_gap(&one, &one).unwrap(), 0.);
        let same = features(2, &[3., 4., 3., 4., 3., 4.]);
        assert!(uniformity(&same, 2.).unwrap().abs() < 1e-6);
        // A zero row is at distance 1 from every other, and at 0 from a zero row.
        let zero = features(2, &[0., 0., 3., 4.]);
        assert!((uniformity(&zero, 2.).unwrap() + 2.).abs() < 1e-6);
        assert_eq!(uniformity(&features(2, &[0.; 4]), 2.).unwrap(), 0.);
        let zeros = features(2, &[0.; 4]);
        assert!((alignment(&zero, &zeros, &Correct::Pairs, 2.).unwrap() - 0.5).abs() < 1e-6);
    }
}
