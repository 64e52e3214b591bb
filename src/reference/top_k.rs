//! The largest entries of rows.

use std::cmp::Ordering;

/// The order of entries `(value, index)` in a result: the larger value first, of equal values the lower index, NaN last.
///
/// ```
/// use crossmodal::reference::by_rank;
/// let mut entries = [(1., 0), (f64::NAN, 1), (2., 2), (1., 3)];
/// entries.sort_by(by_rank);
/// assert_eq!(entries.map(|(_, index)| index), [2, 0, 3, 1]);
/// ```
pub fn by_rank<T: PartialOrd>(a: &(T, u32), b: &(T, u32)) -> Ordering {
    let by_value = b.0.partial_cmp(&a.0).unwrap_or_else(|| {
        // Only a NaN is not equal to itself.
        let is_nan = |value: &T| value.partial_cmp(value).is_none();
        is_nan(&a.0).cmp(&is_nan(&b.0))
    });
    by_value.then(a.1.cmp(&b.1))
}

/// The `k` largest entries of each row of `cols`, all of them where there are fewer, and their indices: the larger first, of equal
/// ones the lower index, NaN last.
///
/// ```
/// let (values, indices) = crossmodal::reference::top_k(&[3., 1., 3., 2.], 4, 3);
/// assert_eq!((values, indices), (vec![3., 3., 2.], vec![0, 2, 3]));
/// ```
pub fn top_k(x: &[f64], cols: usize, k: usize) -> (Vec<f64>, Vec<u32>) {
    let of_row = |row: &[f64]| {
        let mut entries: Vec<_> = row.iter().copied().zip(0..).collect();
        entries.sort_unstable_by(by_rank);
        entries.truncate(k);
        entries
    };
    x.chunks(cols.max(1)).flat_map(of_row).unzip()
}
