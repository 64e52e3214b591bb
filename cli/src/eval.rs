//! `crossmodal eval`: the scores of embeddings made elsewhere.

use std::process::ExitCode;

use crossmodal::align::retrieval;
use crossmodal::io::{Source, read_features};
use serde_json::{Value, json};

use crate::failure::Outcome;
use crate::{inputs, output, scores};

/// Scores how well each left row finds its right row by cosine, and back
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Embeddings, .npy or .safetensors#TENSOR
    #[arg(long, value_name = "FILE", value_parser = inputs::source())]
    left: Source,
    /// Their partners, row by row
    #[arg(long, value_name = "FILE", value_parser = inputs::source())]
    right: Source,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub(crate) fn run(args: &Args) -> Outcome {
    let (left, right) = (read_features(&args.left)?, read_features(&args.right)?);
    inputs::check_same("rows", (&args.left, left.rows), (&args.right, right.rows))?;
    inputs::check_same("columns", (&args.left, left.cols), (&args.right, right.cols))?;
    let scores = retrieval(&left, &right)?;
    if args.json {
        let mut map = scores::to_json(&scores);
        map.insert("rows".into(), json!(left.rows));
        output::print_json(&Value::Object(map))?;
    } else {
        let pairs = if left.rows == 1 { "pair" } else { "pairs" };
        output::print(&format!("{} {pairs}\n\n{}", left.rows, scores::table(&scores, left.rows)))?;
    }
    Ok(ExitCode::SUCCESS)
}
