//! Device to host: asynchronous, with a blocking twin on native. Besides, natively, only an
//! allocation that found no memory and the end of a profile wait.

use super::{Buffer, Gpu, pool};
use crate::error::Result;

/// Bytes up to which a buffer that was read is kept for the next time, and how many of them are.
const KEPT_BYTES: u64 = 64 << 10;
const KEPT: usize = 16;

type Receiver =
    futures_intrusive::channel::shared::OneshotReceiver<std::result::Result<(), wgpu::BufferAsyncError>>;

impl Gpu {
    /// Submits what is recorded and asks for the first `bytes` bytes of `buffer`.
    fn request_read(&self, buffer: &Buffer, bytes: u64) -> Result<(wgpu::Buffer, Receiver)> {
        let size = bytes.next_multiple_of(4);
        let mappable = self.with_room(|| self.mappable(size))?;
        self.copy_out(buffer, &mappable, size);
        self.submit()?;
        let receiver = self.map(&mappable);
        Ok((mappable, receiver))
    }

    /// A buffer to read `size` bytes from: a small one that was read before, or a new one.
    fn mappable(&self, size: u64) -> Result<wgpu::Buffer> {
        let size = if size <= KEPT_BYTES { pool::size_class(size) } else { size };
        let mut kept = self.0.readbacks.lock().expect("readback lock");
        if let Some(at) = kept.iter().position(|buffer| buffer.size() == size) {
            return Ok(kept.swap_remove(at));
        }
        drop(kept);
        let descriptor = wgpu::BufferDescriptor {
            label: Some("readback"),
            size,
            usage: wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ,
            mapped_at_creation: false,
        };
        self.make_buffer("reading back", &descriptor)
    }

    /// Keeps a buffer that was read, where it is small.
    fn keep(&self, mappable: wgpu::Buffer) {
        let mut kept = self.0.readbacks.lock().expect("readback lock");
        let size = mappable.size();
        if size <= KEPT_BYTES && size == pool::size_class(size) && kept.len() < KEPT {
            kept.push(mappable);
        }
    }

    pub(super) fn map(&self, mappable: &wgpu::Buffer) -> Receiver {
        let (sender, receiver) = futures_intrusive::channel::shared::oneshot_channel();
        mappable.slice(..).map_async(wgpu::MapMode::Read, move |result| {
            // The receiver is gone only if the caller dropped the future: nobody wants the answer.
            let _ = sender.send(result);
        });
        receiver
    }

    pub(super) async fn mapped_bytes(&self, mappable: wgpu::Buffer, receiver: Receiver) -> Result<Vec<u8>> {
        let fail = |message: String| self.driver_error("reading back", message);
        match receiver.receive().await {
            Some(Ok(())) => {}
            Some(Err(e)) => return Err(fail(e.to_string())),
            None => return Err(fail("the device went away".into())),
        }
        let bytes = mappable.get_mapped_range(..).map_err(|e| fail(e.to_string()))?.to_vec();
        mappable.unmap();
        self.keep(mappable);
        Ok(bytes)
    }

    /// Waits until the device has done everything submitted.
    ///
    /// ```
    /// use crossmodal::{DType, Device, Tensor, ops::exp};
    /// if let Ok(device @ Device::Gpu(gpu)) = &Device::named("gpu") {
    ///     exp(&Tensor::zeros(device, &[4], DType::F32)?)?;
    ///     gpu.wait()?;
    ///     assert_eq!(gpu.counters().readbacks, 0); // nothing was read
    /// }
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    #[cfg(not(target_arch = "wasm32"))]
    pub fn wait(&self) -> Result<()> {
        self.submit()?;
        self.poll()
    }

    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn poll(&self) -> Result<()> {
        let done = self.0.device.poll(wgpu::PollType::wait_indefinitely());
        done.map(drop).map_err(|e| self.driver_error("waiting for the device", e.to_string()))
    }

    /// The first `bytes` bytes of a buffer. Natively a thread drives the device, so that any executor will do; in a browser
    /// the event loop does.
    pub(crate) async fn read(&self, buffer: &Buffer, bytes: u64) -> Result<Vec<u8>> {
        if bytes == 0 {
            return Ok(vec![]);
        }
        let (mappable, receiver) = self.request_read(buffer, bytes)?;
        #[cfg(not(target_arch = "wasm32"))]
        {
            let gpu = self.clone();
            std::thread::spawn(move || gpu.poll());
        }
        let mut out = self.mapped_bytes(mappable, receiver).await?;
        out.truncate(bytes as usize);
        Ok(out)
    }

    /// As [`Gpu::read`], on the calling thread.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn read_blocking(&self, buffer: &Buffer, bytes: u64) -> Result<Vec<u8>> {
        if bytes == 0 {
            return Ok(vec![]);
        }
        let (mappable, receiver) = self.request_read(buffer, bytes)?;
        self.poll()?;
        let mut out = pollster::block_on(self.mapped_bytes(mappable, receiver))?;
        out.truncate(bytes as usize);
        Ok(out)
    }
}
