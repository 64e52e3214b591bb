//! Faults planted in every kernel, one at a time: verification must see each. What it would not see, it does not verify.
//!
//! The whole campaign takes minutes and runs on purpose: `cargo test --workspace --all-features --test faults -- --ignored`.
//! Every run plants the first store, guard and loop of each entry point. The variables `CROSSMODAL_TEST_OP` and
//! `CROSSMODAL_TEST_ENTRY` leave one operation, and entry points, alone or behind `file/`, that begin so.
#![cfg(feature = "verify")]

mod common;
#[path = "common/plant.rs"]
mod plant;
#[path = "common/rows.rs"]
mod rows;
#[path = "common/runs.rs"]
mod runs;

use crossmodal::cases::{self, Case, Row, Verdict};
use crossmodal::gpu::{Gpu, Kernel};
use crossmodal::{DType, Device};
use plant::Fault;
use std::sync::{Arc, Mutex};

/// (kernel, entry point, a part of the fault, why no case sees it).
type Unseen = (&'static str, &'static str, &'static str, &'static str);

const EXACT_GRID: &str = "its workgroups are as many as its work, and fewer than fold into two dimensions";
const INTERMEDIATE: &str =
    "it writes behind a tensor that is no output: only outputs' guard bands are looked at";
const ANY_SCALE: &str = "another chunk's entry is a scale as good: what it lets vanish is nothing beside that entry, and behind \
                         the last chunk lies a NaN, which a maximum may drop";
const NAN_BEHIND: &str = "what it takes in behind the last partial norm is a NaN, which a maximum may drop";
const NO_ENTRIES: &str =
    "a piece behind the last column has no entries in it, and none comes before those kept";
const UNUSED_SLOTS: &str = "it compares two slots behind those in use";
const STEPS: &str = "its steps are of 16 and what it goes through is a multiple of 4: one less ends behind the same step, \
                     and a step behind the last adds zeros";
const FOURS: &str =
    "its steps are of four and so is what it goes through: one less ends behind the same step";
const BEHIND_STAGED: &str = "what lies behind what is staged is not read";
const NO_BATCH: &str = "a block of similarities is one product: there are no batch axes";
const NOWHERE: &str = "a place behind the chunk counts as none, as it must";

const UNSEEN_TILE: &str = "behind the last tile nobody sees anybody: it adds zeros";
const SAME_AGAIN: &str =
    "the eight invocations of a row have the same sum; where they run in step they write the same one";
const NAN_WEIGHT: &str =
    "0 times NaN makes a weight of NaN, which counts as none where a driver takes NaN for equal to 0";

/// Faults that no case can see, or that none sees yet: they are not planted.
const UNSEEN: &[Unseen] = &[
    ("attention", "forward", "too late: if number", EXACT_GRID),
    ("attention", "forward", "one turn more: for (var first", UNSEEN_TILE),
    ("attention", "weigh", "too late: if number", EXACT_GRID),
    ("attention", "delta", "too late", INTERMEDIATE),
    ("attention", "delta_of_weights", "too late: if number", EXACT_GRID),
    ("attention", "delta_of_weights", "one turn more: for (var first", UNSEEN_TILE),
    ("attention", "delta_of_weights", "too late: if thread.x", INTERMEDIATE),
    ("attention", "delta_of_weights", "never: if thread.x", SAME_AGAIN),
    ("attention", "grad_q", "too late: if number", EXACT_GRID),
    ("attention", "grad_q", "one turn more: for (var first", UNSEEN_TILE),
    ("attention", "grad_q", "never: if p == 0.0", NAN_WEIGHT),
    ("attention", "grad_k", "too late: if number", EXACT_GRID),
    ("attention", "grad_k", "one turn more: for (var first", UNSEEN_TILE),
    ("attention", "grad_k", "never: if p == 0.0", NAN_WEIGHT),
    ("attention", "grad_v", "too late: if number", EXACT_GRID),
    ("attention", "grad_v", "one turn more: for (var first", UNSEEN_TILE),
    ("attention", "grad_bias", "too late: if number", EXACT_GRID),
    ("attention_tiles_grads", "grad_q", "too late: if number", EXACT_GRID),
    ("attention_tiles_grads", "grad_q", "one turn more: for (var first", UNSEEN_TILE),
    ("attention_tiles_grads", "grad_q", ": for (var inner", STEPS),
    ("attention_tiles_grads", "grad_q", "one turn more: for (var n = place.lane", BEHIND_STAGED),
    ("attention_tiles_grads", "grad_kv", "too late: if unit", EXACT_GRID),
    ("attention_tiles_grads", "grad_kv", ": for (var inner", STEPS),
    ("attention_tiles_grads", "grad_kv", "one turn more: for (var n = place.lane", BEHIND_STAGED),
    ("attention_lanes", "forward", "too late: if number", EXACT_GRID),
    ("attention_lanes", "forward", "one turn more: for (var first", UNSEEN_TILE),
    ("attention_lanes", "forward", "without its last turn: for (var n = 0u; n < OTHERS", FOURS),
    ("attention_lanes_grads", "grad_q", "too late: if number", EXACT_GRID),
    ("attention_lanes_grads", "grad_q", "one turn more: for (var first", UNSEEN_TILE),
    ("attention_lanes_grads", "grad_q", "without its last turn: for (var n = 0u; n < OTHERS", FOURS),
    ("attention_lanes_grads", "grad_kv", "too late: if unit", EXACT_GRID),
    ("attention_lanes_grads", "grad_kv", "without its last turn: for (var n = 0u; n < OTHERS", FOURS),
    ("clip_global_norm", "partial_norms", "too late", EXACT_GRID),
    (
        "clip_global_norm",
        "partial_norms",
        "one turn more: for (var i = begin + lane; i < end; i += WIDTH) { largest",
        ANY_SCALE,
    ),
    (
        "clip_global_norm",
        "total_norm",
        "one turn more: for (var i = lane; i < params.count; i += WIDTH) { largest",
        NAN_BEHIND,
    ),
    ("info_nce", "row_sweep", "too late", EXACT_GRID),
    ("siglip", "forward", "too late", EXACT_GRID),
    ("siglip", "backward", "too late", EXACT_GRID),
    ("info_nce", "line_losses", "too late", INTERMEDIATE),
    ("info_nce", "line_factors", "too late", INTERMEDIATE),
    ("info_nce", "gradient", "too late", INTERMEDIATE),
    ("info_nce", "tiled_sweep", ": for (var axis", NO_BATCH),
    ("info_nce", "tiled_gradient", ": for (var axis", NO_BATCH),
    ("info_nce", "tiled_gradient", ": for (var inner", STEPS),
    ("matmul", "lanes", "too late: if batch", EXACT_GRID),
    ("matmul", "lanes", "without its last turn: for (var down", FOURS),
    ("reduce", "first_of_chunk", "too late", INTERMEDIATE),
    ("reduce", "first_of_axis", "too late", INTERMEDIATE),
    ("reduce", "first_of_chunk", "one turn more: while", NOWHERE),
    ("top_k", "forward", "one turn more: for (var first", NO_ENTRIES),
    ("top_k", "forward", "one turn more: for (var i = lane; i < half", UNUSED_SLOTS),
];

fn gpu() -> (Device, Gpu) {
    let device = common::gpu();
    let Device::Gpu(gpu) = &device else { panic!("{} is not a GPU", device.name()) };
    let gpu = gpu.clone();
    (device, gpu)
}

/// The first failing verdict of the operation, the smallest cases first, all in f32 before any in f16.
fn caught(device: &Device, row: &Row, cases: &[Case]) -> Option<Verdict> {
    let runs =
        [DType::F32, DType::F16].into_iter().flat_map(|dtype| cases.iter().map(move |case| (case, dtype)));
    let mut verdicts = runs.filter_map(|(case, dtype)| cases::verify_case(device, row.op, case, dtype));
    verdicts.find(|verdict| !verdict.passed())
}

fn smallest_first(row: &Row) -> Vec<Case> {
    let mut cases = (row.cases)();
    cases.sort_by_key(|case| case.inputs.iter().map(|input| input.values.len()).sum::<usize>());
    cases
}

/// Plants a fault in one kernel. Every other is compiled as it is.
fn put(gpu: &Gpu, kernel: &'static Kernel, fault: &Fault) {
    let plain = kernel.source;
    let faulty = [&plain[..fault.at.start], &fault.with, &plain[fault.at.end..]].concat();
    assert_ne!(faulty, plain, "{}/{}: nothing changed by {}", kernel.name, kernel.entry, fault.what);
    gpu.set_source_hook(Some(Arc::new(move |compiled: &Kernel, source: &str| {
        if (compiled.name, compiled.entry) != (kernel.name, kernel.entry) {
            return source.to_string();
        }
        let prelude = source.strip_suffix(plain).expect("the element types, then the kernel's source");
        prelude.to_string() + &faulty
    })));
}

/// Why a fault cannot be seen, if it is one of those.
fn excuse(kernel: &Kernel, fault: &Fault) -> Option<&'static str> {
    let fits = |unseen: &&Unseen| {
        (unseen.0, unseen.1) == (kernel.name, kernel.entry) && fault.what.contains(unseen.2)
    };
    UNSEEN.iter().find(fits).map(|unseen| unseen.3)
}

/// The first fault of each kind.
fn first_of_each_kind(faults: Vec<Fault>) -> Vec<Fault> {
    let mut first: Vec<Fault> = vec![];
    for fault in faults {
        if first.iter().all(|other| other.kind != fault.kind) {
            first.push(fault);
        }
    }
    first
}

/// Plants faults of one row's kernels in turn, those that `choose` leaves of each kernel's, and gives those that no case sees.
fn missed(
    device: &Device,
    gpu: &Gpu,
    row: &Row,
    cases: &[Case],
    choose: fn(Vec<Fault>) -> Vec<Fault>,
) -> Vec<String> {
    let mut missed = vec![];
    let entry = std::env::var("CROSSMODAL_TEST_ENTRY").unwrap_or_default();
    let is_named = |kernel: &Kernel| {
        kernel.entry.starts_with(&entry) || format!("{}/{}", kernel.name, kernel.entry).starts_with(&entry)
    };
    let wanted = |kernel: &&Kernel| is_named(kernel) && runs::can_run(gpu.report(), kernel);
    for kernel in row.kernels.iter().copied().filter(wanted) {
        let (excused, seen): (Vec<_>, Vec<_>) =
            plant::faults(kernel).into_iter().partition(|fault| excuse(kernel, fault).is_some());
        let name = |fault: &Fault| format!("{}/{}: {}", kernel.name, kernel.entry, fault.what);
        for fault in &excused {
            eprintln!("{}\n    not planted: {}", name(fault), excuse(kernel, fault).unwrap_or_default());
        }
        for fault in choose(seen) {
            let start = std::time::Instant::now();
            put(gpu, kernel, &fault);
            match caught(device, row, cases) {
                Some(v) => {
                    eprintln!(
                        "{}\n    {} in {}: {}, {:.1?}",
                        name(&fault),
                        v.case,
                        v.dtype,
                        v.detail,
                        start.elapsed()
                    );
                }
                None => missed.push(name(&fault)),
            }
        }
    }
    gpu.set_source_hook(None);
    missed
}

/// Plants faults in every row's kernels, each row on a device of its own, and does `after` with what is then as it was.
fn every_row(choose: fn(Vec<Fault>) -> Vec<Fault>, after: impl Fn(&Device, &Row, &[Case]) + Sync) {
    let wrong = Mutex::new(vec![]);
    rows::every_row(|row| {
        let ((device, gpu), cases) = (gpu(), smallest_first(row));
        let start = std::time::Instant::now();
        let missed = missed(&device, &gpu, row, &cases, choose);
        wrong.lock().unwrap().extend(missed);
        after(&device, row, &cases);
        eprintln!("{}: {:.1?}", row.op, start.elapsed());
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} faults that no case sees:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_first_fault_of_each_kind_is_seen() {
    every_row(first_of_each_kind, |_, _, _| ());
}

#[test]
#[ignore = "minutes; the first faults of each entry point are planted in every run"]
fn every_fault_is_seen() {
    every_row(
        |all| all,
        |device, row, cases| {
            let left = caught(device, row, cases);
            assert_eq!(left, None, "{}: a case fails though the faults are taken away", row.op);
        },
    );
}

#[test]
fn every_excuse_is_for_a_fault_that_there_is() {
    for unseen in UNSEEN {
        let kernels = cases::TABLE.iter().flat_map(|row| row.kernels);
        let kernel = kernels.copied().find(|kernel| (kernel.name, kernel.entry) == (unseen.0, unseen.1));
        let kernel = kernel.unwrap_or_else(|| panic!("{unseen:?}: no such kernel"));
        assert!(
            plant::faults(kernel).iter().any(|fault| fault.what.contains(unseen.2)),
            "{unseen:?}: no such fault"
        );
    }
}
