//! The table's rows on two threads, for tests that open a device a row.

use crossmodal::cases::{Row, TABLE};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Runs `work` for every row: while one row's kernels are compiled, which a thread does alone, another row's run.
pub(crate) fn every_row(work: impl Fn(&'static Row) + Sync) {
    let next = AtomicUsize::new(0);
    let take_all = || {
        while let Some(row) = TABLE.get(next.fetch_add(1, Relaxed)) {
            work(row);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(take_all);
        take_all();
    });
}
