//! The one error type: what was asked, what was expected, what came.
//!
//! ```
//! use crossmodal::{Device, Error, Tensor};
//! let error = Tensor::from_slice(&Device::Cpu, &[3], &[1f32]).unwrap_err();
//! assert!(matches!(&error, Error::Argument { op: "Tensor", argument, .. } if argument == "data"));
//! assert_eq!(error.to_string(), "Tensor: data: expected 3 elements for shape [3], got 1");
//! ```

use std::borrow::Cow;

/// What a call of this crate can fail with. An operation that fails changes none of its arguments, but one:
/// [`adamw`](crate::ops::adamw()) on a GPU tensor of several pieces is done in parts, and where the memory or the
/// driver fails in the middle the earlier parts have made the step. A file is whole or not there. Functions
/// without a [`Result`] expect what their documentation says of their arguments and panic otherwise.
///
/// ```
/// use crossmodal::{Device, Error};
/// match Device::named("no such device") {
///     Err(Error::NoDevice { exist, .. }) => assert!(exist.contains("cpu")),
///     other => panic!("{other:?}"),
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An argument does not fit: its shape, type, range or value.
    #[error("{op}: {argument}: expected {expected}, got {got}")]
    Argument {
        /// The operation or job that refused.
        op: &'static str,
        /// The argument's name as the documentation has it.
        argument: Cow<'static, str>,
        /// What would have been accepted.
        expected: String,
        /// What came.
        got: String,
    },
    /// Tensors of one call lie on different devices.
    #[error("{op}: {argument} is on {got}, the first tensor on {expected}; move one with Tensor::to_device")]
    Devices {
        /// The operation that refused.
        op: &'static str,
        /// The argument that lies elsewhere.
        argument: &'static str,
        /// The device of the first tensor.
        expected: String,
        /// The device of this argument.
        got: String,
    },
    /// A limit of the device was hit.
    #[error("{device}: {what} needs {asked} bytes, the device allows {available}")]
    Limit {
        /// The device's name.
        device: String,
        /// What was to be made.
        what: String,
        /// Bytes asked for.
        asked: u64,
        /// Bytes the device allows.
        available: u64,
    },
    /// The device has no memory left.
    #[error("{device}: out of memory: asked for {asked} bytes, {live} are in use by tensors and {idle} idle")]
    OutOfMemory {
        /// The device's name.
        device: String,
        /// Bytes asked for.
        asked: u64,
        /// Bytes that live tensors hold.
        live: u64,
        /// Bytes the pool holds for reuse.
        idle: u64,
    },
    /// No device answers to the name asked for.
    #[error("device '{asked}': {reason}; there are: {exist}")]
    NoDevice {
        /// The name asked for.
        asked: String,
        /// Why it is not to be had.
        reason: String,
        /// The devices that exist.
        exist: String,
    },
    /// The driver or the WebGPU implementation refused or was lost.
    #[error("{device}: {what}: {message}")]
    Driver {
        /// The device's name.
        device: String,
        /// What was being done.
        what: String,
        /// The driver's own words.
        message: String,
    },
    /// A file could not be read, written or understood.
    #[error("{path}: {message}")]
    File {
        /// The file as it was named.
        path: String,
        /// What is wrong with it.
        message: String,
    },
}

/// The result of every fallible call of this crate.
///
/// ```
/// use crossmodal::{Error, Result};
/// fn half(n: usize) -> Result<usize> {
///     if n % 2 == 0 { Ok(n / 2) } else { Err(Error::argument("half", "n", "an even number", n)) }
/// }
/// assert_eq!(half(4)?, 2);
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An [`Error::Argument`].
    ///
    /// ```
    /// let error = crossmodal::Error::argument("half", "n", "an even number", 3);
    /// assert_eq!(error.to_string(), "half: n: expected an even number, got 3");
    /// ```
    pub fn argument(
        op: &'static str,
        argument: impl Into<Cow<'static, str>>,
        expected: impl std::fmt::Display,
        got: impl std::fmt::Display,
    ) -> Self {
        Error::Argument {
            op,
            argument: argument.into(),
            expected: expected.to_string(),
            got: got.to_string(),
        }
    }

    /// An [`Error::File`].
    ///
    /// ```
    /// assert_eq!(crossmodal::Error::file("a.npy", "no such file").to_string(), "a.npy: no such file");
    /// ```
    pub fn file(path: impl AsRef<std::path::Path>, message: impl std::fmt::Display) -> Self {
        Error::File { path: path.as_ref().display().to_string(), message: message.to_string() }
    }
}
