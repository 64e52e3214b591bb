//! The table of cases against the files: nothing is without a row, and no row without its files.
#![cfg(feature = "verify")]

use crossmodal::cases;
use crossmodal::gpu::Kernel;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn kernels() -> impl Iterator<Item = &'static Kernel> {
    cases::TABLE.iter().flat_map(|row| row.kernels.iter().copied())
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The names of a folder's files with this ending.
fn files(name: &str, ending: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter_map(|name| name.strip_suffix(ending).map(str::to_string)).collect()
}

fn read(name: &str) -> String {
    std::fs::read_to_string(folder(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

#[test]
fn every_shader_file_has_a_kernel_and_every_kernel_its_file() {
    let named: BTreeSet<_> = kernels().map(|kernel| kernel.name.to_string()).collect();
    assert_eq!(named, files("shaders", ".wgsl"), "kernels' names are left, files in shaders/ right");
    for kernel in kernels() {
        // A kernel of several has its part in a folder of the name.
        let own = format!("shaders/{}", kernel.name);
        let parts = if folder(&own).is_dir() { files(&own, ".wgsl") } else { BTreeSet::new() };
        let mut paths = parts.iter().map(|part| format!("{own}/{part}.wgsl")).chain([format!("{own}.wgsl")]);
        assert!(
            paths.any(|path| kernel.source.ends_with(&read(&path))),
            "{}/{}: its source does not end in its file",
            kernel.name,
            kernel.entry
        );
        for part in &parts {
            let text = read(&format!("{own}/{part}.wgsl"));
            assert!(
                kernels().any(|kernel| kernel.source.contains(&text)),
                "no kernel includes {own}/{part}.wgsl"
            );
        }
    }
    for name in files("shaders/lib", ".wgsl") {
        let text = read(&format!("shaders/lib/{name}.wgsl"));
        assert!(
            kernels().any(|kernel| kernel.source.contains(&text)),
            "no kernel includes shaders/lib/{name}.wgsl"
        );
    }
}

#[test]
fn every_operation_has_a_row_and_every_row_its_operation() {
    let mut modules = files("src/ops", ".rs");
    for helper in [
        "attention_blocks",
        "attention_check",
        "attention_dispatch",
        "attention_kept",
        "attention_kernels",
        "attention_parts",
        "attention_plan",
        "info_nce_kernels",
        "info_nce_options",
        "info_nce_sweep",
        "info_nce_tiled",
        "line_codes",
        "logit_blocks",
        "matmul_cooperative",
        "matmul_dispatch",
        "matmul_kernels",
        "matmul_parts",
        "matmul_tune",
        "matmul_ways",
        "mod",
        "row_lanes",
        "parts",
        "rows",
        "rule",
        "ways",
    ] {
        assert!(modules.remove(helper), "src/ops/{helper}.rs is gone: take it off this test's list");
    }
    let rows: BTreeSet<_> = cases::TABLE.iter().map(|row| row.op.to_string()).collect();
    assert_eq!(rows, modules, "rows of the table are left, files in src/ops right");
    assert_eq!(rows.len(), cases::TABLE.len(), "an operation has two rows");
    for row in cases::TABLE {
        for kernel in row.kernels {
            let own = kernel.name.strip_prefix(row.op);
            assert!(
                own.is_some_and(|rest| rest.is_empty() || rest.starts_with('_')),
                "{}/{}: listed by the row of {}",
                kernel.name,
                kernel.entry,
                row.op
            );
        }
    }
}

#[test]
fn every_row_has_cases_with_names_of_their_own() {
    for row in cases::TABLE {
        let cases = (row.cases)().into_iter().map(|case| case.name).collect::<Vec<_>>();
        let benches = (row.bench)().into_iter().map(|bench| bench.name).collect();
        for (kind, names) in [("cases", cases), ("benches", benches)] {
            assert!(!names.is_empty(), "{}: no {kind}", row.op);
            let mut seen = BTreeSet::new();
            let twice = names.iter().find(|name| !seen.insert(name.as_str()));
            assert!(twice.is_none(), "{}: two {kind} are called {twice:?}", row.op);
        }
    }
}
