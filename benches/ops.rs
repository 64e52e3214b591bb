//! Every operation of the table timed on the device that `CROSSMODAL_DEVICE` names:
//! `CROSSMODAL_DEVICE=cpu cargo bench --features verify [-- OP]`.

use crossmodal::cases::{self, Scale};
use crossmodal::{Device, Result};
use std::io::Write;

fn main() -> Result<()> {
    let device = Device::best()?;
    let only = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let mut out = std::io::stdout().lock();
    // A reader that went away wants no more lines.
    let _ = writeln!(
        out,
        "{}\n{:<20}{:<28}{:>10}{:>10}{:>9}",
        device.name(),
        "operation",
        "case",
        "median ms",
        "GFLOP/s",
        "GB/s"
    );
    for row in cases::TABLE.iter().filter(|row| only.as_ref().is_none_or(|only| row.op == only)) {
        for case in (row.bench)(Scale::of(&device)) {
            let m = cases::measure(&device, &case)?;
            let (ms, gflops, gb) = (1e3 * m.median, 1e-9 * m.flops, 1e-9 * m.bytes);
            let _ = writeln!(out, "{:<20}{:<28}{ms:>10.3}{gflops:>10.2}{gb:>9.2}", row.op, case.name);
        }
    }
    Ok(())
}
