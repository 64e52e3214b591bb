//! Operations that have several kernels for one thing, the best that a device can run: verification tries each of them.

use std::cell::Cell;

thread_local! {
    /// Which way is forced, and how many there were to choose from.
    static FORCED: Cell<(usize, usize)> = const { Cell::new((0, 1)) };
}

/// Which of `ways`, the best first, an operation goes: the first, or a later one while verification forces it.
pub(crate) fn choose(ways: usize) -> usize {
    let (forced, seen) = FORCED.get();
    FORCED.set((forced, seen.max(ways)));
    forced.min(ways - 1)
}

/// Runs `work` where operations go their way number `way`, or their last one; also how many ways the one with most has.
#[cfg(feature = "verify")]
pub(crate) fn forced<T>(way: usize, work: impl FnOnce() -> T) -> (T, usize) {
    FORCED.set((way, 1));
    let out = work();
    let (_, seen) = FORCED.replace((0, 1));
    (out, seen)
}
