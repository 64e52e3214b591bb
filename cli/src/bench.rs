//! `crossmodal bench`: the operations timed, beside what the device can do.

use std::path::PathBuf;
use std::process::ExitCode;

use crossmodal::Device;
use crossmodal::cases::{self, Beside, Growth, Limits, Line, Outcome};
use indicatif::ProgressBar;
use serde_json::{Value, json};

use crate::bench_results as results;
use crate::device::{DeviceArgs, describe};
use crate::failure::{Failure, Outcome as Ended};
use crate::verify::select;
use crate::{output, table};

/// Times every operation on a device, beside what that device can do
///
/// Times are of warm runs on data that is not zero, nothing read back; the first
/// run stands apart. The first % is of the best product of two squares, the
/// second of the best of four ways to copy, both measured on the device before.
/// A device's caches may make it more than 100. `both` is forward and backward.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    #[command(flatten)]
    device: DeviceArgs,
    /// Only this operation; may be repeated
    #[arg(long, value_name = "NAME")]
    op: Vec<String>,
    /// Only cases with this in their name, as `both` or `[512, 512]`
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    shape: String,
    /// Leave out cases that take longer a run [default: 0.05, on a GPU 0.5];
    /// with --growth, what the largest takes [default: 0.5, on a GPU 1]
    #[arg(long, value_name = "SECONDS", value_parser = positive, verbatim_doc_comment)]
    seconds: Option<f64>,
    /// How time and memory of info_nce and attention grow, no table
    #[arg(long, conflicts_with_all = ["op", "shape"])]
    growth: bool,
    /// What is fused beside its products, what goes over rows beside a copy
    #[arg(long, conflicts_with_all = ["op", "shape", "seconds", "growth"])]
    beside: bool,
    /// Also write everything with machine and date, as .md or .json
    #[arg(long, value_name = "FILE", value_parser = results::file)]
    results: Option<PathBuf>,
    /// Replace the file of --results
    #[arg(long, requires = "results")]
    force: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0. && seconds.is_finite() => Ok(seconds),
        _ => Err("expected a number above 0".to_string()),
    }
}

/// Runs the verb.
pub(crate) fn run(args: &Args) -> Ended {
    let rows = select(&args.op)?;
    let benches =
        cases::benches(|op, case| rows.iter().any(|row| row.op == op) && case.contains(&args.shape));
    if benches.is_empty() {
        return Err(Failure::new(format!(
            "--shape: expected a part of a case's name in the table, got '{}'",
            args.shape
        )));
    }
    if let Some(path) = &args.results {
        results::check(path, args.force)?;
    }
    let device = args.device.open_and_tell()?;
    if matches!(&device, Device::Gpu(gpu) if gpu.report().software) {
        output::note(
            "note: a software driver runs on the CPU; its times say nothing about the speed of a GPU",
        );
    }
    let bar = ProgressBar::new_spinner().with_message("what the device can do");
    bar.tick();
    let limits = Limits::measure(&device)?;
    if !args.json {
        bar.suspend(|| output::print(&format!("{}\n{limits}\n", describe(&device))))?;
    }
    let mut report = results::report(&device, &limits);
    if args.growth {
        report["growth"] = growth(args, &device, &limits, &bar)?;
    } else if args.beside {
        report["beside"] = beside(args, &device, &limits, &bar)?;
    } else {
        report["cases"] = table(args, &device, &limits, &benches, &bar)?;
    }
    bar.finish_and_clear();
    if let Some(path) = &args.results {
        output::write_all(&[(path.clone(), results::bytes(path, &report))], args.force)?;
    }
    if args.json {
        output::print_json(&report)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The table, a line as it comes.
fn table(
    args: &Args,
    device: &Device,
    limits: &Limits,
    benches: &[(&'static str, cases::Bench)],
    bar: &ProgressBar,
) -> Result<Value, Failure> {
    let print = |text: &str| match text {
        "" => Ok(()),
        _ if args.json => Ok(()),
        _ => bar.suspend(|| output::print(text)),
    };
    let (mut table, mut written) = (cases::Table::new(limits), print(&cases::table_head()));
    let mut each = |line: &Line| {
        let text = table.line(line);
        if written.is_ok() {
            written = print(&text);
        }
        bar.set_message(format!("{} {}", line.op, line.case));
        bar.tick();
    };
    let seconds = args.seconds.unwrap_or(cases::patience(device));
    let lines = cases::bench(device, limits, benches, seconds, &mut each);
    written.and_then(|()| print(&table.end()))?;
    Ok(Value::Array(lines.iter().map(|line| case(line, limits)).collect()))
}

fn case(line: &Line, limits: &Limits) -> Value {
    match &line.outcome {
        Outcome::Measured(m) => json!({
            "op": line.op, "case": line.case, "first_seconds": m.first, "median_seconds": m.median,
            "fastest_seconds": m.fastest, "runs": m.runs, "flops_per_second": m.flops, "bytes_per_second": m.bytes,
            "percent_of_product": limits.percent_of_product(m.flops),
            "percent_of_copy": limits.percent_of_copy(m.bytes),
        }),
        Outcome::LeftOut(seconds) => json!({ "op": line.op, "case": line.case, "left_out_seconds": seconds }),
        Outcome::Failed(why) => json!({ "op": line.op, "case": line.case, "failed": why }),
    }
}

/// Fused operations and what they cannot do without.
fn beside(args: &Args, device: &Device, limits: &Limits, bar: &ProgressBar) -> Result<Value, Failure> {
    bar.set_message("operations beside their parts, in turn");
    let all = cases::beside(device, limits)?;
    if !args.json {
        let head = ["operation", "ms", "beside", "ms", "ratio"].map(String::from).to_vec();
        let row = |one: &Beside| {
            let ms = |seconds: f64| table::digits(1e3 * seconds);
            vec![
                one.what.clone(),
                ms(one.seconds),
                one.parts.clone(),
                ms(one.of_parts),
                format!("{:.2}", one.ratio()),
            ]
        };
        let rows: Vec<_> = std::iter::once(head).chain(all.iter().map(row)).collect();
        bar.suspend(|| output::print(&format!("\n{}", table::columns(1, &rows))))?;
    }
    let json = |one: &Beside| {
        json!({
            "operation": one.what, "seconds": one.seconds, "beside": one.parts,
            "seconds_of_parts": one.of_parts, "ratio": one.ratio(),
        })
    };
    Ok(Value::Array(all.iter().map(json).collect()))
}

/// The exponents, each beneath what they were fitted to.
fn growth(args: &Args, device: &Device, limits: &Limits, bar: &ProgressBar) -> Result<Value, Failure> {
    bar.set_message("info_nce and attention over a decade of sizes");
    let seconds = args.seconds.unwrap_or(2. * cases::patience(device).max(0.25));
    let all = cases::growth(device, limits, seconds)?;
    if !args.json {
        bar.suspend(|| output::print(&all.iter().map(growth_text).collect::<Vec<_>>().join("\n")))?;
    }
    let json = |growth: &Growth| {
        json!({
            "op": growth.op, "size": growth.size, "sizes": growth.sizes, "fastest_seconds": growth.seconds,
            "peak_bytes": growth.peaks, "time_exponent": growth.of_time(),
            "memory_exponent": growth.of_memory(), "expected_time_exponent": growth.expected.0,
            "expected_memory_exponent": growth.expected.1,
        })
    };
    Ok(Value::Array(all.iter().map(json).collect()))
}

fn growth_text(growth: &Growth) -> String {
    let row = |name: String, cells: Vec<String>| [vec![name], cells].concat();
    let mut rows = vec![
        row(format!("{} by {}", growth.op, growth.size), growth.sizes.iter().map(usize::to_string).collect()),
        row("  ms".into(), growth.seconds.iter().map(|seconds| table::digits(1e3 * seconds)).collect()),
    ];
    let mut text = format!("time {:.2} (expected {})", growth.of_time(), growth.expected.0);
    if let (Some(peaks), Some(memory)) = (&growth.peaks, growth.of_memory()) {
        let mib = |bytes: &u64| table::digits(*bytes as f64 / f64::from(1 << 20));
        rows.push(row("  MiB".into(), peaks.iter().map(mib).collect()));
        text += &format!(", memory {memory:.2} (expected {})", growth.expected.1);
    }
    format!("{}  exponents: {text}\n", table::columns(1, &rows))
}
