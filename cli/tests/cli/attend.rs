//! Attention maps: the weights against plain loops, and their pictures.

use std::path::Path;

use crossmodal::io::write_npy_array;

use crate::xml::elements;
use crate::{Place, names};

const ROWS: usize = 3;
const QUERIES: usize = 4;
pub(crate) const KEYS: usize = 9;
pub(crate) const WIDTH: usize = 6;
pub(crate) const INPUTS: &str = "attend --query query.npy --key key.npy --device cpu";
/// Real tokens of each row.
const QUERY_LENGTHS: [usize; ROWS] = [4, 2, 3];
const KEY_LENGTHS: [usize; ROWS] = [9, 5, 7];

fn value(row: usize, token: usize, column: usize, shift: f32) -> f32 {
    (((row * 31 + token * 7 + column * 3) as f32 + shift) * 0.37).sin() * 2.
}

pub(crate) fn tokens(path: &Path, length: usize, width: usize, shift: f32) {
    let place = |i: usize| (i / width / length, i / width % length, i % width);
    let of = |(row, token, column)| value(row, token, column, shift);
    let values: Vec<f32> = (0..ROWS * length * width).map(|i| of(place(i))).collect();
    write_npy_array(path, &[ROWS, length, width], &values).unwrap();
}

/// A `.npy` file of u8.
pub(crate) fn lengths(path: &Path, lengths: &[usize]) {
    let header =
        format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({},), }}\n", lengths.len()).into_bytes();
    let data = lengths.iter().map(|&length| length as u8).collect();
    let start = [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..]].concat();
    std::fs::write(path, [start, header, data].concat()).unwrap();
}

pub(crate) fn place() -> Place {
    let place = Place::new();
    tokens(&place.path("query.npy"), QUERIES, WIDTH, 0.);
    tokens(&place.path("key.npy"), KEYS, WIDTH, 0.5);
    lengths(&place.path("ql.npy"), &QUERY_LENGTHS);
    lengths(&place.path("kl.npy"), &KEY_LENGTHS);
    place
}

/// The values of `attention.npy`, whose header has a shape.
fn maps(place: &Place, folder: &str, shape: &str) -> Vec<f32> {
    let bytes = place.bytes(&format!("{folder}/attention.npy"));
    let start = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = String::from_utf8_lossy(&bytes[10..start]);
    assert!(header.contains(&format!("'<f4', 'fortran_order': False, 'shape': {shape},")), "{header}");
    bytes[start..].as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
}

/// One row's weights of a head of some columns: `[QUERIES, KEYS]`, by the definition.
fn expected(row: usize, columns: std::ops::Range<usize>, scale: f64, real: (usize, usize)) -> Vec<f64> {
    let mut weights = vec![0.; QUERIES * KEYS];
    for i in 0..real.0 {
        let score = |j: usize| -> f64 {
            let product = |c| f64::from(value(row, i, c, 0.)) * f64::from(value(row, j, c, 0.5));
            columns.clone().map(product).sum::<f64>() * scale
        };
        let sum: f64 = (0..real.1).map(|j| score(j).exp()).sum();
        (0..real.1).for_each(|j| weights[i * KEYS + j] = score(j).exp() / sum);
    }
    weights
}

fn close(got: &[f32], expected: &[f64]) {
    assert_eq!(got.len(), expected.len());
    for (i, (&got, expected)) in got.iter().zip(expected).enumerate() {
        assert!((f64::from(got) - expected).abs() < 2e-6, "{i}: {got} for {expected}");
        assert!(*expected != 0. || got == 0., "{i}: {got} for 0");
    }
}

#[test]
fn weights_are_those_of_the_definition() {
    let place = place();
    let line = format!("{INPUTS} --query-lengths ql.npy --key-lengths kl.npy --heads 2 --rows 2,0-1 --out a");
    let table = place.succeed(&line);
    assert!(table.contains("mean of 2 heads") && table.contains("keys by line,column"), "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    let found = maps(&place, "a", "(3, 2, 4, 9)");
    let about = place.json("a/attention.json");
    for (i, row) in [2, 0, 1].into_iter().enumerate() {
        for head in 0..2 {
            let real = (QUERY_LENGTHS[row], KEY_LENGTHS[row]);
            let own = expected(row, head * 3..head * 3 + 3, 1. / 3f64.sqrt(), real);
            let got = &found[(i * 2 + head) * QUERIES * KEYS..][..QUERIES * KEYS];
            close(got, &own);
            for line in got.chunks(KEYS).take(real.0) {
                assert!((line.iter().sum::<f32>() - 1.).abs() < 1e-6);
            }
            let plogp = |p: &f64| if *p > 0. { -p * p.ln() } else { 0. };
            let entropy = own.iter().map(plogp).sum::<f64>() / real.0 as f64;
            let told = about["maps"][i]["entropy"][head].as_f64().unwrap();
            assert!((told - entropy).abs() < 1e-5, "{told} for {entropy}");
        }
        let told = &about["maps"][i];
        let of = |name: &str| told[name].as_u64().unwrap() as usize;
        assert_eq!(
            (of("row"), of("query_tokens"), of("key_tokens")),
            (row, QUERY_LENGTHS[row], KEY_LENGTHS[row])
        );
    }
    assert_eq!(about["shape"], serde_json::json!([3, 2, 4, 9]));
    assert_eq!((&about["query"], &about["key_lengths"]), (&"query.npy".into(), &"kl.npy".into()));
    assert_eq!((about["heads"].as_u64(), about["columns"].as_u64()), (Some(2), Some(6)));
    assert!((about["scale"].as_f64().unwrap() - 1. / 3f64.sqrt()).abs() < 1e-12);
    // The same again gives the same bytes; another scale is another softmax.
    place.succeed(&line.replace("--out a", "--out b"));
    assert!(place.bytes("a/attention.npy") == place.bytes("b/attention.npy"));
    place.succeed(&format!("{INPUTS} --scale -0.1 --rows 1"));
    let found = maps(&place, "runs/attend-1", "(1, 1, 4, 9)");
    close(&found, &expected(1, 0..WIDTH, -0.1, (QUERIES, KEYS)));
}

#[test]
fn the_table_names_what_is_looked_at() {
    let place = place();
    let table = place.succeed(&format!("{INPUTS} --rows 1 --key-lengths kl.npy"));
    let own = expected(1, 0..WIDTH, 1. / (WIDTH as f64).sqrt(), (QUERIES, KEY_LENGTHS[1]));
    let mut best: Vec<(usize, Vec<usize>)> = vec![];
    let at = |query: usize, key: usize| own[query * KEYS + key];
    for query in 0..QUERIES {
        let mut keys: Vec<usize> = (0..KEYS).collect();
        keys.sort_by(|a, b| at(query, *b).total_cmp(&at(query, *a)));
        best.push((query, keys));
    }
    best.sort_by(|a, b| at(b.0, b.1[0]).total_cmp(&at(a.0, a.1[0])));
    let cells = |line: &str| line.split_whitespace().map(String::from).collect::<Vec<_>>();
    let from = table.lines().position(|line| line.starts_with("row")).unwrap() + 1;
    for (line, (query, keys)) in table.lines().skip(from).zip(&best[..3]) {
        let key = |n: usize| format!("{},{}", keys[n] / 3, keys[n] % 3);
        let weight = |n: usize| format!("{:.3}", at(*query, keys[n]));
        let expected = ["1".into(), query.to_string(), key(0), key(1), weight(0), weight(1)];
        assert_eq!(cells(line), expected, "{table}");
    }
}

/// How many maps and cells a picture has, and its texts.
fn drawn(place: &Place, name: &str) -> (usize, usize, Vec<String>) {
    let svg = String::from_utf8(place.bytes(name)).unwrap();
    assert!(svg.starts_with("<svg ") && !svg.contains("NaN") && !svg.contains("inf\""), "{svg}");
    let all = elements(&svg);
    let run = |path: &str| -> usize {
        let runs = path.split('h').skip(1).step_by(2).map(|run| run.split('v').next().unwrap());
        runs.map(|run| run.parse::<usize>().unwrap()).sum()
    };
    let maps =
        all.iter().filter(|own| own.attributes.get("class").is_some_and(|class| class == "map")).count();
    let cells =
        all.iter().filter(|own| own.in_map && own.name == "path").map(|own| run(&own.attributes["d"]));
    let texts = all.iter().filter(|own| own.name == "text").map(|own| own.text.clone());
    (maps, cells.sum(), texts.collect())
}

#[test]
fn each_row_and_head_has_a_picture() {
    let place = place();
    place.succeed(&format!("{INPUTS} --out one"));
    let files = ["attention.json", "attention.npy", "row-0.svg", "row-1.svg", "row-2.svg"];
    assert_eq!(names(&place.path("one")), files);
    let (maps, cells, texts) = drawn(&place, "one/row-1.svg");
    assert_eq!((maps, cells), (QUERIES, QUERIES * KEYS));
    for text in ["Row 1, one head", "weight", "0", "1", "2", "3"] {
        assert!(texts.iter().any(|own| own == text), "{text} is not in {texts:?}");
    }
    assert!(texts.join(" ").contains("every weight would be 0.111"), "{texts:?}");
    place.succeed(&format!(
        "{INPUTS} --heads 3 --rows 1 --query-lengths ql.npy --key-lengths kl.npy --out three"
    ));
    let files =
        ["attention.json", "attention.npy", "row-1-head-0.svg", "row-1-head-1.svg", "row-1-head-2.svg"];
    assert_eq!(names(&place.path("three")), [&files[..], &["row-1.svg"]].concat());
    for (name, title) in
        [("row-1.svg", "Row 1, mean of 3 heads"), ("row-1-head-2.svg", "Row 1, head 2 of 0 to 2")]
    {
        // Padding is not drawn.
        let (maps, cells, texts) = drawn(&place, &format!("three/{name}"));
        assert_eq!((maps, cells), (2, 2 * 5), "{name}");
        assert_eq!(texts[0], title);
    }
    // The scale ends at the picture's own greatest weight.
    let greatest = expected(1, 4..6, 0.5f64.sqrt(), (2, 5)).into_iter().fold(0., f64::max);
    let (.., texts) = drawn(&place, "three/row-1-head-2.svg");
    assert!(texts.contains(&format!("{greatest:.3}")), "{greatest} is not in {texts:?}");
}

#[test]
fn tokens_have_their_words() {
    let place = place();
    let words = "index\ttokens\n0\ta<b & \"c\" d\n1\tgrinning ##y\n2\tx y z\n";
    std::fs::write(place.path("q.tsv"), words).unwrap();
    std::fs::write(
        place.path("k.txt"),
        "a b c d e f g h i\r\nk0 k1 k2 k3 a_very_long_key_that_is_cut\r\n1 2 3 4 5 6 7\r\n",
    )
    .unwrap();
    let line = format!("{INPUTS} --query-lengths ql.npy --query-words q.tsv");
    place.succeed(&format!("{line} --out grid"));
    let (maps, cells, texts) = drawn(&place, "grid/row-0.svg");
    assert_eq!((maps, cells), (4, 4 * 9));
    for text in ["a&lt;b", "&amp;", "&quot;c&quot;", "d", "a&lt;b &amp; &quot;c&quot; d"] {
        assert!(texts.iter().any(|own| own == text), "{text} is not in {texts:?}");
    }
    // Words over words: a line of cells for each query token, all in one map.
    let table = place.succeed(&format!("{line} --key-lengths kl.npy --key-words k.txt --rows 1 --out words"));
    assert!(table.contains("grinning") && table.contains("k2") && !table.contains("line,column"), "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    let (maps, cells, texts) = drawn(&place, "words/row-1.svg");
    assert_eq!((maps, cells), (1, 2 * 5));
    for text in ["grinning", "##y", "k0", "k3"] {
        assert!(texts.iter().any(|own| own == text), "{text} is not in {texts:?}");
    }
    let cut = texts.iter().find(|own| own.ends_with('…')).expect("the long one is cut");
    assert!(cut.starts_with("a_very_long"), "{cut}");
    // A grid that is asked for is drawn as one, words or not.
    place.succeed(&format!("{line} --key-grid 1x9 --rows 0 --out flat"));
    assert_eq!(drawn(&place, "flat/row-0.svg").0, 4);
}

#[test]
fn one_token_a_row_is_a_matrix() {
    let place = place();
    // 60 rows of 6 columns look at themselves: one key takes all.
    place.succeed("attend --query left.npy --key left.npy --device cpu --rows 3,59 --out a");
    assert_eq!(maps(&place, "a", "(2, 1, 1, 1)"), [1., 1.]);
    assert_eq!(drawn(&place, "a/row-59.svg").1, 1);
    assert_eq!(place.json("a/attention.json")["maps"][1]["entropy"][0], 0.);
}

#[test]
fn cells_lie_over_the_keys_picture() {
    let place = place();
    let pictures: [(&str, &[u8], &str); 3] = [
        ("a.png", b"\x89PNG\r\n\x1a\n", "data:image/png;base64,iVBORw0KGgo="),
        ("a.jpg", b"\xff\xd8\xff\xe0ab", "data:image/jpeg;base64,/9j/4GFi"),
        ("a.svg", b"<svg/>", "data:image/svg+xml;base64,PHN2Zy8+"),
    ];
    for (name, bytes, uri) in pictures {
        std::fs::write(place.path(name), bytes).unwrap();
        place.succeed(&format!("{INPUTS} --rows 2 --key-picture {name} --out {name}.maps"));
        let file = format!("{name}.maps/row-2.svg");
        let svg = String::from_utf8(place.bytes(&file)).unwrap();
        // Once in the file, and used by itself and below every map.
        assert_eq!(
            (svg.matches(uri).count(), svg.matches("<use href=\"#keys\"/>").count()),
            (1, QUERIES + 1)
        );
        let (maps, cells, _) = drawn(&place, &file);
        assert_eq!((maps, cells), (QUERIES, QUERIES * KEYS));
        // What shines through is less where the weight is more.
        let all = elements(&svg);
        let covers: Vec<_> =
            all.iter().filter(|own| own.in_map).map(|own| &own.attributes["fill-opacity"]).collect();
        assert!(covers.iter().all(|own| ("0.50".."0.96").contains(&own.as_str())), "{covers:?}");
        assert!(covers.iter().any(|own| *own == "0.95"), "{covers:?}");
    }
}
