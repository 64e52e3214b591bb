//! The rows of a corpus that are most similar to each query.

mod candidates;

use crate::cpu::search as exact;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::io::Features;
use candidates::Candidates;
use exact::{Best, Corpus, Queries};
use rayon::prelude::*;

/// What a query and a row are compared by.
///
/// ```
/// use crossmodal::{Device, align::{SearchOptions, Similarity, search}, io::Features};
/// let query = Features { rows: 1, cols: 2, values: vec![1., 1.] };
/// let corpus = Features { rows: 2, cols: 2, values: vec![1., 1., 9., 0.] };
/// let first = |similarity| {
///     let options = SearchOptions { k: 1, similarity, ..SearchOptions::default() };
///     search(&Device::Cpu, &query, &corpus, &options).map(|hits| (hits.rows[0], hits.scores[0]))
/// };
/// assert_eq!(first(Similarity::Cosine)?, (0, 1.));
/// assert_eq!(first(Similarity::InnerProduct)?, (1, 9.));
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Similarity {
    /// `⟨q, c⟩ / (‖q‖ ‖c‖)`, 0 where either is the zero vector.
    #[default]
    Cosine,
    /// `⟨q, c⟩`.
    InnerProduct,
}

/// What [`search`] looks for. Example: [`Similarity`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SearchOptions {
    /// Rows to find for each query, 1 to [`SearchOptions::MAX_K`]; all rows where the corpus has fewer.
    pub k: usize,
    /// What they are compared by.
    pub similarity: Similarity,
    /// Bytes that may be used beside the queries, the results and the caller's chunk: a GPU takes the chunk in parts of that size,
    /// and [`Search::chunk_rows`] proposes chunks of it. On the CPU come about a MiB a thread.
    pub scratch_bytes: usize,
}

impl SearchOptions {
    /// The most rows to find. Example: [`SearchOptions`].
    pub const MAX_K: usize = 1024;
}

impl Default for SearchOptions {
    /// The 10 rows of the greatest cosine, in 64 MiB.
    fn default() -> Self {
        SearchOptions { k: 10, similarity: Similarity::default(), scratch_bytes: 64 << 20 }
    }
}

/// What was found, query by query: `rows[i * k..][..k]` and their `scores` are those of query i, the most similar row first, of
/// equally similar ones the one with the lower number.
///
/// ```
/// use crossmodal::{Device, align::{SearchOptions, search}, io::Features};
/// let queries = Features { rows: 2, cols: 2, values: vec![1., 0., 0., 3.] };
/// let corpus = Features { rows: 3, cols: 2, values: vec![0., 1., 1., 0., 0., 2.] };
/// let hits = search(&Device::Cpu, &queries, &corpus, &SearchOptions { k: 2, ..SearchOptions::default() })?;
/// assert_eq!((hits.queries, hits.k), (2, 2));
/// assert_eq!((&hits.rows[2..], &hits.scores[2..]), (&[0, 2][..], &[1., 1.][..]));
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Hits {
    /// Queries.
    pub queries: usize,
    /// Rows found for each: the least of what was asked for and what the corpus has.
    pub k: usize,
    /// Row numbers in the corpus, from 0.
    pub rows: Vec<u32>,
    /// Similarities, rounded to f32.
    pub scores: Vec<f32>,
}

/// The `k` rows of a corpus that are most similar to each query. Both have as many columns.
///
/// The answer is that of brute force by the definition, and the same on every device, in chunks of any size, on any number of
/// threads: similarities are computed in f64 and rounded to f32 once, rows that are equal in that tie, and ties go to the lower row.
/// A GPU proposes candidates, with a bound on its rounding; the host computes theirs, and looks itself where the bound cannot rule
/// out the rest (among many copies of one row). The corpus is read in its own type, `k` is at most [`SearchOptions::MAX_K`]. For a
/// corpus larger than memory see [`Search`].
///
/// Errors: `k` is 0 or too large; no columns; an empty corpus; columns differ; more than 2³² − 1 rows; a value that is not finite (the
/// message names its row); an inner product beyond f32; the device's. Example: [`Hits`].
pub fn search(
    device: &Device,
    queries: &Features,
    corpus: &Features,
    options: &SearchOptions,
) -> Result<Hits> {
    let mut search = Search::new(device, queries, options)?;
    search.add(corpus)?;
    search.finish()
}

/// A search over a corpus that comes in chunks of rows: whatever they are, the answer is that of [`search`].
///
/// ```
/// use crossmodal::{Device, align::{Search, SearchOptions}, io::{Features, MappedFeatures, Source, write_npy}};
/// let path = std::env::temp_dir().join("crossmodal-search-example.npy");
/// write_npy(&path, 1000, 2, &(0..2000).map(|i| (i as f32).sin()).collect::<Vec<_>>())?;
/// let corpus = MappedFeatures::open(&Source { path: path.clone(), tensor: None })?;
/// let queries = Features { rows: 1, cols: 2, values: vec![0.6, 0.8] };
/// let mut search = Search::new(&Device::best()?, &queries, &SearchOptions::default())?;
/// while search.rows() < corpus.rows() {
///     let last = corpus.rows().min(search.rows() + search.chunk_rows());
///     search.add(&corpus.read(search.rows()..last)?)?;
/// }
/// let hits = search.finish()?;
/// assert_eq!(hits.k, 10);
/// # drop(corpus);
/// # std::fs::remove_file(&path).unwrap();
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub struct Search {
    options: SearchOptions,
    cols: usize,
    queries: Queries,
    /// As they came, for the similarities of single pairs.
    values: Vec<f32>,
    norms: Vec<f64>,
    best: Vec<Best>,
    rows: usize,
    /// None on the CPU, which looks at every pair itself.
    candidates: Option<Candidates>,
}

impl Search {
    /// Begins a search for these queries. Errors: what [`search`] refuses in queries and options. Example: [`Search`].
    pub fn new(device: &Device, queries: &Features, options: &SearchOptions) -> Result<Search> {
        let &Features { cols, ref values, .. } = queries;
        if !(1..=SearchOptions::MAX_K).contains(&options.k) {
            return Err(Error::argument("search", "k", format!("1 to {}", SearchOptions::MAX_K), options.k));
        }
        if cols == 0 {
            return Err(Error::argument("search", "queries", "at least one column", 0));
        }
        let lengths = lengths("queries", queries, 0)?;
        let norms = divisors(&lengths, options.similarity);
        let best = vec![Best::new(options.k); queries.rows];
        let of_candidates = |device: &Device| Candidates::new(device, queries, &lengths, options);
        let candidates = matches!(device, Device::Gpu(_)).then(|| of_candidates(device)).transpose()?;
        let (options, values) = (*options, values.clone());
        let queries = Queries::new(&values, &norms, cols);
        Ok(Search { options, cols, queries, values, norms, best, rows: 0, candidates })
    }

    /// Rows of the corpus so far. Example: [`Search`].
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// How many rows to add at once, so that they and what is computed of them fit the scratch memory; at least 1. Example:
    /// [`Search`].
    pub fn chunk_rows(&self) -> usize {
        let row_bytes = match &self.candidates {
            None => 4 * self.cols + size_of::<f64>(),
            Some(candidates) => 4 * self.cols + size_of::<f64>() + candidates.row_bytes(),
        };
        (self.options.scratch_bytes / row_bytes).clamp(1, 1 << 22)
    }

    /// Goes through the rows that follow those so far. Errors: what [`search`] refuses in a corpus; the device's. Example: [`Search`].
    pub fn add(&mut self, chunk: &Features) -> Result<()> {
        if chunk.cols != self.cols {
            let expected = format!("{} columns as the queries have", self.cols);
            return Err(Error::argument("search", "corpus", expected, chunk.cols));
        }
        let all = self.rows + chunk.rows;
        if u32::try_from(all).is_err() {
            return Err(Error::argument("search", "corpus", "fewer than 2^32 rows", all));
        }
        let lengths = lengths("corpus", chunk, self.rows)?;
        if chunk.rows == 0 {
            return Ok(());
        }
        let norms = divisors(&lengths, self.options.similarity);
        let corpus = Corpus { rows: &chunk.values, norms: &norms, first: self.rows as u32 };
        match &self.candidates {
            None => exact::search(&self.queries, corpus, &mut self.best),
            Some(candidates) => {
                let queries = candidates::Exact { rows: &self.values, norms: &self.norms, cols: self.cols };
                candidates.search(&queries, corpus, &lengths, &mut self.best)?;
            }
        }
        self.rows = all;
        Ok(())
    }

    /// What was found. Errors: there were no rows; an inner product beyond f32. Example: [`Search`].
    pub fn finish(self) -> Result<Hits> {
        if self.rows == 0 {
            return Err(Error::argument("search", "corpus", "at least one row", 0));
        }
        let (queries, k) = (self.best.len(), self.options.k.min(self.rows));
        let entries: Vec<_> = self.best.into_iter().flat_map(Best::sorted).collect();
        if let Some(at) = entries.iter().position(|(score, _)| !score.is_finite()) {
            let got = format!("one beyond it, of query {} and row {}", at / k, entries[at].1);
            return Err(Error::argument("search", "corpus", "inner products that fit f32", got));
        }
        let (scores, rows) = entries.into_iter().unzip();
        Ok(Hits { queries, k, rows, scores })
    }
}

/// The rows' lengths. Errors: the values are not as many as they should be, or not finite. The first row has the number `first`.
fn lengths(argument: &'static str, features: &Features, first: usize) -> Result<Vec<f64>> {
    let Features { rows, cols, values } = features;
    if rows.checked_mul(*cols) != Some(values.len()) {
        let expected = format!("{rows} x {cols} values");
        return Err(Error::argument("search", argument, expected, values.len()));
    }
    // Squares of f32 are far from what f64 cannot hold: a length that is not finite is that of a row that is not.
    let length = |row: &[f32]| row.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt();
    let lengths: Vec<f64> = values.par_chunks((*cols).max(1)).with_min_len(256).map(length).collect();
    if let Some(row) = lengths.iter().position(|length| !length.is_finite()) {
        let bad = values[row * cols..].iter().find(|v| !v.is_finite()).copied().unwrap_or(f32::NAN);
        return Err(Error::argument(
            "search",
            argument,
            "finite values",
            format!("{bad} in row {}", first + row),
        ));
    }
    Ok(lengths)
}

/// What dot products are divided by, one factor of each side.
fn divisors(lengths: &[f64], similarity: Similarity) -> Vec<f64> {
    match similarity {
        Similarity::Cosine => lengths.to_vec(),
        Similarity::InnerProduct => vec![1.; lengths.len()],
    }
}
