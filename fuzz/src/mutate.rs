//! Hostile changes of a JSON document, repeatable from a seed: what byte noise seldom finds behind a parser.
//! Knows nothing of the meaning of a field.

use serde_json::{Value, json};

/// Numbers from a seed, by `SplitMix64` (Steele, Lea and Flood 2014).
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// Always the same numbers for the same seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number below `end`; 0 when there is none.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % (end.max(1) as u64)).unwrap()
    }
}

/// Changes one to four places.
pub fn document(value: &mut Value, chance: &mut Chance) {
    for _ in 0..=chance.below(4) {
        let places = count(value);
        let mut at = chance.below(places);
        change(value, &mut at, chance);
    }
}

/// Changes one to four bytes, or cuts the end off.
pub fn bytes(data: &mut Vec<u8>, chance: &mut Chance) {
    if data.is_empty() {
        return;
    }
    if chance.below(8) == 0 {
        data.truncate(chance.below(data.len()));
        return;
    }
    for _ in 0..=chance.below(4) {
        let at = chance.below(data.len());
        data[at] = u8::try_from(chance.below(256)).unwrap();
    }
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(fields) => fields.values().map(count).sum::<usize>(),
        _ => 0,
    }
}

/// Walks to the place numbered `at` and changes it.
fn change(value: &mut Value, at: &mut usize, chance: &mut Chance) -> bool {
    if *at == 0 {
        alter(value, chance);
        return true;
    }
    *at -= 1;
    match value {
        Value::Array(items) => items.iter_mut().any(|item| change(item, at, chance)),
        Value::Object(fields) => fields.values_mut().any(|field| change(field, at, chance)),
        _ => false,
    }
}

fn alter(value: &mut Value, chance: &mut Chance) {
    match value {
        Value::Object(fields) if chance.below(2) == 0 && !fields.is_empty() => {
            let name = fields.keys().nth(chance.below(fields.len())).cloned().unwrap();
            let field = fields.remove(&name).unwrap();
            if chance.below(2) == 0 {
                fields.insert(format!("{name}{}", text(chance)), field);
            }
        }
        Value::Array(items) if chance.below(2) == 0 && !items.is_empty() => match chance.below(3) {
            0 => drop(items.remove(chance.below(items.len()))),
            1 => items.push(items[chance.below(items.len())].clone()),
            _ => *items = items.iter().cycle().take(200).cloned().collect(),
        },
        Value::String(old) if chance.below(2) == 0 => old.push_str(&text(chance)),
        Value::Number(_) if chance.below(2) == 0 => *value = number(chance),
        _ => *value = anything(chance),
    }
}

fn anything(chance: &mut Chance) -> Value {
    match chance.below(7) {
        0 => Value::Null,
        1 => json!(chance.below(2) == 0),
        2 => number(chance),
        3 => json!([]),
        4 => json!({}),
        5 => (0..100).fold(json!(1), |inner, depth| if depth % 2 == 0 { json!([inner]) } else { json!({"a": inner}) }),
        _ => json!(text(chance)),
    }
}

fn number(chance: &mut Chance) -> Value {
    let numbers = [
        json!(0),
        json!(-1),
        json!(1),
        json!(99),
        json!(100),
        json!(101),
        json!(i32::MAX),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(1e308),
        json!(0.5),
    ];
    numbers[chance.below(numbers.len())].clone()
}

/// What people, clocks and attackers write.
fn text(chance: &mut Chance) -> String {
    const TEXTS: [&str; 26] = [
        "",
        " ",
        "0",
        "-1",
        "1e400",
        "NaN",
        "inf",
        "0%",
        "100%",
        "101%",
        "5%",
        "+2pp vs stable",
        "1.25x vs baseline",
        "99999999999h",
        "1ms",
        "2026-02-30T00:00:00Z",
        "9999-12-31T23:59:59Z",
        "-262143-01-01T00:00:00Z",
        "up} or vector(1) #",
        "a\"b\\c\n",
        "$(model.uri)$$(revision)",
        "../../etc/passwd",
        "\u{202e}\u{0}\u{feff}",
        "ΣǅİẞÅ",
        "💥",
        "espalier.dev/decision",
    ];
    match chance.below(TEXTS.len() + 1) {
        long if long == TEXTS.len() => "x\u{301}".repeat(2_000),
        known => TEXTS[known].to_owned(),
    }
}
