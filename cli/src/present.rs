//! `--present NAME=FILE`: in which rows a modality is there.

use crossmodal::io::{Source, read_integers};

use crate::failure::Failure;
use crate::inputs::check_same;

/// What the files say, each with the name of its modality: true where it is there. `names` are those of the modalities that have
/// features, `first` the source of one with its number of rows.
pub(crate) fn read(
    given: &[(String, Source)],
    names: &[&str],
    first: (&Source, usize),
) -> Result<Vec<(String, Vec<bool>)>, Failure> {
    let mut all: Vec<(String, Vec<bool>)> = vec![];
    for (name, source) in given {
        let refuse = |what: String| Err(Failure::new(format!("--present {name}={source}: {what}")));
        if !names.contains(&name.as_str()) {
            return refuse(format!("expected one of {}", names.join(", ")));
        }
        if all.iter().any(|(own, _)| own == name) {
            return refuse("it is given twice".into());
        }
        let numbers = read_integers(source)?;
        check_same("rows", first, (source, numbers.len()))?;
        if let Some(row) = numbers.iter().position(|number| !(0..=1).contains(number)) {
            return refuse(format!("expected 0 or 1, got {} in row {row} (counted from 0)", numbers[row]));
        }
        all.push((name.clone(), numbers.iter().map(|number| *number == 1).collect()));
    }
    Ok(all)
}
