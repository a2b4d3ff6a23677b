//! Objects of one kind as a watch reports them, found by name, namespace or group without a walk over all of them.
//! Talks to nobody. A list that starts anew replaces everything at once, so that nothing seems gone in between.
//!
//! Objects are kept as text: a Deployment of which ten fields are read takes two kilobytes as a struct and a tenth of that as text, and it is
//! read when its rollout is looked at, which is rare. Ten thousand texts of a kind say nearly the same, so that each is packed as what it says
//! beside the first ones.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, PoisonError, RwLock};

use kube::Resource;
use kube::runtime::watcher::Event;
use lz4_flex::block;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

/// What objects of a namespace have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// They carry the label of the rollout of this name.
    Rollout(String),
    /// They are the Service of this name, or its slices.
    Service(String),
    /// They are the route of this name.
    Route(String),
}

/// How objects of a kind are found.
pub(crate) struct Sorting<K> {
    /// The groups of an object.
    pub groups: fn(&K) -> Vec<Group>,
    /// A mark by which a reader passes over what it cannot want, see [`mark`]; 0 where nothing is known.
    pub mark: fn(&K) -> u64,
}

impl<K> Clone for Sorting<K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for Sorting<K> {}

impl<K> Sorting<K> {
    /// By groups alone.
    pub const fn by(groups: fn(&K) -> Vec<Group>) -> Self {
        Self { groups, mark: |_| 0 }
    }
}

/// The mark of a text: never 0, and the same for equal texts. Different texts may share one, so it only ever spares reading.
pub(crate) fn mark(text: &str) -> u64 {
    hash(text) | 1
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

struct Entry {
    /// Hash of the resource version.
    version: u64,
    mark: u64,
    text: Text,
}

/// An object as packed JSON.
#[derive(Clone)]
struct Text {
    packed: Arc<[u8]>,
    /// What it was packed with.
    like: Arc<[u8]>,
}

/// Bytes of texts that others are packed with: the first few of a kind show what all have in common.
const MOST_LIKE: usize = 16 * 1024;

impl Text {
    /// Packs a text beside those that came before it, and adds it to them while there is room.
    fn pack(text: &[u8], like: &mut Arc<[u8]>) -> Self {
        let packed = Self { packed: block::compress_prepend_size_with_dict(text, like).into(), like: Arc::clone(like) };
        if like.len() + text.len() <= MOST_LIKE {
            *like = [like, text].concat().into();
        }
        packed
    }

    /// What was written from an object of the same type can be read again, so that nothing is lost here.
    fn read<K: DeserializeOwned>(&self) -> Option<Arc<K>> {
        let text = block::decompress_size_prepended_with_dict(&self.packed, &self.like).ok()?;
        serde_json::from_slice(&text).ok().map(Arc::new)
    }
}

#[derive(Default)]
struct Namespace {
    objects: BTreeMap<Arc<str>, Entry>,
    groups: BTreeSet<(Group, Arc<str>)>,
}

struct Kept<K> {
    sorting: Sorting<K>,
    /// Texts that the next one is packed with.
    like: Arc<[u8]>,
    namespaces: BTreeMap<Arc<str>, Namespace>,
}

/// The objects, for those who read them; clones show the same objects.
pub(crate) struct Index<K> {
    kept: Arc<RwLock<Kept<K>>>,
    filled: watch::Receiver<bool>,
}

impl<K> Clone for Index<K> {
    fn clone(&self) -> Self {
        Self { kept: Arc::clone(&self.kept), filled: self.filled.clone() }
    }
}

/// Brings an index up to date; there is one for each index.
pub(crate) struct Writer<K> {
    kept: Arc<RwLock<Kept<K>>>,
    /// A list that is not complete yet.
    coming: Kept<K>,
    filled: watch::Sender<bool>,
}

/// An empty index whose objects are found as `sorting` says.
pub(crate) fn index<K>(sorting: Sorting<K>) -> (Index<K>, Writer<K>) {
    let kept = Arc::new(RwLock::new(Kept::new(sorting)));
    let (sender, filled) = watch::channel(false);
    (Index { kept: Arc::clone(&kept), filled }, Writer { kept, coming: Kept::new(sorting), filled: sender })
}

impl<K: DeserializeOwned> Index<K> {
    /// Returns when the first list is complete; an error when nobody brings the index up to date any more.
    pub async fn ready(&self) -> Result<(), watch::error::RecvError> {
        self.filled.clone().wait_for(|filled| *filled).await.map(drop)
    }

    /// The object of this name.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.see(|kept| Some(kept.namespaces.get(namespace)?.objects.get(name)?.text.clone()))?.read()
    }

    /// Objects of a group, by name.
    pub fn group(&self, namespace: &str, group: &Group) -> Vec<Arc<K>> {
        let texts = self.see(|kept| kept.group(namespace, group));
        texts.iter().filter_map(Text::read).collect()
    }

    /// Objects of a namespace whose mark is 0 or one of `marks`, by name, read one by one.
    pub fn marked(&self, namespace: &str, marks: &BTreeSet<u64>) -> impl Iterator<Item = Arc<K>> + use<K> {
        let wanted = |entry: &&Entry| entry.mark == 0 || marks.contains(&entry.mark);
        let texts: Vec<Text> = self.see(|kept| {
            let all = kept.namespaces.get(namespace).into_iter().flat_map(|kept| kept.objects.values());
            all.filter(wanted).map(|entry| entry.text.clone()).collect()
        });
        texts.into_iter().filter_map(|text| text.read())
    }

    /// How many objects there are and how many bytes their packed texts have.
    #[cfg(test)]
    pub fn size(&self) -> (usize, usize) {
        self.see(|kept| {
            let all = || kept.namespaces.values().flat_map(|one| one.objects.values());
            (all().count(), all().map(|entry| entry.text.packed.len()).sum())
        })
    }

    fn see<T>(&self, what: impl FnOnce(&Kept<K>) -> T) -> T {
        what(&self.kept.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<K: Resource + Serialize + DeserializeOwned> Writer<K> {
    /// Takes an event over; returns whom it concerns, as namespace and group.
    ///
    /// After a list these are the differences from what was known, those included that went while nobody watched.
    pub fn apply(&mut self, event: &Event<K>) -> BTreeSet<(String, Group)> {
        match event {
            Event::Apply(object) => {
                // What changed its group concerns the old one too.
                let before = self.kept.write().unwrap_or_else(PoisonError::into_inner).put(object);
                let (namespace, _) = place(object);
                before.into_iter().chain((self.coming.sorting.groups)(object)).map(|group| (namespace.to_owned(), group)).collect()
            }
            Event::Delete(object) => {
                let (namespace, name) = place(object);
                let before = self.kept.write().unwrap_or_else(PoisonError::into_inner).take(namespace, name);
                before.into_iter().chain((self.coming.sorting.groups)(object)).map(|group| (namespace.to_owned(), group)).collect()
            }
            Event::Init => {
                self.coming = Kept::new(self.coming.sorting);
                BTreeSet::new()
            }
            Event::InitApply(object) => {
                self.coming.put(object);
                BTreeSet::new()
            }
            Event::InitDone => self.replace(),
        }
    }

    fn replace(&mut self) -> BTreeSet<(String, Group)> {
        let empty = Kept::new(self.coming.sorting);
        let coming = std::mem::replace(&mut self.coming, empty);
        let (concerned, before) = {
            let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
            // Nobody looks before the first list is complete, so that it is news to no one.
            let concerned = if *self.filled.borrow() { coming.differences(&kept) } else { BTreeSet::new() };
            (concerned, std::mem::replace(&mut *kept, coming))
        };
        drop(before);
        self.filled.send_replace(true);
        concerned
    }
}

impl<K> Kept<K> {
    fn new(sorting: Sorting<K>) -> Self {
        Self { sorting, like: Arc::from([]), namespaces: BTreeMap::new() }
    }

    fn group(&self, namespace: &str, group: &Group) -> Vec<Text> {
        let Some(kept) = self.namespaces.get(namespace) else { return Vec::new() };
        let from = kept.groups.range((group.clone(), Arc::from(""))..);
        from.take_while(|(of, _)| of == group).filter_map(|(_, name)| kept.objects.get(name).map(|entry| entry.text.clone())).collect()
    }

    /// All objects, with their places.
    fn all(&self) -> impl Iterator<Item = ((&str, &str), &Entry)> {
        self.namespaces.iter().flat_map(|(namespace, kept)| kept.objects.iter().map(move |(name, entry)| ((&**namespace, &**name), entry)))
    }
}

impl<K: Resource + Serialize + DeserializeOwned> Kept<K> {
    /// Puts an object in the place of its predecessor; returns the groups that this one had.
    fn put(&mut self, object: &K) -> Vec<Group> {
        let (namespace, name) = place(object);
        let before = self.take(namespace, name);
        // What came out of JSON can be written as JSON.
        let Ok(text) = serde_json::to_vec(object) else { return before };
        let version = hash(object.meta().resource_version.as_deref().unwrap_or_default());
        let entry = Entry { version, mark: (self.sorting.mark)(object), text: Text::pack(&text, &mut self.like) };
        let kept = match self.namespaces.get_mut(namespace) {
            Some(kept) => kept,
            None => self.namespaces.entry(namespace.into()).or_default(),
        };
        let name: Arc<str> = name.into();
        for group in (self.sorting.groups)(object) {
            kept.groups.insert((group, Arc::clone(&name)));
        }
        kept.objects.insert(name, entry);
        before
    }

    /// Takes an object out; returns the groups that it had.
    fn take(&mut self, namespace: &str, name: &str) -> Vec<Group> {
        let groups = self.sorting.groups;
        let Some(kept) = self.namespaces.get_mut(namespace) else { return Vec::new() };
        let Some((name, entry)) = kept.objects.remove_entry(name) else { return Vec::new() };
        let had = entry.text.read().map(|before| groups(&before)).unwrap_or_default();
        for group in &had {
            kept.groups.remove(&(group.clone(), Arc::clone(&name)));
        }
        if kept.objects.is_empty() {
            self.namespaces.remove(namespace);
        }
        had
    }

    /// Groups of objects that are new, gone, or not in the version that `old` has.
    fn differences(&self, old: &Self) -> BTreeSet<(String, Group)> {
        let differs = |(namespace, name): (&str, &str), entry: &Entry, other: &Self| {
            other.namespaces.get(namespace).and_then(|kept| kept.objects.get(name)).is_none_or(|one| one.version != entry.version)
        };
        let ours = self.all().filter(|(place, entry)| differs(*place, entry, old));
        let theirs = old.all().filter(|(place, entry)| differs(*place, entry, self));
        let groups = |((namespace, _), entry): ((&str, &str), &Entry)| -> Vec<(String, Group)> {
            let groups = entry.text.read().map(|object| (self.sorting.groups)(&object)).unwrap_or_default();
            groups.into_iter().map(|group| (namespace.to_owned(), group)).collect()
        };
        ours.chain(theirs).flat_map(groups).collect()
    }
}

fn place<K: Resource>(object: &K) -> (&str, &str) {
    let meta = object.meta();
    (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
}
