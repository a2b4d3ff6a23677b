//! Labels that many series have in common, held once: every metric of a pod has those of the pod, and has them again at every instant.
//! Knows no server and reads nothing; what nobody holds any more is forgotten.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Labels of a series.
type Set = BTreeMap<String, String>;

/// Sets of labels in use.
#[derive(Default)]
pub(super) struct Labels {
    known: Mutex<Known>,
    /// Whether the names of metrics are left out, so that all metrics of a pod share one set. Who asks for one metric knows its name.
    nameless: bool,
}

#[derive(Default)]
struct Known {
    /// By a hash of what they say.
    sets: HashMap<u64, Weak<Set>>,
    /// Sets at which those that nobody holds are next looked for.
    limit: usize,
}

/// Sets below which nothing is worth looking for.
const FEW: usize = 64;

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Labels").finish_non_exhaustive()
    }
}

impl Labels {
    /// None yet; names of metrics are left out.
    pub(super) fn nameless() -> Self {
        Self { nameless: true, ..Self::default() }
    }

    /// The set that says the same as `pairs`, which are sorted by name.
    pub(super) fn shared(&self, pairs: &[(Cow<'_, str>, Cow<'_, str>)]) -> Arc<Set> {
        let wanted = || pairs.iter().filter(|(name, _)| !(self.nameless && name == "__name__"));
        let mut hasher = DefaultHasher::new();
        wanted().for_each(|pair| pair.hash(&mut hasher));
        let key = hasher.finish();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let says_the_same = |set: &Arc<Set>| {
            set.len() == wanted().count() && set.iter().zip(wanted()).all(|((name, value), pair)| *name == pair.0 && *value == pair.1)
        };
        if let Some(set) = known.sets.get(&key).and_then(Weak::upgrade).filter(says_the_same) {
            return set;
        }
        let set = Arc::new(wanted().map(|(name, value)| (name.as_ref().to_owned(), value.as_ref().to_owned())).collect());
        if known.sets.len() >= known.limit.max(FEW) {
            known.sets.retain(|_, set| set.strong_count() > 0);
            known.limit = known.sets.len() * 2;
        }
        known.sets.insert(key, Arc::downgrade(&set));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(of: &[(&'static str, &'static str)]) -> Vec<(Cow<'static, str>, Cow<'static, str>)> {
        of.iter().map(|(name, value)| (Cow::Borrowed(*name), Cow::Borrowed(*value))).collect()
    }

    #[test]
    fn metrics_of_one_pod_share_their_labels_and_those_of_another_do_not() {
        let labels = Labels::nameless();
        let one = labels.shared(&pairs(&[("__name__", "up"), ("pod", "a")]));
        assert!(Arc::ptr_eq(&one, &labels.shared(&pairs(&[("__name__", "requests"), ("pod", "a")]))));
        assert!(!Arc::ptr_eq(&one, &labels.shared(&pairs(&[("__name__", "up"), ("pod", "b")]))));
        assert_eq!(*one, BTreeMap::from([("pod".to_owned(), "a".to_owned())]));
        let named = Labels::default().shared(&pairs(&[("__name__", "up"), ("pod", "a")]));
        assert_eq!(named.get("__name__").map(String::as_str), Some("up"));
    }

    #[test]
    fn labels_that_nobody_holds_do_not_pile_up() {
        let labels = Labels::default();
        for pod in 0..10_000 {
            labels.shared(&[(Cow::Borrowed("pod"), Cow::Owned(pod.to_string()))]);
        }
        assert!(labels.known.lock().unwrap().sets.len() <= FEW);
    }
}
