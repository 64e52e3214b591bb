//! What the library says, in the words of the command line.

use crossmodal::Error;

use crate::failure::Failure;
use crate::inputs::{Input, Inputs};

/// An error of `align` with the flag that would change it in the place of the library's argument.
pub(crate) fn flags(error: Error, inputs: &Inputs) -> Failure {
    let Error::Argument { op: "align" | "Split" | "fuse" | "fusion", argument, expected, got } = error else {
        return error.into();
    };
    let named = |argument: &str| {
        let name = argument.strip_prefix("modality ")?;
        inputs.modalities.iter().find(|input| input.name == name).map(Input::argument)
    };
    let first = &inputs.modalities[0];
    let flag = match argument.as_ref() {
        "dim" => "--dim",
        "epochs" => "--epochs",
        "batch size" => "--batch-size",
        "learning rate" => "--lr",
        "weight decay" => "--weight-decay",
        "warmup" => "--warmup",
        "grad clip norm" => "--grad-clip-norm",
        "temperature" => "--temperature",
        "dropout" => "--dropout",
        "modality dropout" => "--modality-dropout",
        "inner" => "--inner",
        "fusion" => "--fusion",
        "heads" => "--heads",
        "layers" => "--layers",
        "rank" => "--rank",
        "lengths" => "--lengths",
        "latents" => "--latents",
        "target" => "--labels",
        "presence" => "--present",
        "accum" => "--accum",
        "hidden" => "--hidden",
        "head" => "--head",
        "residual ratio" => "--residual-ratio",
        "smoothing" => "--smoothing",
        "hard negatives" => "--hard-negatives",
        "queue" => "--queue",
        "margin" => "--margin",
        "freeze" => "--freeze",
        "modalities" => "--modality",
        "classes" => "--labels",
        // No split is given: it is by chance.
        "rows" => &first.argument(),
        "labels" | "split" => &format!("--split {}", inputs.split_name()),
        other => &named(other).unwrap_or_else(|| other.to_string()),
    };
    Failure::new(format!("{flag}: expected {expected}, got {got}"))
}

/// `1 epoch`, `2 epochs`.
pub(crate) fn count(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Lines of whole words of at most so many characters, where a word is no longer.
pub(crate) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = vec![];
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                *line += &format!(" {word}")
            }
            _ => lines.push(word.to_string()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    #[test]
    fn lines_are_wrapped_at_words() {
        assert_eq!(super::wrapped("a bc d eeeee f", 4), ["a bc", "d", "eeeee", "f"]);
    }
}
