//! `crossmodal attend`: what the tokens of one modality look at in another.

use std::path::PathBuf;
use std::process::ExitCode;

use crossmodal::dtype::DType;
use crossmodal::io::{Source, Tokens, read_tokens};
use crossmodal::ops::{AttentionLayout, AttentionOptions, AttentionWeights, Mask, attention};
use crossmodal::{Device, Tensor};
use serde_json::{Map, Value, json};

use crate::attend_inputs as given;
use crate::attend_maps::{Labels, Maps};
use crate::attend_model::{Trained, named};
use crate::device::DeviceArgs;
use crate::failure::{Failure, Outcome};
use crate::folder::Plan;
use crate::inputs::{self, check_same};
use crate::output;
use crate::runs::Verb;

/// The widest head that attention takes.
const WIDEST: usize = 256;

/// What stands below the flags in the help.
const MORE: &str = "\
FILE is .npy or .safetensors#TENSOR, [rows, tokens, columns] or [rows, columns];
row i of the queries looks at row i of the keys: softmax(q k' * scale) for each
head, heads side by side in the columns. With --model it is what the tokens of
a trained fusion look at in its last layer: cross-attention and gated-cross-
attention, the first modality at the second; co-attention, either at the other;
merged, any at any, where a part goes to their own modality.

Features of two encoders are no match for one another: align and project them
first. Of rows of length 1, as project writes them, --scale 10 tells more than
the default.

WORDS has the tokens' names, separated by spaces: the column tokens of a .tsv
file with a header, or a line for each row in any other file.";

/// Draws attention maps: what tokens look at in another modality
#[derive(clap::Args, Clone)]
#[command(after_help = MORE)]
#[command(override_usage = "crossmodal attend [OPTIONS] --query <FILE> --key <FILE>")]
pub(crate) struct Args {
    /// Features of the tokens that look
    #[arg(long, value_name = "FILE", value_parser = inputs::source())]
    query: Source,
    /// Features of the tokens that are looked at
    #[arg(long, value_name = "FILE", value_parser = inputs::source())]
    key: Source,
    /// A trained fusion; --query and --key NAME=FILE
    #[arg(long, value_name = "FILE", conflicts_with_all = ["heads", "scale"])]
    model: Option<PathBuf>,
    /// How many query tokens of each row are real
    #[arg(long, value_name = "FILE", value_parser = inputs::source())]
    query_lengths: Option<Source>,
    /// How many keys of each row are real
    #[arg(long, value_name = "FILE", value_parser = inputs::source())]
    key_lengths: Option<Source>,
    /// Parts of the columns that look apart [default: 1]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    heads: Option<usize>,
    /// Of the products [default: 1/sqrt(columns/heads)]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    scale: Option<f64>,
    /// Such as 0,5-7, from 0 [default: the first 8]
    #[arg(long, value_name = "LIST", allow_hyphen_values = true)]
    rows: Option<String>,
    /// The names of the query tokens: see below
    #[arg(long, value_name = "WORDS")]
    query_words: Option<PathBuf>,
    /// The names of the keys
    #[arg(long, value_name = "WORDS")]
    key_words: Option<PathBuf>,
    /// How keys lie [default: a square, if one fits]
    #[arg(long, value_name = "HxW")]
    key_grid: Option<String>,
    /// png, jpg or svg to lie below one row's cells
    #[arg(long, value_name = "FILE")]
    key_picture: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArgs,
    /// The folder to write [default: runs/attend-1, …]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// The features of both sides, of the same rows, with their real lengths.
pub(crate) struct Sides {
    pub(crate) query: Tokens,
    pub(crate) key: Tokens,
    pub(crate) query_lengths: Vec<usize>,
    pub(crate) key_lengths: Vec<usize>,
    pub(crate) rows: Vec<u32>,
}

impl Args {
    fn heads(&self) -> usize {
        self.heads.unwrap_or(1)
    }

    /// Refuses what attention over the features themselves does not take.
    fn check(&self, sides: &Sides) -> Result<(), Failure> {
        let (heads, width) = (self.heads(), sides.query.width);
        check_same("columns", (&self.query, width), (&self.key, sides.key.width))?;
        if heads == 0 || width % heads != 0 {
            let expected = format!("a divisor of the {width} columns of {}", self.query);
            return Err(Failure::new(format!("--heads {heads}: expected {expected}")));
        }
        if width / heads > WIDEST {
            let enough = (heads..=width).find(|n| width % n == 0 && width / n <= WIDEST).unwrap_or(width);
            let expected = format!("at most {WIDEST} columns for each head, as --heads {enough} gives");
            return Err(Failure::new(format!("--heads {heads}: expected {expected}, got {}", width / heads)));
        }
        match self.scale.filter(|scale| !scale.is_finite()) {
            Some(scale) => Err(Failure::new(format!("--scale {scale}: expected a finite number"))),
            None => Ok(()),
        }
    }

    fn read(&self) -> Result<Sides, Failure> {
        let (query, key) = (read_tokens(&self.query)?, read_tokens(&self.key)?);
        check_same("rows", (&self.query, query.rows), (&self.key, key.rows))?;
        let rows = given::rows(self.rows.as_deref(), query.rows)?;
        let of_query = (&self.query, query.rows, query.length);
        let of_key = (&self.key, key.rows, key.length);
        let query_lengths = given::lengths(self.query_lengths.as_ref(), of_query, &rows)?;
        let key_lengths = given::lengths(self.key_lengths.as_ref(), of_key, &rows)?;
        Ok(Sides { query, key, query_lengths, key_lengths, rows })
    }

    fn labels(&self, sides: &Sides) -> Result<Labels, Failure> {
        let chosen = |mut all: Vec<Vec<String>>| -> Vec<Vec<String>> {
            sides.rows.iter().map(|&row| std::mem::take(&mut all[row as usize])).collect()
        };
        let of_query = (&self.query, &sides.query_lengths[..]);
        let of_key = (&self.key, &sides.key_lengths[..]);
        let queries = self.query_words.as_deref().map(|path| given::words(path, of_query, "--query-lengths"));
        let keys = self.key_words.as_deref().map(|path| given::words(path, of_key, "--key-lengths"));
        let grid = given::grid(self.key_grid.as_deref(), sides.key.length, self.key_words.is_some())?;
        if let Some(path) = &self.key_picture {
            let path = path.display();
            if sides.rows.len() != 1 {
                let got = sides.rows.len();
                return Err(Failure::new(format!(
                    "--key-picture {path}: expected one row in --rows, got {got}"
                )));
            }
            if grid.is_none() {
                let expected = "expected keys that are patches: --key-grid HxW says how they lie";
                return Err(Failure::new(format!("--key-picture {path}: {expected}")));
            }
        }
        Ok(Labels {
            queries: queries.transpose()?.map(chosen),
            keys: keys.transpose()?.map(chosen),
            grid,
            background: self.key_picture.as_deref().map(given::picture).transpose()?,
        })
    }

    /// What the maps were made of, for `attention.json`.
    fn notes(&self, sides: &Sides, trained: Option<&Trained>, device: &Device) -> Map<String, Value> {
        let source = |source: &Option<Source>| json!(source.as_ref().map(ToString::to_string));
        let path = |path: &Option<PathBuf>| json!(path.as_ref().map(|path| path.display().to_string()));
        let (width, heads) = (sides.query.width, self.heads());
        let how = match trained {
            Some(own) => {
                vec![("model", path(&self.model)), ("fusion", json!(own.kind())), ("layer", json!("last"))]
            }
            None => vec![
                ("columns", json!(width)),
                ("heads", json!(heads)),
                ("scale", json!(self.scale.unwrap_or(((width / heads) as f64).sqrt().recip()))),
            ],
        };
        let notes = [
            ("query", json!(self.query.to_string())),
            ("key", json!(self.key.to_string())),
            ("query_lengths", source(&self.query_lengths)),
            ("key_lengths", source(&self.key_lengths)),
            ("query_words", path(&self.query_words)),
            ("key_words", path(&self.key_words)),
            ("key_picture", path(&self.key_picture)),
            ("device", json!(device.name())),
        ];
        notes.into_iter().chain(how).map(|(name, value)| (name.to_string(), value)).collect()
    }
}

impl Sides {
    /// The maps of the chosen rows.
    fn maps(&self, device: &Device, heads: usize, scale: Option<f64>) -> Result<Maps, Failure> {
        let (query, key) = (self.query.select(&self.rows)?, self.key.select(&self.rows)?);
        let (rows, queries, keys) = (self.rows.len(), query.length, key.length);
        let own = |lengths: &[usize]| self.rows.iter().map(|&row| lengths[row as usize]).collect::<Vec<_>>();
        let (query_lengths, key_lengths) = (own(&self.query_lengths), own(&self.key_lengths));
        // A query of the padding sees no key, so that its weights are 0.
        let pairs =
            (0..rows).flat_map(|row| (0..queries * keys).map(move |pair| (row, pair / keys, pair % keys)));
        let seen: Vec<bool> =
            pairs.map(|(row, query, key)| query < query_lengths[row] && key < key_lengths[row]).collect();
        let options = AttentionOptions {
            layout: AttentionLayout::Packed { heads, kv_heads: heads },
            scale,
            pair_mask: Some(Mask::keep(&[rows, 1, queries, keys], &seen)),
            weights: AttentionWeights::PerHead,
            ..Default::default()
        };
        let q = Tensor::from_vec(device, &[rows, queries, query.width], query.values)?;
        let k = Tensor::from_vec(device, &[rows, keys, key.width], key.values)?;
        // Only the weights are wanted: one value a head is the least that attention takes.
        let v = Tensor::zeros(device, &[rows, keys, heads], DType::F32)?;
        let weights = attention(&q, &k, &v, None, &options)?.weights;
        let values = weights.map(|weights| weights.to_vec::<f32>()).transpose()?.unwrap_or_default();
        let rows = self.rows.clone();
        Ok(Maps {
            rows,
            heads,
            query_length: queries,
            key_length: keys,
            values,
            query_lengths,
            key_lengths,
            is_whole: true,
        })
    }
}

/// Runs the verb. Everything is read, checked and computed before anything is written.
pub(crate) fn run(args: &Args) -> Outcome {
    let plan = Plan::new(Verb::Attend, args.out.as_deref(), false, false)?;
    let device = args.device.open()?;
    let (args, trained) = match &args.model {
        None => (args, None),
        Some(path) => {
            let (of_query, query) = named("--query", &args.query)?;
            let (of_key, key) = named("--key", &args.key)?;
            let trained = Trained::open(&device, path, [of_query, of_key])?;
            (&Args { query, key, ..args.clone() }, Some(trained))
        }
    };
    let sides = args.read()?;
    match (&trained, &args.model) {
        (Some(trained), Some(path)) => trained.check(path, [&args.query, &args.key], &sides)?,
        _ => args.check(&sides)?,
    }
    let labels = args.labels(&sides)?;
    plan.probe()?;
    let maps = match &trained {
        Some(trained) => trained.maps(&sides)?,
        None => sides.maps(&device, args.heads(), args.scale)?,
    };
    if let Some(bad) = maps.values.iter().find(|value| !value.is_finite()) {
        return Err(Failure::new(format!("the products overflow: expected finite weights, got {bad}")));
    }
    let output = plan.open_new()?;
    maps.write(&output, &labels, args.notes(&sides, trained.as_ref(), &device))?;
    let model = args.model.as_ref().map(|path| ("model", path.display().to_string()));
    let lines = [
        ("query", args.query.to_string()),
        ("key", args.key.to_string()),
        ("device", device.name().to_string()),
    ];
    let lines: Vec<_> = model.into_iter().chain(lines).collect();
    output::print(&maps.summary(&labels, &lines, &output.folder))?;
    Ok(ExitCode::SUCCESS)
}
