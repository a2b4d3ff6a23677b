//! Writes the Prometheus text format, version 0.0.4.
//! It keeps no values: counters live where they are counted.

use std::fmt::Write as _;

/// Value of the Content-Type header; Prometheus 3 refuses targets without one.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A page of metrics under construction.
#[derive(Default)]
pub struct Page {
    text: String,
}

/// `counter`, `gauge` or `histogram`.
#[derive(Clone, Copy)]
pub enum Kind {
    /// Only ever grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Cumulative buckets, sum and count.
    Histogram,
}

impl Page {
    /// Starts a family; its samples follow.
    pub fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// One sample; label values are escaped.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.text.push_str(name);
        for (i, (label, text)) in labels.iter().enumerate() {
            let escaped = text.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
            let _ = write!(self.text, "{}{label}=\"{escaped}\"", if i == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.text, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    /// A family of one sample without labels.
    pub fn single(&mut self, name: &str, kind: Kind, help: &str, value: f64) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    /// The finished page.
    pub fn finish(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped_and_values_plain() {
        let mut page = Page::default();
        page.family("x_total", Kind::Counter, "Words.");
        page.sample("x_total", &[("a", "q\"\\\n"), ("b", "")], 12.0);
        page.single("y", Kind::Gauge, "More.", 0.25);
        let expected = "# HELP x_total Words.\n# TYPE x_total counter\nx_total{a=\"q\\\"\\\\\\n\",b=\"\"} 12\n# HELP y More.\n# TYPE y gauge\ny 0.25\n";
        assert_eq!(page.finish(), expected);
    }
}
