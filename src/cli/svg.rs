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
}

impl Svg {
    /// The height drawn so far; shapes below it make the picture higher.
    pub const fn height(&self) -> f64 {
        self.height
    }

    /// A line of text with its baseline at `y`.
    pub fn text(&mut self, (x, y): (f64, f64), size: f64, anchor: Anchor, text: &str) {
        let anchor = if anchor == Anchor::Start { "start" } else { "middle" };
        let text = escaped(text);
        self.add(
            y + 6.0,
            format_args!("<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" text-anchor=\"{anchor}\" fill=\"{TEXT}\">{text}</text>"),
        );
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
             font-family=\"sans-serif\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{}</svg>\n",
            self.body
        )
    }
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
