//! From numbers to places in a picture: axes, round ticks, numbers out of texts. Draws nothing.

/// A stretch of numbers on a stretch of pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Scale {
    /// `low` is at pixel `from`, `high` at pixel `to`; a stretch of nothing is made a little longer.
    pub fn new((low, high): (f64, f64), (from, to): (f64, f64)) -> Self {
        let high = if high - low > 1e-12 { high } else { low + 1.0 };
        Self { low, high, from, to }
    }

    /// The pixel of a number; what is outside is put at the edge.
    pub fn at(&self, value: f64) -> f64 {
        self.from + (value.clamp(self.low, self.high) - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    /// The lowest number.
    pub const fn low(&self) -> f64 {
        self.low
    }

    /// The highest number.
    pub const fn high(&self) -> f64 {
        self.high
    }

    /// Round numbers inside, about as many as `wanted`: multiples of 1, 2 or 5 times a power of ten.
    pub fn ticks(&self, wanted: f64) -> Vec<f64> {
        let rough = (self.high - self.low) / wanted.max(1.0);
        let power = 10.0_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|n| n * power).find(|step| *step >= rough * 0.999).unwrap_or(rough);
        multiples(self.low, self.high, step)
    }

    /// The same for seconds: multiples of what people divide time by.
    pub fn times(&self, wanted: f64) -> Vec<f64> {
        const STEPS: [f64; 17] = [
            1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0, 10_800.0, 21_600.0, 43_200.0, 86_400.0,
            604_800.0,
        ];
        let rough = (self.high - self.low) / wanted.max(1.0);
        let step = STEPS.into_iter().find(|step| *step >= rough).unwrap_or(604_800.0 * (rough / 604_800.0).ceil());
        multiples(self.low, self.high, step)
    }
}

fn multiples(low: f64, high: f64, step: f64) -> Vec<f64> {
    let first = (low / step - 1e-9).ceil();
    let count = ((high / step + 1e-9).floor() - first).clamp(0.0, 100.0);
    // At most a hundred.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let count = count as u32;
    (0..=count).map(|n| (first + f64::from(n)) * step).map(|tick| if tick == 0.0 { 0.0 } else { tick }).collect()
}

/// The number that a text begins with, and what follows it.
pub fn number(text: &str) -> Option<(f64, &str)> {
    let end = text.find(|sign: char| !sign.is_ascii_digit() && !"+-.".contains(sign)).unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end)?;
    digits.parse().ok().filter(|number: &f64| number.is_finite()).map(|number| (number, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(Scale::new((-1.2, 3.1), (0.0, 1.0)).ticks(4.0), [0.0, 2.0]);
        assert_eq!(Scale::new((0.0, 7.0), (0.0, 1.0)).ticks(4.0), [0.0, 2.0, 4.0, 6.0]);
        assert_eq!(Scale::new((0.0, 5400.0), (0.0, 1.0)).times(6.0), [0.0, 900.0, 1800.0, 2700.0, 3600.0, 4500.0, 5400.0]);
    }

    #[test]
    fn every_value_has_a_place_in_order() {
        let scale = Scale::new((-1.0, 3.0), (100.0, 20.0));
        assert_eq!([-1.0, 1.0, 3.0, 9.0].map(|value| format!("{:.3}", scale.at(value))), ["100.000", "60.000", "20.000", "20.000"]);
        assert!(Scale::new((2.0, 2.0), (0.0, 1.0)).at(2.0).is_finite());
    }

    #[test]
    fn numbers_are_read_with_what_follows() {
        assert_eq!(
            [number("+2pp vs stable"), number("-1.1pp"), number("1.25x vs stable"), number("30W")],
            [Some((2.0, "pp vs stable")), Some((-1.1, "pp")), Some((1.25, "x vs stable")), Some((30.0, "W"))]
        );
        assert_eq!((number("none at all"), number("")), (None, None));
    }
}
