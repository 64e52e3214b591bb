//! Standard output and standard error, either of which may be closed at any time.

use std::io::{ErrorKind, Write};

use serde_json::Value;

use crate::failure::Failure;

/// Writes lines of a result to standard output.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()).map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => Failure::ClosedPipe,
        _ => Failure::new(format!("cannot write to standard output: {error}")),
    })
}

/// Writes a result as JSON to standard output.
pub(crate) fn print_json(value: &Value) -> Result<(), Failure> {
    print(&format!("{value:#}"))
}

/// Writes a line about the work to standard error.
pub(crate) fn note(line: &str) {
    // There is nobody else to tell.
    let _ = writeln!(std::io::stderr(), "{line}");
}
