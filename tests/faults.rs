//! Faults planted in every kernel, one at a time: verification must see each. What it would not see, it does not verify.
#![cfg(feature = "verify")]

mod common;

use crossmodal::cases::{self, Case, Row, Verdict};
use crossmodal::gpu::{Access, Gpu, Kernel};
use crossmodal::{DType, Device};
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Arc, Mutex};

/// A change of a source's text.
struct Fault {
    what: String,
    at: Range<usize>,
    with: String,
}

/// (kernel, entry point, a part of the fault, why no case sees it).
type Unseen = (&'static str, &'static str, &'static str, &'static str);

const EXACT_GRID: &str = "its workgroups are as many as its work, and fewer than fold into two dimensions";
const INTERMEDIATE: &str =
    "it writes behind a tensor that is no output: only outputs' guard bands are looked at";

/// Faults that no case can see, or that none sees yet: they are not planted.
const UNSEEN: &[Unseen] = &[
    ("clip_global_norm", "partial_norms", "too late", EXACT_GRID),
    ("info_nce", "row_sweep", "too late", EXACT_GRID),
    ("info_nce", "row_losses", "too late", INTERMEDIATE),
    ("info_nce", "gradient", "too late", INTERMEDIATE),
    ("reduce", "first_of_chunk", "too late", INTERMEDIATE),
    ("reduce", "first_of_axis", "too late", INTERMEDIATE),
];

fn gpu() -> (Device, Gpu) {
    let device = common::gpu();
    let Device::Gpu(gpu) = &device else { panic!("{} is not a GPU", device.name()) };
    let gpu = gpu.clone();
    (device, gpu)
}

/// The source without its comments, every byte at its place.
fn without_comments(source: &str) -> String {
    let blank = |line: &str| match line.find("//") {
        Some(at) => line[..at].to_string() + &" ".repeat(line.len() - at),
        None => line.to_string(),
    };
    source.split('\n').map(blank).collect::<Vec<_>>().join("\n")
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Where `name` stands as a word of its own with `next` behind it.
fn words<'a>(text: &'a str, name: &'a str, next: &'a str) -> impl Iterator<Item = usize> + 'a {
    let own = move |at: &usize| {
        !text[..*at].ends_with(|c| is_name(c) || c == '.') && text[at + name.len()..].starts_with(next)
    };
    text.match_indices(name).map(|(at, _)| at).filter(own)
}

/// The function of this name: to the first brace that closes at the beginning of a line.
fn function(text: &str, name: &str) -> Option<Range<usize>> {
    let start = words(text, name, "(").find(|at| text[..*at].ends_with("fn "))?;
    Some(start..start + text[start..].find("\n}")?)
}

/// The bodies of a kernel's entry point and of every function that it calls, directly or not.
fn reached(kernel: &Kernel, text: &str) -> Vec<Range<usize>> {
    let entry =
        function(text, kernel.entry).unwrap_or_else(|| panic!("{}: no fn {}", kernel.name, kernel.entry));
    let names = text
        .match_indices("\nfn ")
        .map(|(at, _)| &text[at + 4..])
        .map(|rest| &rest[..rest.find('(').unwrap_or(0)]);
    let names: Vec<_> = names.filter(|&name| name != kernel.entry).collect();
    let mut found = vec![entry];
    let mut next = 0;
    while next < found.len() {
        let body = &text[found[next].clone()];
        for called in names.iter().filter(|name| words(body, name, "(").any(|at| at > 0)) {
            let range = function(text, called).expect("it was found by its head");
            if !found.contains(&range) {
                found.push(range);
            }
        }
        next += 1;
    }
    found
}

/// The bytes from `open` to the bracket that closes it.
fn bracketed(text: &str, open: usize) -> Range<usize> {
    let mut depth = 0;
    for (at, c) in text[open..].char_indices() {
        depth += i32::from(c == '[') - i32::from(c == ']');
        if depth == 0 {
            return open..open + at + 1;
        }
    }
    panic!("an open bracket: {}", &text[open..])
}

/// The right-hand sides of assignments to elements of `name`, and each statement's beginning.
fn stores(text: &str, name: &str, within: &Range<usize>) -> Vec<(usize, Range<usize>)> {
    let body = &text[..within.end];
    let at = words(body, name, "[").filter(|at| *at >= within.start);
    at.filter_map(|start| {
        let behind = bracketed(body, start + name.len()).end;
        let rest = body[behind..].trim_start();
        let value = rest.strip_prefix('=').filter(|rest| !rest.starts_with('='))?;
        let begin = within.end - value.len();
        Some((start, begin..begin + value.find(';').expect("a statement's end")))
    })
    .collect()
}

/// Each store to each written binding: doubled, and left out.
fn store_faults(kernel: &Kernel, text: &str) -> Vec<Fault> {
    let mut faults = vec![];
    for binding in kernel.bindings.iter().filter(|binding| binding.access == Access::Write) {
        let before = faults.len();
        for (start, value) in
            reached(kernel, text).iter().flat_map(|within| stores(text, binding.name, within))
        {
            let (statement, rhs) = (&text[start..value.end], text[value.clone()].trim());
            let with = format!(" ({rhs}) + ({rhs})");
            faults.push(Fault { what: format!("doubled: {statement}"), at: value.clone(), with });
            faults.push(Fault {
                what: format!("left out: {statement}"),
                at: start..value.end,
                with: String::new(),
            });
        }
        assert!(
            faults.len() > before,
            "{}/{}: no store to {} found",
            kernel.name,
            kernel.entry,
            binding.name
        );
    }
    faults
}

/// Each comparison before a `return`: one too early, and one too late.
fn bound_faults(kernel: &Kernel, text: &str) -> Vec<Fault> {
    let mut faults = vec![];
    for within in reached(kernel, text) {
        for (at, _) in text[within.clone()].match_indices(">=").map(|(at, s)| (within.start + at, s)) {
            let begin = text[..at].rfind('\n').expect("a line before");
            let line = text[begin..begin + 1 + text[begin + 1..].find('\n').expect("a line's end")].trim();
            if line.starts_with("if ") && line.ends_with("{ return; }") {
                let fault = |what: &str, with: &str| Fault {
                    what: format!("{what}: {line}"),
                    at: at..at + 2,
                    with: with.into(),
                };
                faults.extend([fault("too early", "+ 1u >="), fault("too late", ">= 1u +")]);
            }
        }
    }
    faults
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
fn plant(gpu: &Gpu, kernel: &'static Kernel, fault: &Fault) {
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

/// Plants every fault of one row's kernels in turn, and gives those that no case sees.
fn missed(device: &Device, gpu: &Gpu, row: &Row) -> Vec<String> {
    let mut missed = vec![];
    let cases = smallest_first(row);
    for kernel in row.kernels.iter().copied() {
        let text = without_comments(kernel.source);
        for fault in store_faults(kernel, &text).into_iter().chain(bound_faults(kernel, &text)) {
            let what = format!("{}/{}: {}", kernel.name, kernel.entry, fault.what);
            if let Some(why) = excuse(kernel, &fault) {
                eprintln!("{what}\n    not planted: {why}");
                continue;
            }
            plant(gpu, kernel, &fault);
            match caught(device, row, &cases) {
                Some(v) => eprintln!("{what}\n    {} in {}: {}", v.case, v.dtype, v.detail),
                None => missed.push(what),
            }
        }
    }
    gpu.set_source_hook(None);
    let left = caught(device, row, &cases);
    assert_eq!(left, None, "{}: a case fails though the faults are taken away", row.op);
    missed
}

#[test]
fn every_fault_is_seen() {
    let (device, gpu) = gpu();
    let mut wrong = vec![];
    for row in cases::TABLE {
        let start = std::time::Instant::now();
        wrong.extend(missed(&device, &gpu, row));
        eprintln!("{}: {:.1?}", row.op, start.elapsed());
    }
    assert!(wrong.is_empty(), "{} faults that no case sees:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_excuse_is_for_a_fault_that_there_is() {
    for unseen in UNSEEN {
        let kernels = cases::TABLE.iter().flat_map(|row| row.kernels);
        let kernel = kernels.copied().find(|kernel| (kernel.name, kernel.entry) == (unseen.0, unseen.1));
        let kernel = kernel.unwrap_or_else(|| panic!("{unseen:?}: no such kernel"));
        let text = without_comments(kernel.source);
        let mut faults = store_faults(kernel, &text).into_iter().chain(bound_faults(kernel, &text));
        assert!(faults.any(|fault| fault.what.contains(unseen.2)), "{unseen:?}: no such fault");
    }
}

#[test]
fn without_a_fault_every_case_passes_and_every_kernel_is_compiled() {
    let (device, gpu) = gpu();
    let mut wanted = BTreeSet::new();
    let all = Arc::new(Mutex::new(BTreeSet::new()));
    for row in cases::TABLE {
        let compiled = Arc::new(Mutex::new(BTreeSet::new()));
        let seen = compiled.clone();
        gpu.set_source_hook(Some(Arc::new(move |kernel: &Kernel, source: &str| {
            seen.lock().unwrap().insert((kernel.name, kernel.entry));
            source.to_string()
        })));
        let failed = caught(&device, row, &smallest_first(row));
        assert_eq!(failed, None, "{}: a source that was not changed fails", row.op);
        for kernel in row.kernels {
            let own = (kernel.name, kernel.entry);
            assert!(compiled.lock().unwrap().contains(&own), "{}: its cases never dispatch {own:?}", row.op);
            wanted.insert(own);
        }
        all.lock().unwrap().append(&mut compiled.lock().unwrap());
    }
    assert_eq!(*all.lock().unwrap(), wanted, "compiled kernels are left, the table's right");
}
