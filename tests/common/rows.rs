//! The table's rows on two threads, for tests that open a device a row.

use crossmodal::cases::{Row, TABLE};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Runs `work` for every row, or for the one that the variable `CROSSMODAL_TEST_OP` names: while one row's kernels are compiled,
/// which a thread does alone, another row's run.
pub(crate) fn every_row(work: impl Fn(&'static Row) + Sync) {
    let only = std::env::var("CROSSMODAL_TEST_OP").ok();
    let rows: Vec<_> = TABLE.iter().filter(|row| only.as_deref().is_none_or(|op| op == row.op)).collect();
    assert!(!rows.is_empty(), "CROSSMODAL_TEST_OP={only:?} is no operation");
    let next = AtomicUsize::new(0);
    let take_all = || {
        while let Some(row) = rows.get(next.fetch_add(1, Relaxed)) {
            work(row);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(take_all);
        take_all();
    });
}
