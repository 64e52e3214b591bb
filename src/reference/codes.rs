//! What belongs to what, by numbers that rows and columns have.

/// The code of a row or column that is of no class: a negative only.
pub const NO_CLASS: u32 = u32::MAX - 1;
/// The code of a row or column that is masked.
pub const MASKED: u32 = u32::MAX;

/// The codes of the rows or of the columns: a row and a column with the same one belong together.
///
/// ```
/// use crossmodal::reference::{Codes, MASKED};
/// assert_eq!((Codes::Index.at(7), Codes::Each(vec![3, MASKED]).at(1)), (7, MASKED));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Codes {
    /// Each has its own number for a code, so that row i belongs to column i. Nothing is stored.
    Index,
    /// One each: [`MASKED`], [`NO_CLASS`], or a class.
    Each(Vec<u32>),
}

impl Codes {
    /// The code of row or column `i`. Example: [`Codes`].
    pub fn at(&self, i: usize) -> u32 {
        match self {
            Codes::Index => i as u32,
            Codes::Each(codes) => codes[i],
        }
    }

    pub(crate) fn masks(&self, i: usize) -> bool {
        self.at(i) == MASKED
    }

    /// Which are not masked; none where all are there.
    pub(crate) fn keep(&self) -> Option<Vec<bool>> {
        match self {
            Codes::Each(codes) if codes.contains(&MASKED) => {
                Some(codes.iter().map(|&code| code != MASKED).collect())
            }
            _ => None,
        }
    }
}

pub(super) fn same_class(row: u32, col: u32) -> bool {
    row == col && row < NO_CLASS
}
