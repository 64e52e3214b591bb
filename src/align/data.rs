//! Paired features and how their rows are split.

use crate::error::{Error, Result};
use crate::io::Features;
use crate::nn::generator;
use rand::seq::SliceRandom;

/// Row numbers for training, for choosing the epoch, and for the final scores.
///
/// ```
/// use crossmodal::align::Split;
/// let split = Split { train: vec![0, 1, 2, 3], validation: vec![4, 5], test: vec![6, 7] };
/// assert_eq!(split, Split::from_labels(&[0, 0, 0, 0, 1, 1, 2, 2])?);
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Rows that train.
    pub train: Vec<u32>,
    /// Rows on which the best epoch is chosen.
    pub validation: Vec<u32>,
    /// Rows that are scored once, at the end.
    pub test: Vec<u32>,
}

impl Split {
    /// From one label a row: 0 train, 1 validation, 2 test.
    ///
    /// Errors: another label; a part with fewer than two rows.
    ///
    /// ```
    /// let split = crossmodal::align::Split::from_labels(&[0, 2, 1, 0, 1, 2])?;
    /// assert_eq!((split.train, split.test), (vec![0, 3], vec![1, 5]));
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    pub fn from_labels(labels: &[i64]) -> Result<Split> {
        let mut parts = [vec![], vec![], vec![]];
        for (row, &label) in (0u32..).zip(labels) {
            let part = usize::try_from(label).ok().and_then(|label| parts.get_mut(label));
            let expected = "0 (train), 1 (validation) or 2 (test)";
            part.ok_or_else(|| {
                Error::argument("Split", "labels", expected, format!("{label} in row {row}"))
            })?
            .push(row);
        }
        let [train, validation, test] = parts;
        Split { train, validation, test }.checked()
    }

    /// 80 % train, 10 % validation, 10 % test, drawn with a seed; each part in ascending order.
    ///
    /// Errors: fewer than 20 rows, of which a tenth is less than two.
    ///
    /// ```
    /// use crossmodal::align::Split;
    /// let split = Split::random(100, 0)?;
    /// assert_eq!((split.train.len(), split.validation.len(), split.test.len()), (80, 10, 10));
    /// assert_eq!(split, Split::random(100, 0)?);
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    pub fn random(rows: usize, seed: u64) -> Result<Split> {
        if rows < 20 {
            return Err(Error::argument("Split", "rows", "at least 20 rows for a split of 80/10/10", rows));
        }
        let mut order: Vec<u32> = (0..rows as u32).collect();
        order.shuffle(&mut generator(seed, u64::MAX));
        let tenth = rows / 10;
        let mut part = |count: usize| {
            let mut part = order.split_off(order.len() - count);
            part.sort_unstable();
            part
        };
        let (validation, test) = (part(tenth), part(tenth));
        let train = part(rows - 2 * tenth);
        Split { train, validation, test }.checked()
    }

    fn checked(self) -> Result<Split> {
        for (name, part) in [("train", &self.train), ("validation", &self.validation), ("test", &self.test)] {
            if part.len() < 2 {
                let expected = format!("at least two {name} rows");
                return Err(Error::argument("Split", "split", expected, part.len()));
            }
        }
        Ok(self)
    }
}

/// Two modalities' features, row i of one belonging to row i of the other.
///
/// ```
/// use crossmodal::{align::{Data, Split}, io::Features};
/// let features = |rows: usize| Features { rows, cols: 1, values: vec![1.; rows] };
/// let split = Split::from_labels(&[0, 0, 1, 1, 2, 2])?;
/// assert!(Data::new(features(6), features(5), split.clone()).is_err());
/// assert_eq!(Data::new(features(6), features(6), split)?.left.rows, 6);
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Data {
    /// One modality `[rows, its width]`.
    pub left: Features,
    /// The other `[rows, its width]`.
    pub right: Features,
    /// Which rows are for what.
    pub split: Split,
    /// Further views of the left modality, in the same feature space: row i of each is a partner of row i of `right` too.
    pub views: Vec<Features>,
    /// The class of each row: rows of one class are one another's partners. Negative: none, but for its own partner.
    pub classes: Option<Vec<i64>>,
}

impl Data {
    /// Pairs row i of `left` with row i of `right`.
    ///
    /// Errors: the row counts differ; the split names a row that is not there. Example: [`Data`].
    pub fn new(left: Features, right: Features, split: Split) -> Result<Data> {
        for (argument, side) in [("left", &left), ("right", &right)] {
            let count = side.rows.checked_mul(side.cols);
            if count != Some(side.values.len()) || side.cols == 0 {
                let expected = format!("{} x {} values, at least one a row", side.rows, side.cols);
                return Err(Error::argument("align", argument, expected, side.values.len()));
            }
        }
        if left.rows != right.rows {
            let expected = format!("{} rows as left has", left.rows);
            return Err(Error::argument("align", "right", expected, format!("{} rows", right.rows)));
        }
        let last = [&split.train, &split.validation, &split.test].into_iter().flatten().max();
        if let Some(&row) = last.filter(|&&row| row as usize >= left.rows) {
            let expected = format!("rows below {}", left.rows);
            return Err(Error::argument("align", "split", expected, format!("row {row}")));
        }
        Ok(Data { left, right, split, views: vec![], classes: None })
    }

    /// With further views of the left modality. They train with it; scores are those of `left`.
    ///
    /// Errors: other rows or widths than left has.
    ///
    /// ```
    /// use crossmodal::{align::{Data, Split}, io::Features};
    /// let features = |value: f32| Features { rows: 6, cols: 1, values: vec![value; 6] };
    /// let data = Data::new(features(1.), features(2.), Split::from_labels(&[0, 0, 1, 1, 2, 2])?)?;
    /// assert_eq!(data.with_views(vec![features(3.)])?.views.len(), 1);
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    pub fn with_views(self, views: Vec<Features>) -> Result<Data> {
        let (rows, cols) = (self.left.rows, self.left.cols);
        if views.len() > 255 {
            return Err(Error::argument("align", "views", "at most 255", views.len()));
        }
        for view in &views {
            if (view.rows, view.cols, view.values.len()) != (rows, cols, rows * cols) {
                let got = format!("{} x {}", view.rows, view.cols);
                return Err(Error::argument("align", "views", format!("{rows} x {cols} as left is"), got));
            }
        }
        Ok(Data { views, ..self })
    }

    /// With a class for each row. Errors: not as many as rows.
    ///
    /// ```
    /// use crossmodal::{align::{Data, Split}, io::Features};
    /// let features = || Features { rows: 6, cols: 1, values: vec![1.; 6] };
    /// let data = Data::new(features(), features(), Split::from_labels(&[0, 0, 1, 1, 2, 2])?)?;
    /// assert!(data.with_classes(vec![0; 5]).is_err());
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    pub fn with_classes(self, classes: Vec<i64>) -> Result<Data> {
        if classes.len() != self.left.rows {
            let expected = format!("{} labels, one a row", self.left.rows);
            return Err(Error::argument("align", "classes", expected, classes.len()));
        }
        Ok(Data { classes: Some(classes), ..self })
    }

    /// A hash of every feature and row number: what a checkpoint recognises its data by.
    pub(super) fn fingerprint(&self) -> u64 {
        // FNV-1a over 32-bit words.
        let step = |hash: u64, word: u32| (hash ^ u64::from(word)).wrapping_mul(0x100_0000_01b3);
        let all = [&self.left, &self.right].into_iter().chain(&self.views);
        let features = all.flat_map(|f| f.values.iter().map(|v| v.to_bits()));
        let Split { train, validation, test } = &self.split;
        let rows =
            [train, validation, test].into_iter().flat_map(|part| part.iter().copied().chain([u32::MAX]));
        let classes = self.classes.iter().flatten().flat_map(|class| [*class as u32, (*class >> 32) as u32]);
        features.chain(rows).chain(classes).fold(0xcbf2_9ce4_8422_2325, step)
    }
}
