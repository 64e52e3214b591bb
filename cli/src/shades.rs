//! The colours of a heat map, and its cells as paths.

use std::fmt::Write;

/// Colours of a heat map.
pub(crate) const SHADES: usize = 64;

/// The shade of a value on a scale; that in the middle where the scale is a point.
pub(crate) fn shade(value: f64, low: f64, high: f64) -> usize {
    match high > low {
        true => (((value - low) / (high - low)) * (SHADES - 1) as f64).round() as usize,
        false => SHADES / 2,
    }
}

/// Cells of width and height 1 from the top left, lines of any lengths: cells of one colour are one path, a tenth of the size that a
/// rectangle for each would take. `cover` is how much of what lies below the lowest and the highest hide, all of it if none.
pub(crate) fn cells<'a>(
    lines: impl IntoIterator<Item = &'a [f32]>,
    (low, high): (f64, f64),
    cover: Option<(f64, f64)>,
) -> String {
    let shade = |value: f32| shade(f64::from(value), low, high);
    let mut paths = vec![String::new(); SHADES];
    for (y, line) in lines.into_iter().enumerate() {
        let mut x = 0;
        for run in line.chunk_by(|a, b| shade(*a) == shade(*b)) {
            // Writing to a string does not fail.
            let _ = write!(paths[shade(run[0])], "M{x} {y}h{0}v1h-{0}z", run.len());
            x += run.len();
        }
    }
    let painted = paths.iter().enumerate().filter(|(_, path)| !path.is_empty());
    let element = |(shade, path): (usize, &String)| {
        // By the root: what is a third of the highest is to be seen well.
        let hides =
            |(low, high): (f64, f64)| low + (high - low) * (shade as f64 / (SHADES - 1) as f64).sqrt();
        let cover = cover.map(hides).map(|part| format!(" fill-opacity=\"{part:.2}\"")).unwrap_or_default();
        format!("<path d=\"{path}\" fill=\"{}\"{cover}/>\n", viridis(shade))
    };
    painted.map(element).collect()
}

/// Dark to bright, evenly for every kind of sight: matplotlib's viridis at nine points, straight between them.
pub(crate) fn viridis(shade: usize) -> String {
    const POINTS: [[f64; 3]; 9] = [
        [68., 1., 84.],
        [71., 44., 122.],
        [59., 81., 139.],
        [44., 113., 142.],
        [33., 144., 141.],
        [39., 173., 129.],
        [92., 200., 99.],
        [170., 220., 50.],
        [253., 231., 37.],
    ];
    let place = shade as f64 / (SHADES - 1) as f64 * (POINTS.len() - 1) as f64;
    let first = (place as usize).min(POINTS.len() - 2);
    let part = place - first as f64;
    let mix = |i: usize| (POINTS[first][i] * (1. - part) + POINTS[first + 1][i] * part).round() as u8;
    format!("#{:02x}{:02x}{:02x}", mix(0), mix(1), mix(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_go_from_dark_to_bright() {
        assert_eq!((viridis(0), viridis(SHADES - 1)), ("#440154".into(), "#fde725".into()));
    }

    #[test]
    fn cells_of_one_colour_are_one_path() {
        let lines: [&[f32]; 3] = [&[0., 0., 1.], &[], &[1.]];
        let expected = "<path d=\"M0 0h2v1h-2z\" fill=\"#440154\"/>\n\
                        <path d=\"M2 0h1v1h-1zM0 2h1v1h-1z\" fill=\"#fde725\"/>\n";
        assert_eq!(cells(lines, (0., 1.), None), expected);
        let covered = cells(lines, (0., 1.), Some((0.5, 0.75)));
        assert!(covered.contains("#440154\" fill-opacity=\"0.50\"/>"), "{covered}");
        assert!(covered.contains("#fde725\" fill-opacity=\"0.75\"/>"), "{covered}");
        assert_eq!(shade(3., 3., 3.), SHADES / 2);
    }
}
