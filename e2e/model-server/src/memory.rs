//! Remembers recent predictions by request id, until their true labels arrive or they are too old or too many.
//! It keeps no clock and counts nothing.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// Why a true label met no prediction.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum JoinError {
    #[error("no prediction with this request id is remembered: unknown, too old, or answered by another server")]
    Unknown,
    #[error("this prediction already has its true label")]
    Duplicate,
    #[error("{found} labels for a request with {expected} rows")]
    Length { found: usize, expected: usize },
}

/// What a true label said about a prediction.
#[derive(Debug, PartialEq, Eq)]
pub struct Joined {
    /// Slice of the request.
    pub region: String,
    /// Rows predicted right.
    pub right: usize,
    /// Rows predicted.
    pub rows: usize,
}

struct Entry {
    labels: Vec<usize>,
    region: String,
    at: Instant,
    joined: bool,
}

/// Bounded memory of predictions: at most `capacity` of them, none older than `window`.
pub struct Memory {
    entries: HashMap<String, Entry>,
    order: VecDeque<(Instant, String)>,
    capacity: usize,
    window: Duration,
}

impl Memory {
    /// An empty memory.
    pub fn new(capacity: usize, window: Duration) -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new(), capacity, window }
    }

    /// Remembers a prediction; one with the same id is replaced.
    pub fn remember(&mut self, id: String, labels: Vec<usize>, region: &str, now: Instant) {
        self.forget_old(now);
        self.order.push_back((now, id.clone()));
        self.entries.insert(id, Entry { labels, region: region.to_owned(), at: now, joined: false });
        while self.order.len() > self.capacity {
            self.forget_oldest();
        }
    }

    /// Joins true labels with the prediction they belong to, once.
    pub fn join(&mut self, id: &str, truth: &[i64], now: Instant) -> Result<Joined, JoinError> {
        self.forget_old(now);
        let entry = self.entries.get_mut(id).ok_or(JoinError::Unknown)?;
        if entry.joined {
            return Err(JoinError::Duplicate);
        }
        if entry.labels.len() != truth.len() {
            return Err(JoinError::Length { found: truth.len(), expected: entry.labels.len() });
        }
        entry.joined = true;
        let right = entry.labels.iter().zip(truth).filter(|(label, true_label)| i64::try_from(**label).is_ok_and(|l| l == **true_label));
        Ok(Joined { region: entry.region.clone(), right: right.count(), rows: truth.len() })
    }

    fn forget_old(&mut self, now: Instant) {
        while self.order.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) > self.window) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((at, id)) = self.order.pop_front() {
            // A repeated id was replaced by a younger entry, which stays.
            if self.entries.get(&id).is_some_and(|entry| entry.at == at) {
                self.entries.remove(&id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_mins(15);

    #[test]
    fn a_label_joins_its_prediction_once() {
        let now = Instant::now();
        let mut memory = Memory::new(10, WINDOW);
        memory.remember("a".into(), vec![7, 1], "eu", now);
        assert_eq!(memory.join("a", &[7], now), Err(JoinError::Length { found: 1, expected: 2 }));
        assert_eq!(memory.join("a", &[7, 2], now + WINDOW), Ok(Joined { region: "eu".into(), right: 1, rows: 2 }));
        assert_eq!(memory.join("a", &[7, 2], now), Err(JoinError::Duplicate));
        assert_eq!(memory.join("b", &[7], now), Err(JoinError::Unknown));
    }

    #[test]
    fn predictions_are_forgotten_by_age_and_by_number() {
        let now = Instant::now();
        let mut memory = Memory::new(2, WINDOW);
        memory.remember("old".into(), vec![1], "eu", now);
        assert_eq!(memory.join("old", &[1], now + WINDOW + Duration::from_millis(1)), Err(JoinError::Unknown));
        for id in ["a", "b", "c"] {
            memory.remember(id.into(), vec![1], "eu", now);
        }
        assert_eq!(memory.join("a", &[1], now), Err(JoinError::Unknown));
        assert!(memory.join("b", &[1], now).is_ok() && memory.join("c", &[1], now).is_ok());
        assert_eq!((memory.order.len(), memory.entries.len()), (2, 2));
    }

    #[test]
    fn forgetting_a_repeated_id_keeps_the_younger_prediction() {
        let now = Instant::now();
        let mut memory = Memory::new(2, WINDOW);
        memory.remember("a".into(), vec![1], "eu", now);
        memory.remember("a".into(), vec![2], "eu", now + Duration::from_secs(1));
        memory.remember("b".into(), vec![1], "eu", now + Duration::from_secs(2));
        assert_eq!(memory.join("a", &[2], now + Duration::from_secs(2)).unwrap().right, 1);
    }
}
