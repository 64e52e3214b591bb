//! Files of names: a line each.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::Path;

use crossmodal::io::{Source, read_metadata};

use crate::failure::Failure;

/// Each line of a file of names.
pub(crate) fn for_each(flag: &str, path: &Path, mut each: impl FnMut(String)) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        let message = match error.kind() {
            ErrorKind::NotFound => "no such file".to_string(),
            ErrorKind::InvalidData => "expected text in UTF-8".to_string(),
            _ => error.to_string(),
        };
        Failure::new(format!("{flag} {}: {message}", path.display()))
    };
    for (i, line) in BufReader::new(File::open(path).map_err(failed)?).lines().enumerate() {
        let line = line.map_err(failed)?;
        // Editors on Windows mark text in UTF-8.
        each(if i == 0 { line.trim_start_matches('\u{feff}').to_string() } else { line });
    }
    Ok(())
}

/// A name that neither wraps a line nor steers the terminal.
pub(crate) fn shortened(name: &str, most: usize) -> String {
    match name.char_indices().nth(most) {
        None => plain(name),
        Some(_) => name.chars().take(most - 1).map(plain_char).chain(['…']).collect(),
    }
}

/// A name without what would steer a terminal.
pub(crate) fn plain(name: &str) -> String {
    name.chars().map(plain_char).collect()
}

fn plain_char(c: char) -> char {
    if c.is_control() { ' ' } else { c }
}

/// A name of at most so many letters, and its width in letters: wide characters are two.
pub(crate) fn fitted(name: &str, most: usize) -> (String, usize) {
    let wide = |c: char| if matches!(c, '\u{1100}'..='\u{115f}' | '\u{2e80}'..) { 2 } else { 1 };
    let width = |text: &str| text.chars().map(wide).sum::<usize>();
    if width(name) <= most {
        return (name.to_string(), width(name));
    }
    let mut text = String::new();
    for c in name.chars() {
        if width(&text) + wide(c) >= most {
            break;
        }
        text.push(c);
    }
    let text = text.trim_end().to_string() + "…";
    let width = width(&text);
    (text, width)
}

/// The names of classes: line i of the file is that of class i. Without a file the `categories` that stand in the metadata of the labels'
/// own file, as far as they have each class; else none.
pub(crate) fn of_classes(
    file: Option<&Path>,
    source: &Source,
    classes: &[i64],
) -> Result<Vec<String>, Failure> {
    let mut lines = vec![];
    let Some(path) = file else {
        let Some(lines) = categories(&source.path) else { return Ok(vec![]) };
        let named = classes.iter().map(|class| named(&lines, *class).ok());
        return Ok(named.collect::<Option<_>>().unwrap_or_default());
    };
    for_each("--class-names", path, |line| lines.push(line))?;
    let name = |class: &i64| {
        let refused = |got| {
            let expected = format!("a name for class {class}, the first line for class 0");
            Failure::new(format!("--class-names {}: expected {expected}, got {got}", path.display()))
        };
        named(&lines, *class).map_err(refused)
    };
    classes.iter().map(name).collect()
}

/// The name of a class, or what is there instead.
fn named(lines: &[String], class: i64) -> Result<String, String> {
    let line = usize::try_from(class).ok().and_then(|class| lines.get(class));
    let name = plain(line.ok_or_else(|| crate::words::count(lines.len(), "line"))?).trim().to_string();
    if name.is_empty() { Err("an empty line".into()) } else { Ok(name) }
}

/// The list of strings that a .safetensors file has under this key.
fn categories(path: &Path) -> Option<Vec<String>> {
    let is_one = path.extension().is_some_and(|own| own.eq_ignore_ascii_case("safetensors"));
    let metadata = is_one.then(|| read_metadata(path).ok())??;
    serde_json::from_str(metadata.get("categories")?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_cut_short() {
        assert_eq!(fitted("Travel & Places", 20), ("Travel & Places".into(), 15));
        assert_eq!(fitted("exactly twenty chars", 20), ("exactly twenty chars".into(), 20));
        assert_eq!(fitted("one more than twenty!", 20), ("one more than twent…".into(), 20));
        assert_eq!(fitted(&"漢".repeat(11), 20), ("漢".repeat(9) + "…", 19));
    }
}
