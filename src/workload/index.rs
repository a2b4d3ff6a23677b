//! Objects of one kind as a watch reports them, found by name, namespace or group without a walk over all of them.
//! Talks to nobody. A list that starts anew replaces everything at once, so that nothing seems gone in between.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use kube::Resource;
use kube::runtime::watcher::Event;
use tokio::sync::watch;

/// What objects of a namespace have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// They carry the label of the rollout of this name.
    Rollout(String),
    /// They are the Service of this name, or its slices.
    Service(String),
}

/// Namespace and name.
type Place = (String, String);

struct Kept<K> {
    groups_of: fn(&K) -> Vec<Group>,
    objects: BTreeMap<Place, Arc<K>>,
    /// Names by namespace and group.
    groups: BTreeMap<(String, Group), BTreeSet<String>>,
}

/// The objects, for those who read them; clones show the same objects.
pub(super) struct Index<K> {
    kept: Arc<RwLock<Kept<K>>>,
    filled: watch::Receiver<bool>,
}

impl<K> Clone for Index<K> {
    fn clone(&self) -> Self {
        Self { kept: Arc::clone(&self.kept), filled: self.filled.clone() }
    }
}

/// Brings an index up to date; there is one for each index.
pub(super) struct Writer<K> {
    kept: Arc<RwLock<Kept<K>>>,
    /// A list that is not complete yet.
    coming: Kept<K>,
    filled: watch::Sender<bool>,
}

/// An empty index whose objects belong to the groups that `groups_of` names.
pub(super) fn index<K: Resource>(groups_of: fn(&K) -> Vec<Group>) -> (Index<K>, Writer<K>) {
    let kept = Arc::new(RwLock::new(Kept::new(groups_of)));
    let (sender, filled) = watch::channel(false);
    (Index { kept: Arc::clone(&kept), filled }, Writer { kept, coming: Kept::new(groups_of), filled: sender })
}

impl<K: Resource> Index<K> {
    /// Returns when the first list is complete; an error when nobody brings the index up to date any more.
    pub async fn ready(&self) -> Result<(), watch::error::RecvError> {
        self.filled.clone().wait_for(|filled| *filled).await.map(drop)
    }

    /// The object of this name.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.read(|kept| kept.objects.get(&(namespace.to_owned(), name.to_owned())).cloned())
    }

    /// Objects of a group, by name.
    pub fn group(&self, namespace: &str, group: Group) -> Vec<Arc<K>> {
        self.read(|kept| {
            let names = kept.groups.get(&(namespace.to_owned(), group));
            let places = names.into_iter().flatten().map(|name| (namespace.to_owned(), name.clone()));
            places.filter_map(|place| kept.objects.get(&place).cloned()).collect()
        })
    }

    /// Objects of a namespace, by name.
    pub fn namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        self.read(|kept| {
            let from = kept.objects.range((namespace.to_owned(), String::new())..);
            from.take_while(|((of, _), _)| of == namespace).map(|(_, object)| Arc::clone(object)).collect()
        })
    }

    fn read<T>(&self, what: impl FnOnce(&Kept<K>) -> T) -> T {
        what(&self.kept.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<K: Resource + Clone> Writer<K> {
    /// Takes an event over; returns whom it concerns, as namespace and group.
    ///
    /// After a list these are the differences from what was known, those included that went while nobody watched.
    pub fn apply(&mut self, event: &Event<K>) -> BTreeSet<(String, Group)> {
        let mut concerned = BTreeSet::new();
        match event {
            Event::Apply(object) => {
                let object = Arc::new(object.clone());
                let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
                // What changed its group concerns the old one too.
                let before = kept.put(Arc::clone(&object));
                concerned.extend(before.iter().chain([&object]).flat_map(|one| kept.groups(one)));
            }
            Event::Delete(object) => {
                let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
                let before = kept.take(&place(object));
                concerned.extend(kept.groups(object));
                concerned.extend(before.iter().flat_map(|one| kept.groups(one)));
            }
            Event::Init => self.coming = Kept::new(self.coming.groups_of),
            Event::InitApply(object) => drop(self.coming.put(Arc::new(object.clone()))),
            Event::InitDone => {
                let empty = Kept::new(self.coming.groups_of);
                let coming = std::mem::replace(&mut self.coming, empty);
                let before = {
                    let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
                    // Nobody looks before the first list is complete, so that it is news to no one.
                    if *self.filled.borrow() {
                        concerned = coming.differences(&kept);
                    }
                    std::mem::replace(&mut *kept, coming)
                };
                drop(before);
                self.filled.send_replace(true);
            }
        }
        concerned
    }
}

impl<K: Resource> Kept<K> {
    const fn new(groups_of: fn(&K) -> Vec<Group>) -> Self {
        Self { groups_of, objects: BTreeMap::new(), groups: BTreeMap::new() }
    }

    fn groups(&self, object: &K) -> Vec<(String, Group)> {
        let (namespace, _) = place(object);
        (self.groups_of)(object).into_iter().map(|group| (namespace.clone(), group)).collect()
    }

    fn put(&mut self, object: Arc<K>) -> Option<Arc<K>> {
        let place = place(object.as_ref());
        let before = self.take(&place);
        for key in self.groups(&object) {
            self.groups.entry(key).or_default().insert(place.1.clone());
        }
        self.objects.insert(place, object);
        before
    }

    fn take(&mut self, place: &Place) -> Option<Arc<K>> {
        let before = self.objects.remove(place)?;
        for key in self.groups(&before) {
            if let Some(names) = self.groups.get_mut(&key) {
                names.remove(&place.1);
                if names.is_empty() {
                    self.groups.remove(&key);
                }
            }
        }
        Some(before)
    }

    /// Groups of objects that are new, gone, or not in the version that `old` has.
    fn differences(&self, old: &Self) -> BTreeSet<(String, Group)> {
        let version = |object: &Arc<K>| object.meta().resource_version.clone();
        let differs = |place: &Place, object: &Arc<K>, other: &Self| other.objects.get(place).map(version) != Some(version(object));
        let ours = self.objects.iter().filter(|(place, object)| differs(place, object, old));
        let theirs = old.objects.iter().filter(|(place, object)| differs(place, object, self));
        ours.chain(theirs).flat_map(|(_, object)| self.groups(object)).collect()
    }
}

fn place<K: Resource>(object: &K) -> Place {
    let meta = object.meta();
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}
