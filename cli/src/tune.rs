//! `crossmodal tune`: which way to compute a product is fastest on a device.

use std::process::ExitCode;

use crossmodal::gpu::AdapterReport;
use crossmodal::ops::matmul::{Precision, Problem, Trial, tune};
use crossmodal::{DType, Device};
use indicatif::ProgressBar;
use serde_json::{Value, json};

use crate::device::{DeviceArgs, describe};
use crate::failure::{Failure, Outcome};
use crate::{output, table};

/// Times the ways to compute products on a GPU, before their first use
///
/// Each is checked against the plain kernel, bit for bit, before it may win.
/// The choices are kept, for this adapter and driver, in the folder that
/// CROSSMODAL_CACHE names. Without this verb a product's first use chooses.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    #[command(flatten)]
    device: DeviceArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub(crate) fn run(args: &Args) -> Outcome {
    let device = args.device.open_and_tell()?;
    let Device::Gpu(gpu) = &device else {
        return Err(Failure::new(
            "tune: expected a GPU; the CPU path has one way to compute a product".to_string(),
        ));
    };
    if !args.json {
        let head = ["m x k x n", "", "way", "ms", "GFLOP/s", ""].map(String::from);
        output::print(&format!("{}\n\n{}", describe(&device), table::line(3, &head, &WIDTHS)))?;
    }
    let mut all = vec![];
    for problem in problems(gpu.report()) {
        let bar = ProgressBar::new_spinner().with_message(name(&problem));
        bar.tick();
        let trials = tune(gpu, &problem)?;
        bar.finish_and_clear();
        let best = trials.iter().filter(|trial| trial.matches).map(|trial| trial.seconds).reduce(f64::min);
        for (i, trial) in trials.iter().enumerate() {
            let chosen = Some(trial.seconds) == best && trial.matches;
            if args.json {
                all.push(as_json(&device, &problem, trial, chosen));
            } else {
                output::print(&table::line(3, &cells(&problem, trial, i == 0, chosen), &WIDTHS))?;
            }
        }
    }
    if args.json {
        output::print_json(&Value::Array(all))?;
    }
    Ok(ExitCode::SUCCESS)
}

const WIDTHS: [usize; 6] = [22, 12, 13, 8, 8, 6];

/// Squares, products of thin matrices as heads and losses have them, many small ones; in the layouts of a forward and its
/// backward. Large ones only where a device is fast.
fn problems(report: &AdapterReport) -> Vec<Problem> {
    let software = report.software;
    let most = if software { 512 } else { 8192 };
    let sizes = [
        (1, 512, 512, 512),
        (1, 1024, 1024, 1024),
        (1, 2048, 2048, 2048),
        (1, 4096, 4096, 4096),
        (1, 8192, 8192, 8192),
        (1, 8192, 512, 8192),
        (1, 8192, 8192, 512),
        (1, 8192, 512, 512),
        (64, 512, 64, 512),
        (64, 512, 512, 64),
    ];
    let small = |&&(batches, m, k, n): &&(usize, usize, usize, usize)| {
        m.max(k).max(n) <= most && (!software || batches == 1)
    };
    let mut types = vec![(DType::F32, Precision::Strict)];
    if report.cooperative > 0 && !software {
        types.push((DType::F32, Precision::Fast));
    }
    if report.f16 && !software {
        types.push((DType::F16, Precision::Strict));
    }
    let of = |&(batches, m, k, n): &(usize, usize, usize, usize)| {
        let layouts = [(false, false), (false, true), (true, false)];
        let types = types.clone();
        layouts.into_iter().flat_map(move |(transpose_a, transpose_b)| {
            let problem = Problem { batches, m, n, k, transpose_a, transpose_b, ..Problem::default() };
            types.clone().into_iter().map(move |(dtype, precision)| Problem { dtype, precision, ..problem })
        })
    };
    sizes.iter().filter(small).flat_map(of).collect()
}

fn name(problem: &Problem) -> String {
    let Problem { batches, m, n, k, .. } = problem;
    let sizes = format!("{m} x {k} x {n}");
    if *batches == 1 { sizes } else { format!("{batches} of {sizes}") }
}

fn layout(problem: &Problem) -> String {
    let mark = |transposed: bool| if transposed { "ᵀ" } else { "" };
    let fast = if problem.precision == Precision::Fast { " fast" } else { "" };
    format!("A{}B{} {}{fast}", mark(problem.transpose_a), mark(problem.transpose_b), problem.dtype)
}

fn rate(problem: &Problem, trial: &Trial) -> f64 {
    2. * (problem.batches * problem.m * problem.n * problem.k) as f64 / trial.seconds
}

fn cells(problem: &Problem, trial: &Trial, first: bool, chosen: bool) -> [String; 6] {
    let verdict = match (trial.matches, chosen) {
        (false, _) => "WRONG",
        (true, true) => "chosen",
        (true, false) => "",
    };
    [
        if first { name(problem) } else { String::new() },
        if first { layout(problem) } else { String::new() },
        trial.way.to_string(),
        table::digits(trial.seconds * 1e3),
        table::digits(rate(problem, trial) / 1e9),
        verdict.to_string(),
    ]
}

fn as_json(device: &Device, problem: &Problem, trial: &Trial, chosen: bool) -> Value {
    json!({
        "device": device.name(), "batches": problem.batches, "m": problem.m, "k": problem.k, "n": problem.n,
        "transpose_a": problem.transpose_a, "transpose_b": problem.transpose_b,
        "dtype": problem.dtype.to_string(), "fast": problem.precision == Precision::Fast, "way": trial.way, "seconds": trial.seconds,
        "flops_per_second": rate(problem, trial), "matches": trial.matches, "chosen": chosen,
    })
}
