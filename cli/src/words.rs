//! What the library says, in the words of the command line.

use crossmodal::Error;

use crate::failure::Failure;
use crate::inputs::Inputs;

/// An error of `align` with the flag that would change it in the place of the library's argument.
pub(crate) fn flags(error: Error, inputs: &Inputs) -> Failure {
    let Error::Argument { op: "align" | "Split", argument, expected, got } = error else {
        return error.into();
    };
    let flag = match argument {
        "dim" => "--dim",
        "epochs" => "--epochs",
        "batch size" => "--batch-size",
        "learning rate" => "--lr",
        "weight decay" => "--weight-decay",
        "temperature" => "--temperature",
        "dropout" => "--dropout",
        "accum" => "--accum",
        "hidden" => "--hidden",
        "head" => "--head",
        "residual ratio" => "--residual-ratio",
        "smoothing" => "--smoothing",
        "hard negatives" => "--hard-negatives",
        "queue" => "--queue",
        "margin" => "--margin",
        "views" => "--left",
        "classes" => "--labels",
        "left" => &format!("--left {}", inputs.left),
        "right" => &format!("--right {}", inputs.right),
        // Neither flag is given: it is by chance.
        "rows" => &format!("--left {}", inputs.left),
        "labels" | "split" => &format!("--split {}", inputs.split_name()),
        other => other,
    };
    Failure::new(format!("{flag}: expected {expected}, got {got}"))
}

/// `1 epoch`, `2 epochs`.
pub(crate) fn count(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
