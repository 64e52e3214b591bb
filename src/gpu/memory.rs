//! Buffers for tensors: from the pool, in pieces that a binding spans, poisoned for verification.

use super::{Buffer, Gpu, MemoryUse, pool};
use crate::error::{Error, Result};
use std::sync::atomic::Ordering::Relaxed;

/// The bits that [`Gpu::poison`] fills a fresh buffer with: NaN as f32 and as two f16. Signalling, so that arithmetic changes
/// it, and another one in every buffer, so that a copy does too: a guard band written with what was read from one shows.
fn poison_word(id: u64) -> u32 {
    0x7f80_7c00 | ((id % 63 + 1) << 16) as u32 | (id % 511 + 1) as u32
}

/// Bytes behind each tensor that poisoning also fills and [`Gpu::guard_is_intact`] checks.
const GUARD: u64 = 256;

impl Gpu {
    /// Bytes held by tensors and by the pool.
    ///
    /// ```
    /// use crossmodal::{DType, Device, Tensor};
    /// if let Ok(Device::Gpu(gpu)) = Device::named("gpu") {
    ///     let x = Tensor::zeros(&Device::Gpu(gpu.clone()), &[1024], DType::F32)?;
    ///     assert_eq!(gpu.memory().live, 4096);
    ///     drop(x);
    ///     assert_eq!((gpu.memory().live, gpu.memory().idle), (0, 4096));
    /// }
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    pub fn memory(&self) -> MemoryUse {
        self.0.pool.memory()
    }

    /// Starts [`MemoryUse::peak`] anew.
    ///
    /// ```
    /// use crossmodal::{DType, Device, Tensor};
    /// if let Ok(Device::Gpu(gpu)) = Device::named("gpu") {
    ///     drop(Tensor::zeros(&Device::Gpu(gpu.clone()), &[1024], DType::F32)?);
    ///     gpu.trim();
    ///     gpu.reset_peak();
    ///     assert_eq!(gpu.memory().peak, 0);
    /// }
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    pub fn reset_peak(&self) {
        self.0.pool.reset_peak();
    }

    /// Gives idle buffers back to the driver. Example: [`Gpu::reset_peak`].
    pub fn trim(&self) {
        self.0.pool.trim();
        self.0.pipelines.lock().expect("pipeline lock").forget_bind_groups();
        self.0.readbacks.lock().expect("readback lock").clear();
    }

    /// While on, every fresh tensor starts as NaN and has a guard band behind it: for verification.
    ///
    /// ```
    /// use crossmodal::{Device, Tensor};
    /// if let Ok(device @ Device::Gpu(gpu)) = &Device::named("gpu") {
    ///     gpu.poison(true);
    ///     assert_eq!(Tensor::scalar(device, 1f32)?.item()?, 1.); // what is written is as ever
    ///     gpu.poison(false);
    /// }
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    pub fn poison(&self, on: bool) {
        self.0.poison.store(on, Relaxed);
    }

    /// Idle buffers may be what fills the memory, held by commands that are not done: where there is none left, lets both go
    /// and tries once more.
    pub(super) fn with_room<T>(&self, allocate: impl Fn() -> Result<T>) -> Result<T> {
        match allocate() {
            Err(Error::OutOfMemory { .. }) => {
                #[cfg(not(target_arch = "wasm32"))]
                self.wait()?;
                self.trim();
                allocate()
            }
            other => other,
        }
    }

    /// A new buffer of the driver's, counted.
    pub(super) fn make_buffer(
        &self,
        what: &str,
        descriptor: &wgpu::BufferDescriptor<'_>,
    ) -> Result<wgpu::Buffer> {
        self.0.made.buffers.fetch_add(1, Relaxed);
        self.checked(what, descriptor.size, || self.0.device.create_buffer(descriptor))
    }

    /// Bytes that one binding may span, to whole elements of every type.
    pub(crate) fn piece_bytes(&self) -> u64 {
        self.0.report.max_buffer.min(self.0.report.max_binding) / 256 * 256
    }

    /// Buffers for `bytes` bytes: one, or pieces of [`Gpu::piece_bytes`] where no binding could span them all. Their content
    /// is whatever the last user left, NaN under [`Gpu::poison`].
    pub(crate) fn allocate(&self, what: &str, bytes: u64) -> Result<Vec<Buffer>> {
        let piece = self.piece_bytes();
        let pieces = bytes.div_ceil(piece).max(1);
        (0..pieces).map(|i| self.allocate_piece(what, piece.min(bytes - i * piece))).collect()
    }

    fn allocate_piece(&self, what: &str, bytes: u64) -> Result<Buffer> {
        let limit = self.0.report.max_buffer.min(self.0.report.max_binding);
        let poison = self.0.poison.load(Relaxed);
        let class = pool::size_class(bytes + if poison { GUARD } else { 0 }).min(limit / 4 * 4);
        let make = || {
            let descriptor = wgpu::BufferDescriptor {
                label: Some(what),
                size: class,
                usage: wgpu::BufferUsages::STORAGE
                    | wgpu::BufferUsages::COPY_SRC
                    | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            };
            self.make_buffer(what, &descriptor)
        };
        let buffer = self.with_room(|| self.0.pool.take(class, make))?;
        if poison {
            self.write(&buffer, bytemuck::cast_slice(&vec![poison_word(buffer.id); class as usize / 4]))?;
        }
        Ok(buffer)
    }

    #[cfg(all(feature = "verify", not(target_arch = "wasm32")))]
    /// Whether nothing wrote behind the first `bytes` bytes of a buffer allocated under [`Gpu::poison`].
    pub(crate) fn guard_is_intact(&self, buffer: &Buffer, bytes: u64) -> Result<bool> {
        let all = self.read_blocking(buffer, buffer.raw.size())?;
        let behind = bytes.next_multiple_of(4) as usize;
        let words = bytemuck::pod_collect_to_vec::<u8, u32>(&all[behind..]);
        Ok(words.iter().all(|&word| word == poison_word(buffer.id)))
    }
}
