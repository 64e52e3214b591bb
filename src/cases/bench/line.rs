//! A line of the table of benches, as data and as text within 80 columns.

use super::{Limits, Measurement};

/// What came of one bench.
///
/// ```
/// use crossmodal::cases::{Limits, Line, Measurement, Outcome};
/// let measured = Measurement { first: 0.25, median: 0.002, fastest: 0.002, runs: 125, flops: 5e8, bytes: 1e9 };
/// let limits = Limits { copy: 2e9, way: "scalar", product: 1e9, side: 256 };
/// let line = Line { op: "softmax", case: "[512, 512]".into(), outcome: Outcome::Measured(measured) };
/// assert!(line.text(&limits).contains(" 50"), "half of the best of either");
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// The operation.
    pub op: &'static str,
    /// The bench.
    pub case: String,
    /// Its times, or why there are none.
    pub outcome: Outcome,
}

/// Times, or why there are none. Example: [`Line`].
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It was timed.
    Measured(Measurement),
    /// One run would take so many seconds at least.
    LeftOut(f64),
    /// What went wrong.
    Failed(String),
}

/// The table as text, a line at a time: beneath an operation its benches, and how many were left out.
///
/// ```
/// use crossmodal::cases::{Limits, Line, Outcome, Table};
/// let limits = Limits { copy: 2e9, way: "scalar", product: 1e9, side: 256 };
/// let mut table = Table::new(&limits);
/// let line = |case: &str, outcome| Line { op: "matmul", case: case.into(), outcome };
/// assert_eq!(table.line(&line("a", Outcome::LeftOut(2.))), "matmul\n");
/// assert_eq!(table.line(&line("b", Outcome::LeftOut(30.))), "");
/// assert_eq!(table.end(), "  left out: 2, 2.00 to 30.0 s a run at least\n");
/// ```
pub struct Table<'a> {
    limits: &'a Limits,
    op: &'static str,
    left_out: Vec<f64>,
}

impl<'a> Table<'a> {
    /// A table beneath its [`table_head`]. Example: [`Table`].
    pub fn new(limits: &'a Limits) -> Self {
        Table { limits, op: "", left_out: vec![] }
    }

    /// What there is to write with this line: nothing, or whole lines. Example: [`Table`].
    pub fn line(&mut self, line: &Line) -> String {
        let mut text = String::new();
        if self.op != line.op {
            text = self.end() + line.op + "\n";
            self.op = line.op;
        }
        match line.outcome {
            Outcome::LeftOut(seconds) => self.left_out.push(seconds),
            _ => text += &(line.text(self.limits) + "\n"),
        }
        text
    }

    /// What there is to write behind the last line. Example: [`Table`].
    pub fn end(&mut self) -> String {
        let all = std::mem::take(&mut self.left_out);
        let (least, most) = all.iter().fold((f64::INFINITY, 0f64), |(a, b), &s| (a.min(s), b.max(s)));
        match all.len() {
            0 => String::new(),
            n => format!("  left out: {n}, {} to {} s a run at least\n", short(least), short(most)),
        }
    }
}

/// The head of the table's columns: milliseconds of the first and of the median run, operations and bytes a second, each with its
/// percentage of the device's best.
///
/// ```
/// assert!(crossmodal::cases::table_head().len() <= 80);
/// ```
pub fn table_head() -> String {
    columns("", &["first ms", "ms", "GFLOP/s", "%", "GB/s", "%"].map(String::from))
}

impl Line {
    /// The line beneath [`table_head`], under the operation's name. Example: [`Line`].
    pub fn text(&self, limits: &Limits) -> String {
        let name = format!("  {}", self.case);
        let m = match &self.outcome {
            Outcome::Measured(measured) => measured,
            Outcome::LeftOut(seconds) => {
                return format!("{name:<NAME$} left out: {} s a run or more", short(*seconds));
            }
            Outcome::Failed(why) => return format!("{name:<NAME$} failed: {why}"),
        };
        let [flops, product] = match m.flops {
            0. => ["-".to_string(), "-".to_string()],
            _ => [short(m.flops / 1e9), percent(limits.percent_of_product(m.flops))],
        };
        let copy = percent(limits.percent_of_copy(m.bytes));
        columns(
            &name,
            &[short(1e3 * m.first), short(1e3 * m.median), flops, product, short(m.bytes / 1e9), copy],
        )
    }
}

/// Columns of a bench's name.
const NAME: usize = 31;

fn columns(name: &str, numbers: &[String; 6]) -> String {
    let cells = numbers.iter().zip([9, 8, 8, 5, 8, 5]).map(|(cell, width)| format!(" {cell:>width$}"));
    format!("{name:<NAME$}{}", cells.collect::<String>())
}

/// Three digits that count.
fn short(value: f64) -> String {
    match value {
        v if v < 0.01 => format!("{v:.1e}"),
        v if v < 1. => format!("{v:.3}"),
        v if v < 10. => format!("{v:.2}"),
        v if v < 100. => format!("{v:.1}"),
        v => format!("{v:.0}"),
    }
}

fn percent(value: f64) -> String {
    if value < 9.95 { format!("{value:.1}") } else { format!("{value:.0}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::TABLE;

    const LIMITS: Limits = Limits { copy: 4e9, way: "vector", product: 2e9, side: 512 };

    #[test]
    fn percentages_are_of_the_devices_own_best() {
        let measured =
            Measurement { first: 1.5, median: 0.0123, fastest: 0.0123, runs: 9, flops: 5e8, bytes: 3e9 };
        let text = |measured| {
            let line = Line { op: "softmax", case: "rows".into(), outcome: Outcome::Measured(measured) };
            line.text(&LIMITS).split_whitespace().map(String::from).collect::<Vec<_>>()
        };
        assert_eq!(text(measured), ["rows", "1500", "12.3", "0.500", "25", "3.00", "75"]);
        let uncounted = Measurement { flops: 0., bytes: 1e8, ..measured };
        assert_eq!(text(uncounted), ["rows", "1500", "12.3", "-", "-", "0.100", "2.5"]);
    }

    #[test]
    fn every_line_fits_a_terminal() {
        let measured = Measurement {
            first: 123.456,
            median: 123.456,
            fastest: 123.456,
            runs: 3,
            flops: 98765e9,
            bytes: 12345.6e9,
        };
        let limits = Limits { copy: 1e13, product: 1e14, ..LIMITS };
        for row in TABLE {
            for bench in (row.bench)() {
                assert!(bench.name.chars().count() <= NAME - 2, "{}", bench.name);
                for outcome in [Outcome::Measured(measured), Outcome::LeftOut(1234.5)] {
                    let line = Line { op: row.op, case: bench.name.clone(), outcome }.text(&limits);
                    assert!(line.chars().count() <= 80, "{line}");
                }
            }
        }
    }
}
