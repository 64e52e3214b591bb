//! Columns of text.

/// Lines of equal columns, two spaces apart: `left` says how many columns, from the first, are flush left; the others
/// are numbers, flush right. The first row is the head.
pub(crate) fn columns(left: usize, rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<_> = (0..count).map(|column| width(column).unwrap_or(0)).collect();
    rows.iter().map(|row| line(left, row, &widths) + "\n").collect()
}

/// One line of [`columns`] where the widths are known beforehand, so that it can be shown before the next is there.
pub(crate) fn line(left: usize, row: &[String], widths: &[usize]) -> String {
    let cell = |(column, (cell, &width)): (usize, (&String, &usize))| {
        if column < left { format!("{cell:width$}") } else { format!("{cell:>width$}") }
    };
    let cells: Vec<_> = row.iter().zip(widths).enumerate().map(cell).collect();
    cells.join("  ").trim_end().to_string()
}

/// Three digits that count, so that small and large numbers stand in one narrow column.
pub(crate) fn digits(value: f64) -> String {
    match value.abs() {
        v if !v.is_finite() => value.to_string(),
        0. => "0".to_string(),
        v if v < 0.001 => format!("{value:.1e}"),
        v if v < 1. => format!("{value:.3}"),
        v if v < 10. => format!("{value:.2}"),
        v if v < 100. => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// A time in the unit that suits it.
pub(crate) fn seconds(value: f64) -> String {
    match value {
        v if v < 1. => format!("{} ms", digits(v * 1e3)),
        v if v < 120. => format!("{v:.1} s"),
        v => format!("{} min {} s", v.round() as u64 / 60, v.round() as u64 % 60),
    }
}

/// A number of bytes in the unit that suits it.
pub(crate) fn bytes(value: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let step = (value.max(1).ilog2() / 10) as usize;
    let scaled = value as f64 / 1024f64.powi(step as i32);
    if scaled.fract() == 0. {
        format!("{scaled} {}", units[step])
    } else {
        format!("{scaled:.1} {}", units[step])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let row = |cells: [&str; 3]| cells.map(String::from).to_vec();
        let text = columns(1, &[row(["", "R@1", "n"]), row(["left é", "1.5", "100"])]);
        assert_eq!(text, "        R@1    n\nleft é  1.5  100\n");
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [0., 0.00012, 0.5, 9.994, 42.42, 12345.6].map(digits),
            ["0", "1.2e-4", "0.500", "9.99", "42.4", "12346"]
        );
        assert_eq!(
            [0.0451, 2.345, 150.2, 179.7].map(seconds),
            ["45.1 ms", "2.3 s", "2 min 30 s", "3 min 0 s"]
        );
        assert_eq!(
            [0, 1023, 32768, 1 << 31, 1536, u64::MAX].map(bytes),
            ["0 B", "1023 B", "32 KiB", "2 GiB", "1.5 KiB", "16 EiB"]
        );
    }
}
