//! The `gpu` module of a build without the `gpu` feature: a GPU that cannot exist, so that operations read the same.

pub(crate) mod kernel;
pub(crate) use kernel::Abilities;
pub use kernel::{Access, Binding, Field, Kernel, Variant};

use crate::error::Result;
use kernel::Params;

/// A GPU in a build without one: there is no value of this type.
///
/// ```
/// use crossmodal::{Device, gpu::Gpu};
/// assert!(Device::named("gpu").is_err());
/// // A program for both kinds of build calls what there is in both.
/// fn finish(gpu: &Gpu) -> crossmodal::Result<&str> {
///     gpu.submit()?;
///     gpu.wait()?;
///     Ok(gpu.name())
/// }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub enum Gpu {}

pub(crate) enum Buffer {}

impl Gpu {
    /// The adapter's name. Example: [`Gpu`].
    pub fn name(&self) -> &str {
        match *self {}
    }

    /// Hands what is recorded to the driver. Example: [`Gpu`].
    pub fn submit(&self) -> Result<()> {
        match *self {}
    }

    /// Waits until the device has done everything submitted. Example: [`Gpu`].
    pub fn wait(&self) -> Result<()> {
        match *self {}
    }

    pub(crate) fn supports_f16(&self) -> bool {
        match *self {}
    }

    pub(crate) fn abilities(&self) -> Abilities {
        match *self {}
    }

    pub(crate) fn may_time(&self) -> bool {
        match *self {}
    }

    pub(crate) fn choice(&self, _class: &str) -> Option<String> {
        match *self {}
    }

    pub(crate) fn choose(&self, _class: &str, _choice: &str) {
        match *self {}
    }

    pub(crate) fn piece_bytes(&self) -> u64 {
        match *self {}
    }

    pub(crate) fn allocate(&self, _what: &str, _bytes: u64) -> Result<Vec<Buffer>> {
        match *self {}
    }

    pub(crate) fn write(&self, _buffer: &Buffer, _bytes: &[u8]) -> Result<()> {
        match *self {}
    }

    pub(crate) fn count_work(&self, _flops: f64) -> Result<()> {
        match *self {}
    }

    pub(crate) fn copy(&self, _from: &Buffer, _to: &Buffer, _bytes: u64) {
        match *self {}
    }

    pub(crate) fn clear(&self, _buffer: &Buffer, _bytes: u64) {
        match *self {}
    }

    pub(crate) async fn read(&self, _buffer: &Buffer, _bytes: u64) -> Result<Vec<u8>> {
        match *self {}
    }

    pub(crate) fn read_blocking(&self, _buffer: &Buffer, _bytes: u64) -> Result<Vec<u8>> {
        match *self {}
    }

    pub(crate) fn dispatch<P: Params>(
        &self,
        _kernel: &Kernel,
        _variant: Variant,
        _params: &P,
        _buffers: &[&Buffer],
        _groups: u64,
    ) -> Result<()> {
        match *self {}
    }
}
