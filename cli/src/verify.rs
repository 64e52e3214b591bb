//! `crossmodal verify`: every operation on this device against its definition.

use std::process::ExitCode;

use crossmodal::cases::{Row, TABLE, Verdict, verify_row};
use indicatif::ProgressBar;
use serde_json::{Value, json};

use crate::device::{DeviceArgs, describe};
use crate::failure::{Failure, Outcome};
use crate::{output, table, words};

/// Checks every operation on a device against its definition in f64
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    device: DeviceArgs,
    /// Only this operation; may be repeated
    #[arg(long, value_name = "NAME")]
    op: Vec<String>,
    /// Print JSON; a ratio of null is infinite
    #[arg(long)]
    json: bool,
}

/// Runs the verb. The exit status is 1 where something is not as it must be.
pub(crate) fn run(args: &Args) -> Outcome {
    let rows = select(&args.op)?;
    let device = args.device.open_and_tell()?;
    let widths = [width(&rows), 10, 13, 7];
    if !args.json {
        let head = ["operation", "checks", "error/allowed", "verdict"].map(String::from);
        output::print(&format!("{}\n\n{}", describe(&device), table::line(1, &head, &widths)))?;
    }
    let mut verdicts = vec![];
    for row in &rows {
        let bar = ProgressBar::new_spinner().with_message(row.op);
        let new = verify_row(&device, row, &mut |_| bar.tick());
        bar.finish_and_clear();
        if !args.json {
            output::print(&lines(row, &new, &widths))?;
        }
        verdicts.extend(new);
    }
    let failed = verdicts.iter().filter(|verdict| !verdict.passed()).count();
    if args.json {
        output::print_json(&Value::Array(verdicts.iter().map(json).collect()))?;
    } else {
        output::print(&summary(rows.len(), verdicts.len(), failed))?;
    }
    Ok(ExitCode::from(u8::from(failed > 0)))
}

/// The rows of the table that are asked for: all of them unless some are named.
pub(crate) fn select(names: &[String]) -> Result<Vec<&'static Row>, Failure> {
    if let Some(unknown) = names.iter().find(|name| TABLE.iter().all(|row| row.op != **name)) {
        let all: Vec<_> = TABLE.iter().map(|row| row.op).collect();
        return Err(Failure::new(format!("unknown operation '{unknown}'; there are: {}", all.join(", "))));
    }
    Ok(TABLE.iter().filter(|row| names.is_empty() || names.iter().any(|name| name == row.op)).collect())
}

/// How wide a column of the rows' names is, with its head.
pub(crate) fn width(rows: &[&Row]) -> usize {
    rows.iter().map(|row| row.op.len()).chain(["operation".len()]).max().unwrap_or(0)
}

/// An operation's line, and one more for each failure.
fn lines(row: &Row, verdicts: &[Verdict], widths: &[usize]) -> String {
    let worst = verdicts
        .iter()
        .map(|verdict| verdict.ratio)
        .fold(0., |a: f64, b| if b > a || b.is_nan() { b } else { a });
    let failures: Vec<_> = verdicts.iter().filter(|verdict| !verdict.passed()).collect();
    let verdict = if failures.is_empty() { "ok" } else { "FAILED" };
    let cells = [row.op.to_string(), verdicts.len().to_string(), table::digits(worst), verdict.to_string()];
    let failure = |v: &&Verdict| {
        format!(
            "    {} ({}): {} times what is allowed: {}\n",
            v.case,
            v.dtype,
            table::digits(v.ratio),
            v.detail
        )
    };
    format!("{}\n{}", table::line(1, &cells, widths), failures.iter().map(failure).collect::<String>())
}

fn summary(rows: usize, checks: usize, failed: usize) -> String {
    let (rows, checks) = (words::count(rows, "operation"), words::count(checks, "check"));
    match failed {
        0 => format!("\n{rows}, {checks}: all as they must be"),
        _ => format!("\n{rows}, {checks}: {failed} FAILED"),
    }
}

fn json(verdict: &Verdict) -> Value {
    json!({
        "op": verdict.op, "case": verdict.case, "dtype": verdict.dtype.to_string(), "ratio": verdict.ratio,
        "passed": verdict.passed(), "detail": verdict.detail,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_is_listed_beneath_its_operation() {
        let verdict = |case: &str, ratio| Verdict {
            op: "softmax",
            case: case.into(),
            dtype: crossmodal::DType::F32,
            ratio,
            detail: "out[3]: got 1e0, want 2e0".into(),
        };
        let verdicts = [verdict("tails", 0.5), verdict("wide", 1.5), verdict("narrow", f64::NAN)];
        let rows = select(&["softmax".to_string()]).unwrap();
        let text = lines(rows[0], &verdicts, &[10, 6, 6, 7]);
        let expected = "softmax          3     NaN   FAILED\n    \
                        wide (f32): 1.50 times what is allowed: out[3]: got 1e0, want 2e0\n    \
                        narrow (f32): NaN times what is allowed: out[3]: got 1e0, want 2e0\n";
        assert_eq!(text, expected);
        assert_eq!(summary(1, 3, 2), "\n1 operation, 3 checks: 2 FAILED");
    }
}
