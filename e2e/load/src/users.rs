//! The users on whose behalf requests are sent. A user has at most one request in flight, so that the order of its answers is
//! the order of its requests, and a change of revision is never an artefact of overtaking.

use std::collections::BTreeSet;

use crate::chance::{Chance, mix};
use crate::cli::Alphabet;

/// How often a busy user is passed over before the request is skipped.
const TRIES: usize = 64;

/// The pool of users.
pub struct Users {
    ids: Vec<String>,
    busy: BTreeSet<usize>,
    regions: Vec<String>,
}

/// Who sends one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sender {
    /// Index of the user; `None` for a request without an id.
    pub user: Option<usize>,
    /// Value of the id header.
    pub id: Option<String>,
    /// Value of the region header.
    pub region: Option<String>,
}

impl Users {
    /// `count` users with ids that depend on nothing but seed and alphabet.
    pub fn new(count: u32, alphabet: Alphabet, seed: u64, regions: Vec<String>) -> Self {
        let id = |i: u32| {
            let bits = mix(mix(seed).wrapping_add(u64::from(i)).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            match alphabet {
                Alphabet::Hex => format!("{bits:016x}"),
                Alphabet::Decimal => format!("{:012}", bits % 1_000_000_000_000),
            }
        };
        Self { ids: (0..count).map(id).collect(), busy: BTreeSet::new(), regions }
    }

    /// Picks an idle user and marks it busy, or nobody in particular with probability `no_id`. `None` when all tried are busy.
    pub fn pick(&mut self, no_id: f64, chance: &mut Chance) -> Option<Sender> {
        if chance.share() < no_id {
            let region = chance.index(usize::MAX);
            return Some(Sender { user: None, id: None, region: self.region(region) });
        }
        let user = (0..TRIES).map(|_| chance.index(self.ids.len())).find(|user| !self.busy.contains(user))?;
        self.busy.insert(user);
        Some(Sender { user: Some(user), id: self.ids.get(user).cloned(), region: self.region(user) })
    }

    /// The user's request has ended.
    pub fn release(&mut self, user: Option<usize>) {
        if let Some(user) = user {
            self.busy.remove(&user);
        }
    }

    /// The id of a user.
    pub fn id(&self, user: usize) -> &str {
        self.ids.get(user).map_or("", String::as_str)
    }

    fn region(&self, number: usize) -> Option<String> {
        self.regions.get(number.checked_rem(self.regions.len())?).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users(count: u32, alphabet: Alphabet) -> Users {
        Users::new(count, alphabet, 3, vec!["eu".into(), "us".into()])
    }

    #[test]
    fn last_characters_of_ids_are_evenly_spread() {
        for (alphabet, symbols) in [(Alphabet::Hex, "0123456789abcdef"), (Alphabet::Decimal, "0123456789")] {
            let pool = users(8_000, alphabet);
            for symbol in symbols.chars() {
                let share = pool.ids.iter().filter(|id| id.ends_with(symbol)).count() as f64 / 8_000.0;
                assert!((share * symbols.len() as f64 - 1.0).abs() < 0.2, "{alphabet:?} {symbol}: {share}");
            }
            assert_eq!(pool.ids.iter().collect::<BTreeSet<_>>().len(), 8_000, "ids repeat");
            assert_eq!(pool.ids, users(8_000, alphabet).ids);
        }
    }

    #[test]
    fn a_user_has_one_request_in_flight_and_always_the_same_region() {
        let mut pool = users(2, Alphabet::Hex);
        let mut chance = Chance::new(1);
        let first = pool.pick(0.0, &mut chance).unwrap();
        let second = pool.pick(0.0, &mut chance).unwrap();
        assert_ne!(first.user, second.user);
        assert_eq!(pool.pick(0.0, &mut chance), None);
        pool.release(first.user);
        assert_eq!(pool.pick(0.0, &mut chance), Some(first));
    }

    #[test]
    fn some_requests_carry_no_id() {
        let mut pool = users(10, Alphabet::Hex);
        let sender = pool.pick(1.0, &mut Chance::new(1)).unwrap();
        assert_eq!((sender.user, sender.id), (None, None));
        assert!(sender.region.is_some());
    }
}
