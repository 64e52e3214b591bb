//! `crossmodal`, the command line: align, project, fuse, predict, attend, eval, search, devices, verify, tune, bench.
//!
//! Results go to standard output, everything else to standard error. The exit status is 0, 1 where `verify` finds a
//! fault, 2 after an error, which is one line, or 130 after an
//! interrupt. Bad input is found before anything is written.

mod align;
mod attend;
mod attend_inputs;
mod attend_maps;
mod attend_model;
mod attend_picture;
mod base64;
mod bench;
mod bench_results;
mod closed;
mod device;
mod devices;
mod eval;
mod eval_inputs;
mod eval_report;
mod failure;
mod folder;
mod fuse;
mod fuse_data;
mod fuse_plots;
mod fuse_recipe;
mod fuse_report;
mod fuse_ways;
mod fusion_file;
mod inputs;
mod interrupt;
mod job;
mod journal;
mod lock;
mod metrics;
mod names;
mod output;
mod plots;
mod predict;
mod present;
mod project;
mod recipe;
mod results;
mod runs;
mod scores;
mod search;
mod shades;
mod svg;
mod table;
mod target;
mod token_inputs;
mod tune;
mod verify;
mod words;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use failure::Failure;

/// What stands below the verbs in the help.
const VARIABLES: &str = "\
Variables:
  CROSSMODAL_DEVICE  The device where --device names none [default: auto]
  CROSSMODAL_CACHE   The folder for what is found out about a device, or off
  RUST_LOG           What to tell on standard error: error, warn, info, debug";

/// Aligns and fuses the features of several modalities on any GPU, or the CPU.
#[derive(Parser)]
#[command(name = "crossmodal", version, arg_required_else_help = true, after_help = VARIABLES)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Align(Box<align::Args>),
    Project(project::Args),
    Fuse(Box<fuse::Args>),
    Predict(predict::Args),
    Attend(Box<attend::Args>),
    Eval(Box<eval::Args>),
    Search(search::Args),
    Devices(devices::Args),
    Verify(verify::Args),
    Tune(tune::Args),
    Bench(bench::Args),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misused(&error),
    };
    start_log();
    let outcome = match cli.verb {
        Verb::Align(args) => align::run(&args),
        Verb::Project(args) => project::run(&args),
        Verb::Fuse(args) => fuse::run(&args),
        Verb::Predict(args) => predict::run(&args),
        Verb::Attend(args) => attend::run(&args),
        Verb::Eval(args) => eval::run(&args),
        Verb::Search(args) => search::run(&args),
        Verb::Devices(args) => devices::run(&args),
        Verb::Verify(args) => verify::run(&args),
        Verb::Tune(args) => tune::run(&args),
        Verb::Bench(args) => bench::run(&args),
    };
    outcome.unwrap_or_else(|failure| failure.report())
}

/// Shows the help or the version that was asked for, or tells in one line what is wrong with the command line; the exit
/// status.
fn misused(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        | ErrorKind::DisplayVersion => error.exit(),
        _ => {
            // Of the advice behind the first paragraph, a tip says what was perhaps meant.
            let text = error.render().to_string();
            let mut paragraphs = text.split("\n\n").map(str::trim);
            let first = paragraphs.next().unwrap_or_default();
            let tip = paragraphs.find_map(|advice| advice.strip_prefix("tip: ")?.lines().next());
            let tip = tip.map(|tip| format!("; {tip}")).unwrap_or_default();
            Failure::new(format!("{}{tip}", first.strip_prefix("error: ").unwrap_or(first))).report()
        }
    }
}

/// Warnings of this project and errors of the graphics stack, unless `RUST_LOG` says otherwise.
fn start_log() {
    let mut builder = env_logger::Builder::new();
    builder.filter_level(log::LevelFilter::Warn);
    for noisy in ["wgpu_hal", "wgpu_core", "naga"] {
        builder.filter_module(noisy, log::LevelFilter::Error);
    }
    builder.parse_default_env().init();
}
