//! Device memory: whole buffers that go back when dropped, because two ranges of one buffer alias in the eyes of WebGPU.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

/// A buffer on loan from the pool. Recorded commands keep their own handle, and everything that touches a buffer again is
/// recorded behind them, so that a buffer may be reused as soon as its tensor is dropped.
pub(crate) struct Buffer {
    pub(super) raw: wgpu::Buffer,
    /// Stable over reuse: names the buffer in the cache of bind groups.
    pub(super) id: u64,
    pool: Arc<Pool>,
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.pool.give_back(self.raw.clone(), self.id);
    }
}

#[derive(Default)]
pub(super) struct Pool {
    /// By size and number. The lowest number goes out first: steps that take and give back alike get the same buffers, whatever
    /// the order in which they gave them back, and find their bind groups made.
    idle: Mutex<HashMap<u64, BTreeMap<u64, wgpu::Buffer>>>,
    live_bytes: AtomicU64,
    idle_bytes: AtomicU64,
    peak_bytes: AtomicU64,
    made: AtomicU64,
}

/// What the pool holds, in bytes.
/// Tensors' sizes are rounded up. Example: [`Gpu::memory`](super::Gpu::memory).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// Held by live tensors.
    pub live: u64,
    /// Held for reuse.
    pub idle: u64,
    /// The most that was ever held, live and idle together, since [`Gpu::reset_peak`](super::Gpu::reset_peak).
    pub peak: u64,
}

/// Sizes are rounded up to an eighth of a power of two, so that nearly equal tensors share buffers and at most 1/8 is lost.
pub(super) fn size_class(bytes: u64) -> u64 {
    let bytes = bytes.max(256);
    let step = (bytes.next_power_of_two() / 16).max(256);
    bytes.div_ceil(step) * step
}

impl Pool {
    /// An idle buffer of this class, or one that `make` makes.
    pub(super) fn take<E>(
        self: &Arc<Self>,
        class: u64,
        make: impl FnOnce() -> Result<wgpu::Buffer, E>,
    ) -> Result<Buffer, E> {
        // Counted under the lock, so that no other thread sees buffers that are neither idle nor counted.
        let found = {
            let mut idle = self.idle.lock().expect("pool lock");
            let found = idle.get_mut(&class).and_then(BTreeMap::pop_first);
            self.idle_bytes.fetch_sub(if found.is_some() { class } else { 0 }, Relaxed);
            found
        };
        let (id, raw) = match found {
            Some(pair) => pair,
            None => (self.made.fetch_add(1, Relaxed), make()?),
        };
        let live = self.live_bytes.fetch_add(class, Relaxed) + class;
        self.peak_bytes.fetch_max(live + self.idle_bytes.load(Relaxed), Relaxed);
        Ok(Buffer { raw, id, pool: self.clone() })
    }

    fn give_back(&self, raw: wgpu::Buffer, id: u64) {
        let class = raw.size();
        let mut idle = self.idle.lock().expect("pool lock");
        self.live_bytes.fetch_sub(class, Relaxed);
        self.idle_bytes.fetch_add(class, Relaxed);
        idle.entry(class).or_default().insert(id, raw);
    }

    /// Lets every idle buffer go; the driver frees it once no command needs it.
    pub(super) fn trim(&self) {
        let mut idle = self.idle.lock().expect("pool lock");
        idle.clear();
        self.idle_bytes.store(0, Relaxed);
    }

    pub(super) fn memory(&self) -> MemoryUse {
        MemoryUse {
            live: self.live_bytes.load(Relaxed),
            idle: self.idle_bytes.load(Relaxed),
            peak: self.peak_bytes.load(Relaxed),
        }
    }

    pub(super) fn reset_peak(&self) {
        self.peak_bytes.store(self.live_bytes.load(Relaxed) + self.idle_bytes.load(Relaxed), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::size_class;

    #[test]
    fn classes_waste_at_most_an_eighth() {
        for bytes in [1, 256, 257, 4096, 5000, 1 << 20, (1 << 20) + 1, 100_000_000, 128 << 20] {
            let class = size_class(bytes);
            assert!(class >= bytes && class.is_multiple_of(4));
            assert!(bytes <= 2048 || class <= bytes + bytes / 8 + 256, "{bytes} -> {class}");
        }
        assert_eq!(size_class(128 << 20), 128 << 20, "a tensor at the binding limit must still fit");
    }
}
