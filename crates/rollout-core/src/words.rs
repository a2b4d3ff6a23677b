//! How numbers and foreign words are said to people. Nothing is computed or parsed here.

use std::borrow::Cow;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

/// A duration in its two largest units, such as `1h30m`, `12m`, `3s`.
pub fn duration(delta: TimeDelta) -> String {
    let seconds = delta.num_seconds().max(0);
    let (days, hours, minutes, rest) = (seconds / 86_400, seconds % 86_400 / 3_600, seconds % 3_600 / 60, seconds % 60);
    let parts = [(days, "d"), (hours, "h"), (minutes, "m"), (rest, "s")];
    let said = parts.iter().skip_while(|(n, _)| *n == 0).take(2).filter(|(n, _)| *n > 0);
    let text = said.fold(String::new(), |text, (n, unit)| text + &n.to_string() + unit);
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// A moment in whole seconds, such as `2026-01-02T03:04:05Z`.
pub fn instant(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// A count with its thousands apart, such as `4 203`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// The first `most` bytes of a text, cut at a character, without the signs that steer a terminal or turn the direction of writing: words of
/// pods, servers, gateways and annotations end up in terminals that trust them.
pub fn clip(text: &str, most: usize) -> String {
    let text: Cow<'_, str> =
        if text.chars().any(steers) { text.chars().map(|c| if steers(c) { ' ' } else { c }).collect() } else { text.into() };
    if text.len() <= most {
        return text.into_owned();
    }
    let end = (0..=most.saturating_sub(3)).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
    format!("{}…", text.get(..end).unwrap_or_default())
}

/// Control characters, and those that embed, override or isolate a direction (Unicode Standard Annex 9).
fn steers(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_their_thousands_apart() {
        assert_eq!([count(7), count(4203), count(1_234_567)], ["7", "4 203", "1 234 567"]);
    }

    #[test]
    fn durations_read_as_people_say_them() {
        let said: Vec<_> = [0, 3, 60, 5_400, 86_400, 90_061].map(|s| duration(TimeDelta::seconds(s))).into();
        assert_eq!(said, ["0s", "3s", "1m", "1h30m", "1d", "1d1h"]);
    }
}
