//! The same shapes on crossmodal and on its peers, on the same adapter, in turn: one table of ratios.

mod data;
mod machine;
mod measure;
mod ours;
mod python;
mod report;
mod shapes;
mod side;
mod timing;
#[cfg(feature = "burn")]
mod with_burn;

use clap::Parser;
use crossmodal::Device;
use report::Report;
use shapes::{Op, Shape};
use side::Outcome;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

/// Runs the same shapes on crossmodal and on its peers in turn, and prints one table of ratios
///
/// The device is the one that the variable CROSSMODAL_DEVICE names: an index, a part of an adapter's name (Mesa's software driver
/// is `llvmpipe`), `gpu`, `cpu`, or a real GPU if there is one where it is not set. burn gets the same adapter: it counts adapters
/// of one kind, and takes the place that this one has among those of its kind. PyTorch takes its first CUDA device, or the CPU
/// where the adapter is a software driver.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Leave burn out
    #[arg(long)]
    no_burn: bool,
    /// Rows that peers.py wrote, instead of running it
    #[arg(long, value_name = "FILE", conflicts_with = "no_python")]
    python: Option<PathBuf>,
    /// Leave Python's peers out
    #[arg(long)]
    no_python: bool,
    /// Only these operations
    #[arg(long, value_delimiter = ',', value_name = "OPS")]
    only: Vec<Op>,
    /// Only shapes with this in their name; may be repeated
    #[arg(long, value_name = "PART")]
    shape: Vec<String>,
    /// What the device is taken to do, to leave out shapes: 10000 on a GPU, 5 on a software driver, 50 on the CPU path if not given
    #[arg(long, value_name = "GFLOP/S")]
    rate: Option<f64>,
    /// Leave out shapes that would take more seconds a call at that rate
    #[arg(long, value_name = "S", default_value_t = 2.)]
    limit: f64,
    /// How long the rounds of one shape go on
    #[arg(long, value_name = "S", default_value_t = 1.)]
    seconds: f64,
    /// Begin no shape after this long; Python's peers get as much again
    #[arg(long, value_name = "S", default_value_t = 900.)]
    budget_seconds: f64,
    /// Where the table goes [default: benches/results of the checkout]
    #[arg(long, value_name = "FOLDER")]
    results: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("peers: {reason}");
            ExitCode::from(2)
        }
    }
}

fn run(args: &Args) -> Outcome<()> {
    let start = Instant::now();
    // Before anything is measured, so that a bad file costs no time.
    let given = args.python.as_ref().map(|file| read_rows(file)).transpose()?;
    let device = Device::best().map_err(|e| e.to_string())?;
    let peers = measure::Peers::open(&device, !args.no_burn);
    let folder =
        args.results.clone().map_or_else(|| checkout().map(|root| root.join("benches/results")), Ok)?;
    let about = machine::about(&device, peers.burn());
    eprintln!("{} on {}", about.adapter, about.machine);
    let mut report = Report { about, entries: vec![], skipped: vec![] };
    let rate = args.rate.unwrap_or_else(|| rate(&device));
    let all = shapes::read();
    for shape in chosen(&all, args) {
        let estimate = shape.gflop / rate;
        if estimate > args.limit {
            let reason = format!("about {estimate:.1} s a call at {rate} GFLOP/s, more than {}", args.limit);
            report.skipped.push((shape.name.clone(), reason));
        } else if start.elapsed().as_secs_f64() > args.budget_seconds {
            report
                .skipped
                .push((shape.name.clone(), format!("the time budget of {} s", args.budget_seconds)));
        } else {
            eprintln!("{}", shape.name);
            report.entries.push(measure::measure(&device, &peers, shape, args.seconds));
            // What a later shape breaks does not take this one along.
            write(&report, &folder)?;
        }
    }
    let place = |name: &str| all.iter().position(|shape| shape.name == name);
    report.entries.sort_by_key(|entry| place(&entry.shape.name));
    report.skipped.sort_by_key(|(name, _)| place(name));
    match given.map_or_else(|| run_python(args, &device), |rows| Ok(Some(rows))) {
        Ok(Some(rows)) => measure::join(&mut report, rows),
        Ok(None) => {}
        Err(reason) => eprintln!("peers: without Python's peers: {reason}"),
    }
    println!("{}", report.markdown());
    eprintln!("written to {}", write(&report, &folder)?.display());
    Ok(())
}

/// Those asked for, what matters most first.
fn chosen<'a>(all: &'a [Shape], args: &Args) -> Vec<&'a Shape> {
    let of_op = |shape: &&Shape| args.only.is_empty() || args.only.contains(&shape.work.op());
    let named = |shape: &&Shape| {
        args.shape.is_empty() || args.shape.iter().any(|part| shape.name.contains(part.as_str()))
    };
    let mut chosen: Vec<_> = all.iter().filter(of_op).filter(named).collect();
    chosen.sort_by_key(|shape| shape.priority);
    chosen
}

/// In GFLOP/s, to tell which shapes end in time: low for most devices of the kind.
fn rate(device: &Device) -> f64 {
    match device {
        Device::Cpu => 50.,
        Device::Gpu(gpu) if gpu.report().software => 5.,
        Device::Gpu(_) => 10_000.,
    }
}

fn read_rows(file: &Path) -> Outcome<python::Python> {
    let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    python::parse(&text).map_err(|reason| format!("{}: {reason}", file.display()))
}

fn run_python(args: &Args, device: &Device) -> Outcome<Option<python::Python>> {
    if args.no_python {
        return Ok(None);
    }
    let script = checkout()?.join("benches/peers/peers.py");
    let mut arguments = vec![
        format!("--budget-seconds={}", args.budget_seconds),
        format!("--limit={}", args.limit),
        format!("--seconds={}", args.seconds),
    ];
    if !args.only.is_empty() {
        let value = |op: &Op| match op {
            Op::Matmul => "matmul",
            Op::InfoNce => "info_nce",
            Op::Attention => "attention",
        };
        arguments.push(format!("--only={}", args.only.iter().map(value).collect::<Vec<_>>().join(",")));
    }
    arguments.extend(args.shape.iter().map(|part| format!("--shape={part}")));
    if !matches!(device, Device::Gpu(gpu) if !gpu.report().software) {
        arguments.push("--cpu".into());
    }
    eprintln!("peers.py");
    python::run(&script, &arguments).map(Some)
}

/// The folder of the project that this is run in.
fn checkout() -> Outcome<PathBuf> {
    let here = std::env::current_dir().map_err(|e| e.to_string())?;
    let root = here.ancestors().find(|folder| folder.join("benches/peers/peers.py").is_file());
    root.map(Path::to_path_buf).ok_or_else(|| "expected to be run inside the project, or --results".into())
}

/// Both files, named after the adapter and the day. Returns the table's.
fn write(report: &Report, folder: &Path) -> Outcome<PathBuf> {
    let words =
        report.about.adapter.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let adapter = words.take(4).collect::<Vec<_>>().join("-").to_lowercase();
    let file = |end: &str| folder.join(format!("peers-{adapter}-{}.{end}", report.about.date));
    let wrong = |e: std::io::Error| format!("{}: {e}", folder.display());
    std::fs::create_dir_all(folder).map_err(wrong)?;
    std::fs::write(file("json"), format!("{:#}\n", report.json())).map_err(wrong)?;
    std::fs::write(file("md"), report.markdown()).map_err(wrong)?;
    Ok(file("md"))
}
