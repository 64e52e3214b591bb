//! What the GPU tests share.

use crossmodal::Device;

/// The GPU that the tests run on: what `CROSSMODAL_TEST_DEVICE` names, else a real GPU, else Mesa's software driver.
///
/// A missing adapter fails the test: a run without a GPU driver has verified nothing.
pub(crate) fn gpu() -> Device {
    let named = std::env::var("CROSSMODAL_TEST_DEVICE").ok();
    let names = named
        .as_deref()
        .map_or(vec!["gpu", "llvmpipe", "lavapipe", "warp", "basic render"], |name| vec![name]);
    let found = names.iter().find_map(|name| Device::named(name).ok());
    found.unwrap_or_else(|| {
        panic!(
            "no GPU adapter answers to {names:?}. On Debian and Ubuntu a software driver is \
             `apt-get install mesa-vulkan-drivers libvulkan1`; elsewhere install your GPU's Vulkan driver, or Mesa's lavapipe. \
             `./test` does so where it can. `cargo run --release -- devices` lists what there is."
        )
    })
}
