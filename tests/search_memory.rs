//! What a search over a corpus on disk takes of the process's memory: alone in its process, which is what is measured.
#![cfg(all(feature = "io", target_os = "linux"))]

use crossmodal::Device;
use crossmodal::align::{Search, SearchOptions};
use crossmodal::io::{Features, MappedFeatures, Source, write_npy};

/// What a process has of a corpus on disk is what it asked for.
#[test]
fn a_corpus_on_disk_is_not_held_in_memory() {
    let anonymous = || {
        let text = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = text.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
        1024 * line.split_whitespace().nth(1).unwrap().parse::<i64>().unwrap()
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("corpus.npy");
    let (rows, cols) = (1 << 20, 32); // 128 MiB
    write_npy(&path, rows, cols, &vec![0.5; rows * cols]).unwrap();
    let corpus = MappedFeatures::open(&Source { path, tensor: None }).unwrap();
    let queries = Features { rows: 2, cols, values: vec![0.5; 2 * cols] };
    let options = SearchOptions { scratch_bytes: 4 << 20, ..SearchOptions::default() };
    let mut search = Search::new(&Device::Cpu, &queries, &options).unwrap();
    let (before, mut most) = (anonymous(), 0);
    while search.rows() < rows {
        let last = rows.min(search.rows() + search.chunk_rows());
        let chunk = corpus.read(search.rows()..last).unwrap();
        search.add(&chunk).unwrap();
        most = most.max(anonymous() - before);
    }
    assert_eq!(search.finish().unwrap().rows[..3], [0, 1, 2]);
    assert!(most < 24 << 20, "{most} bytes more than before");
}
