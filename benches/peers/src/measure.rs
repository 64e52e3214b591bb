//! One shape on all sides.

use crate::python::Python;
use crate::report::{Entry, Peer, Report};
#[cfg(feature = "burn")]
use crate::shapes::Arithmetic;
use crate::shapes::Shape;
use crate::side::{Outcome, Side, difference};
use crate::timing::alternate;
use crate::{data, ours};
use crossmodal::Device;

#[cfg(feature = "burn")]
use crate::with_burn;

/// The peers of this process.
pub(crate) struct Peers {
    #[cfg(feature = "burn")]
    burn: Option<(burn::tensor::Device, crossmodal::gpu::AdapterReport)>,
}

impl Peers {
    /// Those that can use the device: burn is on no CPU path.
    pub(crate) fn open(device: &Device, wants_burn: bool) -> Peers {
        #[cfg(feature = "burn")]
        {
            let adapter = match device {
                Device::Gpu(gpu) if wants_burn => Some(gpu.report().clone()),
                _ => None,
            };
            let all = pollster::block_on(crossmodal::gpu::adapters());
            Peers { burn: adapter.map(|adapter| (with_burn::device(&adapter, &all), adapter)) }
        }
        #[cfg(not(feature = "burn"))]
        {
            let _ = (device, wants_burn);
            Peers {}
        }
    }

    pub(crate) fn burn(&self) -> bool {
        #[cfg(feature = "burn")]
        return self.burn.is_some();
        #[cfg(not(feature = "burn"))]
        false
    }

    fn prepare(&self, shape: &Shape, inputs: &[data::Array]) -> Vec<(&'static str, Outcome<Box<dyn Side>>)> {
        #[cfg(feature = "burn")]
        // burn is compared in f32 alone.
        if let (Some((device, adapter)), Arithmetic::F32) = (&self.burn, shape.ours) {
            return vec![("burn", with_burn::prepare(device, adapter, &shape.work, inputs))];
        }
        let _ = (shape, inputs);
        vec![]
    }

    /// Lets go of what the last shape left in their pools.
    fn release(&self) {
        #[cfg(feature = "burn")]
        if let Some((device, _)) = &self.burn {
            device.memory_cleanup();
        }
    }
}

/// Ours and every peer: compared, then timed in turn.
pub(crate) fn measure(device: &Device, peers: &Peers, shape: &Shape, seconds: f64) -> Entry {
    let inputs = data::inputs(&shape.work);
    let mut entry = Entry { shape: shape.clone(), ours: Err(String::new()), peak: None, peers: vec![] };
    match ours::prepare(device, shape, &inputs) {
        Err(reason) => entry.ours = Err(reason),
        Ok(side) => {
            let (mut sides, mut names) = (vec![side], vec![]);
            for (name, side) in peers.prepare(shape, &inputs) {
                match side {
                    Ok(side) => {
                        sides.push(side);
                        names.push(name);
                    }
                    Err(reason) => entry.peers.push(absent(name, reason)),
                }
            }
            fill(&mut entry, device, &mut sides, &names, seconds);
        }
    }
    release(device, peers);
    entry
}

fn fill(entry: &mut Entry, device: &Device, sides: &mut [Box<dyn Side>], names: &[&str], seconds: f64) {
    if let Device::Gpu(gpu) = device {
        gpu.reset_peak();
    }
    let mut times = alternate(sides, seconds).into_iter();
    if let Device::Gpu(gpu) = device {
        entry.peak = Some(gpu.memory().peak);
    }
    entry.ours = times.next().unwrap_or_else(|| Err("not timed".into()));
    // Compared after the timing, so that the first call timed is the first.
    let own = sides[0].results();
    for ((name, times), side) in names.iter().zip(times).zip(&mut sides[1..]) {
        let compared = times.and_then(|times| {
            let own = own.as_ref().map_err(|reason| format!("crossmodal: {reason}"))?;
            Ok((times, difference(own, &side.results()?)?))
        });
        entry.peers.push(match compared {
            Ok((times, difference)) => {
                Peer { name: name.to_string(), times: Ok(times), peak: None, difference: Some(difference) }
            }
            Err(reason) => absent(name, reason),
        });
    }
}

fn absent(name: &str, reason: String) -> Peer {
    Peer { name: name.to_string(), times: Err(reason), peak: None, difference: None }
}

fn release(device: &Device, peers: &Peers) {
    if let Device::Gpu(gpu) = device {
        gpu.trim();
    }
    peers.release();
}

/// Python's rows go to the shapes that were measured here.
pub(crate) fn join(report: &mut Report, python: Python) {
    for row in &python.rows {
        let entry = report.entries.iter_mut().find(|entry| entry.shape.name == row.shape);
        // What it left out for lack of time is no result.
        if let (Some(entry), None) = (entry, &row.skipped) {
            let (name, times) = (row.name(), row.times());
            entry.peers.push(Peer { name, times, peak: row.peak_bytes, difference: None });
        }
    }
    report.about.python.extend(python.about);
}
