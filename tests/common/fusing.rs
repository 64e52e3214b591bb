//! Made-up features for the tests of fusions that are trained.

use crossmodal::io::Features;

/// A number that looks random, between -1 and 1.
fn noise(i: usize) -> f32 {
    let v = ((i as f64 + 1.) * 12.9898).sin() * 43758.5453;
    (v - v.floor()) as f32 * 2. - 1.
}

/// Features of numbers from the `first` on.
pub(crate) fn features(rows: usize, cols: usize, first: usize) -> Features {
    Features { rows, cols, values: (0..rows * cols).map(|i| noise(first + i)).collect() }
}
