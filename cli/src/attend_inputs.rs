//! What `attend` reads beside the features: rows, lengths, words, a grid, a picture.

use std::path::Path;

use crossmodal::io::{Source, read_integers};

use crate::base64::base64;
use crate::failure::Failure;
use crate::inputs::check_same;

/// Rows that are taken where none are named.
const FIRST: usize = 8;

/// The rows that `0,5-7` names among so many, in that order; the first few where nothing is named.
pub(crate) fn rows(text: Option<&str>, count: usize) -> Result<Vec<u32>, Failure> {
    let Some(text) = text else { return Ok((0..count.min(FIRST) as u32).collect()) };
    let refused =
        |expected: &str, got: &str| Failure::new(format!("--rows {text}: expected {expected}, got {got}"));
    let mut rows: Vec<u32> = vec![];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<u32>().ok();
        let (Some(first), Some(last)) = (number(first), number(last)) else {
            return Err(refused("numbers and ranges such as 0,5-7", &format!("{part:?}")));
        };
        if first > last {
            return Err(refused("ranges from a lower to a higher number", part));
        }
        // Before a range is written out that could be of any size.
        if last as usize >= count {
            return Err(refused(&format!("row numbers below {count}"), &last.to_string()));
        }
        rows.extend(first..=last);
    }
    let mut sorted = rows.clone();
    sorted.sort_unstable();
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(refused("each row once", &format!("{} twice", pair[0]))),
        None => Ok(rows),
    }
}

/// How many tokens of each row are real: what a file says, or all of them.
pub(crate) fn lengths(
    source: Option<&Source>,
    tokens: (&Source, usize, usize),
    chosen: &[u32],
) -> Result<Vec<usize>, Failure> {
    let (of, rows, most) = tokens;
    let Some(source) = source else { return Ok(vec![most; rows]) };
    let all = read_integers(source)?;
    check_same("rows", (of, rows), (source, all.len()))?;
    let refused = |row: usize, expected: String| {
        let got = all[row];
        Failure::new(format!("{source}: row {row} (counted from 0): expected {expected}, got {got}"))
    };
    if let Some(row) = all.iter().position(|length| !(0..=most as i64).contains(length)) {
        return Err(refused(row, format!("0 to {most}, the tokens of a row in {of}")));
    }
    // Nobody can look, or be looked at, where there is no token.
    if let Some(&row) = chosen.iter().find(|&&row| all[row as usize] == 0) {
        return Err(refused(row as usize, "at least 1 token in a row of --rows".into()));
    }
    Ok(all.into_iter().map(|length| length as usize).collect())
}

/// The words of every row's tokens: the column `tokens` of a `.tsv` file, or the lines of another. `of` has them, and
/// `flag` says how many are real.
pub(crate) fn words(
    path: &Path,
    (of, lengths): (&Source, &[usize]),
    flag: &str,
) -> Result<Vec<Vec<String>>, Failure> {
    let name = path.display();
    let bytes = std::fs::read(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Failure::new(format!("{name}: no such file")),
        _ => Failure::new(format!("{name}: {error}")),
    })?;
    let text =
        String::from_utf8(bytes).map_err(|_| Failure::new(format!("{name}: expected text in UTF-8")))?;
    let is_table = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("tsv"));
    let mut lines = text.strip_prefix('\u{feff}').unwrap_or(&text).lines();
    let column = match is_table.then(|| lines.next().unwrap_or_default()) {
        None => 0,
        Some(head) => head.split('\t').position(|column| column == "tokens").ok_or_else(|| {
            let columns: Vec<_> = head.split('\t').collect();
            let expected = "expected a column tokens in the first line";
            Failure::new(format!("{name}: {expected}, got {}", columns.join(", ")))
        })?,
    };
    let mut all = vec![];
    for (row, line) in lines.enumerate() {
        let own = if is_table { line.split('\t').nth(column).unwrap_or_default() } else { line };
        let words: Vec<_> = own.split_whitespace().map(String::from).collect();
        if let Some(&expected) = lengths.get(row).filter(|&&length| length != words.len()) {
            let line = row + 1 + usize::from(is_table);
            let got = words.len();
            let expected =
                format!("{expected} words, as row {row} of {of} has tokens ({flag} says how many are real)");
            return Err(Failure::new(format!("{name}: line {line}: expected {expected}, got {got}")));
        }
        all.push(words);
    }
    if all.len() != lengths.len() {
        let expected = format!("expected the words of {} rows, as {of} has", lengths.len());
        return Err(Failure::new(format!("{name}: {expected}, got {}", all.len())));
    }
    Ok(all)
}

/// The lines and columns that `7x7` names, of so many keys; a square where nothing is named and one fits.
pub(crate) fn grid(text: Option<&str>, keys: usize, are_words: bool) -> Result<Option<[usize; 2]>, Failure> {
    let Some(text) = text else {
        let side = keys.isqrt();
        return Ok((side > 1 && side * side == keys && !are_words).then_some([side, side]));
    };
    let refused = |expected: &str, got: &str| {
        Failure::new(format!("--key-grid {text}: expected {expected}, got {got}"))
    };
    let sizes =
        text.split_once('x').and_then(|(down, across)| Some([down.parse().ok()?, across.parse().ok()?]));
    let Some([down, across]): Option<[usize; 2]> = sizes.filter(|sizes| !sizes.contains(&0)) else {
        return Err(refused("lines and columns such as 7x7", text));
    };
    match down.checked_mul(across) {
        Some(cells) if cells == keys => Ok(Some([down, across])),
        cells => {
            let got = cells.map_or("more".to_string(), |cells| cells.to_string());
            Err(refused(&format!("{keys} cells, one for each key"), &got))
        }
    }
}

/// A picture as a data URI.
pub(crate) fn picture(path: &Path) -> Result<String, Failure> {
    let name = path.display();
    let bytes = std::fs::read(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Failure::new(format!("{name}: no such file")),
        _ => Failure::new(format!("{name}: {error}")),
    })?;
    let is_svg = || bytes.windows(4).any(|part| part == b"<svg") && std::str::from_utf8(&bytes).is_ok();
    let kind = match bytes.as_slice() {
        [0x89, b'P', b'N', b'G', ..] => "png",
        [0xff, 0xd8, 0xff, ..] => "jpeg",
        _ if is_svg() => "svg+xml",
        _ => return Err(Failure::new(format!("{name}: expected a picture: png, jpg or svg"))),
    };
    Ok(format!("data:image/{kind};base64,{}", base64(&bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_numbers_and_ranges() {
        assert_eq!(rows(None, 3).unwrap(), [0, 1, 2]);
        assert_eq!(rows(None, 30).unwrap().len(), FIRST);
        assert_eq!(rows(Some("7,0,2-4"), 8).unwrap(), [7, 0, 2, 3, 4]);
        for (text, part) in [
            ("8", "--rows 8: expected row numbers below 8, got 8"),
            ("0-4000000000", "below 8, got 4000000000"),
            ("", "0,5-7, got \"\""),
            ("1,,2", "got \"\""),
            ("-1", "got \"-1\""),
            ("a", "got \"a\""),
            ("4-2", "from a lower to a higher number, got 4-2"),
            ("1,0-2", "each row once, got 1 twice"),
        ] {
            let message = rows(Some(text), 8).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn squares_are_grids() {
        let of = |text, keys, are_words| grid(text, keys, are_words).map_err(|error| error.to_string());
        assert_eq!(of(None, 49, false), Ok(Some([7, 7])));
        assert_eq!(
            (of(None, 49, true), of(None, 1, false), of(None, 50, false)),
            (Ok(None), Ok(None), Ok(None))
        );
        assert_eq!(of(Some("5x10"), 50, true), Ok(Some([5, 10])));
        let message = |text| of(Some(text), 49, false).unwrap_err();
        assert_eq!(message("7x6"), "--key-grid 7x6: expected 49 cells, one for each key, got 42");
        for text in ["7", "x7", "7x", "0x7", "axb", "-7x-7", "7x7x1", "99999999999999999999x1"] {
            assert!(message(text).contains("lines and columns such as 7x7"), "{text}");
        }
        assert!(message("9999999999x9999999999").ends_with("got more"));
    }
}
