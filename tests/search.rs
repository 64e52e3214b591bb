//! Search against brute force by the definition: on the CPU path and on a GPU, to the bit.
#![cfg(feature = "io")]

mod common;

use crossmodal::align::{Hits, Search, SearchOptions, Similarity, search};
use crossmodal::io::{Features, MappedFeatures, Source};
use crossmodal::reference::by_rank;
use crossmodal::{Device, Error};
use half::f16;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn features(cols: usize, values: Vec<f32>) -> Features {
    Features { rows: values.len() / cols, cols, values }
}

fn random(seed: u64, rows: usize, cols: usize) -> Features {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    features(cols, (0..rows * cols).map(|_| random.random_range(-1f32..1.)).collect())
}

fn of(k: usize, similarity: Similarity) -> SearchOptions {
    SearchOptions { k, similarity, ..SearchOptions::default() }
}

/// The definition, term by term.
fn brute_force(queries: &Features, corpus: &Features, options: &SearchOptions) -> Hits {
    let length = |row: &[f32]| row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
    let k = options.k.min(corpus.rows);
    let (mut rows, mut scores) = (vec![], vec![]);
    for query in queries.values.chunks(queries.cols) {
        let similarity = |row: &[f32]| {
            let dot: f64 = query.iter().zip(row).map(|(&q, &c)| f64::from(q) * f64::from(c)).sum();
            let norms =
                if options.similarity == Similarity::Cosine { length(query) * length(row) } else { 1. };
            if norms == 0. { 0. } else { (dot / norms) as f32 }
        };
        let mut all: Vec<_> = corpus.values.chunks(corpus.cols).map(similarity).zip(0..).collect();
        all.sort_by(by_rank);
        all.truncate(k);
        scores.extend(all.iter().map(|(score, _)| *score));
        rows.extend(all.iter().map(|(_, row)| *row));
    }
    Hits { queries: queries.rows, k, rows, scores }
}

fn in_chunks(
    device: &Device,
    queries: &Features,
    corpus: &Features,
    options: &SearchOptions,
    each: usize,
) -> Hits {
    let mut search = Search::new(device, queries, options).unwrap();
    for rows in corpus.values.chunks(each * corpus.cols) {
        search.add(&features(corpus.cols, rows.to_vec())).unwrap();
    }
    assert_eq!(search.rows(), corpus.rows);
    search.finish().unwrap()
}

/// Both devices in chunks of these sizes and as a whole; the answer.
fn check(queries: &Features, corpus: &Features, options: &SearchOptions, chunks: &[usize]) -> Hits {
    let want = brute_force(queries, corpus, options);
    for device in [Device::Cpu, common::gpu()] {
        for each in chunks.iter().copied().chain([corpus.rows]) {
            let got = in_chunks(&device, queries, corpus, options, each);
            let what = format!("{} in chunks of {each}, {options:?}", device.name());
            let shape = |hits: &Hits| (hits.queries, hits.k, hits.rows.len(), hits.scores.len());
            assert_eq!(shape(&got), shape(&want), "{what}");
            let differs = (0..want.rows.len())
                .find(|&i| (got.rows[i], got.scores[i]) != (want.rows[i], want.scores[i]));
            if let Some(i) = differs {
                let (got, want) = ((got.rows[i], got.scores[i]), (want.rows[i], want.scores[i]));
                panic!("{what}: place {} of query {}: {got:?}, not {want:?}", i % options.k, i / options.k);
            }
        }
    }
    want
}

const BOTH: [Similarity; 2] = [Similarity::Cosine, Similarity::InnerProduct];

#[test]
fn any_size_and_chunk_gives_the_answer_of_brute_force() {
    for (q, n, d, k) in
        [(1, 1, 1, 1), (3, 50, 7, 5), (5, 300, 64, 10), (9, 129, 33, 128), (2, 65, 257, 3), (4, 9, 2, 9)]
    {
        let (queries, corpus) = (random(1, q, d), random(2, n, d));
        for similarity in BOTH {
            check(&queries, &corpus, &of(k, similarity), &[1, 7, 64]);
        }
    }
    // More than a segment, in whole ones and not; more queries than a block.
    let (queries, corpus) = (random(3, 3, 16), random(4, 9000, 16));
    for similarity in BOTH {
        check(&queries, &corpus, &of(10, similarity), &[4096, 4097, 5000]);
    }
    let (queries, corpus) = (random(5, 1030, 3), random(6, 200, 3));
    for similarity in BOTH {
        check(&queries, &corpus, &of(3, similarity), &[150]);
    }
}

#[test]
fn little_scratch_memory_gives_the_same() {
    let (queries, corpus) = (random(1, 5, 8), random(2, 9000, 8));
    for device in [Device::Cpu, common::gpu()] {
        for scratch_bytes in [0, 30_000, 1 << 20] {
            let options = SearchOptions { scratch_bytes, ..of(20, Similarity::Cosine) };
            let search = Search::new(&device, &queries, &options).unwrap();
            let each = search.chunk_rows();
            assert!(each >= 1 && each * 4 * 8 <= scratch_bytes.max(32), "{each} rows in {scratch_bytes}");
            let each = each.max(100); // one at a time takes a GPU long
            let got = in_chunks(&device, &queries, &corpus, &options, each);
            assert!(got == brute_force(&queries, &corpus, &options), "{scratch_bytes} on {}", device.name());
        }
    }
}

/// Whole numbers: of 41 possible inner products and few angles nearly all tie.
#[test]
fn ties_go_to_the_lower_row() {
    let whole = |seed, rows| {
        let values = random(seed, rows, 5).values.into_iter().map(|v| (2. * v).round()).collect();
        features(5, values)
    };
    let (queries, corpus) = (whole(1, 6), whole(2, 5000));
    for similarity in BOTH {
        let hits = check(&queries, &corpus, &of(100, similarity), &[7, 1000, 4096]);
        let ties = hits.scores.windows(2).filter(|pair| pair[0] == pair[1]).count();
        assert!(ties > hits.scores.len() / 2, "{ties} ties");
    }
}

#[test]
fn copies_of_a_row_come_in_order_wherever_they_lie() {
    let one = random(1, 1, 32).values;
    let mut corpus = random(2, 6000, 32);
    // More copies than a device lists; and rows that differ from them by less than f32 can sum.
    for row in (0..6000).step_by(3) {
        corpus.values[row * 32..][..32].copy_from_slice(&one);
    }
    for row in (1..6000).step_by(300) {
        corpus.values[row * 32..][..32].copy_from_slice(&one);
        corpus.values[row * 32 + row % 32] *= 1. + f32::EPSILON;
    }
    let mut queries = random(3, 2, 32);
    queries.values[..32].copy_from_slice(&one);
    for similarity in BOTH {
        let hits = check(&queries, &corpus, &of(64, similarity), &[100, 4096]);
        assert!(similarity == Similarity::InnerProduct || hits.scores[..60] == [1.; 60]);
    }
    let same = features(4, [0.1, 0.2, 0.3, 0.4].repeat(2000));
    let hits = check(&features(4, vec![0.4, 0.3, 0.2, 0.1]), &same, &of(1024, Similarity::Cosine), &[1, 7]);
    assert!(hits.rows.iter().copied().eq(0..1024));
}

/// Sums that a device cannot tell from 0: the order is in digits that f32 loses, and the best come last.
#[test]
fn rows_that_f32_cannot_tell_apart_are_in_order() {
    let row = |row: usize| [1., (row * 7 % 3001) as f32 * 1e-9, -1., 0.];
    let corpus = features(4, (0..3001).flat_map(row).collect());
    for similarity in BOTH {
        let hits = check(&features(4, vec![1., 1., 1., 1.]), &corpus, &of(10, similarity), &[1000]);
        assert!(hits.scores.windows(2).all(|pair| pair[0] > pair[1]), "{hits:?}");
    }
}

#[test]
fn the_most_rows_are_found_and_no_more_than_there_are() {
    let (queries, corpus) = (random(1, 3, 24), random(2, 5000, 24));
    for similarity in BOTH {
        check(&queries, &corpus, &of(1024, similarity), &[1500]);
    }
    let few = random(3, 11, 24);
    let hits = check(&queries, &few, &of(1024, Similarity::Cosine), &[1, 7]);
    assert_eq!((hits.k, hits.rows.len()), (11, 33));
}

#[test]
fn zero_vectors_are_as_similar_as_right_angles() {
    let queries = features(2, vec![0., 0., 1., 0.]);
    let corpus = features(2, vec![-1., 0., 0., 0., 0., 3., 2., 0., 0., 0.]);
    for similarity in BOTH {
        let hits = check(&queries, &corpus, &of(5, similarity), &[1, 2]);
        assert_eq!(hits.rows, [0, 1, 2, 3, 4, 3, 1, 2, 4, 0]);
        assert!(hits.scores[..5].iter().all(|score| score.to_bits() == 0), "no −0: {hits:?}");
    }
}

#[test]
fn tiny_and_huge_rows_have_their_angles() {
    let plain = random(1, 400, 8);
    let mut scaled = plain.clone();
    for (row, values) in scaled.values.chunks_mut(8).enumerate() {
        values.iter_mut().for_each(|v| *v *= [1e-30, 1., 1e30, 1e-12][row % 4]);
    }
    let queries = features(8, random(2, 2, 8).values.into_iter().zip(0..).map(scale).collect());
    fn scale((value, i): (f32, usize)) -> f32 {
        if i < 8 { value * 1e-25 } else { value * 1e25 }
    }
    check(&queries, &scaled, &of(10, Similarity::Cosine), &[7]);
    // Of the first query alone: with the second the products are beyond f32.
    let first = features(8, queries.values[..8].to_vec());
    check(&first, &scaled, &of(10, Similarity::InnerProduct), &[7]);
    let error = search(&Device::Cpu, &queries, &scaled, &of(10, Similarity::InnerProduct)).unwrap_err();
    assert!(error.to_string().contains("one beyond it, of query 1"), "{error}");
}

#[test]
fn no_queries_find_nothing() {
    let queries = Features { rows: 0, cols: 4, values: vec![] };
    for device in [Device::Cpu, common::gpu()] {
        let hits = search(&device, &queries, &random(1, 5, 4), &SearchOptions::default()).unwrap();
        assert_eq!((hits.queries, hits.k, hits.rows, hits.scores), (0, 5, vec![], vec![]));
    }
}

/// Read from disk in f16, the rows are the f32 that those f16 are.
#[test]
fn a_corpus_on_disk_is_read_in_its_own_type() {
    let values: Vec<f16> = random(1, 700, 12).values.into_iter().map(f16::from_f32).collect();
    let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let header = format!(r#"{{"x":{{"dtype":"F16","shape":[700,12],"data_offsets":[0,{}]}}}}"#, data.len());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("corpus.safetensors");
    let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat();
    std::fs::write(&path, bytes).unwrap();
    let corpus = MappedFeatures::open(&Source { path, tensor: None }).unwrap();
    let widened = features(12, values.iter().map(|v| v.to_f32()).collect());
    let (queries, options) = (random(2, 4, 12), SearchOptions::default());
    let want = brute_force(&queries, &widened, &options);
    for device in [Device::Cpu, common::gpu()] {
        let mut search = Search::new(&device, &queries, &options).unwrap();
        while search.rows() < corpus.rows() {
            let last = corpus.rows().min(search.rows() + 123);
            search.add(&corpus.read(search.rows()..last).unwrap()).unwrap();
        }
        assert!(search.finish().unwrap() == want, "{}", device.name());
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let (queries, corpus) = (random(1, 2, 3), random(2, 4, 3));
    let options = SearchOptions::default();
    for device in [Device::Cpu, common::gpu()] {
        let message = |queries: &Features, corpus: &Features, options: &SearchOptions| {
            search(&device, queries, corpus, options).unwrap_err().to_string()
        };
        for k in [0, 1025] {
            let text = message(&queries, &corpus, &of(k, Similarity::Cosine));
            assert_eq!(text, format!("search: k: expected 1 to 1024, got {k}"));
        }
        let text = message(&queries, &random(2, 4, 2), &options);
        assert_eq!(text, "search: corpus: expected 3 columns as the queries have, got 2");
        let none = Features { rows: 0, cols: 3, values: vec![] };
        assert_eq!(message(&queries, &none, &options), "search: corpus: expected at least one row, got 0");
        let no_columns = Features { rows: 2, cols: 0, values: vec![] };
        assert!(message(&no_columns, &corpus, &options).contains("at least one column"));
        let mut bad = corpus.clone();
        bad.values[7] = f32::NEG_INFINITY;
        assert_eq!(
            message(&queries, &bad, &options),
            "search: corpus: expected finite values, got -inf in row 2"
        );
        assert!(message(&features(3, vec![1., 2., f32::NAN]), &corpus, &options).contains("NaN in row 0"));
        let mut search = Search::new(&device, &queries, &options).unwrap();
        search.add(&corpus).unwrap();
        assert!(
            search.add(&bad).unwrap_err().to_string().contains("-inf in row 6"),
            "counted from the first chunk"
        );
        let short = Features { rows: 2, cols: 3, values: vec![1.; 5] };
        assert!(matches!(search.add(&short), Err(Error::Argument { argument, .. }) if argument == "corpus"));
    }
}
