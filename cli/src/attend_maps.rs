//! Attention maps of some rows, wherever they come from: their numbers, their files, what is shown of them.

use std::path::Path;

use crossmodal::io::{write_atomically, write_npy_array};
use serde_json::{Map, Value, json};

use crate::attend_picture::Picture;
use crate::failure::Failure;
use crate::folder::Output;
use crate::table;

/// The maps themselves.
const MAPS: &str = "attention.npy";
/// What they are, and their entropies.
const ABOUT: &str = "attention.json";
/// Rows that are shown at the end, and query tokens of each.
const SHOWN: (usize, usize) = (8, 3);

/// How much each query token of some rows looks at each key.
pub(crate) struct Maps {
    /// The rows' numbers in their files.
    pub(crate) rows: Vec<u32>,
    pub(crate) heads: usize,
    pub(crate) query_length: usize,
    pub(crate) key_length: usize,
    /// `[rows, heads, query_length, key_length]`, 0 beyond the lengths.
    pub(crate) values: Vec<f32>,
    /// Query tokens of each of the rows.
    pub(crate) query_lengths: Vec<usize>,
    /// Keys of each of them.
    pub(crate) key_lengths: Vec<usize>,
    /// Whether a query token looks nowhere else than at these keys: else its weights sum to less than 1.
    pub(crate) is_whole: bool,
}

/// What tokens are called and how keys lie.
pub(crate) struct Labels {
    /// The query tokens' words, for each of the rows.
    pub(crate) queries: Option<Vec<Vec<String>>>,
    pub(crate) keys: Option<Vec<Vec<String>>>,
    /// Lines and columns of the keys.
    pub(crate) grid: Option<[usize; 2]>,
    /// The keys' own picture, as a data URI.
    pub(crate) background: Option<String>,
}

impl Maps {
    /// One row's map `[query tokens, keys]` without padding: of a head, or the mean over all of them.
    pub(crate) fn map(&self, row: usize, head: Option<usize>) -> Vec<f32> {
        let heads = head.map_or(0..self.heads, |head| head..head + 1);
        let (queries, keys) = (self.query_lengths[row], self.key_lengths[row]);
        let weight = |query: usize, key: usize| {
            let at = |head: usize| ((row * self.heads + head) * self.query_length + query) * self.key_length;
            let sum: f64 = heads.clone().map(|head| f64::from(self.values[at(head) + key])).sum();
            (sum / heads.len() as f64) as f32
        };
        (0..queries)
            .flat_map(|query| (0..keys).map(move |key| (query, key)))
            .map(|(q, k)| weight(q, k))
            .collect()
    }

    /// The mean entropy of a head's query tokens, of what goes to these keys, in nats: from 0, one key, to the logarithm of the keys.
    fn entropy(&self, row: usize, head: usize) -> f64 {
        let plogp = |p: f64| if p > 0. { p * p.ln() } else { 0. };
        let of_token = |weights: &[f32]| -> f64 {
            let all: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
            weights.iter().map(|weight| plogp(f64::from(*weight) / all.max(f64::MIN_POSITIVE))).sum()
        };
        let sum: f64 = self.map(row, Some(head)).chunks(self.key_lengths[row]).map(of_token).sum();
        // Not −0.
        0. - sum / self.query_lengths[row] as f64
    }

    /// Every row's name, lengths and entropies.
    fn about(&self) -> Vec<Value> {
        let row = |(i, row): (usize, &u32)| {
            let entropy: Vec<_> = (0..self.heads).map(|head| self.entropy(i, head)).collect();
            json!({
                "row": row,
                "query_tokens": self.query_lengths[i],
                "key_tokens": self.key_lengths[i],
                "entropy": entropy,
            })
        };
        self.rows.iter().enumerate().map(row).collect()
    }

    /// The query tokens of a row that look hardest at one key, with that key and the next: `(query, [(key, weight)])`.
    fn strongest(&self, row: usize) -> Vec<(usize, Vec<(usize, f32)>)> {
        let map = self.map(row, None);
        let best = |line: &[f32]| {
            let mut keys: Vec<_> = line.iter().copied().enumerate().collect();
            // Of equals the first.
            keys.sort_by(|a, b| b.1.total_cmp(&a.1));
            keys.truncate(2);
            keys
        };
        let mut all: Vec<_> = map.chunks(self.key_lengths[row]).map(best).enumerate().collect();
        all.sort_by(|a, b| b.1[0].1.total_cmp(&a.1[0].1));
        all.truncate(SHOWN.1);
        all
    }

    /// Writes the maps, their pictures and, last, what they are: `notes` and what they say themselves.
    pub(crate) fn write(
        &self,
        output: &Output,
        labels: &Labels,
        mut notes: Map<String, Value>,
    ) -> Result<(), Failure> {
        let shape = [self.rows.len(), self.heads, self.query_length, self.key_length];
        write_npy_array(&output.file(MAPS), &shape, &self.values)?;
        for i in 0..self.rows.len() {
            // Of one head the mean is the head.
            let heads = if self.heads > 1 { self.heads } else { 0 };
            for head in std::iter::once(None).chain((0..heads).map(Some)) {
                let (name, svg) = self.picture(i, head, labels);
                write_atomically(&output.file(&name), svg.as_bytes())?;
            }
        }
        notes.insert("shape".into(), json!(shape));
        notes.insert("maps".into(), json!(self.about()));
        notes.insert("version".into(), json!(env!("CARGO_PKG_VERSION")));
        Ok(write_atomically(&output.file(ABOUT), format!("{:#}\n", Value::Object(notes)).as_bytes())?)
    }

    /// The name of a picture's file, and its content.
    fn picture(&self, i: usize, head: Option<usize>, labels: &Labels) -> (String, String) {
        let row = self.rows[i];
        let (name, title) = match (head, self.heads) {
            (Some(head), heads) => (
                format!("row-{row}-head-{head}.svg"),
                format!("Row {row}, head {head} of 0 to {}", heads - 1),
            ),
            (None, 1) => (format!("row-{row}.svg"), format!("Row {row}, one head")),
            (None, heads) => (format!("row-{row}.svg"), format!("Row {row}, mean of {heads} heads")),
        };
        let of_row = |all: &Option<Vec<Vec<String>>>| all.as_ref().map(|all| all[i].clone());
        let (queries, keys) = (of_row(&labels.queries), of_row(&labels.keys));
        let numbers = || (0..self.query_lengths[i]).map(|query| query.to_string()).collect();
        let picture = Picture {
            title,
            about: queries.as_ref().map(|words| words.join(" ")),
            queries: &queries.unwrap_or_else(numbers),
            keys: keys.as_deref(),
            weights: &self.map(i, head),
            grid: labels.grid,
            background: labels.background.as_deref(),
            is_whole: self.is_whole,
        };
        (name, picture.draw())
    }

    /// What the user sees at the end: `lines` of a name and what it says, the strongest weights, the files.
    pub(crate) fn summary(&self, labels: &Labels, lines: &[(&str, String)], folder: &Path) -> String {
        let head = ["row", "token", "looks at", "then at", "weight", "then"].map(String::from).to_vec();
        let (shown, rows) = (self.rows.len().min(SHOWN.0), self.rows.len());
        let strongest = (0..shown).flat_map(|i| {
            let line = move |(query, keys): (usize, Vec<(usize, f32)>)| {
                let name = |n: usize| keys.get(n).map_or(String::new(), |(key, _)| labels.key(i, *key));
                let weight =
                    |n: usize| keys.get(n).map_or(String::new(), |(_, weight)| format!("{weight:.3}"));
                let row = self.rows[i].to_string();
                vec![row, labels.query(i, query), name(0), name(1), weight(0), weight(1)]
            };
            self.strongest(i).into_iter().map(line)
        });
        let table = table::columns(4, &std::iter::once(head).chain(strongest).collect::<Vec<_>>());
        let mut title = format!("The {} strongest looks of a row", SHOWN.1);
        if self.heads > 1 {
            title += &format!(", mean of {} heads", self.heads);
        }
        if shown < rows {
            title += &format!(", {shown} of {rows} rows");
        }
        if labels.keys.is_none() && labels.grid.is_some() {
            title += ", keys by line,column from 0";
        }
        let pictures = if self.heads > 1 { "row-N.svg, row-N-head-N.svg" } else { "row-N.svg" };
        let files = format!("{}: {MAPS}, {ABOUT}, {pictures}", folder.display());
        let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0).max("files".len());
        let above: String = lines.iter().map(|(name, text)| format!("{name:width$}  {text}\n")).collect();
        format!("{above}\n{title}:\n\n{table}\n{:width$}  {files}\n", "files")
    }
}

impl Labels {
    fn query(&self, row: usize, query: usize) -> String {
        // Words may stand there twice.
        self.queries
            .as_ref()
            .map_or(query.to_string(), |words| format!("{query} {}", short(&words[row][query])))
    }

    fn key(&self, row: usize, key: usize) -> String {
        match (&self.keys, self.grid) {
            (Some(words), _) => short(&words[row][key]),
            (None, Some([_, across])) => format!("{},{}", key / across, key % across),
            (None, None) => key.to_string(),
        }
    }
}

/// A word that fits a column.
fn short(word: &str) -> String {
    const MOST: usize = 16;
    let word: String = word.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if word.chars().count() <= MOST {
        return word;
    }
    word.chars().take(MOST - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row of two heads, two query tokens and three keys, of which one and two are real.
    fn maps() -> Maps {
        let values = vec![0.25, 0.75, 0., 0., 0., 0., 1., 0., 0., 0., 0., 0.];
        let lengths = (vec![1], vec![2]);
        let (query_lengths, key_lengths) = lengths;
        let (rows, is_whole) = (vec![4], true);
        Maps { rows, heads: 2, query_length: 2, key_length: 3, values, query_lengths, key_lengths, is_whole }
    }

    #[test]
    fn padding_is_left_out() {
        let maps = maps();
        assert_eq!(maps.map(0, Some(0)), [0.25, 0.75]);
        assert_eq!(maps.map(0, Some(1)), [1., 0.]);
        assert_eq!(maps.map(0, None), [0.625, 0.375]);
        assert_eq!(maps.strongest(0), [(0, vec![(0, 0.625), (1, 0.375)])]);
    }

    #[test]
    fn entropy_is_that_of_the_definition() {
        let maps = maps();
        let expected = -(0.25 * 0.25f64.ln() + 0.75 * 0.75f64.ln());
        assert!((maps.entropy(0, 0) - expected).abs() < 1e-12);
        assert!(maps.entropy(0, 1) == 0. && maps.entropy(0, 1).is_sign_positive());
    }

    #[test]
    fn long_words_are_cut() {
        assert_eq!(short("sixteen letters!"), "sixteen letters!");
        assert_eq!(short("seventeen letters"), "seventeen lette…");
    }
}
