//! Compiled kernels on disk, seen from other processes: this test's own program, run again with a cache folder of its own.
#![cfg(feature = "gpu")]

mod common;

use crossmodal::ops::{MatmulOptions, matmul, softmax};
use crossmodal::{DType, Device, Tensor};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Compiles two kernels and ends as a program may: without dropping its device.
#[test]
#[ignore = "what the other tests run as a process"]
fn child() {
    let device = common::gpu();
    let x = Tensor::zeros(&device, &[4, 4], DType::F32).unwrap();
    let start = std::time::Instant::now();
    let product = matmul(&x, &x, None, &MatmulOptions::default()).unwrap();
    assert_eq!(softmax(&product).unwrap().to_vec::<f32>().unwrap(), [0.25; 16]);
    eprintln!("two kernels for the first time: {:.1?}", start.elapsed());
    std::process::exit(0);
}

/// Another process with this cache folder, which succeeds.
fn run(cache: &Path) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "child", "--nocapture"]);
    // Mesa keeps compiled shaders itself.
    command.env("CROSSMODAL_CACHE", cache).env("MESA_SHADER_CACHE_DISABLE", "true");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    eprintln!("{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// The files of a folder and what is in them.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let Ok(entries) = std::fs::read_dir(folder) else { return vec![] };
    let read = |path: PathBuf| std::fs::read(&path).map(|bytes| (path, bytes)).unwrap();
    entries.map(|entry| read(entry.unwrap().path())).collect()
}

fn is_vulkan() -> bool {
    matches!(common::gpu(), Device::Gpu(gpu) if gpu.report().backend == "vulkan")
}

#[test]
fn a_process_leaves_one_file_that_the_next_one_takes() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path());
    let first = files(folder.path());
    if !is_vulkan() {
        assert_eq!(first, []);
        return;
    }
    let [(path, bytes)] = &first[..] else { panic!("one file: {first:?}") };
    assert!(bytes.starts_with(b"crossmodal "));
    eprintln!("{}: {} bytes", path.display(), bytes.len());
    run(folder.path());
    assert_eq!(files(folder.path()).len(), 1);
    // Damaged, it is ignored, and written anew.
    std::fs::write(path, &bytes[..bytes.len() - 1]).unwrap();
    run(folder.path());
    let again = files(folder.path());
    assert_eq!((again.len(), &again[0].0), (1, path));
    assert!(again[0].1.len() >= bytes.len(), "{} of {} bytes", again[0].1.len(), bytes.len());
}

#[test]
fn off_or_a_folder_that_cannot_be_made_keeps_nothing_and_fails_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let in_the_way = folder.path().join("file");
    std::fs::write(&in_the_way, "").unwrap();
    run(&in_the_way);
    run(Path::new("off"));
    assert_eq!(files(folder.path()), [(in_the_way, vec![])]);
    assert!(!Path::new("off").exists());
}
