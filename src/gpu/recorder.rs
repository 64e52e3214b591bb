//! Commands as plain data, recorded by operations and encoded together at submit.

use super::pipeline::Pipeline;
use super::profile::Profile;
use super::{AdapterReport, Buffer, Counters, Gpu, Kernel};
use crate::error::Result;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Parameter slots in a submit: when they are used up, it is submitted. A slot is used once per submit, because
/// `queue.write_buffer` takes effect before everything in it.
const SLOTS: usize = 1024;
/// Staging bytes that may wait for a submit.
const STAGING_BYTES: u64 = 64 << 20;
/// Bytes of the buffer that small uploads of one submit share, as dispatches share that of the parameters, and of the largest
/// that goes this way: a training step makes no buffer for its rows' numbers.
const UPLOAD_BYTES: u64 = 1 << 20;
const SMALL_UPLOAD: u64 = 64 << 10;
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
        at: u64,
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
    /// Small uploads, one behind the other.
    uploads: Vec<u8>,
    upload_buffer: wgpu::Buffer,
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
        let buffer = |label, size, usage| {
            let usage = usage | wgpu::BufferUsages::COPY_DST;
            device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(label),
                size,
                usage,
                mapped_at_creation: false,
            })
        };
        Recorder {
            commands: vec![],
            slots: vec![],
            stride,
            slot_buffer: buffer("parameters", (SLOTS * stride) as u64, wgpu::BufferUsages::UNIFORM),
            uploads: vec![],
            upload_buffer: buffer("small uploads", UPLOAD_BYTES, wgpu::BufferUsages::COPY_SRC),
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
            || self.uploads.len() as u64 > UPLOAD_BYTES - SMALL_UPLOAD
            || self.staging_bytes > STAGING_BYTES
            || self.flops > self.max_flops
    }

    /// Drops what is recorded: the device is lost or refused it.
    pub(super) fn discard(&mut self) {
        self.commands.clear();
        self.slots.clear();
        self.uploads.clear();
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
        for (buffer, bytes) in [(&self.slot_buffer, &self.slots), (&self.upload_buffer, &self.uploads)] {
            if !bytes.is_empty() {
                queue.write_buffer(buffer, 0, bytes);
            }
        }
        let mut encoder = device.create_command_encoder(&Default::default());
        let commands = std::mem::take(&mut self.commands);
        let mut rest = commands.as_slice();
        while let Some(first) = rest.first() {
            match first {
                Command::Copy { from, at, to, bytes } => {
                    encoder.copy_buffer_to_buffer(from, *at, to, 0, *bytes);
                }
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
    /// Records an upload as a copy from a staging buffer: it takes effect in the order of recording, unlike `queue.write_buffer`.
    pub(crate) fn write(&self, buffer: &Buffer, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let size = (bytes.len() as u64).next_multiple_of(4);
        if size <= SMALL_UPLOAD {
            self.check_not_lost("staging an upload")?;
            let mut recorder = self.0.recorder.lock().expect("recorder lock");
            let at = recorder.uploads.len() as u64;
            recorder.uploads.extend_from_slice(bytes);
            recorder.uploads.resize((at + size) as usize, 0);
            let from = recorder.upload_buffer.clone();
            recorder.commands.push(Command::Copy { from, at, to: buffer.raw.clone(), bytes: size });
            return if recorder.is_full() { self.submit_locked(&mut recorder) } else { Ok(()) };
        }
        let stage = || {
            self.0.made.buffers.fetch_add(1, Relaxed);
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
        recorder.commands.push(Command::Copy { from: staging, at: 0, to: buffer.raw.clone(), bytes: size });
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
        recorder.commands.push(Command::Copy { from: from.raw.clone(), at: 0, to: to.clone(), bytes });
        recorder.counters.readbacks += 1;
    }

    /// Records a copy of the first `bytes` bytes from one buffer to another.
    pub(crate) fn copy(&self, from: &Buffer, to: &Buffer, bytes: u64) {
        let bytes = bytes.next_multiple_of(4);
        let copy = Command::Copy { from: from.raw.clone(), at: 0, to: to.raw.clone(), bytes };
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
