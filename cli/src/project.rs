//! `crossmodal project`: a trained head applied to new features.

use std::path::PathBuf;
use std::process::ExitCode;

use crossmodal::align::Heads;
use crossmodal::io::{Features, Source, write_npy, write_npy_array};

use crate::device::DeviceArgs;
use crate::failure::{Failure, Outcome};
use crate::{inputs, output, target, token_inputs};

/// Applies a trained head to new features and writes them as .npy
#[derive(clap::Args)]
#[command(
    override_usage = "crossmodal project --heads <FILE> <--left|--right> <FILE> --out <FILE>\n       crossmodal project --heads <FILE> --modality <NAME=FILE> --out <FILE>"
)]
#[command(group(clap::ArgGroup::new("side").required(true).args(["left", "right", "modality"])))]
pub(crate) struct Args {
    /// heads.safetensors of a run of align
    #[arg(long, value_name = "FILE")]
    heads: PathBuf,
    /// For the left head, .npy or .safetensors#TENSOR
    #[arg(long, value_name = "FILE", value_parser = inputs::source())]
    left: Option<Source>,
    /// For the right head
    #[arg(long, value_name = "FILE", value_parser = inputs::source())]
    right: Option<Source>,
    /// For the head of any name
    #[arg(long, value_name = "NAME=FILE", value_parser = inputs::named())]
    modality: Option<(String, Source)>,
    /// The .npy file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Replace the file that is there
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

impl Args {
    /// What is to be projected by the head of which name.
    fn named(&self) -> impl Iterator<Item = (&str, &Source)> {
        let (left, right) = (self.left.iter(), self.right.iter());
        let sides = left.map(|source| ("left", source)).chain(right.map(|source| ("right", source)));
        sides.chain(self.modality.iter().map(|(name, source)| (name.as_str(), source)))
    }
}

/// Runs the verb.
pub(crate) fn run(args: &Args) -> Outcome {
    check_out(args)?;
    let heads = Heads::load(&args.heads).map_err(|error| {
        Failure::new(format!("--heads {error}; expected heads.safetensors of a run of align"))
    })?;
    let named = args.named().next();
    // clap has seen to it
    let (name, source) = named.ok_or_else(|| Failure::new("expected --left, --right or --modality"))?;
    let head = heads.of(name).map_err(|_| {
        let names: Vec<_> = heads.heads.iter().map(|head| head.name.as_str()).collect();
        let (file, names) = (args.heads.display(), names.join(", "));
        Failure::new(format!("{file}: expected one of its heads ({names}; --modality NAME=FILE), got {name}"))
    })?;
    let (features, length) = token_inputs::read(source)?;
    let (rows, tokens) = (features.rows, length.unwrap_or(1));
    // A token is projected as a row is.
    let features = Features { rows: rows * tokens, cols: features.cols / tokens, ..features };
    if features.cols != head.inputs {
        return Err(Failure::new(format!(
            "{source}: expected {} columns, as the {name} head of {} takes, got {}",
            head.inputs,
            args.heads.display(),
            features.cols
        )));
    }
    let projected = head.project(&args.device.open()?, &features)?;
    let (out, cols) = (args.out.display(), projected.cols);
    let what = match length {
        Some(_) => {
            write_npy_array(&args.out, &[rows, tokens, cols], &projected.values)?;
            format!("{tokens} tokens of {cols} features")
        }
        None => {
            write_npy(&args.out, rows, cols, &projected.values)?;
            format!("{cols} features")
        }
    };
    output::print(&format!("{out}: {rows} rows of {what}"))?;
    Ok(ExitCode::SUCCESS)
}

/// Refuses a file that is there or an input, and one that would not be recognised as what it is.
fn check_out(args: &Args) -> Result<(), Failure> {
    let out = args.out.display();
    if !args.out.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("npy")) {
        return Err(Failure::new(format!("--out {out}: expected a file name that ends in .npy")));
    }
    let sources = args.named().map(|(_, source)| source.path.as_path());
    target::check(&args.out, sources.chain([args.heads.as_path()]), args.force)
}
