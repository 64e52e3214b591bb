//! Commands as plain data, recorded by operations and encoded together at submit.

use super::pipeline::Pipeline;
use super::profile::Profile;
use super::{AdapterReport, Buffer, Counters, Gpu, Kernel};
use crate::error::Result;
use std::sync::Arc;

/// Parameter slots in a submit: when they are used up, it is submitted. A slot is used once per submit, because
/// `queue.write_buffer` takes effect before everything in it.
const SLOTS: usize = 1024;
/// Staging bytes that may wait for a submit.
const STAGING_BYTES: u64 = 64 << 20;
/// Dispatches at a driver's time limit (see `AdapterReport::flops_at_once`) whose work may wait for a submit: a second's.
const FULL_DISPATCHES: f64 = 5.;

enum Command {
    Dispatch {
        name: &'static str,
        pipeline: Arc<Pipeline>,
        group: wgpu::BindGroup,
        slot: u32,
        grid: [u32; 2],
    },
    Copy {
        from: wgpu::Buffer,
        to: wgpu::Buffer,
        bytes: u64,
    },
    Clear {
        buffer: wgpu::Buffer,
        bytes: u64,
    },
}

pub(super) struct Recorder {
    commands: Vec<Command>,
    /// Parameter blocks of the recorded dispatches, each at a multiple of `stride`.
    slots: Vec<u8>,
    stride: usize,
    slot_buffer: wgpu::Buffer,
    staging_bytes: u64,
    /// Floating-point operations waiting for a submit.
    flops: f64,
    max_flops: f64,
    max_grid: u64,
    pub(super) counters: Counters,
}

impl Recorder {
    pub(super) fn new(device: &wgpu::Device, report: &AdapterReport) -> Self {
        let limits = device.limits();
        let stride = limits.min_uniform_buffer_offset_alignment.max(256) as usize;
        let slot_buffer = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("parameters"),
            size: (SLOTS * stride) as u64,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        Recorder {
            commands: vec![],
            slots: vec![],
            stride,
            slot_buffer,
            staging_bytes: 0,
            flops: 0.,
            max_flops: FULL_DISPATCHES * report.flops_at_once(),
            max_grid: u64::from(limits.max_compute_workgroups_per_dimension),
            counters: Counters::default(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    pub(super) fn slot_buffer(&self) -> &wgpu::Buffer {
        &self.slot_buffer
    }

    /// Whether what is recorded has to be submitted before more is.
    pub(super) fn is_full(&self) -> bool {
        self.slots.len() >= SLOTS * self.stride
            || self.staging_bytes > STAGING_BYTES
            || self.flops > self.max_flops
    }

    /// Drops what is recorded: the device is lost or refused it.
    pub(super) fn discard(&mut self) {
        self.commands.clear();
        self.slots.clear();
        (self.staging_bytes, self.flops) = (0, 0.);
    }

    /// Records a dispatch.
    pub(super) fn dispatch(
        &mut self,
        kernel: &Kernel,
        pipeline: Arc<Pipeline>,
        group: wgpu::BindGroup,
        params: &[u8],
        groups: u64,
    ) {
        let slot = self.slots.len() as u32;
        self.slots.extend_from_slice(params);
        self.slots.resize(slot as usize + self.stride, 0);
        let x = groups.min(self.max_grid);
        let grid = [x as u32, groups.div_ceil(x) as u32];
        self.commands.push(Command::Dispatch { name: kernel.name, pipeline, group, slot, grid });
        self.counters.dispatches += 1;
    }

    pub(super) fn submit(&mut self, device: &wgpu::Device, queue: &wgpu::Queue, profile: &mut Profile) {
        queue.write_buffer(&self.slot_buffer, 0, &self.slots);
        let mut encoder = device.create_command_encoder(&Default::default());
        let commands = std::mem::take(&mut self.commands);
        let mut rest = commands.as_slice();
        while let Some(first) = rest.first() {
            match first {
                Command::Copy { from, to, bytes } => encoder.copy_buffer_to_buffer(from, 0, to, 0, *bytes),
                Command::Clear { buffer, bytes } => encoder.clear_buffer(buffer, 0, Some(*bytes)),
                Command::Dispatch { name, .. } => {
                    // One pass for a run of dispatches; when profiling, one pass each, between two timestamps.
                    let run = if profile.is_on() { 1 } else { dispatches_in_a_row(rest) };
                    let timestamp_writes = profile.stamp(name);
                    let mut pass = encoder
                        .begin_compute_pass(&wgpu::ComputePassDescriptor { label: None, timestamp_writes });
                    rest[..run].iter().for_each(|command| encode(&mut pass, command));
                    rest = &rest[run..];
                    continue;
                }
            }
            rest = &rest[1..];
        }
        profile.resolve(device, &mut encoder);
        queue.submit([encoder.finish()]);
        self.discard();
        self.counters.submits += 1;
    }
}

fn dispatches_in_a_row(commands: &[Command]) -> usize {
    commands.iter().take_while(|c| matches!(c, Command::Dispatch { .. })).count()
}

fn encode(pass: &mut wgpu::ComputePass<'_>, command: &Command) {
    if let Command::Dispatch { pipeline, group, slot, grid, .. } = command {
        pass.set_pipeline(&pipeline.raw);
        pass.set_bind_group(0, group, &[*slot]);
        pass.dispatch_workgroups(grid[0], grid[1], 1);
    }
}

impl Gpu {
    /// Records an upload through a staging buffer: it takes effect in the order of recording, unlike `queue.write_buffer`.
    pub(crate) fn write(&self, buffer: &Buffer, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let size = (bytes.len() as u64).next_multiple_of(4);
        let stage = || {
            self.checked("staging an upload", size, || {
                let staging = self.0.device.create_buffer(&wgpu::BufferDescriptor {
                    label: Some("staging"),
                    size,
                    usage: wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::MAP_WRITE,
                    mapped_at_creation: true,
                });
                if let Ok(mut view) = staging.get_mapped_range_mut(0..size) {
                    view.slice(..bytes.len()).copy_from_slice(bytes);
                }
                staging.unmap();
                staging
            })
        };
        let staging = self.with_room(stage)?;
        let mut recorder = self.0.recorder.lock().expect("recorder lock");
        recorder.commands.push(Command::Copy { from: staging, to: buffer.raw.clone(), bytes: size });
        recorder.staging_bytes += size;
        if recorder.is_full() { self.submit_locked(&mut recorder) } else { Ok(()) }
    }

    /// Counts floating-point operations recorded; submits where more in one would pass a driver's time limit.
    pub(crate) fn count_work(&self, flops: f64) -> Result<()> {
        let mut recorder = self.0.recorder.lock().expect("recorder lock");
        recorder.flops += flops;
        if recorder.is_full() { self.submit_locked(&mut recorder) } else { Ok(()) }
    }

    /// Records a copy of a whole buffer into a mappable one.
    pub(super) fn copy_out(&self, from: &Buffer, to: &wgpu::Buffer, bytes: u64) {
        let mut recorder = self.0.recorder.lock().expect("recorder lock");
        recorder.commands.push(Command::Copy { from: from.raw.clone(), to: to.clone(), bytes });
        recorder.counters.readbacks += 1;
    }

    /// Records a copy of the first `bytes` bytes from one buffer to another.
    pub(crate) fn copy(&self, from: &Buffer, to: &Buffer, bytes: u64) {
        let bytes = bytes.next_multiple_of(4);
        let copy = Command::Copy { from: from.raw.clone(), to: to.raw.clone(), bytes };
        self.0.recorder.lock().expect("recorder lock").commands.push(copy);
    }

    /// Records filling the first `bytes` bytes of a buffer with zeros.
    pub(crate) fn clear(&self, buffer: &Buffer, bytes: u64) {
        if bytes == 0 {
            return;
        }
        let clear = Command::Clear { buffer: buffer.raw.clone(), bytes: bytes.next_multiple_of(4) };
        self.0.recorder.lock().expect("recorder lock").commands.push(clear);
    }
}
