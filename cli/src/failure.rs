//! Why a verb ends early.

use std::process::ExitCode;

/// What a verb ends with.
pub(crate) type Outcome = Result<ExitCode, Failure>;

/// Why a verb ends early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something to tell the user, in one line.
    Message(String),
    /// Nobody reads the output any more, as in `crossmodal devices | head -1`.
    ClosedPipe,
}

impl Failure {
    /// A failure with something to tell.
    pub(crate) fn new(message: impl std::fmt::Display) -> Self {
        Failure::Message(message.to_string())
    }

    /// Tells the user; the exit status.
    pub(crate) fn report(self) -> ExitCode {
        match self {
            Failure::Message(message) => {
                // Drivers speak in several lines.
                let lines: Vec<_> = message.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
                crate::output::note(&format!("error: {}", lines.join(" ")));
                ExitCode::from(2)
            }
            Failure::ClosedPipe => ExitCode::SUCCESS,
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Message(message) => f.write_str(message),
            Failure::ClosedPipe => f.write_str("nobody reads the output"),
        }
    }
}

impl From<crossmodal::Error> for Failure {
    fn from(error: crossmodal::Error) -> Self {
        Failure::new(error)
    }
}
