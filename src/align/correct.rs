//! Which items belong to which.

use crate::error::{Error, Result};
use std::collections::HashMap;

/// Which items are correct for a query.
///
/// ```
/// use crossmodal::align::Correct;
/// // Two pictures with two captions each, and a caption of neither.
/// let captions = Correct::Ids { left: &[7, 8], right: &[7, 7, 8, 8, 9] };
/// assert_ne!(captions, Correct::Pairs);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Correct<'a> {
    /// Row i of the other side, for query i.
    Pairs,
    /// The rows of the other side with the query's id; each side has an id a row. There may be several or none.
    Ids {
        /// The ids of the left rows.
        left: &'a [i64],
        /// The ids of the right rows.
        right: &'a [i64],
    },
}

/// Ids as numbers from 0.
pub(crate) struct Labels {
    pub(crate) left: Vec<u32>,
    pub(crate) right: Vec<u32>,
    count: usize,
}

impl Labels {
    pub(crate) fn new(op: &'static str, correct: &Correct<'_>, rows: [usize; 2]) -> Result<Labels> {
        let Correct::Ids { left, right } = correct else {
            if rows[0] != rows[1] {
                let (expected, got) = (format!("{} rows as left has", rows[0]), rows[1]);
                return Err(Error::argument(op, "right", expected, got));
            }
            let own: Vec<_> = (0..rows[0] as u32).collect();
            return Ok(Labels { left: own.clone(), right: own, count: rows[0] });
        };
        for (argument, ids, rows) in [("left ids", left, rows[0]), ("right ids", right, rows[1])] {
            if ids.len() != rows {
                return Err(Error::argument(op, argument, format!("{rows}, one for each row"), ids.len()));
            }
        }
        let mut numbers = HashMap::new();
        let mut number = |&id: &i64| {
            let next = numbers.len() as u32;
            *numbers.entry(id).or_insert(next)
        };
        let left: Vec<_> = left.iter().map(&mut number).collect();
        let right: Vec<_> = right.iter().map(&mut number).collect();
        let known = left.iter().max().map_or(0, |&last| last + 1);
        if right.iter().all(|&id| id >= known) {
            return Err(Error::argument(op, "right ids", "an id that a left row has", "none"));
        }
        Ok(Labels { left, right, count: numbers.len() })
    }

    /// The rows of one side by id, in ascending order.
    pub(crate) fn rows_of(&self, side: &[u32]) -> Vec<Vec<usize>> {
        let mut rows = vec![vec![]; self.count];
        side.iter().enumerate().for_each(|(row, &id)| rows[id as usize].push(row));
        rows
    }
}
