//! Several modalities of the same samples, which of them are there, and what is to be told from them.

use super::Presence;
use crate::align::{Data, Modality, Split};
use crate::error::{Error, Result};
use crate::io::Features;
use std::sync::Arc;

/// What is told from a sample.
///
/// ```
/// use crossmodal::fusion::Target;
/// let target = Target::of_labels(&[7, -2, 7]);
/// assert_eq!(target, Target::Classes { numbers: vec![1, 0, 1], labels: vec![-2, 7] });
/// ```
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// Its class.
    Classes {
        /// Of each sample, the place of its class in `labels`.
        numbers: Vec<u32>,
        /// The classes as they were called, in ascending order.
        labels: Vec<i64>,
    },
    /// A number.
    Values(Vec<f32>),
}

impl Target {
    /// Classes of any numbers. Example: [`Target`].
    pub fn of_labels(of_samples: &[i64]) -> Target {
        let mut labels = of_samples.to_vec();
        labels.sort_unstable();
        labels.dedup();
        let numbers = of_samples.iter().map(|label| labels.partition_point(|own| own < label) as u32);
        Target::Classes { numbers: numbers.collect(), labels }
    }

    fn len(&self) -> usize {
        match self {
            Target::Classes { numbers, .. } => numbers.len(),
            Target::Values(values) => values.len(),
        }
    }
}

/// The tokens that a modality's features are.
///
/// ```
/// use crossmodal::fusion::TokenCount;
/// let words = TokenCount { length: 32, lengths: Some([27, 32].into()) };
/// assert!(words.is_there(0, 26) && !words.is_there(0, 27));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenCount {
    /// Tokens of a sample, those that are not there counted too: its features are one behind the other.
    pub length: usize,
    /// How many of each sample's are there, from the first; none where all are.
    pub lengths: Option<Arc<[u32]>>,
}

impl TokenCount {
    /// Whether a token is there. Panics if there is no such sample. Example: [`TokenCount`].
    pub fn is_there(&self, row: usize, token: usize) -> bool {
        token < self.length && self.lengths.as_ref().is_none_or(|own| token < own[row] as usize)
    }

    /// The mean of each row's tokens, of those that are there, in f64 and rounded; 0 where there is none. Panics if `features` are not so
    /// many tokens. Example: [`FusionData::pooled`].
    pub fn pooled(&self, features: &Features) -> Features {
        let (rows, width) = (features.rows, features.cols / self.length);
        let mut values = Vec::with_capacity(rows * width);
        for (row, sample) in features.values.chunks_exact(features.cols).enumerate() {
            let tokens = sample.chunks_exact(width).enumerate();
            let there: Vec<_> =
                tokens.filter(|(at, _)| self.is_there(row, *at)).map(|(_, own)| own).collect();
            let sum = |column: usize| there.iter().map(|own| f64::from(own[column])).sum::<f64>();
            values.extend((0..width).map(|column| (sum(column) / there.len().max(1) as f64) as f32));
        }
        Features { rows, cols: width, values }
    }
}

/// Samples for a fusion to learn from.
///
/// ```
/// use crossmodal::{align::{Modality, Split}, fusion::{FusionData, Target}, io::Features};
/// let features = || Features { rows: 6, cols: 1, values: vec![1.; 6] };
/// let split = Split::from_labels(&[0, 0, 1, 1, 2, 2])?;
/// let modalities = vec![Modality::new("image", features()), Modality::new("text", features())];
/// let data = FusionData::new(modalities, Target::of_labels(&[0, 1, 0, 1, 0, 1]), split)?;
/// let data = data.with_presence("text", vec![true, false, true, true, true, true])?;
/// assert!(data.presence(&[0, 1])?.is_there(1, 0) && !data.presence(&[0, 1])?.is_there(1, 1));
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct FusionData {
    /// At least one.
    pub modalities: Vec<Modality>,
    /// Of each modality, the tokens that its features are; none where they are one vector.
    pub tokens: Vec<Option<TokenCount>>,
    /// Of each modality, in which samples it is there; none where it is in all.
    pub present: Vec<Option<Vec<bool>>>,
    /// What is to be told.
    pub target: Target,
    /// Which rows are for what.
    pub split: Split,
}

impl FusionData {
    /// With every modality in every sample.
    ///
    /// Errors: those of [`Data::of_modalities`], but that one modality is enough; further views; targets that are not one a row, or
    /// not finite.
    /// Example: [`FusionData`].
    pub fn new(modalities: Vec<Modality>, target: Target, split: Split) -> Result<FusionData> {
        let Some(first) = modalities.first() else {
            return Err(Error::argument("fuse", "modalities", "at least one", 0));
        };
        let rows = first.features.rows;
        let viewed = modalities.iter().find(|own| !own.views.is_empty());
        if let Some(own) = viewed {
            let expected = "one view: a fusion has no use for more";
            return Err(Error::argument("fuse", own.argument(), expected, 1 + own.views.len()));
        }
        if target.len() != rows {
            return Err(Error::argument("fuse", "target", format!("{rows}, one a row"), target.len()));
        }
        if let Target::Values(values) = &target
            && let Some(row) = values.iter().position(|v| !v.is_finite())
        {
            let got = format!("{} in row {row}", values[row]);
            return Err(Error::argument("fuse", "target", "finite numbers", got));
        }
        let Data { modalities, split, .. } = Data::checked("fuse", modalities, split)?;
        let (tokens, present) = (vec![None; modalities.len()], vec![None; modalities.len()]);
        Ok(FusionData { modalities, tokens, present, target, split })
    }

    fn place(&self, name: &str) -> Result<usize> {
        let names: Vec<_> = self.modalities.iter().map(|own| own.name.as_str()).collect();
        let at = names.iter().position(|own| *own == name);
        at.ok_or_else(|| Error::argument("fuse", "name", format!("one of {}", names.join(", ")), name))
    }

    /// With features of a modality that are tokens `[rows, length · width]`, of which the first of each sample's are there. A modality is
    /// missing in a sample of length 0.
    ///
    /// Errors: there is none of that name; features that are not so many tokens; not a length a row, or one beyond; none of the training
    /// rows has a token.
    ///
    /// ```
    /// use crossmodal::{align::{Modality, Split}, fusion::{FusionData, Target, TokenCount}, io::Features};
    /// let words = Modality::new("text", Features { rows: 6, cols: 4, values: vec![1.; 24] });
    /// let split = Split::from_labels(&[0, 0, 1, 1, 2, 2])?;
    /// let data = FusionData::new(vec![words], Target::of_labels(&[0, 1, 0, 1, 0, 1]), split)?;
    /// let lengths = Some([1, 2, 2, 0, 1, 1].into()); // of two tokens, two wide
    /// let data = data.with_tokens("text", TokenCount { length: 2, lengths })?;
    /// assert_eq!((data.width(0), data.presence(&[3])?.is_there(0, 0)), (2, false));
    /// assert_eq!(data.lengths(&[1, 3]), [Some(vec![2, 0])]);
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    pub fn with_tokens(mut self, name: &str, tokens: TokenCount) -> Result<FusionData> {
        let at = self.place(name)?;
        let own = &self.modalities[at];
        let (rows, cols) = (own.features.rows, own.features.cols);
        let refuse =
            |expected: String, got: String| Err(Error::argument("fuse", own.argument(), expected, got));
        if tokens.length == 0 || !cols.is_multiple_of(tokens.length) {
            return refuse(format!("features of {} tokens", tokens.length), format!("{cols} features"));
        }
        if let Some(lengths) = &tokens.lengths {
            if lengths.len() != rows {
                return refuse(format!("{rows} lengths, one a row"), lengths.len().to_string());
            }
            if let Some(row) = lengths.iter().position(|own| *own as usize > tokens.length) {
                let got = format!("{} in row {row}", lengths[row]);
                return refuse(format!("lengths of at most {}", tokens.length), got);
            }
        }
        self.tokens[at] = Some(tokens);
        self.is_learned(at)?;
        Ok(self)
    }

    /// Features of a vector or a token of a modality. Panics if there is no such modality. Example: [`FusionData::with_tokens`].
    pub fn width(&self, modality: usize) -> usize {
        self.modalities[modality].features.cols / self.tokens[modality].as_ref().map_or(1, |own| own.length)
    }

    /// The same with the mean of each sample's tokens in their place: for fusions that know no tokens. A modality is missing where there
    /// was no token.
    ///
    /// ```
    /// use crossmodal::{align::{Modality, Split}, fusion::{FusionData, Target, TokenCount}, io::Features};
    /// let words = Modality::new("text", Features { rows: 6, cols: 2, values: [[1., 3.]; 6].concat() });
    /// let split = Split::from_labels(&[0, 0, 1, 1, 2, 2])?;
    /// let data = FusionData::new(vec![words], Target::of_labels(&[0, 1, 0, 1, 0, 1]), split)?;
    /// let data = data.with_tokens("text", TokenCount { length: 2, lengths: Some([1, 2, 2, 2, 2, 2].into()) })?;
    /// assert_eq!(data.pooled().modalities[0].features.values, [1., 2., 2., 2., 2., 2.]);
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    pub fn pooled(&self) -> FusionData {
        let mut pooled = self.clone();
        for (m, tokens) in self.tokens.iter().enumerate() {
            let Some(tokens) = tokens else { continue };
            let own = &self.modalities[m].features;
            pooled.modalities[m].features = tokens.pooled(own);
            pooled.tokens[m] = None;
            pooled.present[m] = tokens
                .lengths
                .as_ref()
                .filter(|lengths| lengths.contains(&0))
                .map(|_| (0..own.rows).map(|row| self.is_there(m, row)).collect())
                .or_else(|| self.present[m].clone());
        }
        pooled
    }

    /// Whether a modality is there in a sample.
    pub(super) fn is_there(&self, modality: usize, row: usize) -> bool {
        self.present[modality].as_ref().is_none_or(|own| own[row])
            && self.tokens[modality].as_ref().is_none_or(|own| own.is_there(row, 0))
    }

    /// Refuses a modality that no training row has.
    fn is_learned(&self, modality: usize) -> Result<()> {
        if self.training_rows(modality).is_empty() {
            let expected = "to be there in at least one of the training rows";
            return Err(Error::argument("fuse", self.modalities[modality].argument(), expected, "none"));
        }
        Ok(())
    }

    /// With a modality in some samples only. Errors: there is none of that name; not one a row; none of the training rows has it.
    /// Example: [`FusionData`].
    pub fn with_presence(mut self, name: &str, present: Vec<bool>) -> Result<FusionData> {
        let at = self.place(name)?;
        let rows = self.modalities[at].features.rows;
        if present.len() != rows {
            return Err(Error::argument("fuse", "presence", format!("{rows}, one a row"), present.len()));
        }
        self.present[at] = Some(present);
        self.is_learned(at)?;
        Ok(self)
    }

    /// Which modalities are there in some rows. Errors: a row that is not there. Example: [`FusionData`].
    pub fn presence(&self, rows: &[u32]) -> Result<Presence> {
        let count = self.modalities[0].features.rows;
        if let Some(row) = rows.iter().find(|&&row| row as usize >= count) {
            return Err(Error::argument("fuse", "rows", format!("row numbers below {count}"), row));
        }
        let of = |m: usize| -> Option<Arc<[bool]>> {
            let whole =
                self.present[m].is_none() && self.tokens[m].as_ref().is_none_or(|own| own.lengths.is_none());
            (!whole).then(|| rows.iter().map(|&row| self.is_there(m, row as usize)).collect())
        };
        Presence::new(rows.len(), (0..self.modalities.len()).map(of).collect())
    }

    /// The training rows in which a modality is there.
    pub(super) fn training_rows(&self, modality: usize) -> Vec<u32> {
        self.split.train.iter().copied().filter(|&row| self.is_there(modality, row as usize)).collect()
    }

    /// The lengths of some rows' tokens, of each modality that has some. Panics if a row is not there. Example:
    /// [`FusionData::with_tokens`].
    pub fn lengths(&self, rows: &[u32]) -> Vec<Option<Vec<u32>>> {
        let of = |own: &Option<TokenCount>| {
            let lengths = own.as_ref()?.lengths.as_ref()?;
            Some(rows.iter().map(|&row| lengths[row as usize]).collect())
        };
        self.tokens.iter().map(of).collect()
    }
}
