//! `crossmodal bench`: the operations timed.

use std::process::ExitCode;

use crossmodal::Device;
use crossmodal::cases::{Case, Measurement, Row, Scale, measure};
use indicatif::ProgressBar;
use serde_json::{Value, json};

use crate::device::{DeviceArgs, describe};
use crate::failure::Outcome;
use crate::verify::{select, width};
use crate::{output, table};

/// Times every operation on a device: warm, on data that is not zero
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    device: DeviceArgs,
    /// Only this operation; may be repeated
    #[arg(long, value_name = "NAME")]
    op: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub(crate) fn run(args: &Args) -> Outcome {
    let rows = select(&args.op)?;
    let device = args.device.open_and_tell()?;
    if matches!(&device, Device::Gpu(gpu) if gpu.report().software) {
        output::note(
            "note: a software driver runs on the CPU; its times say nothing about the speed of a GPU",
        );
    }
    let scale = Scale::of(&device);
    let cases: Vec<_> =
        rows.iter().flat_map(|row| (row.bench)(scale).into_iter().map(|case| (*row, case))).collect();
    let name = cases.iter().map(|(_, case)| case.name.chars().count()).max().unwrap_or(0).max("case".len());
    let widths = [width(&rows), name, 8, 9, 7, 6];
    if !args.json {
        let head = ["operation", "case", "first ms", "median ms", "GFLOP/s", "GB/s"].map(String::from);
        output::print(&format!("{}\n\n{}", describe(&device), table::line(2, &head, &widths)))?;
    }
    let mut measurements = vec![];
    for (row, case) in &cases {
        let bar = ProgressBar::new_spinner().with_message(format!("{} {}", row.op, case.name));
        bar.tick();
        let measured = measure(&device, case)?;
        bar.finish_and_clear();
        if args.json {
            measurements.push(json(&device, row, case, &measured));
        } else {
            output::print(&table::line(2, &cells(row, case, &measured), &widths))?;
        }
    }
    if args.json {
        output::print_json(&Value::Array(measurements))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn cells(row: &Row, case: &Case, measured: &Measurement) -> [String; 6] {
    let flops = if measured.flops > 0. { table::digits(measured.flops / 1e9) } else { "-".to_string() };
    [
        row.op.to_string(),
        case.name.clone(),
        table::digits(measured.first * 1e3),
        table::digits(measured.median * 1e3),
        flops,
        table::digits(measured.bytes / 1e9),
    ]
}

fn json(device: &Device, row: &Row, case: &Case, measured: &Measurement) -> Value {
    json!({
        "device": device.name(), "op": row.op, "case": case.name, "first_seconds": measured.first,
        "median_seconds": measured.median, "runs": measured.runs, "flops_per_second": measured.flops,
        "bytes_per_second": measured.bytes,
    })
}
