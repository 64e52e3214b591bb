//! Features that may be tokens: `[rows, columns]` or `[rows, tokens, columns]`, and `--lengths NAME=FILE`, how many of them are there.

use crossmodal::Result;
use crossmodal::fusion::TokenCount;
use crossmodal::io::{Features, Source, read_features, read_integers, read_shape, read_tokens};

use crate::failure::Failure;
use crate::inputs::check_same;

/// Features with how many tokens a row they are, the columns of one behind those of another; none where they are vectors.
pub(crate) fn read(source: &Source) -> Result<(Features, Option<usize>)> {
    if source.path.is_dir() {
        return Ok((read_features(source)?, None));
    }
    let is_of_tokens = read_shape(source)?.len() > 2;
    let tokens = read_tokens(source)?;
    let features = Features { rows: tokens.rows, cols: tokens.length * tokens.width, values: tokens.values };
    Ok((features, is_of_tokens.then_some(tokens.length)))
}

/// The features of a modality, of tokens their mean.
pub(crate) fn pooled(
    name: &str,
    source: &Source,
    lengths: &[(String, Source)],
) -> std::result::Result<Features, Failure> {
    let (features, length) = read(source)?;
    let given: Vec<_> = lengths.iter().filter(|(own, _)| own == name).cloned().collect();
    let [count] = &counts(&given, &[(name, length)], (source, features.rows))?[..] else {
        unreachable!("there is one for each modality")
    };
    let Some(count) = count else { return Ok(features) };
    if let Some(row) = (0..features.rows).find(|&row| !count.is_there(row, 0)) {
        let lengths: String = given.iter().map(|(name, own)| format!("--lengths {name}={own}: ")).collect();
        return Err(Failure::new(format!(
            "{lengths}expected at least 1, got 0 in row {row} (counted from 0)"
        )));
    }
    Ok(count.pooled(&features))
}

/// The tokens of each modality, by what `--lengths` says: of a name with so many tokens, none where it has vectors. `first` is the source
/// of one with its number of rows.
pub(crate) fn counts(
    given: &[(String, Source)],
    modalities: &[(&str, Option<usize>)],
    first: (&Source, usize),
) -> std::result::Result<Vec<Option<TokenCount>>, Failure> {
    let plain =
        |(_, length): &(&str, Option<usize>)| length.map(|length| TokenCount { length, lengths: None });
    let mut counts: Vec<_> = modalities.iter().map(plain).collect();
    for (name, source) in given {
        let refuse = |what: String| Failure::new(format!("--lengths {name}={source}: {what}"));
        let names: Vec<_> = modalities.iter().filter(|own| own.1.is_some()).map(|own| own.0).collect();
        let at = modalities.iter().position(|own| own.0 == name && own.1.is_some());
        let Some(count) = at.and_then(|at| counts[at].as_mut()) else {
            let expected = match names.is_empty() {
                true => "features of tokens, [rows, tokens, columns]; there are none".to_string(),
                false => format!("one that has tokens: {}", names.join(", ")),
            };
            return Err(refuse(format!("expected {expected}")));
        };
        if count.lengths.is_some() {
            return Err(refuse("it is given twice".into()));
        }
        let numbers = read_integers(source)?;
        check_same("rows", first, (source, numbers.len()))?;
        let most = count.length as i64;
        if let Some(row) = numbers.iter().position(|number| !(0..=most).contains(number)) {
            let got = numbers[row];
            return Err(refuse(format!("expected 0 to {most}, got {got} in row {row} (counted from 0)")));
        }
        count.lengths = Some(numbers.iter().map(|number| *number as u32).collect());
    }
    Ok(counts)
}
