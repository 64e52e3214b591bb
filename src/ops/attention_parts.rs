//! Attention on a GPU: to come.

use super::attention::{Attended, Upstream, Wide};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::reference::Attention;
use crate::tensor::Tensor;

fn to_come<T>() -> Result<T> {
    Err(Error::argument("attention", "device", "the CPU", "a GPU"))
}

pub(super) fn forward(_: &Gpu, _: &Wide, _: &Attention) -> Result<Attended> {
    to_come()
}

pub(super) fn backward(
    _: &Gpu,
    _: &Wide,
    _: [&Tensor; 2],
    _: &Upstream,
    _: &[bool],
    _: &Attention,
) -> Result<Vec<Option<Tensor>>> {
    to_come()
}
