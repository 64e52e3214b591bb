//! `crossmodal project`: a trained head applied to new features.

use std::path::PathBuf;
use std::process::ExitCode;

use crossmodal::align::Heads;
use crossmodal::io::{Source, read_features, write_npy};

use crate::device::DeviceArgs;
use crate::failure::{Failure, Outcome};
use crate::{inputs, output, target};

/// Applies a trained head to new features and writes them as .npy
#[derive(clap::Args)]
#[command(override_usage = "crossmodal project --heads <FILE> <--left|--right> <FILE> --out <FILE>")]
#[command(group(clap::ArgGroup::new("side").required(true).args(["left", "right"])))]
pub(crate) struct Args {
    /// heads.safetensors of a run of align
    #[arg(long, value_name = "FILE")]
    heads: PathBuf,
    /// Features for the left head, .npy or .safetensors#TENSOR
    #[arg(long, value_name = "FILE", value_parser = inputs::source())]
    left: Option<Source>,
    /// Features for the right head
    #[arg(long, value_name = "FILE", value_parser = inputs::source())]
    right: Option<Source>,
    /// The .npy file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Replace the file that is there
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

/// Runs the verb.
pub(crate) fn run(args: &Args) -> Outcome {
    check_out(args)?;
    let heads = Heads::load(&args.heads).map_err(|error| {
        Failure::new(format!("--heads {error}; expected heads.safetensors of a run of align"))
    })?;
    let (side, head, source) = match (&args.left, &args.right) {
        (Some(source), _) => ("left", &heads.left, source),
        (None, Some(source)) => ("right", &heads.right, source),
        (None, None) => return Err(Failure::new("expected --left FILE or --right FILE")), // clap has seen to it
    };
    let features = read_features(source)?;
    if features.cols != head.inputs {
        return Err(Failure::new(format!(
            "{source}: expected {} columns, as the {side} head of {} takes, got {}",
            head.inputs,
            args.heads.display(),
            features.cols
        )));
    }
    let projected = head.project(&args.device.open()?, &features)?;
    write_npy(&args.out, projected.rows, projected.cols, &projected.values)?;
    output::print(&format!(
        "{}: {} rows of {} features",
        args.out.display(),
        projected.rows,
        projected.cols
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// Refuses a file that is there or an input, and one that would not be recognised as what it is.
fn check_out(args: &Args) -> Result<(), Failure> {
    let out = args.out.display();
    if !args.out.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("npy")) {
        return Err(Failure::new(format!("--out {out}: expected a file name that ends in .npy")));
    }
    let sources = args.left.iter().chain(&args.right).map(|source| source.path.as_path());
    target::check(&args.out, sources.chain([args.heads.as_path()]), args.force)
}
