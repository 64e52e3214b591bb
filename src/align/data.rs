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

/// A name is that of a file too.
const LONGEST_NAME: usize = 64;

/// One modality: row i of its features belongs to row i of every other's.
///
/// ```
/// use crossmodal::{align::Modality, io::Features};
/// let audio = Modality::new("audio", Features { rows: 2, cols: 1, values: vec![1., 2.] });
/// assert!(audio.views.is_empty());
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Modality {
    /// What it is called: `left`, `image`, …
    pub name: String,
    /// Its features `[rows, its width]`.
    pub features: Features,
    /// Further views of it in the same feature space: row i of each is a partner of row i of the other modalities too. They
    /// train; scores are those of `features`.
    pub views: Vec<Features>,
}

impl Modality {
    /// Without further views. Example: [`Modality`].
    pub fn new(name: impl Into<String>, features: Features) -> Modality {
        Modality { name: name.into(), features, views: vec![] }
    }

    /// What errors call it.
    pub(crate) fn argument(&self) -> String {
        format!("modality {}", self.name)
    }

    /// Its features and the further views of it.
    pub(super) fn all(&self) -> impl Iterator<Item = &Features> {
        std::iter::once(&self.features).chain(&self.views)
    }
}

/// The features of two or more modalities, row by row each other's partners.
///
/// ```
/// use crossmodal::{align::{Data, Modality, Split}, io::Features};
/// let features = |rows: usize| Features { rows, cols: 1, values: vec![1.; rows] };
/// let split = Split::from_labels(&[0, 0, 1, 1, 2, 2])?;
/// assert!(Data::new(features(6), features(5), split.clone()).is_err());
/// let data = Data::new(features(6), features(6), split.clone())?;
/// assert_eq!(data.of("right")?.rows, 6);
/// // Of three: every pair of them is aligned.
/// let three = ["image", "text", "audio"].map(|name| Modality::new(name, features(6)));
/// assert_eq!(Data::of_modalities(three.into(), split)?.modalities.len(), 3);
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Data {
    /// At least two.
    pub modalities: Vec<Modality>,
    /// Which rows are for what.
    pub split: Split,
    /// The class of each row: rows of one class are one another's partners. Negative: none, but for its own partner.
    pub classes: Option<Vec<i64>>,
}

impl Data {
    /// Pairs row i of `left` with row i of `right`, as modalities of these names.
    ///
    /// Errors: those of [`Data::of_modalities`]. Example: [`Data`].
    pub fn new(left: Features, right: Features, split: Split) -> Result<Data> {
        Data::of_modalities(vec![Modality::new("left", left), Modality::new("right", right)], split)
    }

    /// Any number of modalities from two on.
    ///
    /// Errors: fewer; two of one name, whatever the case, or one that is not 1 to 64 letters, digits, `_` and `-`; row counts differ, or the widths of one's views; the split names a row that is not
    /// there. Example: [`Data`].
    pub fn of_modalities(modalities: Vec<Modality>, split: Split) -> Result<Data> {
        if modalities.len() < 2 {
            return Err(Error::argument("align", "modalities", "at least two", modalities.len()));
        }
        Data::checked("align", modalities, split)
    }

    /// The same of one or more.
    pub(crate) fn checked(op: &'static str, modalities: Vec<Modality>, split: Split) -> Result<Data> {
        let rows = modalities[0].features.rows;
        for (i, modality) in modalities.iter().enumerate() {
            let refuse =
                |expected: String, got: String| Err(Error::argument(op, modality.argument(), expected, got));
            let plain = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
            let name = &modality.name;
            if !(1..=LONGEST_NAME).contains(&name.len()) || !name.chars().all(plain) {
                let expected = format!("a name of 1 to {LONGEST_NAME} letters, digits, _ and -");
                return refuse(expected, format!("'{name}'"));
            }
            // They are names of files, and some file systems take A for a.
            if modalities[..i].iter().any(|other| other.name.eq_ignore_ascii_case(name)) {
                return refuse("a name of its own, whatever the case".to_string(), format!("{name} twice"));
            }
            if modality.views.len() > 255 {
                return refuse("at most 255 further views".to_string(), modality.views.len().to_string());
            }
            let width = modality.features.cols;
            for side in modality.all() {
                let count = side.rows.checked_mul(side.cols);
                if count != Some(side.values.len()) || side.cols == 0 {
                    let expected = format!("{} x {} values, at least one a row", side.rows, side.cols);
                    return refuse(expected, side.values.len().to_string());
                }
                if side.rows != rows {
                    return refuse(
                        format!("{rows} rows as {} has", modalities[0].name),
                        format!("{} rows", side.rows),
                    );
                }
                if side.cols != width {
                    let expected = format!("views of one width, {width}");
                    return refuse(expected, side.cols.to_string());
                }
            }
        }
        let last = [&split.train, &split.validation, &split.test].into_iter().flatten().max();
        if let Some(&row) = last.filter(|&&row| row as usize >= rows) {
            return Err(Error::argument(op, "split", format!("rows below {rows}"), format!("row {row}")));
        }
        Ok(Data { modalities, split, classes: None })
    }

    /// With further views of a modality. Errors: there is none of that name; those of [`Data::of_modalities`].
    ///
    /// ```
    /// use crossmodal::{align::{Data, Split}, io::Features};
    /// let features = |value: f32| Features { rows: 6, cols: 1, values: vec![value; 6] };
    /// let data = Data::new(features(1.), features(2.), Split::from_labels(&[0, 0, 1, 1, 2, 2])?)?;
    /// assert_eq!(data.with_views("left", vec![features(3.)])?.modalities[0].views.len(), 1);
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    pub fn with_views(mut self, name: &str, views: Vec<Features>) -> Result<Data> {
        self.of(name)?;
        self.modalities
            .iter_mut()
            .filter(|own| own.name == name)
            .for_each(|own| own.views.clone_from(&views));
        Ok(Data { classes: self.classes, ..Data::of_modalities(self.modalities, self.split)? })
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
        let rows = self.modalities[0].features.rows;
        if classes.len() != rows {
            let expected = format!("{rows} labels, one a row");
            return Err(Error::argument("align", "classes", expected, classes.len()));
        }
        Ok(Data { classes: Some(classes), ..self })
    }

    /// The features of a modality. Errors: there is none of that name. Example: [`Data`].
    pub fn of(&self, name: &str) -> Result<&Features> {
        let found = self.modalities.iter().find(|modality| modality.name == name);
        found.map(|modality| &modality.features).ok_or_else(|| {
            let names: Vec<_> = self.modalities.iter().map(|modality| modality.name.as_str()).collect();
            Error::argument("align", "name", format!("one of {}", names.join(", ")), name)
        })
    }

    /// A hash of every feature and row number: what a checkpoint recognises its data by.
    pub(super) fn fingerprint(&self) -> u64 {
        // FNV-1a over 32-bit words.
        let step = |hash: u64, word: u32| (hash ^ u64::from(word)).wrapping_mul(0x100_0000_01b3);
        let mut hash = 0xcbf2_9ce4_8422_2325;
        for modality in &self.modalities {
            // Where one ends and the next begins counts too.
            hash = step(hash, modality.views.len() as u32);
            for own in modality.all() {
                hash = step(step(hash, own.rows as u32), own.cols as u32);
                hash = own.values.iter().fold(hash, |hash, v| step(hash, v.to_bits()));
            }
        }
        let Split { train, validation, test } = &self.split;
        let rows =
            [train, validation, test].into_iter().flat_map(|part| part.iter().copied().chain([u32::MAX]));
        let classes = self.classes.iter().flatten().flat_map(|class| [*class as u32, (*class >> 32) as u32]);
        rows.chain(classes).fold(hash, step)
    }
}

/// Every pair of so many modalities, in order: what is aligned, and scored.
///
/// ```
/// assert!(crossmodal::align::pairs(3).eq([(0, 1), (0, 2), (1, 2)]));
/// ```
pub fn pairs(count: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..count).flat_map(move |i| (i + 1..count).map(move |j| (i, j)))
}
