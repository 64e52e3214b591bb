//! The picture of one attention map: what every query token looks at.

use std::fmt::Write;

use crate::shades::{SHADES, cells};
use crate::svg::{escaped, head, text};
use crate::table::digits;
use crate::words;

const MARGIN: f64 = 32.;
/// The narrowest picture: title and scale have their place.
const NARROWEST: f64 = 640.;
/// Grids in a line, their width, and from the left of one to that of the next.
const COLUMNS: usize = 8;
const SIDE: f64 = 98.;
const PITCH: f64 = 112.;
/// What the name above a grid takes, and what is free below it.
const NAME: f64 = 18.;
const GAP: f64 = 22.;
/// The highest grid.
const TALLEST: f64 = 160.;
/// The width of a name beside a line of cells, the most that all cells of a line take, and what the last name above needs.
const NAMES: f64 = 110.;
const LINE: f64 = 740.;
const BESIDE: f64 = 40.;
/// How much of the keys' picture cells of the lowest and of the highest weight hide.
const COVER: (f64, f64) = (0.5, 0.95);
const SMALL: &str = "font-size=\"12\"";
const QUIET: &str = "font-size=\"13\" fill=\"#555555\"";

/// What is drawn.
pub(crate) struct Picture<'a> {
    /// Which row, which head.
    pub(crate) title: String,
    /// What stands below it, from the query tokens' words if they have any.
    pub(crate) about: Option<String>,
    /// The names of the query tokens.
    pub(crate) queries: &'a [String],
    /// Those of the keys, where they are words.
    pub(crate) keys: Option<&'a [String]>,
    /// `[queries, keys]`; the keys may be fewer than the grid's.
    pub(crate) weights: &'a [f32],
    /// Lines and columns of the keys; a line of cells for each query token if none.
    pub(crate) grid: Option<[usize; 2]>,
    /// The keys' own picture, as a data URI.
    pub(crate) background: Option<&'a str>,
    /// Whether a query token looks nowhere else.
    pub(crate) is_whole: bool,
}

impl Picture<'_> {
    /// Keys that a query token sees.
    fn seen(&self) -> usize {
        self.weights.len() / self.queries.len().max(1)
    }

    fn highest(&self) -> f64 {
        f64::from(self.weights.iter().copied().fold(0., f32::max))
    }

    /// The file's content.
    pub(crate) fn draw(&self) -> String {
        let (width, cells) = match self.grid {
            Some(grid) => {
                let panels = self.queries.len() + usize::from(self.background.is_some());
                (PITCH * (panels.min(COLUMNS) as f64 - 1.) + SIDE, self.grids(grid))
            }
            None => (NAMES + self.seen() as f64 * self.cell() + BESIDE, self.lines()),
        };
        let width = (width + 2. * MARGIN).max(NARROWEST);
        let (top, above) = self.above(width);
        let (height, body) = cells;
        let place = format!("<g transform=\"translate({MARGIN} {top:.1})\">");
        let size = (width, (top + height + MARGIN).ceil());
        head(size, &self.title) + &above + &place + "\n" + &body + "</g>\n</svg>\n"
    }

    /// Title, words and the scale, and where what is below them begins.
    fn above(&self, width: f64) -> (f64, String) {
        let mut svg = text((MARGIN, 34.), "start", "font-size=\"18\" font-weight=\"bold\"", &self.title);
        let mut y = 60.;
        let room = ((width - 2. * MARGIN) / 7.) as usize;
        let mut words = self.about.as_deref().map(|about| words::wrapped(about, room)).unwrap_or_default();
        if words.len() > 2 {
            words.truncate(2);
            words[1] += " …";
        }
        let what = if self.grid.is_some() { "A grid" } else { "A line" };
        let even = digits(1. / self.seen().max(1) as f64);
        let rest = match self.is_whole {
            true => format!("Evenly spread, every weight would be {even}."),
            false => "The rest of a token's attention goes to its own modality.".to_string(),
        };
        let meaning = format!("{what} for each query token, a cell for each key. {rest}");
        for line in words.into_iter().chain(words::wrapped(&meaning, room)) {
            svg += &text((MARGIN, y), "start", QUIET, &line);
            y += 18.;
        }
        (y + 14., svg + &self.scale(width - MARGIN))
    }

    /// The colours from 0 to the highest weight, up to `right`.
    fn scale(&self, right: f64) -> String {
        const BAR: (f64, f64) = (180., 12.);
        let shades: Vec<f32> = (0..SHADES).map(|shade| shade as f32).collect();
        let (left, step) = (right - BAR.0, BAR.0 / SHADES as f64);
        let place = format!("translate({left:.1} 18) scale({step:.5} {})", BAR.1);
        let bar = cells([&shades[..]], (0., (SHADES - 1) as f64), None);
        let names = [
            text((left - 8., 28.), "end", SMALL, "weight"),
            text((left, 43.), "start", "font-size=\"11\"", "0"),
            text((right, 43.), "end", "font-size=\"11\"", &digits(self.highest())),
        ];
        format!("<g transform=\"{place}\" shape-rendering=\"crispEdges\">\n{bar}</g>\n{}", names.concat())
    }

    /// A grid for each query token, in lines of a few, and their height.
    fn grids(&self, [down, across]: [usize; 2]) -> (f64, String) {
        let cell = (SIDE / across as f64).min(TALLEST / down as f64);
        let (width, height) = (cell * across as f64, cell * down as f64);
        let line = height + NAME + GAP;
        let size = format!("width=\"{width:.2}\" height=\"{height:.2}\"");
        let (mut svg, seen) = (String::new(), self.seen());
        let mut panels: Vec<(Option<usize>, &str)> = vec![];
        if let Some(picture) = self.background {
            let image =
                format!("<image id=\"keys\" {size} preserveAspectRatio=\"none\" href=\"{picture}\"/>");
            let _ = writeln!(svg, "<defs>{image}</defs>");
            panels.push((None, "the keys"));
        }
        panels.extend(self.queries.iter().enumerate().map(|(i, name)| (Some(i), name.as_str())));
        for (n, (query, name)) in panels.iter().enumerate() {
            let (x, y) = ((n % COLUMNS) as f64 * PITCH, (n / COLUMNS) as f64 * line);
            let style = if query.is_none() { "fill=\"#555555\" font-style=\"italic\"" } else { "" };
            svg += &fitted((x, y + 11.), "start", style, name, SIDE);
            let _ = writeln!(svg, "<g transform=\"translate({x:.1} {:.1})\">", y + NAME);
            // What is seen of the padding.
            svg += &match self.background {
                Some(_) => "<use href=\"#keys\"/>\n".to_string(),
                None => format!("<rect {size} fill=\"#E4E4E4\"/>\n"),
            };
            if let Some(i) = query {
                let own = self.weights[i * seen..][..seen].chunks(across);
                svg += &self.map(own, (cell, cell));
            }
            svg += "</g>\n";
        }
        (panels.len().div_ceil(COLUMNS) as f64 * line - GAP, svg)
    }

    /// The width of a cell in a line.
    fn cell(&self) -> f64 {
        (LINE / self.seen().max(1) as f64).min(24.)
    }

    /// A line of cells for each query token, the keys' names above.
    fn lines(&self) -> (f64, String) {
        let seen = self.seen();
        let (cell, high) = (self.cell(), 18.);
        let names = match self.keys {
            // Names need about a line's height each; others are numbered, as far as there is room.
            Some(names) if cell >= 12. => names.to_vec(),
            _ => (0..seen).map(|key| key.to_string()).collect(),
        };
        let step = (1..).map(|n| if n == 1 { 1 } else { 5 * (n - 1) }).find(|&n| n as f64 * cell >= 12.);
        let longest = names.iter().map(|name| length(name)).fold(0., f64::max);
        let top = (12. * longest).min(NAMES) * 0.87 + 10.;
        let mut svg = String::new();
        for (key, name) in names.iter().enumerate().step_by(step.unwrap_or(1)) {
            let (x, y) = (NAMES + (key as f64 + 0.5) * cell + 4., top - 6.);
            let turned = format!("transform=\"rotate(-60 {x:.1} {y:.1})\"");
            svg += &fitted((x, y), "start", &turned, name, NAMES);
        }
        for (query, name) in self.queries.iter().enumerate() {
            let y = top + (query as f64 + 0.72) * high;
            svg += &fitted((NAMES - 8., y), "end", "", name, NAMES - 8.);
        }
        let _ = writeln!(svg, "<g transform=\"translate({NAMES} {top:.1})\">");
        svg += &self.map(self.weights.chunks(seen.max(1)), (cell, high));
        svg += "</g>\n";
        (top + self.queries.len() as f64 * high, svg)
    }

    /// Cells of a size on the common scale.
    fn map<'a>(&self, lines: impl IntoIterator<Item = &'a [f32]>, (width, height): (f64, f64)) -> String {
        let cells = cells(lines, (0., self.highest()), self.background.map(|_| COVER));
        let place = format!("scale({width:.5} {height:.5})");
        format!("<g class=\"map\" transform=\"{place}\" shape-rendering=\"crispEdges\">\n{cells}</g>\n")
    }
}

/// About the width of a text in units of its size, as common fonts have it.
fn length(text: &str) -> f64 {
    text.chars().map(|c| if c < '\u{2e80}' { 0.6 } else { 1. }).sum()
}

/// A name that is no wider than it may be: smaller, and if that is not enough, cut; the whole is shown under the pointer.
fn fitted(at: (f64, f64), anchor: &str, style: &str, name: &str, width: f64) -> String {
    let size = (width / length(name).max(0.1)).clamp(9., 12.);
    let style = format!("{style} font-size=\"{size:.1}\"");
    if length(name) * size <= width + 0.01 {
        return text(at, anchor, &style, name);
    }
    let mut cut = String::new();
    for c in name.chars() {
        if (length(&cut) + length("…") + 0.6) * size > width {
            break;
        }
        cut.push(c);
    }
    format!("<g><title>{}</title>{}</g>\n", escaped(name), text(at, anchor, &style, &(cut + "…")).trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_their_place() {
        let size = |name: &str| fitted((0., 0.), "start", "", name, 60.);
        assert!(size("short").contains("font-size=\"12.0\">short<"));
        assert!(size("tenletters").contains("font-size=\"10.0\">tenletters<"));
        let cut = size("a<much longer name>");
        assert!(
            cut.contains(">a&lt;much longer name&gt;<") && cut.contains("font-size=\"9.0\">a&lt;much lon…<"),
            "{cut}"
        );
    }
}
