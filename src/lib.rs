//! Aligns and fuses the features of several modalities (images, text, audio …) on any GPU through WebGPU
//! (Vulkan, Metal, DX12), and on the CPU where there is none.
//!
//! Every operation is one function that runs on either device; on a tape ([`autograd`]) any model made of
//! them trains. Each kernel is verified against a plain f64 definition ([`mod@reference`]) on the very device
//! it runs on (`cases`, `crossmodal verify`).
//!
//! ```
//! use crossmodal::autograd::Tape;
//! use crossmodal::ops::{InfoNceOptions, info_nce::INFO_NCE, l2_normalize::L2_NORMALIZE};
//! use crossmodal::{Device, Tensor};
//!
//! let device = Device::best()?; // a real GPU, else the CPU path
//! let image = Tensor::from_slice(&device, &[2, 3], &[1f32, 0., 2., 0., 3., 1.])?;
//! let text = Tensor::from_slice(&device, &[2, 3], &[2f32, 0., 3., 1., 2., 0.])?;
//! let tape = Tape::new();
//! let (x, y) = (tape.leaf(&image), tape.leaf(&text));
//! let log_scale = tape.leaf(&Tensor::scalar(&device, 2f32)?);
//! let (x_hat, y_hat) = (tape.apply(&L2_NORMALIZE, (), &[&x])?, tape.apply(&L2_NORMALIZE, (), &[&y])?);
//! let loss = tape.apply(&INFO_NCE, InfoNceOptions::default(), &[&x_hat, &y_hat, &log_scale])?;
//! let gradients = tape.backward(&loss)?;
//! println!("loss {:.3}", loss.value().item()?);
//! assert_eq!(gradients.get(&x).unwrap().shape(), [2, 3]);
//! # Ok::<(), crossmodal::Error>(())
//! ```
//!
//! | module | what |
//! |---|---|
//! | [`Tensor`], [`Device`], [`DType`] | dense arrays on the CPU or a GPU |
//! | [`ops`] | the operations, forward and backward |
//! | [`autograd`], [`nn`], [`optim`] | the tape; layers; optimisers, schedule, checkpoints |
//! | [`losses`] | triplet, SupCon, VICReg and the others that are made of operations |
//! | `align` (feature `io`) | the main job: two modalities' stored features to trained heads and retrieval scores |
//! | `evaluate` (feature `io`) | zero-shot classification, nearest neighbours, linear probe, geometry |
//! | `io` (feature `io`) | `.npy` and `.safetensors` |
//! | [`gpu`] | the dispatcher: adapters, memory, profiling |
//! | [`mod@reference`], `cases` (feature `verify`) | the definitions; the cases that verify every device |

#[cfg(all(feature = "io", not(target_arch = "wasm32")))]
pub mod align;
pub mod autograd;
#[cfg(all(feature = "verify", not(target_arch = "wasm32")))]
pub mod cases;
pub(crate) mod cpu;
pub mod device;
pub mod dtype;
pub mod error;
#[cfg(all(feature = "io", not(target_arch = "wasm32")))]
pub mod evaluate;
#[cfg(not(target_arch = "wasm32"))]
pub mod fusion;
#[cfg(feature = "gpu")]
pub mod gpu;
#[cfg(not(feature = "gpu"))]
#[path = "gpu/absent.rs"]
pub mod gpu;
#[cfg(feature = "io")]
pub mod io;
#[cfg(not(target_arch = "wasm32"))]
pub mod losses;
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

/// The README's example is compiled and run with the documentation's, but only in the project's own tests: the features that it
/// reads are not part of the published crate.
#[cfg(all(doctest, feature = "io", feature = "verify"))]
#[doc = include_str!("../README.md")]
struct Readme;

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
