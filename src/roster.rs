//! The watches of several namespaces as one: a list that one of them starts anew never makes the rollouts of another vanish, and what went while
//! nobody watched is told as any deletion. Keeps no rollout itself once every namespace has been listed.

use std::collections::{BTreeMap, BTreeSet};

use kube::runtime::watcher::Event;

use crate::card::Card;
use crate::stores::Rollouts;
use crate::tracker::Key;

/// Brings the events of several watches into one order for one store.
pub struct Roster {
    kept: Rollouts,
    scopes: Vec<Scope>,
    /// What has been told before every namespace was listed: a store takes one first list and no two.
    waiting: Option<BTreeMap<Key, Card>>,
}

struct Scope {
    namespace: Option<String>,
    listed: BTreeSet<Key>,
    is_listed: bool,
}

impl Scope {
    fn has(&self, key: &Key) -> bool {
        self.namespace.as_ref().is_none_or(|namespace| *namespace == key.namespace)
    }
}

impl Roster {
    /// For the store that takes the events, and a watch for each of `namespaces`, where `None` is all of them.
    pub fn new(kept: Rollouts, namespaces: &[Option<String>]) -> Self {
        let scope = |namespace: &Option<String>| Scope { namespace: namespace.clone(), listed: BTreeSet::new(), is_listed: false };
        Self { kept, scopes: namespaces.iter().map(scope).collect(), waiting: Some(BTreeMap::new()) }
    }

    /// What the store is to be told when the watch of the namespace at this position tells `event`.
    pub fn tell(&mut self, position: usize, event: Event<Card>) -> Vec<Event<Card>> {
        let Some(scope) = self.scopes.get_mut(position) else { return Vec::new() };
        match (event, &mut self.waiting) {
            (Event::Init, waiting) => {
                scope.listed.clear();
                if let Some(waiting) = waiting {
                    waiting.retain(|key, _| !scope.has(key));
                }
                Vec::new()
            }
            (Event::Apply(card) | Event::InitApply(card), Some(waiting)) => {
                waiting.insert(card.key(), card);
                Vec::new()
            }
            (Event::Delete(card), Some(waiting)) => {
                waiting.remove(&card.key());
                Vec::new()
            }
            (Event::InitDone, Some(_)) => {
                scope.is_listed = true;
                self.first_list()
            }
            (Event::InitApply(card), None) => {
                scope.listed.insert(card.key());
                vec![Event::Apply(card)]
            }
            (Event::InitDone, None) => {
                let listed = std::mem::take(&mut scope.listed);
                let gone = self.kept.state_filter(|card| scope.has(&card.key()) && !listed.contains(&card.key()));
                gone.iter().map(|card| Event::Delete(card.as_ref().clone())).collect()
            }
            (event @ (Event::Apply(_) | Event::Delete(_)), None) => vec![event],
        }
    }

    /// Everything that was told, as one list, once every namespace has been listed.
    fn first_list(&mut self) -> Vec<Event<Card>> {
        if !self.scopes.iter().all(|scope| scope.is_listed) {
            return Vec::new();
        }
        let waiting = self.waiting.take().unwrap_or_default();
        let all = waiting.into_values().map(Event::InitApply);
        std::iter::once(Event::Init).chain(all).chain(std::iter::once(Event::InitDone)).collect()
    }
}

#[cfg(test)]
mod tests {
    use kube::ResourceExt;
    use kube::runtime::reflector::store::Writer;
    use serde_json::json;

    use super::*;

    fn card(namespace: &str, name: &str) -> Card {
        let object =
            json!({"apiVersion": "espalier.dev/v1alpha1", "kind": "ModelRollout", "metadata": {"namespace": namespace, "name": name}});
        serde_json::from_value(object).unwrap()
    }

    struct Watches {
        roster: Roster,
        writer: Writer<Card>,
        gone: Vec<String>,
    }

    impl Watches {
        fn of(namespaces: &[Option<&str>]) -> Self {
            let writer: Writer<Card> = Writer::default();
            let namespaces: Vec<_> = namespaces.iter().map(|one| one.map(str::to_owned)).collect();
            Self { roster: Roster::new(writer.as_reader(), &namespaces), writer, gone: Vec::new() }
        }

        fn tell(&mut self, position: usize, event: Event<Card>) {
            for event in self.roster.tell(position, event) {
                if let Event::Delete(card) = &event {
                    self.gone.push(card.name_any());
                }
                self.writer.apply_watcher_event(&event);
            }
        }

        fn list(&mut self, position: usize, cards: &[Card]) {
            self.tell(position, Event::Init);
            for card in cards {
                self.tell(position, Event::InitApply(card.clone()));
            }
            self.tell(position, Event::InitDone);
        }

        fn kept(&self) -> Vec<String> {
            let mut kept: Vec<String> = self.writer.as_reader().state().iter().map(|card| card.name_any()).collect();
            kept.sort();
            kept
        }
    }

    #[test]
    fn a_namespace_that_is_listed_later_does_not_take_the_rollouts_of_another_away() {
        let mut watches = Watches::of(&[Some("one"), Some("two")]);
        watches.tell(0, Event::Init);
        watches.tell(1, Event::Init);
        watches.tell(1, Event::InitApply(card("two", "b")));
        watches.tell(0, Event::InitApply(card("one", "a")));
        watches.tell(0, Event::InitDone);
        assert_eq!(watches.kept(), Vec::<String>::new(), "nobody looks before everything is known");
        watches.tell(0, Event::Apply(card("one", "c")));
        watches.tell(0, Event::Delete(card("one", "a")));
        watches.tell(1, Event::InitDone);
        assert_eq!(watches.kept(), ["b", "c"]);
        // Much later one watch has to begin anew.
        watches.list(0, &[card("one", "c"), card("one", "d")]);
        assert_eq!(watches.kept(), ["b", "c", "d"]);
        assert_eq!(watches.gone, Vec::<String>::new());
    }

    #[test]
    fn what_was_deleted_while_nobody_watched_is_told_of_as_deleted() {
        let mut watches = Watches::of(&[Some("one"), Some("two")]);
        watches.list(0, &[card("one", "a"), card("one", "b")]);
        watches.list(1, &[card("two", "c")]);
        watches.list(0, &[card("one", "b")]);
        assert_eq!((watches.kept(), watches.gone), (vec!["b".to_owned(), "c".to_owned()], vec!["a".to_owned()]));
    }

    #[test]
    fn one_watch_of_all_namespaces_is_listed_as_it_is() {
        let mut watches = Watches::of(&[None]);
        watches.list(0, &[card("one", "a"), card("two", "b")]);
        assert_eq!(watches.kept(), ["a", "b"]);
        watches.tell(0, Event::Delete(card("one", "a")));
        watches.list(0, &[card("two", "b"), card("three", "c")]);
        assert_eq!((watches.kept(), watches.gone), (vec!["b".to_owned(), "c".to_owned()], vec!["a".to_owned()]));
    }
}
