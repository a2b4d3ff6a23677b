//! Remembers answers by request id until a second revision has answered the same request and its true label is known.
//! It keeps no clock, counts nothing, and never holds more than it was told to.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use serde::Deserialize;

/// What one revision answered to one request: a label per row.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// Id of the request, the same on the mirrored copy.
    pub id: String,
    /// The revision that answered.
    pub revision: String,
    /// Predicted label of each row.
    pub labels: Vec<i64>,
}

/// What would have been right.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Truth {
    /// Id of the request.
    pub id: String,
    /// True label of each row.
    pub labels: Vec<i64>,
}

/// Two revisions, one request, and the truth, for one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The revision that answered first, and whether it was right.
    pub first: (String, bool),
    /// The other one.
    pub second: (String, bool),
}

#[derive(Default)]
struct Request {
    answers: Vec<(String, Vec<i64>)>,
    truth: Option<Vec<i64>>,
    paired: bool,
}

/// Bounded memory of requests: at most `capacity`, none older than `window`.
pub struct Pairs {
    requests: BTreeMap<String, Request>,
    order: VecDeque<(Instant, String)>,
    capacity: usize,
    window: Duration,
    alone: u64,
}

impl Pairs {
    /// An empty memory.
    pub fn new(capacity: usize, window: Duration) -> Self {
        Self { requests: BTreeMap::new(), order: VecDeque::new(), capacity, window, alone: 0 }
    }

    /// An answer arrived. A second one of the same revision, such as a retry, changes nothing; nor does one of a third revision.
    pub fn answered(&mut self, answer: Answer, now: Instant) -> Vec<Pair> {
        let request = self.request(&answer.id, now);
        if request.answers.len() < 2 && request.answers.iter().all(|(revision, _)| *revision != answer.revision) {
            request.answers.push((answer.revision, answer.labels));
        }
        request.pairs()
    }

    /// The truth arrived. The first word of it stands.
    pub fn told(&mut self, truth: Truth, now: Instant) -> Vec<Pair> {
        let request = self.request(&truth.id, now);
        request.truth.get_or_insert(truth.labels);
        request.pairs()
    }

    /// Requests that were forgotten before they made a pair.
    pub fn alone(&self) -> u64 {
        self.alone
    }

    fn request(&mut self, id: &str, now: Instant) -> &mut Request {
        while self.order.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) > self.window) {
            self.forget_oldest();
        }
        if !self.requests.contains_key(id) {
            while self.order.len() >= self.capacity.max(1) {
                self.forget_oldest();
            }
            self.order.push_back((now, id.to_owned()));
        }
        self.requests.entry(id.to_owned()).or_default()
    }

    fn forget_oldest(&mut self) {
        let forgotten = self.order.pop_front().and_then(|(_, id)| self.requests.remove(&id));
        self.alone += u64::from(forgotten.is_some_and(|request| !request.paired));
    }
}

impl Request {
    /// The pairs, once, as soon as both answers and the truth are here. Answers of unlike length cannot be compared.
    fn pairs(&mut self) -> Vec<Pair> {
        let ([(first, a), (second, b)], Some(truth)) = (self.answers.as_slice(), &self.truth) else { return Vec::new() };
        if self.paired || a.len() != truth.len() || b.len() != truth.len() {
            return Vec::new();
        }
        let rows = a.iter().zip(b).zip(truth);
        let pairs = rows.map(|((a, b), truth)| Pair { first: (first.clone(), a == truth), second: (second.clone(), b == truth) }).collect();
        self.paired = true;
        pairs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_mins(15);

    fn answer(id: &str, revision: &str, labels: &[i64]) -> Answer {
        Answer { id: id.into(), revision: revision.into(), labels: labels.to_vec() }
    }

    fn truth(id: &str, labels: &[i64]) -> Truth {
        Truth { id: id.into(), labels: labels.to_vec() }
    }

    #[test]
    fn a_pair_needs_two_revisions_and_the_truth_in_any_order() {
        let now = Instant::now();
        let mut pairs = Pairs::new(10, WINDOW);
        assert_eq!(pairs.answered(answer("a", "old", &[7, 1]), now), []);
        assert_eq!(pairs.answered(answer("a", "old", &[0, 0]), now), [], "a retry is no second opinion");
        assert_eq!(pairs.told(truth("a", &[7, 2]), now), []);
        let both = |first, second| Pair { first: ("old".into(), first), second: ("new".into(), second) };
        assert_eq!(pairs.answered(answer("a", "new", &[3, 2]), now), [both(true, false), both(false, true)]);
        assert_eq!(pairs.told(truth("a", &[3, 1]), now), [], "a pair counts once");
        assert_eq!(pairs.answered(answer("a", "third", &[7, 2]), now), []);
    }

    #[test]
    fn answers_of_another_length_are_no_pair() {
        let now = Instant::now();
        let mut pairs = Pairs::new(10, WINDOW);
        pairs.answered(answer("a", "old", &[7]), now);
        pairs.answered(answer("a", "new", &[7, 1]), now);
        assert_eq!(pairs.told(truth("a", &[7]), now), []);
    }

    #[test]
    fn what_stays_alone_is_forgotten_by_number_and_age_and_counted() {
        let now = Instant::now();
        let mut pairs = Pairs::new(2, WINDOW);
        for id in ["a", "b", "c"] {
            pairs.answered(answer(id, "old", &[1]), now);
        }
        assert_eq!((pairs.requests.len(), pairs.order.len(), pairs.alone()), (2, 2, 1));
        pairs.answered(answer("d", "old", &[1]), now + WINDOW + Duration::from_secs(1));
        assert_eq!((pairs.requests.len(), pairs.order.len(), pairs.alone()), (1, 1, 3));
    }
}
