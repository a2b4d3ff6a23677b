//! Labels that many series have in common, held once: every metric of a pod has those of the pod, and has them again at every instant.
//! Knows no server and reads nothing; what is not used any more is forgotten.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

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
    /// By a hash of what they say. They are kept from one instant to the next: thousands of small texts that come and go each second would leave holes
    /// all over the memory.
    sets: HashMap<u64, Kept>,
    /// Sets at which those that are not used any more are next looked for.
    limit: usize,
}

struct Kept {
    set: Arc<Set>,
    /// Whether it was asked for again since they were last looked through.
    used: bool,
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
        if let Some(kept) = known.sets.get_mut(&key).filter(|kept| says_the_same(&kept.set)) {
            kept.used = true;
            return Arc::clone(&kept.set);
        }
        let set: Arc<Set> = Arc::new(wanted().map(|(name, value)| (name.as_ref().to_owned(), value.as_ref().to_owned())).collect());
        if known.sets.len() >= known.limit.max(FEW) {
            known.sets.retain(|_, kept| std::mem::take(&mut kept.used) || Arc::strong_count(&kept.set) > 1);
            known.limit = known.sets.len() * 2;
        }
        known.sets.insert(key, Kept { set: Arc::clone(&set), used: false });
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
    fn labels_that_are_not_used_any_more_do_not_pile_up() {
        let labels = Labels::default();
        let of = |pod: usize| labels.shared(&[(Cow::Borrowed("pod"), Cow::Owned(pod.to_string()))]);
        let kept = of(0);
        for pod in 1..10_000 {
            of(pod);
            assert!(Arc::ptr_eq(&of(0), &kept), "what is used at every instant is held once");
        }
        assert!(labels.known.lock().unwrap().sets.len() <= FEW);
        let held: Vec<_> = (1..1_000).map(of).collect();
        assert!((1..1_000).all(|pod| Arc::ptr_eq(&of(pod), &held[pod - 1])), "what an answer holds is shared with the next one");
    }
}
