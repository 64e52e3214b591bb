//! The file of `crossmodal bench --results`: machine, device, limits and every line, as JSON or Markdown.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crossmodal::Device;
use crossmodal::cases::Limits;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::table;

/// A file of a kind that can be written.
pub(crate) fn file(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("md" | "json") => Ok(path),
        _ => Err("expected a name that ends in .md or .json".to_string()),
    }
}

/// Refuses a file that is there before minutes are spent.
pub(crate) fn check(path: &Path, force: bool) -> Result<(), Failure> {
    if !force && path.symlink_metadata().is_ok() {
        let path = path.display();
        return Err(Failure::new(format!("{path}: it exists already; --force replaces it")));
    }
    Ok(())
}

/// What there is to say before the first case.
pub(crate) fn report(device: &Device, limits: &Limits) -> Value {
    let (backend, driver) = match device {
        Device::Cpu => ("cpu".to_string(), String::new()),
        Device::Gpu(gpu) => (gpu.report().backend.clone(), gpu.report().driver.clone()),
    };
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    json!({
        "version": env!("CARGO_PKG_VERSION"), "date": date(seconds / 86_400),
        "machine": {
            "cpu": cpu(), "threads": std::thread::available_parallelism().map_or(1, usize::from),
            "system": format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        },
        "device": device.name(), "backend": backend, "driver": driver,
        "limits": {
            "copy_bytes_per_second": limits.copy, "copy": limits.way,
            "product_flops_per_second": limits.product, "product_side": limits.side,
        },
    })
}

/// The CPU's name where the system has it in a file.
fn cpu() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    name.map_or("unknown", |(_, name)| name).to_string()
}

/// A day of the Gregorian calendar, by its number from 1970-01-01: eras of 400 years, years from March on.
fn date(day: u64) -> String {
    let from_march = day + 719_468;
    let (era, of_era) = (from_march / 146_097, from_march % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!("{}-{month:02}-{day:02}", era * 400 + year + next)
}

/// What the file holds.
pub(crate) fn bytes(path: &Path, report: &Value) -> Vec<u8> {
    if path.extension().is_some_and(|ending| ending == "json") {
        return format!("{report:#}\n").into_bytes();
    }
    markdown(report).into_bytes()
}

fn markdown(report: &Value) -> String {
    let text = |key: &str| report[key].as_str().unwrap_or_default().to_string();
    let (machine, limits) = (&report["machine"], &report["limits"]);
    let mut out = format!("# crossmodal {} bench, {}\n\n", text("version"), text("date"));
    out += &format!(
        "- machine: {}, {} threads, {}\n- device: {} ({}{}{})\n- best copy: {} GB/s ({})\n- best product: {} GFLOP/s (square {})\n",
        machine["cpu"].as_str().unwrap_or_default(),
        machine["threads"],
        machine["system"].as_str().unwrap_or_default(),
        text("device"),
        text("backend"),
        if text("driver").is_empty() { "" } else { ", " },
        text("driver"),
        number(&limits["copy_bytes_per_second"], 1e-9),
        limits["copy"].as_str().unwrap_or_default(),
        number(&limits["product_flops_per_second"], 1e-9),
        limits["product_side"],
    );
    if let Some(cases) = report["cases"].as_array() {
        out += "\n| operation | case | first ms | ms | GFLOP/s | % of product | GB/s | % of copy |\n";
        out += "|---|---|---:|---:|---:|---:|---:|---:|\n";
        cases.iter().for_each(|case| out += &line(case));
    }
    if let Some(all) = report["beside"].as_array() {
        out += "\n| operation | ms | beside | ms | ratio |\n|---|---:|---|---:|---:|\n";
        for one in all {
            out += &format!(
                "| {} | {} | {} | {} | {} |\n",
                one["operation"].as_str().unwrap_or_default(),
                number(&one["seconds"], 1e3),
                one["beside"].as_str().unwrap_or_default(),
                number(&one["seconds_of_parts"], 1e3),
                number(&one["ratio"], 1.)
            );
        }
    }
    if let Some(growths) = report["growth"].as_array() {
        out += "\n| operation | size | sizes | ms | MiB | exponent of time | of memory |\n|---|---|---|---|---|---|---|\n";
        growths.iter().for_each(|growth| out += &growth_line(growth));
    }
    out
}

fn number(value: &Value, factor: f64) -> String {
    value.as_f64().map_or("-".to_string(), |value| table::digits(value * factor))
}

fn line(case: &Value) -> String {
    let name = format!(
        "| {} | {} |",
        case["op"].as_str().unwrap_or_default(),
        case["case"].as_str().unwrap_or_default()
    );
    if case.get("left_out_seconds").is_some() {
        let seconds = number(&case["left_out_seconds"], 1.);
        return format!("{name} left out: {seconds} s a run or more | | | | | |\n");
    }
    if let Some(why) = case["failed"].as_str() {
        return format!("{name} failed: {} | | | | | |\n", why.replace('|', "/"));
    }
    let cells = [
        ("first_seconds", 1e3),
        ("median_seconds", 1e3),
        ("flops_per_second", 1e-9),
        ("percent_of_product", 1.),
        ("bytes_per_second", 1e-9),
        ("percent_of_copy", 1.),
    ];
    let cells = cells.map(|(key, factor)| format!(" {} |", number(&case[key], factor)));
    format!("{name}{}\n", cells.concat())
}

fn growth_line(growth: &Value) -> String {
    let list = |key: &str, factor: f64| {
        let all = growth[key].as_array().map_or(&[][..], Vec::as_slice);
        all.iter().map(|value| number(value, factor)).collect::<Vec<_>>().join(", ")
    };
    let sizes: Vec<_> = growth["sizes"].as_array().into_iter().flatten().map(Value::to_string).collect();
    let exponent = |key: &str| {
        let expected = number(&growth[format!("expected_{key}")], 1.);
        format!("{} (expected {expected})", number(&growth[key], 1.))
    };
    format!(
        "| {} | {} | {} | {} | {} | {} | {} |\n",
        growth["op"].as_str().unwrap_or_default(),
        growth["size"].as_str().unwrap_or_default(),
        sizes.join(", "),
        list("fastest_seconds", 1e3),
        list("peak_bytes", 1. / f64::from(1 << 20)),
        exponent("time_exponent"),
        exponent("memory_exponent"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_their_dates() {
        let days = [(0, "1970-01-01"), (59, "1970-03-01"), (11_016, "2000-02-29"), (11_017, "2000-03-01")];
        for (day, text) in days.into_iter().chain([(20_783, "2026-11-26"), (20_818, "2026-12-31")]) {
            assert_eq!(date(day), text);
        }
    }

    #[test]
    fn every_kind_of_line_is_a_row_of_as_many_cells() {
        let cases = [
            json!({ "op": "a", "case": "b", "left_out_seconds": 12.5 }),
            json!({ "op": "a", "case": "b", "failed": "out of memory | lost" }),
            json!({ "op": "a", "case": "b", "first_seconds": 1., "median_seconds": 0.5 }),
        ];
        for case in &cases {
            assert_eq!(line(case).matches('|').count(), 9, "{}", line(case));
        }
    }
}
