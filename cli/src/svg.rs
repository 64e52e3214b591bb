//! Charts as SVG: text that every browser shows, without a font or a library to draw with.

use std::fmt::Write;

use crate::names::fitted;
use crate::shades::{SHADES, cells, viridis};

/// Colours that are told apart by people who are colour-blind (Okabe and Ito, 2008).
pub(crate) const BLUE: &str = "#0072B2";
pub(crate) const ORANGE: &str = "#D55E00";
pub(crate) const GREY: &str = "#777777";

const SIZE: (f64, f64) = (760., 520.);
/// The corners of what the axes enclose; the left one moves where names stand beside it.
const LEFT: f64 = 84.;
const TOP: f64 = 84.;
const BOTTOM: f64 = 456.;
/// What a letter of a name takes, about as much as any common font gives it, and how many are shown.
const LETTER: f64 = 7.2;
const LONGEST: usize = 20;
/// By how many degrees names stand aslant.
const SLANT: f64 = 45.;

/// One axis.
pub(crate) struct Axis {
    /// What it shows, and its unit.
    pub(crate) title: String,
    pub(crate) from: f64,
    pub(crate) to: f64,
    /// In powers of ten. Needs `from` above 0.
    pub(crate) is_log: bool,
    /// Whether it counts: halves are then not named.
    pub(crate) is_whole: bool,
    /// Of steps of 1, what stands in the middle of each in the place of numbers.
    pub(crate) names: Vec<String>,
}

/// A chart in the making.
pub(crate) struct Chart {
    x: Axis,
    y: Axis,
    left: f64,
    right: f64,
    /// Where the title of the x-axis stands.
    foot: f64,
    svg: String,
}

impl Axis {
    /// The room that its longest name takes.
    fn room(&self) -> f64 {
        self.names.iter().map(|name| fitted(name, LONGEST).1 as f64 * LETTER).fold(0., f64::max)
    }

    /// Where a value is, as a part of the axis' length.
    fn place(&self, value: f64) -> f64 {
        let (from, to, value) = match self.is_log {
            true => (self.from.ln(), self.to.ln(), value.ln()),
            false => (self.from, self.to, value),
        };
        if to != from { (value - from) / (to - from) } else { 0.5 }
    }

    /// Values to be named: powers of ten, or about six steps of 1, 2 or 5 times a power of ten.
    fn ticks(&self) -> Vec<f64> {
        if self.is_log {
            let powers = (0..20).map(|power| 10f64.powi(power));
            return powers.filter(|v| (self.from..=self.to).contains(v)).collect();
        }
        let (low, high) = (self.from.min(self.to), self.from.max(self.to));
        let rough = (high - low).max(f64::MIN_POSITIVE) / 6.;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1., 2., 5., 10.].into_iter().map(|n| n * power).find(|step| *step >= rough * 0.999);
        let step = step.unwrap_or(10. * power);
        let step = if self.is_whole { step.max(1.) } else { step };
        let (first, last) = ((low / step - 1e-9).ceil() as i64, (high / step + 1e-9).floor() as i64);
        (first..=last).map(|n| n as f64 * step).collect()
    }
}

impl Chart {
    /// Empty axes below a title and a line about it. `margin` is left free on the right.
    pub(crate) fn new(title: &str, about: &str, x: Axis, y: Axis, margin: f64) -> Chart {
        let left = LEFT.max(y.room() + 48.);
        let inner = SIZE.0 - LEFT - margin;
        let right = left + inner;
        // Names that are wider than their step stand aslant.
        let aslant = x.room() > inner / x.names.len().max(1) as f64;
        let foot = BOTTOM + 46. + if aslant { x.room() * SLANT.to_radians().sin() } else { 0. };
        let size = (right + margin, foot + SIZE.1 - BOTTOM - 46.);
        let mut chart = Chart { x, y, left, right, foot, svg: head(size, title) };
        chart.text((left, 30.), "start", "font-size=\"18\" font-weight=\"bold\"", title);
        chart.text((left, 52.), "start", "fill=\"#555555\"", about);
        chart.axes(aslant);
        chart
    }

    fn at(&self, x: f64, y: f64) -> (f64, f64) {
        (self.left + self.x.place(x) * (self.right - self.left), BOTTOM - self.y.place(y) * (BOTTOM - TOP))
    }

    fn add(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = writeln!(self.svg, "{element}");
    }

    fn text(&mut self, (x, y): (f64, f64), anchor: &str, style: &str, text: &str) {
        self.svg += &self::text((x, y), anchor, style, text);
    }

    fn axes(&mut self, aslant: bool) {
        let (left, right, grid) = (self.left, self.right, "stroke=\"#DDDDDD\"");
        self.names(aslant);
        for tick in self.x.ticks().into_iter().filter(|_| self.x.names.is_empty()).collect::<Vec<_>>() {
            let (x, _) = self.at(tick, self.y.from);
            self.add(format_args!("<path d=\"M{x:.1} {TOP}V{BOTTOM}\" {grid}/>"));
            self.text((x, BOTTOM + 20.), "middle", "", &number(tick));
        }
        for tick in self.y.ticks().into_iter().filter(|_| self.y.names.is_empty()).collect::<Vec<_>>() {
            let (_, y) = self.at(self.x.from, tick);
            self.add(format_args!("<path d=\"M{left} {y:.1}H{right}\" {grid}/>"));
            self.text((left - 8., y + 5.), "end", "", &number(tick));
        }
        self.add(format_args!(
            "<path d=\"M{left} {TOP}V{BOTTOM}H{right}\" fill=\"none\" stroke=\"#222222\"/>"
        ));
        let (x, y) = (self.x.title.clone(), self.y.title.clone());
        let (middle, height) = (0.5 * (left + right), 0.5 * (TOP + BOTTOM));
        self.text((middle, self.foot), "middle", "", &x);
        self.text((22., height), "middle", &format!("transform=\"rotate(-90 22 {height:.1})\""), &y);
    }

    /// The names of steps, along either axis.
    fn names(&mut self, aslant: bool) {
        let fitted = |axis: &Axis| axis.names.iter().map(|name| fitted(name, LONGEST).0).collect::<Vec<_>>();
        let (x_names, y_names, small) = (fitted(&self.x), fitted(&self.y), "font-size=\"12\"");
        for (i, name) in x_names.iter().enumerate() {
            let (x, _) = self.at(i as f64 + 0.5, self.y.from);
            if aslant {
                let (x, y) = (x + 4., BOTTOM + 14.);
                let style = format!("{small} transform=\"rotate(-{SLANT} {x:.1} {y:.1})\"");
                self.text((x, y), "end", &style, name);
            } else {
                self.text((x, BOTTOM + 18.), "middle", small, name);
            }
        }
        for (i, name) in y_names.iter().enumerate() {
            let (_, y) = self.at(self.x.from, i as f64 + 0.5);
            self.text((self.left - 8., y + 4.), "end", small, name);
        }
    }

    /// Points that let those behind them be seen.
    pub(crate) fn points(&mut self, points: &[(f64, f64)], colour: &str) {
        self.add(format_args!("<g fill=\"{colour}\" fill-opacity=\"0.5\">"));
        for &(x, y) in points {
            let (x, y) = self.at(x, y);
            self.add(format_args!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"/>"));
        }
        self.add(format_args!("</g>"));
    }

    /// A line through points; `fill` colours what is below it. Dashes tell lines apart without colour.
    pub(crate) fn line(&mut self, points: &[(f64, f64)], colour: &str, dashes: &str, fill: bool) {
        let mut path = String::new();
        for (i, &(x, y)) in points.iter().enumerate() {
            let (x, y) = self.at(x, y);
            let _ = write!(path, "{}{x:.1} {y:.1}", if i == 0 { 'M' } else { 'L' });
        }
        let fill =
            if fill { format!("fill=\"{colour}\" fill-opacity=\"0.2\"") } else { "fill=\"none\"".into() };
        let style = format!("stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dashes}\"");
        self.add(format_args!("<path d=\"{path}\" {fill} {style} stroke-linejoin=\"round\"/>"));
    }

    /// A dotted line across, at a value of x.
    pub(crate) fn mark(&mut self, x: f64) {
        let (x, _) = self.at(x, self.y.from);
        let style = format!("stroke=\"{GREY}\" stroke-dasharray=\"2 4\"");
        self.add(format_args!("<path d=\"M{x:.1} {TOP}V{BOTTOM}\" {style}/>"));
    }

    /// Names of lines with their colours and dashes, in one row above the axes.
    pub(crate) fn legend(&mut self, names: &[(&str, &str, &str)]) {
        let mut x = self.left;
        for (name, colour, dashes) in names {
            let style = format!("stroke=\"{colour}\" stroke-width=\"3\" stroke-dasharray=\"{dashes}\"");
            self.add(format_args!("<path d=\"M{x:.1} 70h28\" {style}/>"));
            self.text((x + 33., 74.), "start", "font-size=\"12\"", name);
            // As wide as a common font is on average.
            x += 33. + 6.6 * name.chars().count() as f64 + 12.;
        }
    }

    /// A square of cells from the top left, with the scale of its colours.
    pub(crate) fn cells(&mut self, rows: &[Vec<f32>], name: &str) {
        let all = || rows.iter().flatten().map(|&v| f64::from(v));
        let (low, high) = (all().fold(f64::INFINITY, f64::min), all().fold(f64::NEG_INFINITY, f64::max));
        let (width, height) =
            ((self.right - self.left) / rows[0].len() as f64, (BOTTOM - TOP) / rows.len() as f64);
        let place = format!("translate({} {TOP}) scale({width:.5} {height:.5})", self.left);
        self.add(format_args!("<g transform=\"{place}\" shape-rendering=\"crispEdges\">"));
        self.svg += &cells(rows.iter().map(Vec::as_slice), (low, high), None);
        self.add(format_args!("</g>"));
        self.scale(low, high, name);
    }

    fn scale(&mut self, low: f64, high: f64, name: &str) {
        let (x, step) = (self.right + 28., (BOTTOM - TOP) / SHADES as f64);
        self.add(format_args!("<g shape-rendering=\"crispEdges\">"));
        for shade in 0..SHADES {
            let y = BOTTOM - (shade + 1) as f64 * step;
            let colour = viridis(shade);
            self.add(format_args!(
                "<rect x=\"{x}\" y=\"{y:.2}\" width=\"18\" height=\"{:.2}\" fill=\"{colour}\"/>",
                step + 0.5
            ));
        }
        self.add(format_args!("</g>"));
        let axis =
            Axis { title: String::new(), from: low, to: high, is_log: false, is_whole: false, names: vec![] };
        for tick in axis.ticks() {
            let y = BOTTOM - axis.place(tick) * (BOTTOM - TOP);
            self.add(format_args!("<path d=\"M{:.1} {y:.1}h5\" stroke=\"#222222\"/>", x + 18.));
            self.text((x + 28., y + 5.), "start", "", &number(tick));
        }
        let (x, y) = (x + 84., 0.5 * (TOP + BOTTOM));
        self.text((x, y), "middle", &format!("transform=\"rotate(-90 {x:.1} {y:.1})\""), name);
    }

    /// The file's content.
    pub(crate) fn finish(mut self) -> String {
        self.svg += "</svg>\n";
        self.svg
    }
}

/// What every file begins with: a white ground, so that it can be read on a dark page too.
pub(crate) fn head((width, height): (f64, f64), title: &str) -> String {
    let title = escaped(title);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" font-family=\"Helvetica, Arial, 'DejaVu Sans', sans-serif\" font-size=\"14\" \
         fill=\"#222222\">\n<title>{title}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    )
}

/// A line of text.
pub(crate) fn text((x, y): (f64, f64), anchor: &str, style: &str, text: &str) -> String {
    let text = escaped(text);
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" {style}>{text}</text>\n")
}

/// Text as it stands in XML, which has no control characters.
pub(crate) fn escaped(text: &str) -> String {
    let legal = |c: char| if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') { '\u{fffd}' } else { c };
    let text: String = text.chars().map(legal).collect();
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A tick's number, without what rounding adds.
fn number(value: f64) -> String {
    let text = format!("{value:.6}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".into() } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped() {
        assert_eq!(escaped("a<b> & \"c\"\u{7}é"), "a&lt;b&gt; &amp; &quot;c&quot;\u{fffd}é");
    }

    #[test]
    fn ticks_are_round_and_inside() {
        let axis = |from, to, is_log| Axis {
            title: String::new(),
            from,
            to,
            is_log,
            is_whole: false,
            names: vec![],
        };
        let names = |axis: Axis| axis.ticks().into_iter().map(number).collect::<Vec<_>>();
        assert_eq!(names(axis(0., 100., false)), ["0", "20", "40", "60", "80", "100"]);
        assert_eq!(names(axis(-0.34, 0.31, false)), ["-0.2", "0", "0.2"]);
        assert_eq!(names(axis(192., 0., false)), ["0", "50", "100", "150"]);
        assert_eq!(axis(192., 0., false).place(192.), 0.);
        assert_eq!(names(axis(1., 383., true)), ["1", "10", "100"]);
        assert_eq!(axis(1., 100., true).place(10.), 0.5);
    }
}
