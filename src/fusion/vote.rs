//! Votes: one class a sample.

use super::Presence;
use crate::error::{Error, Result};

/// Class probabilities `[rows, classes]` of each expert, row-major, on the host.
///
/// ```
/// use crossmodal::fusion::{Ballots, Presence};
/// let (image, text) = ([0.625f32, 0.25, 0.125], [0.125f32, 0.5, 0.375]);
/// let ballots = Ballots { experts: &[&image, &text], classes: 3, presence: &Presence::all(1, 2) };
/// assert_eq!(ballots.soft(&[1., 1.])?, [0]);    // 0.75, 0.75 and 0.5: the lower class
/// assert_eq!(ballots.hard(&[1., 1.5])?, [1]); // one vote for 0, one and a half for 1
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Ballots<'a> {
    /// One slice an expert.
    pub experts: &'a [&'a [f32]],
    /// How many classes there are.
    pub classes: usize,
    /// Which experts are there in which rows.
    pub presence: &'a Presence,
}

impl Ballots<'_> {
    /// Soft voting: the class with the largest `Σ_m w_m p_m` over the experts that are there, ties to the lowest class; 0 where there
    /// is none.
    ///
    /// Errors: weights that are not one of at least 0 for each expert; slices of other sizes. Example: [`Ballots`].
    pub fn soft(&self, weights: &[f64]) -> Result<Vec<u32>> {
        self.check(weights)?;
        let votes = |row: usize, class: usize| {
            let there = (0..self.experts.len()).filter(|&m| self.presence.is_there(m, row));
            there.map(|m| weights[m] * f64::from(self.experts[m][row * self.classes + class])).sum()
        };
        Ok(self.winners(votes))
    }

    /// Hard voting: the class with the most votes, each expert that is there giving `w_m` to the class it holds for the likeliest; all
    /// ties to the lowest class.
    ///
    /// Errors: as for [`soft`](Self::soft). Example: [`Ballots`].
    pub fn hard(&self, weights: &[f64]) -> Result<Vec<u32>> {
        self.check(weights)?;
        let choices: Vec<Vec<u32>> = self
            .experts
            .iter()
            .map(|own| {
                own.chunks_exact(self.classes).map(|row| first_of_the_largest(row.iter().copied())).collect()
            })
            .collect();
        let votes = |row: usize, class: usize| {
            let there = (0..self.experts.len()).filter(|&m| self.presence.is_there(m, row));
            there.filter(|&m| choices[m][row] as usize == class).map(|m| weights[m]).sum()
        };
        Ok(self.winners(votes))
    }

    fn rows(&self) -> usize {
        self.experts.first().map_or(0, |own| own.len() / self.classes.max(1))
    }

    fn winners(&self, votes: impl Fn(usize, usize) -> f64) -> Vec<u32> {
        let winner = |row| first_of_the_largest((0..self.classes).map(|class| votes(row, class)));
        (0..self.rows()).map(winner).collect()
    }

    fn check(&self, weights: &[f64]) -> Result<()> {
        super::late::check_weights(weights, self.experts.len())?;
        let size = self.presence.rows() * self.classes;
        if self.classes == 0 || self.presence.modalities() != self.experts.len() {
            let expected = format!("{} experts and at least one class", self.presence.modalities());
            let got = format!("{} and {}", self.experts.len(), self.classes);
            return Err(Error::argument("fusion", "experts", expected, got));
        }
        match self.experts.iter().find(|own| own.len() != size) {
            None => Ok(()),
            Some(own) => {
                let expected = format!("{} x {} probabilities", self.presence.rows(), self.classes);
                Err(Error::argument("fusion", "experts", expected, own.len()))
            }
        }
    }
}

/// The place of the largest, the first of equals. What is not a number is never the largest.
fn first_of_the_largest<T: PartialOrd>(values: impl Iterator<Item = T>) -> u32 {
    let mut best: Option<(u32, T)> = None;
    for (place, value) in (0u32..).zip(values) {
        let larger = best.as_ref().map_or(value.partial_cmp(&value).is_some(), |(_, best)| value > *best);
        if larger {
            best = Some((place, value));
        }
    }
    best.map_or(0, |(place, _)| place)
}
