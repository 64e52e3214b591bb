//! The rows of `peers.py`: of a file, or of a run of it.

use crate::side::Outcome;
use crate::timing::Times;
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};

/// What it measured and on what.
#[derive(Debug, Default)]
pub(crate) struct Python {
    pub about: Vec<Value>,
    pub rows: Vec<Row>,
}

/// A measurement, or why there is none.
#[derive(Debug, Deserialize)]
pub(crate) struct Row {
    peer: String,
    variant: String,
    pub shape: String,
    first_s: Option<f64>,
    median_s: Option<f64>,
    least_s: Option<f64>,
    runs: Option<usize>,
    pub peak_bytes: Option<u64>,
    /// Why none was wanted.
    pub skipped: Option<String>,
    error: Option<String>,
}

impl Row {
    pub(crate) fn name(&self) -> String {
        format!("{} {}", self.peer, self.variant)
    }

    pub(crate) fn times(&self) -> Outcome<Times> {
        match (self.first_s, self.median_s, self.least_s, self.runs) {
            (Some(first), Some(median), Some(least), Some(runs)) => Ok(Times { first, median, least, runs }),
            _ => Err(self.error.clone().unwrap_or_else(|| "no times in its row".into())),
        }
    }
}

/// Reads lines of JSON. What a run that was cut off left of its last line is left out.
pub(crate) fn parse(text: &str) -> Outcome<Python> {
    let mut python = Python::default();
    let (mut number, whole) = (0, text.rfind('\n').map_or("", |end| &text[..end]));
    for line in whole.lines() {
        number += 1;
        let wrong = |e| format!("line {number}: expected a row of peers.py: {e}");
        let mut value: Value = serde_json::from_str(line).map_err(wrong)?;
        match value.get_mut("about") {
            Some(about) => python.about.push(about.take()),
            None => python.rows.push(serde_json::from_value(value).map_err(wrong)?),
        }
    }
    Ok(python)
}

/// Runs the script and waits for it. Errors: there is no Python; it has neither PyTorch nor numpy.
pub(crate) fn run(script: &Path, arguments: &[String]) -> Outcome<Python> {
    let python = if cfg!(windows) { "python" } else { "python3" };
    let mut command = Command::new(python);
    command.arg(script).args(arguments).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = command.output().map_err(|e| format!("expected to start {python}: {e}"))?;
    // Rows that it wrote before it failed are as good as others.
    let found = parse(&String::from_utf8_lossy(&output.stdout))?;
    if found.rows.is_empty() {
        Err(format!("peers.py measured nothing, {}", output.status))
    } else {
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_times_or_reasons_and_half_a_line_is_left_out() {
        let text = concat!(
            "{\"about\": {\"peer\": \"torch\"}}\n",
            "{\"peer\": \"torch\", \"variant\": \"f32\", \"shape\": \"a\", \"first_s\": 3, \"median_s\": 2, ",
            "\"least_s\": 1, \"runs\": 5}\n",
            "{\"peer\": \"torch\", \"variant\": \"f16\", \"shape\": \"a\", \"error\": \"out of memory\"}\n",
            "{\"peer\": \"tor"
        );
        let python = parse(text).unwrap();
        assert_eq!((python.about.len(), python.rows.len()), (1, 2));
        assert_eq!(python.rows[0].times().unwrap().median, 2.);
        assert_eq!(python.rows[1].times().unwrap_err(), "out of memory");
        assert!(parse("{}\n").unwrap_err().contains("line 1"));
    }
}
