//! Every operation of the table timed on the device that `CROSSMODAL_DEVICE` names, beside what that device can do:
//! `CROSSMODAL_DEVICE=cpu cargo bench --features verify [-- OP]`. `crossmodal bench` has the same table, with flags.

use crossmodal::cases::{self, Limits, Line, Table};
use crossmodal::{Device, Result};
use std::io::Write;

fn main() -> Result<()> {
    let device = Device::best()?;
    let only = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let benches = cases::benches(|op, _| only.as_ref().is_none_or(|only| op == only));
    let mut out = std::io::stdout().lock();
    let limits = Limits::measure(&device)?;
    // A reader that went away wants no more lines.
    let _ = writeln!(out, "{}\n{limits}\n\n{}", device.name(), cases::table_head());
    let mut table = Table::new(&limits);
    let mut each = |line: &Line| drop(write!(out, "{}", table.line(line)));
    cases::bench(&device, &limits, &benches, cases::patience(&device), &mut each);
    let _ = write!(out, "{}", table.end());
    Ok(())
}
