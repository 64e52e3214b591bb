//! Compiled pipelines kept on disk, where the driver gives them out (Vulkan): one file for each adapter and driver.

use super::cache;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The least time between two writes.
const PAUSE: Duration = Duration::from_secs(1);

/// Everything compiled goes through it.
pub(super) struct PipelineCache {
    raw: wgpu::PipelineCache,
    name: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Whether something was compiled since the last write.
    is_behind: bool,
    written: Option<Instant>,
    /// Of what the file holds.
    checksum: u64,
}

impl PipelineCache {
    /// The cache of a device that has the feature, with what the file holds. None where the user wants none.
    pub(super) fn open(adapter: &wgpu::Adapter, device: &wgpu::Device) -> Option<Self> {
        if !device.features().contains(wgpu::Features::PIPELINE_CACHE) {
            return None;
        }
        cache::folder()?;
        let info = adapter.get_info();
        let driver = format!("{} {} {}", info.name, info.driver, info.driver_info);
        let key = wgpu::util::pipeline_cache_key(&info)?;
        let name = format!("{key}_{:016x}", cache::checksum(driver.as_bytes()));
        let data = cache::read(&name);
        let checksum = data.as_deref().map_or(0, cache::checksum);
        let descriptor = wgpu::PipelineCacheDescriptor {
            label: Some("pipelines"),
            data: data.as_deref(),
            // The driver looks at the data too, and starts with none where they are not its own.
            fallback: true,
        };
        // SAFETY: the data are what `get_data` gave for the same adapter and driver: the file's name says whose they are, and its
        // first line, with a checksum, that they are what was written.
        #[allow(unsafe_code, reason = "wgpu hands data from a file to the driver")]
        let raw = unsafe { device.create_pipeline_cache(&descriptor) };
        Some(PipelineCache { raw, name, state: Mutex::new(State { checksum, ..Default::default() }) })
    }

    pub(super) fn raw(&self) -> &wgpu::PipelineCache {
        &self.raw
    }

    /// Something was compiled that is not in the file.
    pub(super) fn has_more(&self) {
        self.state.lock().expect("cache lock").is_behind = true;
    }

    /// Writes the file if something was compiled, but not again at once: a program may end at any time without dropping its
    /// device, and compiles kernel after kernel when it starts.
    pub(super) fn write_now_and_then(&self) {
        let mut state = self.state.lock().expect("cache lock");
        if state.is_behind && state.written.is_none_or(|written| written.elapsed() > PAUSE) {
            self.write(&mut state);
        }
    }

    fn write(&self, state: &mut State) {
        state.is_behind = false;
        if let Some(data) = self.raw.get_data() {
            let checksum = cache::checksum(&data);
            if checksum != state.checksum {
                cache::write(&self.name, &data);
                state.checksum = checksum;
            }
        }
        state.written = Some(Instant::now());
    }
}

impl Drop for PipelineCache {
    fn drop(&mut self) {
        // A panic elsewhere is not the time to write files.
        if let Ok(mut state) = self.state.lock()
            && state.is_behind
            && !std::thread::panicking()
        {
            self.write(&mut state);
        }
    }
}
