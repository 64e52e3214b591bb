//! `crossmodal devices`: where work can be done.

use std::process::ExitCode;

use crossmodal::Device;
use crossmodal::gpu::{AdapterReport, best};
use serde_json::{Value, json};

use crate::device::{VARIABLE, reports, variable, why};
use crate::failure::Outcome;
use crate::{output, table};

/// Lists the CPU path and every GPU, and which one auto takes and why
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub(crate) fn run(args: &Args) -> Outcome {
    let reports = reports();
    if args.json {
        output::print_json(&json(&reports))?;
    } else {
        let blocks = std::iter::once(cpu()).chain(reports.iter().map(adapter)).chain([choice(&reports)]);
        output::print(&blocks.collect::<Vec<_>>().join("\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn cpu() -> String {
    block("cpu", "the CPU path", &[("threads", threads().to_string()), ("types", "f32, f16, f64".into())])
}

fn adapter(report: &AdapterReport) -> String {
    let have = |name: &str, yes: bool| format!("{name} {}", if yes { "yes" } else { "no" });
    let features = [
        have("f16", report.f16),
        have("int64", report.int64),
        have("subgroups", report.subgroups),
        have("timestamps", report.timestamps),
    ];
    let units = match report.cooperative {
        0 => "none that kernels here can use".to_string(),
        side => format!("blocks of {side} x {side} x {side}, f16 in, f32 out"),
    };
    let facts = [
        ("backend", format!("{}, {}", report.backend, report.kind)),
        ("driver", report.driver.clone()),
        ("features", features.join(", ")),
        ("matrix", units),
        (
            "largest",
            format!(
                "buffer {}, binding {}",
                table::bytes(report.max_buffer),
                table::bytes(report.max_binding)
            ),
        ),
        (
            "workgroup",
            format!(
                "{} of memory, {} invocations",
                table::bytes(report.workgroup_memory.into()),
                report.invocations
            ),
        ),
    ];
    block(&report.index.to_string(), &report.name, &facts)
}

/// A device: what `--device` takes, its name, and what there is to know.
fn block(index: &str, name: &str, facts: &[(&str, String)]) -> String {
    let fact = |(what, text): &(&str, String)| format!("     {what:9}  {text}\n");
    format!("{index:3}  {name}\n{}", facts.iter().map(fact).collect::<String>())
}

/// What `auto` takes, and what the variable says.
fn choice(reports: &[AdapterReport]) -> String {
    let taken = best(reports).map_or("cpu".to_string(), |index| index.to_string());
    let variable = match variable() {
        None => format!("{VARIABLE} is not set"),
        Some(asked) => match Device::named(&asked) {
            Ok(device) => format!("{VARIABLE}={asked} takes its place here and means {}", device.name()),
            Err(error) => format!("{VARIABLE}={asked} takes its place here, but {error}"),
        },
    };
    format!("auto is {taken}: {}\n{variable}\n", why(reports))
}

fn json(reports: &[AdapterReport]) -> Value {
    let adapter = |report: &AdapterReport| {
        json!({
            "index": report.index, "name": report.name, "backend": report.backend, "kind": report.kind,
            "driver": report.driver, "software": report.software, "f16": report.f16,
            "subgroups": report.subgroups, "timestamps": report.timestamps,
            "int64": report.int64, "cooperative": report.cooperative, "max_buffer": report.max_buffer,
            "max_binding": report.max_binding, "workgroup_memory": report.workgroup_memory,
            "invocations": report.invocations,
        })
    };
    json!({
        "cpu": { "threads": threads() },
        "adapters": reports.iter().map(adapter).collect::<Vec<_>>(),
        "auto": { "device": best(reports).map_or(json!("cpu"), |index| json!(index)), "why": why(reports) },
        VARIABLE: variable(),
    })
}
