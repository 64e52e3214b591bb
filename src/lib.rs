//! x
#[cfg(all(feature = "io", not(target_arch = "wasm32")))]
pub mod align;
pub mod autograd;
#[cfg(all(feature = "verify", not(target_arch = "wasm32")))]
pub mod cases;
pub(crate) mod cpu;
pub mod device;
pub mod dtype;
pub mod error;
#[cfg(feature = "gpu")]
pub mod gpu;
#[cfg(not(feature = "gpu"))]
#[path = "gpu/absent.rs"]
pub mod gpu;
#[cfg(feature = "io")]
pub mod io;
pub mod nn;
pub mod ops;
pub mod optim;
pub mod reference;
pub mod shape;
pub mod tensor;
pub use device::Device;
pub use dtype::DType;
pub use error::{Error, Result};
pub use tensor::Tensor;

/// Drives a future to its end on this thread.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    #[cfg(feature = "gpu")]
    return pollster::block_on(future);
    #[cfg(not(feature = "gpu"))]
    {
        // Without a GPU no future of this crate ever waits.
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::pin!(future).poll(&mut context) {
            std::task::Poll::Ready(out) => out,
            std::task::Poll::Pending => unreachable!("nothing to wait for on the CPU"),
        }
    }
}
