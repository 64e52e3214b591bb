//! `crossmodal search`: the rows of a corpus that are most similar to each query.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use crossmodal::Error;
use crossmodal::align::{Hits, Search, SearchOptions, Similarity};
use crossmodal::io::{MappedFeatures, Source, read_features, write_atomically, write_npy, write_npy_u32};
use indicatif::{ProgressBar, ProgressStyle};

use crate::device::DeviceArgs;
use crate::failure::{Failure, Outcome};
use crate::{inputs, names, output, table, target};

/// What stands below the flags in the help.
const MORE: &str = "\
FILE is .npy, or .safetensors with #TENSOR, of f64, f32, f16 or bf16. The corpus
is read from disk in pieces and may be larger than memory. --out FILE.jsonl gets
a line for each query, {\"query\": 0, \"results\": [{\"row\": 12, \"score\": 0.9}, …]};
--out FILE.npy the row numbers (u32), and FILE.scores.npy the scores (f32).
Rows and queries are counted from 0; equal scores stand in the order of rows.";

/// Queries and results of each that the table shows.
const SHOWN_QUERIES: usize = 5;
const SHOWN_RESULTS: usize = 10;
/// Characters of a name in the table, so that a line fits 80.
const SHOWN_NAME: usize = 36;

/// Finds the rows of a corpus most similar to each query, exactly
#[derive(clap::Args)]
#[command(after_help = MORE)]
pub(crate) struct Args {
    /// Embeddings to search
    #[arg(long, value_name = "FILE", value_parser = inputs::source())]
    corpus: Source,
    /// Embeddings to search for
    #[arg(long, value_name = "FILE", value_parser = inputs::source())]
    queries: Source,
    /// Rows to find for each query, at most 1024
    #[arg(short, value_name = "K", default_value_t = SearchOptions::default().k)]
    k: usize,
    /// The .jsonl or .npy file to write [default: a table]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Names of the corpus's rows, one a line
    #[arg(long, value_name = "FILE")]
    names: Option<PathBuf>,
    /// Compare by inner product, not by cosine
    #[arg(long)]
    inner_product: bool,
    /// Memory for a piece of the corpus
    #[arg(long, value_name = "MIB", default_value_t = 64)]
    scratch: usize,
    /// Replace the file that is there
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

/// What `--out` names.
enum Out<'a> {
    Table,
    Lines(&'a Path),
    /// The row numbers and the scores.
    Arrays(&'a Path, PathBuf),
}

/// Runs the verb.
pub(crate) fn run(args: &Args) -> Outcome {
    let out = check_out(args)?;
    let corpus = MappedFeatures::open(&args.corpus)?;
    let queries = read_features(&args.queries)?;
    inputs::check_same("columns", (&args.corpus, corpus.cols()), (&args.queries, queries.cols))?;
    if let Some(path) = &args.names {
        check_names(path, args, corpus.rows())?;
    }
    let similarity = if args.inner_product { Similarity::InnerProduct } else { Similarity::Cosine };
    let scratch_bytes = args.scratch.saturating_mul(1 << 20);
    let options = SearchOptions { k: args.k, similarity, scratch_bytes };
    let flags = |error| in_flags(error, args);
    let search = Search::new(&args.device.open()?, &queries, &options).map_err(flags)?;
    let bar = progress(corpus.rows());
    let hits = go_through(&corpus, search, &bar).map_err(flags);
    bar.finish_and_clear();
    let hits = hits?;
    let shown = || hits.rows.iter().copied().take(SHOWN_QUERIES * hits.k);
    let names = |rows: &mut dyn Iterator<Item = u32>| match &args.names {
        Some(path) => names_of(path, rows).map(Some),
        None => Ok(None),
    };
    match &out {
        Out::Table => return print_table(&hits, names(&mut shown())?.as_ref()),
        Out::Lines(path) => {
            let names = names(&mut hits.rows.iter().copied())?;
            write_atomically(path, lines(&hits, names.as_ref()).as_bytes())?;
        }
        Out::Arrays(path, scores) => {
            // The row numbers last: where they are, all is.
            write_npy(scores, hits.queries, hits.k, &hits.scores)?;
            write_npy_u32(path, hits.queries, hits.k, &hits.rows)?;
        }
    }
    let path = args.out.as_deref().unwrap_or(Path::new("")).display();
    let (queries, k, rows) = (hits.queries, hits.k, corpus.rows());
    let noun = if queries == 1 { "query" } else { "queries" };
    output::print(&format!("{path}: {queries} {noun}, {k} of {rows} rows for each"))?;
    Ok(ExitCode::SUCCESS)
}

fn go_through(corpus: &MappedFeatures, mut search: Search, bar: &ProgressBar) -> crossmodal::Result<Hits> {
    while search.rows() < corpus.rows() {
        let last = corpus.rows().min(search.rows() + search.chunk_rows());
        search.add(&corpus.read(search.rows()..last)?)?;
        bar.set_position(last as u64);
    }
    search.finish()
}

/// A bar over the rows, hidden where standard error is no terminal. It ticks, so that a long piece is seen to run.
fn progress(rows: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {bar:20} {human_pos}/{human_len} rows, {eta} left");
    let bar = ProgressBar::new(rows as u64);
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// An error of the search with the flag that would change it.
fn in_flags(error: Error, args: &Args) -> Failure {
    let Error::Argument { op: "search", argument, expected, got } = error else { return error.into() };
    let flag = match argument.as_ref() {
        "k" => "-k",
        "queries" => &format!("--queries {}", args.queries),
        "corpus" => &format!("--corpus {}", args.corpus),
        other => other,
    };
    Failure::new(format!("{flag}: expected {expected}, got {got}"))
}

/// What is to be written. Refuses files that are there, or inputs, and names of other kinds.
fn check_out(args: &Args) -> Result<Out<'_>, Failure> {
    let Some(path) = args.out.as_deref() else { return Ok(Out::Table) };
    let shown = path.display();
    let is = |name: &str| path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(name));
    let out = if is("jsonl") {
        Out::Lines(path)
    } else if is("npy") {
        if args.names.is_some() {
            return Err(Failure::new(format!("--names: expected --out FILE.jsonl or none, got {shown}")));
        }
        Out::Arrays(path, path.with_extension("scores.npy"))
    } else {
        let message = format!("--out {shown}: expected a file name that ends in .jsonl or .npy");
        return Err(Failure::new(message));
    };
    let read = || [&args.corpus, &args.queries].into_iter().map(|source| source.path.as_path());
    let read = || read().chain(args.names.as_deref());
    target::check(path, read(), args.force)?;
    if let Out::Arrays(_, scores) = &out {
        target::check(scores, read(), args.force)?;
    }
    Ok(out)
}

fn check_names(path: &Path, args: &Args, rows: usize) -> Result<(), Failure> {
    let mut count = 0;
    names::for_each("--names", path, |_| count += 1)?;
    if count == rows {
        return Ok(());
    }
    let (path, corpus) = (path.display(), &args.corpus);
    let message = format!("--names {path}: expected {rows} lines, as many as {corpus} has rows, got {count}");
    Err(Failure::new(message))
}

/// The names of some rows. The file is gone through again: a large corpus has more names than are asked for.
fn names_of(path: &Path, rows: &mut dyn Iterator<Item = u32>) -> Result<BTreeMap<u32, String>, Failure> {
    let mut names: BTreeMap<u32, String> = rows.map(|row| (row, String::new())).collect();
    let mut row = 0;
    names::for_each("--names", path, |line| {
        if let Some(name) = names.get_mut(&row) {
            *name = line;
        }
        row += 1;
    })?;
    Ok(names)
}

/// (row, score) of each result of a query.
fn results(hits: &Hits, query: usize) -> impl Iterator<Item = (u32, f32)> {
    let range = query * hits.k..(query + 1) * hits.k;
    hits.rows[range.clone()].iter().copied().zip(hits.scores[range].iter().copied())
}

/// A line of JSON for each query, scores in the fewest digits that give the f32 back.
fn lines(hits: &Hits, names: Option<&BTreeMap<u32, String>>) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    for query in 0..hits.queries {
        let _ = write!(text, "{{\"query\": {query}, \"results\": [");
        for (i, (row, score)) in results(hits, query).enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            let _ = write!(text, "{comma}{{\"row\": {row}, \"score\": {score:?}");
            if let Some(name) = names.and_then(|names| names.get(&row)) {
                let _ = write!(text, ", \"name\": {}", serde_json::Value::from(name.as_str()));
            }
            text.push('}');
        }
        text.push_str("]}\n");
    }
    text
}

/// The first results of the first queries.
fn print_table(hits: &Hits, names: Option<&BTreeMap<u32, String>>) -> Outcome {
    let (queries, k) = (hits.queries.min(SHOWN_QUERIES), hits.k.min(SHOWN_RESULTS));
    let head = ["query", "rank", "row", "score"].into_iter().chain(names.map(|_| "name"));
    let mut rows = vec![head.map(String::from).collect::<Vec<_>>()];
    for query in 0..queries {
        for (rank, (row, score)) in results(hits, query).take(k).enumerate() {
            let first = if rank == 0 { query.to_string() } else { String::new() };
            let mut cells = vec![first, (rank + 1).to_string(), row.to_string(), number(score)];
            cells.extend(
                names.and_then(|names| names.get(&row)).map(|name| names::shortened(name, SHOWN_NAME)),
            );
            rows.push(cells);
        }
    }
    let mut text = columns(&rows);
    if (queries, k) != (hits.queries, hits.k) {
        let _ = write!(text, "\n{queries} of {} queries, {k} of {} results: ", hits.queries, hits.k);
        text.push_str("--out FILE writes all");
    }
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Numbers flush right, names flush left.
fn columns(rows: &[Vec<String>]) -> String {
    let numbers: Vec<_> = rows.iter().map(|row| row[..4].to_vec()).collect();
    let text = table::columns(0, &numbers);
    let line = |(line, row): (&str, &Vec<String>)| match row.get(4) {
        Some(name) => format!("{line}  {name}\n"),
        None => format!("{line}\n"),
    };
    text.lines().zip(rows).map(line).collect()
}

/// A score in at most 14 characters: inner products may be huge.
fn number(score: f32) -> String {
    if score.abs() < 1e6 { format!("{score:.6}") } else { format!("{score:.6e}") }
}
