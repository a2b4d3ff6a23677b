//! The few shapes that pictures of this tool are made of, as SVG without scripts, fonts or links. Knows nothing of what is drawn.

use std::fmt::Write as _;
use std::path::Path;

/// Width of every picture in pixels.
pub const WIDTH: f64 = 760.0;

/// What must not get worse than this, and what is beyond it.
pub const GOOD: &str = "#dff1e3";
/// Between target and critical.
pub const DOUBTFUL: &str = "#fdf0d5";
/// Beyond critical.
pub const BAD: &str = "#fadddd";
/// What was measured or is forecast.
pub const INK: &str = "#1f5fa8";
/// A paler ink for what is only possible.
pub const PALE: &str = "#a8c6e6";
/// Lines of bounds.
pub const BOUND: &str = "#b03030";
/// Text.
pub const TEXT: &str = "#222222";
/// Text that is less important, and axes.
pub const SOFT: &str = "#6a6a6a";
/// Lines behind everything.
pub const GRID: &str = "#e4e4e4";
/// What is neither good nor bad.
pub const NEUTRAL: &str = "#d5d9df";
/// Evidence that something is good.
pub const GREEN: &str = "#1d7a3e";
/// Evidence that something is doubtful.
pub const AMBER: &str = "#b06a00";
/// What could not be measured.
pub const VIOLET: &str = "#8a63b8";

/// Every colour beside the one that it is on a dark page.
const DARK: [(&str, &str); 15] = [
    ("white", "#16191d"),
    (GOOD, "#1b3a26"),
    (DOUBTFUL, "#453413"),
    (BAD, "#4b2323"),
    (INK, "#79b0ec"),
    (PALE, "#35557a"),
    (BOUND, "#f08a80"),
    (TEXT, "#e8e8e8"),
    (SOFT, "#a2a7ad"),
    (GRID, "#2d3238"),
    (NEUTRAL, "#454c55"),
    (GREEN, "#63c98a"),
    (AMBER, "#eab04d"),
    (VIOLET, "#b995e6"),
    ("#ffffff", "#16191d"),
];

/// A picture being drawn from the top down.
#[derive(Clone, Debug, Default)]
pub struct Svg {
    body: String,
    height: f64,
}

/// Which end of a text stands at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// Its beginning.
    Start,
    /// Its middle.
    Middle,
    /// Its end.
    End,
}

/// How a line is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stroke {
    /// Pixels.
    pub width: f64,
    /// Colour.
    pub colour: &'static str,
    /// Whether it is broken.
    pub dashed: bool,
}

impl Svg {
    /// The height drawn so far; shapes below it make the picture higher.
    pub const fn height(&self) -> f64 {
        self.height
    }

    /// A line of text with its baseline at `y`.
    pub fn text(&mut self, place: (f64, f64), size: f64, anchor: Anchor, text: &str) {
        self.coloured(place, size, anchor, TEXT, text);
    }

    /// A line of text in a colour.
    pub fn coloured(&mut self, (x, y): (f64, f64), size: f64, anchor: Anchor, fill: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = escaped(text);
        self.add(
            y + 6.0,
            format_args!("<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" text-anchor=\"{anchor}\" fill=\"{fill}\">{text}</text>"),
        );
    }

    /// A line through points, left to right.
    pub fn curve(&mut self, points: &[(f64, f64)], stroke: Stroke) {
        let Some(lowest) = points.iter().map(|(_, y)| *y).reduce(f64::max) else { return };
        let Stroke { width, colour, dashed } = stroke;
        let dash = if dashed { " stroke-dasharray=\"5 4\"" } else { "" };
        let shape = format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\" stroke-linejoin=\"round\"{dash}/>",
            listed(points)
        );
        self.add(lowest, format_args!("{shape}"));
    }

    /// A filled area with an edge through points.
    pub fn area(&mut self, points: &[(f64, f64)], fill: &str, opacity: f64) {
        let Some(lowest) = points.iter().map(|(_, y)| *y).reduce(f64::max) else { return };
        let shape = format!("<polygon points=\"{}\" fill=\"{fill}\" fill-opacity=\"{opacity}\"/>", listed(points));
        self.add(lowest, format_args!("{shape}"));
    }

    /// A filled rectangle.
    pub fn rectangle(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), fill: &str) {
        let width = width.max(0.0);
        self.add(y + height, format_args!("<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{fill}\"/>"));
    }

    /// A straight line.
    pub fn line(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64), width: f64, stroke: &str) {
        let shape = format_args!(
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{stroke}\" stroke-width=\"{width}\"/>"
        );
        self.add(y1.max(y2), shape);
    }

    /// A filled circle.
    pub fn dot(&mut self, (x, y): (f64, f64), radius: f64, fill: &str) {
        self.add(y + radius, format_args!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\" fill=\"{fill}\"/>"));
    }

    fn add(&mut self, lowest: f64, shape: std::fmt::Arguments<'_>) {
        self.height = self.height.max(lowest);
        // Writing into a string cannot fail.
        let _ = writeln!(self.body, "{shape}");
    }

    /// The whole document.
    pub fn finish(self) -> String {
        let height = self.height + 12.0;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height:.0}\" viewBox=\"0 0 {WIDTH} {height:.0}\" \
             font-family=\"sans-serif\">\n<style>@media (prefers-color-scheme: dark) {{{}}}</style>\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{}</svg>\n",
            dark(),
            self.body
        )
    }
}

/// Rules that give every colour its dark counterpart; a rule wins over the attribute it selects by.
fn dark() -> String {
    DARK.iter().fold(String::new(), |rules, (light, dark)| {
        rules + &format!(" [fill=\"{light}\"] {{fill:{dark}}} [stroke=\"{light}\"] {{stroke:{dark}}}")
    })
}

fn listed(points: &[(f64, f64)]) -> String {
    points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect::<Vec<_>>().join(" ")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Writes a picture to a file; the error is a sentence.
pub fn write(path: &Path, picture: &str) -> Result<(), String> {
    std::fs::write(path, picture).map_err(|error| format!("the picture {} cannot be written: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_holds_all_of_its_shapes_and_no_markup_of_its_texts() {
        let mut svg = Svg::default();
        svg.text((10.0, 20.0), 12.0, Anchor::Start, "a < b & c");
        svg.line((0.0, 5.0), (10.0, 90.0), 1.0, BOUND);
        let picture = svg.finish();
        assert!(picture.contains("a &lt; b &amp; c</text>") && picture.contains("height=\"102\""), "{picture}");
    }
}
