//! Ctrl-C: the first asks a run to end behind its epoch, the second ends the program.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

static ASKED: AtomicBool = AtomicBool::new(false);

/// The exit status of an interrupted program.
pub(crate) const STATUS: u8 = 130;

/// Listens from now on.
pub(crate) fn listen() {
    let listening = ctrlc::set_handler(|| {
        if ASKED.swap(true, Relaxed) {
            std::process::exit(STATUS.into());
        }
        crate::output::note("\ninterrupted: ending after this epoch; once more ends at once");
    });
    if let Err(error) = listening {
        log::warn!("an interrupt will end the run at once: {error}");
    }
}

/// Whether somebody asked.
pub(crate) fn asked() -> bool {
    ASKED.load(Relaxed)
}
