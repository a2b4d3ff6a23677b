//! Slices of ids: a regular expression over the last two characters that picks a fixed, growing share of users or requests.
//! Does not hash: the ids must use their last two places evenly, which the sample-ratio check watches.

use std::collections::BTreeSet;

use crate::plan::IdCarrier;
use crate::spec::Alphabet;
use crate::weights::Exposure;

const HEX_OPEN: &str = "(";
// Decimal and hexadecimal slices can list the same characters; the kind of group tells which share they mean.
const DECIMAL_OPEN: &str = "(?:";
const ANY_HEADER: &str = "^.+$";
const EVERY_HEADER: &str = "^(.+)$";
const COOKIE_START: &str = r"^(?:.*;\s*)?";
const COOKIE_END: &str = r"(?:;.*)?$";

const fn base(alphabet: Alphabet) -> u16 {
    match alphabet {
        Alphabet::Hex => 16,
        Alphabet::Decimal => 10,
    }
}

const fn open(alphabet: Alphabet) -> &'static str {
    match alphabet {
        Alphabet::Hex => HEX_OPEN,
        Alphabet::Decimal => DECIMAL_OPEN,
    }
}

/// How many of the `base * base` endings a share takes: rounded down, so that exposure is never above what was written.
fn endings(share: Exposure, alphabet: Alphabet) -> u16 {
    let all = base(alphabet) * base(alphabet);
    u16::try_from(share.percent()).unwrap_or(0) * all / 100
}

/// The share that so many endings stand for: the inverse of [`endings`] on every value that it gives.
fn share(endings: usize, alphabet: Alphabet) -> Exposure {
    let all = usize::from(base(alphabet) * base(alphabet));
    let percent = (endings * 100).div_ceil(all).min(100);
    i32::try_from(percent).ok().and_then(Exposure::new).unwrap_or(Exposure::FULL)
}

/// The value of a header match for the ids of a slice; `None` when the slice has no ending.
pub(super) fn pattern(carrier: &IdCarrier, alphabet: Alphabet, offset: u8, slice: Exposure) -> Option<String> {
    let group = group(alphabet, offset, slice)?;
    Some(match carrier {
        IdCarrier::Header(_) => format!("^.*{group}$"),
        IdCarrier::Cookie(name) => format!("{COOKIE_START}{}=[^;]*{group}{COOKIE_END}", escape(name)),
    })
}

/// The value of a header match for every request with an id.
pub(super) fn any_id(carrier: &IdCarrier) -> String {
    match carrier {
        IdCarrier::Header(_) => ANY_HEADER.to_owned(),
        IdCarrier::Cookie(name) => format!("{COOKIE_START}{}=[^;]+{COOKIE_END}", escape(name)),
    }
}

/// The same requests as [`any_id`] in other words, for the slice of everybody. A gateway may keep only one of two rules that match alike, and
/// take the Services of the other one away while it still sends requests there.
pub(super) fn every_id(carrier: &IdCarrier) -> String {
    match carrier {
        IdCarrier::Header(_) => EVERY_HEADER.to_owned(),
        IdCarrier::Cookie(name) => format!("{COOKIE_START}{}=([^;]+){COOKIE_END}", escape(name)),
    }
}

fn group(alphabet: Alphabet, offset: u8, slice: Exposure) -> Option<String> {
    let base = base(alphabet);
    let all = base * base;
    let start = u16::from(offset) * all / 256;
    let taken: BTreeSet<u16> = (0..endings(slice, alphabet)).map(|place| (start + place) % all).collect();
    let mut full = BTreeSet::new();
    let mut parts = Vec::new();
    for high in 0..base {
        let lows: BTreeSet<u16> = (0..base).filter(|low| taken.contains(&(high * base + low))).collect();
        if lows.len() == usize::from(base) {
            full.insert(high);
        } else if !lows.is_empty() {
            parts.push(format!("{}{}", class(&BTreeSet::from([high])), class(&lows)));
        }
    }
    if !full.is_empty() {
        parts.push(format!("{}{}", class(&full), class(&(0..base).collect())));
    }
    (!parts.is_empty()).then(|| format!("{}{})", open(alphabet), parts.join("|")))
}

/// A character class of digits, letters in both cases; one decimal digit stands for itself.
fn class(digits: &BTreeSet<u16>) -> String {
    let numbers = ranges(digits.iter().filter(|digit| **digit < 10), '0', 0);
    let lower = ranges(digits.iter().filter(|digit| **digit >= 10), 'a', 10);
    if digits.len() == 1 && lower.is_empty() {
        return numbers;
    }
    format!("[{numbers}{lower}{}]", lower.to_ascii_uppercase())
}

/// Consecutive digits as ranges of characters.
fn ranges<'a>(digits: impl Iterator<Item = &'a u16>, zero: char, first: u16) -> String {
    let symbol = |digit: u16| u32::from(digit - first).checked_add(u32::from(zero)).and_then(char::from_u32).unwrap_or(zero);
    let mut runs: Vec<(u16, u16)> = Vec::new();
    for digit in digits {
        match runs.last_mut() {
            Some((_, end)) if *end + 1 == *digit => *end = *digit,
            _ => runs.push((*digit, *digit)),
        }
    }
    runs.iter().fold(String::new(), |text, (start, end)| {
        if start == end { format!("{text}{}", symbol(*start)) } else { format!("{text}{}-{}", symbol(*start), symbol(*end)) }
    })
}

fn escape(name: &str) -> String {
    name.chars().fold(String::new(), |text, character| {
        if character.is_ascii_alphanumeric() || character == '_' || character == '-' {
            text + character.encode_utf8(&mut [0; 4])
        } else {
            text + "\\" + character.encode_utf8(&mut [0; 4])
        }
    })
}

/// Whether a match value is of the forms that [`pattern`], [`any_id`] and [`every_id`] write.
pub(super) fn is_ours(value: &str) -> bool {
    value == ANY_HEADER
        || value == EVERY_HEADER
        || share_of(value).is_some()
        || (value.starts_with(COOKIE_START) && value.ends_with(COOKIE_END))
}

/// The share of ids that a match value picks, `None` when it is not of the form that [`pattern`] writes.
pub(super) fn share_of(value: &str) -> Option<Exposure> {
    picked(value).map(|(taken, alphabet)| share(taken.len(), alphabet))
}

/// The endings that a match value picks, as pairs of lower-case characters.
fn picked(value: &str) -> Option<(BTreeSet<(char, char)>, Alphabet)> {
    let group = match value.strip_prefix(COOKIE_START) {
        Some(cookie) => cookie.strip_suffix(COOKIE_END)?.split_once("=[^;]*")?.1,
        None => value.strip_prefix("^.*")?.strip_suffix('$')?,
    };
    let (inner, alphabet) = match group.strip_prefix(DECIMAL_OPEN) {
        Some(inner) => (inner, Alphabet::Decimal),
        None => (group.strip_prefix(HEX_OPEN)?, Alphabet::Hex),
    };
    let mut taken = BTreeSet::new();
    for part in inner.strip_suffix(')')?.split('|') {
        let (highs, rest) = read_class(part)?;
        let (lows, rest) = read_class(rest)?;
        if !rest.is_empty() {
            return None;
        }
        taken.extend(highs.iter().flat_map(|high| lows.iter().map(move |low| (*high, *low))));
    }
    Some((taken, alphabet))
}

/// The lower-case characters of a leading class, and what follows it.
fn read_class(text: &str) -> Option<(BTreeSet<char>, &str)> {
    let Some(rest) = text.strip_prefix('[') else {
        let first = text.chars().next().filter(char::is_ascii_hexdigit)?;
        return Some((BTreeSet::from([first.to_ascii_lowercase()]), text.get(1..)?));
    };
    let (inside, after) = rest.split_once(']')?;
    let mut characters = BTreeSet::new();
    let mut left = inside;
    while let Some(first) = left.chars().next() {
        let range = left.get(1..).and_then(|tail| tail.strip_prefix('-')).and_then(|tail| tail.chars().next());
        let last = range.unwrap_or(first);
        if !first.is_ascii_hexdigit() || !last.is_ascii_hexdigit() {
            return None;
        }
        characters.extend((first..=last).map(|character| character.to_ascii_lowercase()));
        left = left.get(if range.is_some() { 3 } else { 1 }..)?;
    }
    Some((characters, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(alphabet: Alphabet, offset: u8, percent: i32, expected: &str) {
        let header = IdCarrier::Header("x-user-id".into());
        assert_eq!(pattern(&header, alphabet, offset, Exposure::new(percent).unwrap()).unwrap_or_default(), expected);
    }

    #[test]
    fn patterns_are_anchored_case_insensitive_and_rounded_down() {
        check(Alphabet::Hex, 0, 5, "^.*(0[0-9a-bA-B])$");
        check(Alphabet::Hex, 0, 10, "^.*(1[0-8]|0[0-9a-fA-F])$");
        check(Alphabet::Hex, 0, 50, "^.*([0-7][0-9a-fA-F])$");
        check(Alphabet::Hex, 255, 1, "^.*(00|[fF][fF])$");
        check(Alphabet::Hex, 7, 100, "^.*([0-9a-fA-F][0-9a-fA-F])$");
        check(Alphabet::Decimal, 0, 5, "^.*(?:0[0-4])$");
        check(Alphabet::Hex, 0, 0, "");
    }

    #[test]
    fn cookies_are_anchored_at_their_own_ends() {
        let cookie = IdCarrier::Cookie("u.id".into());
        let written = pattern(&cookie, Alphabet::Hex, 0, Exposure::new(50).unwrap()).unwrap();
        assert_eq!(written, r"^(?:.*;\s*)?u\.id=[^;]*([0-7][0-9a-fA-F])(?:;.*)?$");
        assert_eq!(any_id(&cookie), r"^(?:.*;\s*)?u\.id=[^;]+(?:;.*)?$");
    }

    #[test]
    fn every_slice_reads_back_as_written_and_grows_only() {
        for carrier in [IdCarrier::Header("x".into()), IdCarrier::Cookie("uid".into())] {
            for alphabet in [Alphabet::Hex, Alphabet::Decimal] {
                for offset in (0..=255).step_by(15) {
                    let mut before = BTreeSet::new();
                    for percent in 1..=100 {
                        let slice = Exposure::new(percent).unwrap();
                        let written = pattern(&carrier, alphabet, offset, slice).unwrap();
                        assert_eq!(share_of(&written), Some(slice), "{written}");
                        let (taken, _) = picked(&written).unwrap();
                        assert!(taken.is_superset(&before), "{written} drops somebody");
                        assert!(taken.len() * 100 <= usize::from(base(alphabet).pow(2)) * usize::try_from(percent).unwrap());
                        before = taken;
                    }
                }
            }
        }
    }

    #[test]
    fn a_foreign_pattern_has_no_share() {
        for foreign in ["^.+$", ".*", "^.*(x[0-9])$", "^.*(0[0-9)$", "^.*([0-9])$", "^.*([0-9][0-9][0-9])$", "^.*(é0)$", ""] {
            assert_eq!(share_of(foreign), None, "{foreign}");
        }
    }
}
