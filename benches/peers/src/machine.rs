//! What a measurement was made on: without it a number says nothing.

use crossmodal::Device;
use serde::Serialize;
use serde_json::Value;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

#[derive(Debug, Serialize)]
pub(crate) struct About {
    pub date: String,
    pub machine: String,
    pub cores: usize,
    pub adapter: String,
    pub driver: String,
    /// Name and version.
    pub versions: Vec<(String, String)>,
    /// What Python's peers say of themselves.
    pub python: Vec<Value>,
}

pub(crate) fn about(device: &Device, with_burn: bool) -> About {
    let (adapter, driver) = match device {
        Device::Cpu => ("none, the CPU path".to_string(), "none".to_string()),
        Device::Gpu(gpu) => {
            let report = gpu.report();
            (format!("{} ({}, {})", report.name, report.backend, report.kind), report.driver.clone())
        }
    };
    let crates = ["crossmodal", "burn", "wgpu"].into_iter().filter(|name| *name != "burn" || with_burn);
    let mut versions: Vec<_> = crates.map(|name| (name.to_string(), locked(name))).collect();
    versions[0].1 += &commit();
    About {
        date: today(),
        machine: processor(),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        adapter,
        driver,
        versions,
        python: vec![],
    }
}

/// The version that this program was built with.
fn locked(name: &str) -> String {
    let lock = include_str!("../Cargo.lock");
    let entry = lock.split_once(&format!("name = \"{name}\"\nversion = \"")).map(|(_, rest)| rest);
    entry.and_then(|rest| rest.split('"').next()).unwrap_or("unknown").to_string()
}

/// Of the checkout that it is run in; nothing where there is no git.
fn commit() -> String {
    let output = Command::new("git").args(["describe", "--always", "--dirty", "--exclude=*"]).output();
    match output {
        Ok(output) if output.status.success() => {
            format!(" at {}", String::from_utf8_lossy(&output.stdout).trim())
        }
        _ => String::new(),
    }
}

fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or(std::env::consts::ARCH, |(_, name)| name).trim().to_string()
}

fn today() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    date(seconds / 86400)
}

/// The date so many days after 1 January 1970.
fn date(mut days: u64) -> String {
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let mut month = 0;
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    format!("{year}-{:02}-{:02}", month + 1, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_dates() {
        assert_eq!(
            [0, 58, 59, 11016, 20454].map(date),
            ["1970-01-01", "1970-02-28", "1970-03-01", "2000-02-29", "2026-01-01"]
        );
    }

    #[test]
    fn versions_come_from_the_lock_file() {
        assert!(locked("wgpu").starts_with("30."), "{}", locked("wgpu"));
        assert_eq!(locked("no such crate"), "unknown");
    }
}
