//! `--device` and the variable `CROSSMODAL_DEVICE`.

use crossmodal::Device;
use crossmodal::gpu::{AdapterReport, adapters, best};

use crate::failure::Failure;

/// The variable that names the device where `--device` does not.
pub(crate) const VARIABLE: &str = "CROSSMODAL_DEVICE";

/// Where to compute.
#[derive(clap::Args, Clone)]
pub(crate) struct DeviceArgs {
    /// auto, cpu, gpu, or a device's number or name
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
}

impl DeviceArgs {
    /// The device that is asked for.
    pub(crate) fn open(&self) -> Result<Device, Failure> {
        match (&self.device, variable()) {
            (Some(asked), _) => Ok(Device::named(asked)?),
            (None, Some(asked)) => {
                Device::named(&asked).map_err(|error| Failure::new(format!("{VARIABLE}: {error}")))
            }
            (None, None) => Ok(Device::named("auto")?),
        }
    }

    /// As [`open`](Self::open), for verbs that are about the device: tells where `auto` has to take the CPU path.
    pub(crate) fn open_and_tell(&self) -> Result<Device, Failure> {
        let device = self.open()?;
        let asked = self.device.clone().or_else(variable).unwrap_or_else(|| "auto".into());
        if asked == "auto" && device == Device::Cpu {
            crate::output::note(&format!("note: auto takes the CPU path: {}", why(&reports())));
        }
        Ok(device)
    }
}

/// What [`VARIABLE`] says, if anything.
pub(crate) fn variable() -> Option<String> {
    let value = std::env::var_os(VARIABLE)?.to_string_lossy().into_owned();
    (!value.is_empty()).then_some(value)
}

/// Every adapter of this machine.
pub(crate) fn reports() -> Vec<AdapterReport> {
    pollster::block_on(adapters())
}

/// Why `auto` takes what it takes.
pub(crate) fn why(reports: &[AdapterReport]) -> String {
    match best(reports) {
        Some(index) if reports.iter().filter(|report| !report.software).count() == 1 => {
            format!("{} is the only GPU", reports[index].name)
        }
        Some(index) => format!(
            "{} is the first {}, and auto prefers discrete to integrated to virtual GPUs",
            reports[index].name, reports[index].kind
        ),
        None if reports.is_empty() => "this machine has no GPU driver".to_string(),
        None => "there is only a software driver, slower than the CPU path; name it to use it".to_string(),
    }
}

/// The device's name, with backend and kind for a GPU.
pub(crate) fn describe(device: &Device) -> String {
    match device {
        Device::Cpu => "the CPU path".to_string(),
        Device::Gpu(gpu) => {
            let report = gpu.report();
            format!("{} ({}, {})", report.name, report.backend, report.kind)
        }
    }
}
