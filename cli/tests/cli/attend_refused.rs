//! What `attend` refuses, before anything is written.

use crossmodal::io::write_npy_array;

use crate::attend::{INPUTS, KEYS, WIDTH, lengths, place, tokens};

#[test]
fn what_cannot_be_drawn_is_refused() {
    let place = place();
    tokens(&place.path("wide.npy"), KEYS, 7, 0.);
    tokens(&place.path("long.npy"), 5, WIDTH, 0.);
    write_npy_array(&place.path("huge.npy"), &[1, 1, 768], &[0.; 768]).unwrap();
    write_npy_array(&place.path("large.npy"), &[1, 2, 2], &[3e38; 4]).unwrap();
    write_npy_array(&place.path("four.npy"), &[1, 1, 1, 2], &[0.; 2]).unwrap();
    lengths(&place.path("two.npy"), &[1, 2]);
    lengths(&place.path("zero.npy"), &[4, 0, 3]);
    lengths(&place.path("over.npy"), &[4, 1, 5]);
    for (name, text) in [
        ("q.tsv", "index\ttokens\n0\ta b c d\n1\ta b c d\n2\ta b c\n"),
        ("few.txt", "a b c d\na b c d\n"),
        ("head.tsv", "index\tlength\n0\t4\n"),
        ("empty.tsv", ""),
        ("text.png", "no picture"),
    ] {
        std::fs::write(place.path(name), text).unwrap();
    }
    std::fs::write(place.path("bytes.txt"), [0xff, 0xfe]).unwrap();
    let both = |flags: &str| format!("{INPUTS} {flags} --out z");
    let sides = |query: &str, key: &str| format!("attend --query {query} --key {key} --device cpu --out z");
    for (line, words) in [
        (sides("none.npy", "key.npy"), ["none.npy", "no such file"]),
        (sides("four.npy", "key.npy"), ["four.npy", "expected tokens [rows, tokens, columns]"]),
        (sides("query.npy", "wide.npy"), ["wide.npy: expected 6 columns", "got 7"]),
        (sides("query.npy", "left.npy"), ["left.npy: expected 3 rows", "got 60"]),
        (
            sides("huge.npy", "huge.npy"),
            ["--heads 1: expected at most 256 columns", "--heads 3 gives, got 768"],
        ),
        (sides("large.npy", "large.npy"), ["overflow", "finite"]),
        (both("--heads 0"), ["--heads 0", "a divisor of the 6 columns of query.npy"]),
        (both("--heads 4"), ["--heads 4", "a divisor of the 6 columns"]),
        (both("--scale inf"), ["--scale inf", "a finite number"]),
        (both("--rows 1,3"), ["--rows 1,3: expected row numbers below 3", "got 3"]),
        (both("--rows 1,1"), ["--rows 1,1", "each row once"]),
        (both("--rows -1"), ["--rows -1", "such as 0,5-7"]),
        (both("--query-lengths two.npy"), ["two.npy: expected 3 rows", "got 2"]),
        (both("--query-lengths over.npy"), ["over.npy: row 2 (counted from 0): expected 0 to 4", "got 5"]),
        (both("--query-lengths zero.npy"), ["zero.npy: row 1", "at least 1 token"]),
        (both("--key-lengths key.npy"), ["key.npy", "expected integers"]),
        (both("--query-words q.tsv"), ["q.tsv: line 4: expected 4 words, as row 2 of query.npy", "got 3"]),
        (both("--query-words few.txt"), ["few.txt: expected the words of 3 rows", "got 2"]),
        (both("--key-words few.txt"), ["few.txt: line 1: expected 9 words", "--key-lengths"]),
        (both("--query-words head.tsv"), ["head.tsv: expected a column tokens", "got index, length"]),
        (both("--query-words empty.tsv"), ["empty.tsv: expected a column tokens", "first line"]),
        (both("--query-words none.txt"), ["none.txt", "no such file"]),
        (both("--query-words bytes.txt"), ["bytes.txt", "UTF-8"]),
        (both("--key-grid 2x4"), ["--key-grid 2x4: expected 9 cells", "got 8"]),
        (both("--key-grid 9"), ["--key-grid 9", "such as 7x7"]),
        (both("--rows 0 --key-picture text.png"), ["text.png", "png, jpg or svg"]),
        (both("--rows 0 --key-picture none.png"), ["none.png", "no such file"]),
        (both("--key-picture text.png"), ["--key-picture text.png: expected one row", "got 3"]),
        (
            sides("key.npy", "long.npy") + " --rows 0 --key-picture text.png",
            ["--key-picture", "--key-grid HxW"],
        ),
        (format!("{INPUTS} --out query.npy"), ["query.npy", "folder"]),
    ] {
        place.refuse(&line, &words);
    }
    assert!(!place.path("z").exists() && !place.path("runs").exists());
    // Rows without tokens are no trouble where they are not drawn; a folder that has something in it is.
    place.succeed(&both("--query-lengths zero.npy --rows 0,2"));
    place.refuse(&both("--rows 0"), &["z: the output folder", "not empty"]);
}
