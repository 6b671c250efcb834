//! Children by their controller's uid: looking up one owner's costs the same however many others there are.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use kube::runtime::watcher::Event;

use crate::facts::Uid;

/// All children of one kind, by controller and then by uid. Written by one watch, read by every pass; cloning shares it.
#[derive(Debug)]
pub struct Children<C> {
    inner: Arc<RwLock<Inner<C>>>,
}

/// The children of one controller, in the order of their uids.
pub type Family<C> = Vec<Arc<C>>;

#[derive(Debug)]
struct Inner<C> {
    by_controller: HashMap<Uid, BTreeMap<Uid, Arc<C>>>,
    controller_of: HashMap<Uid, Uid>,
    /// What a list has brought so far; it replaces everything when the list is complete.
    arriving: Option<Box<Inner<C>>>,
}

/// One thing that a watch said about a child: its uid, its controller's, and what is left of it.
#[derive(Debug, Clone)]
pub struct Sighting<C> {
    /// The child's own uid.
    pub uid: Uid,
    /// Its controller's uid.
    pub controller: Uid,
    /// The child itself.
    pub child: C,
}

impl<C> Clone for Children<C> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<C> Default for Children<C> {
    fn default() -> Self {
        Self { inner: Arc::default() }
    }
}

impl<C> Default for Inner<C> {
    fn default() -> Self {
        Self { by_controller: HashMap::new(), controller_of: HashMap::new(), arriving: None }
    }
}

impl<C> Children<C> {
    /// The children of one controller; empty when it has none.
    pub fn of(&self, controller: &Uid) -> Family<C> {
        self.read().by_controller.get(controller).map(|family| family.values().cloned().collect()).unwrap_or_default()
    }

    /// How many there are in all.
    pub fn len(&self) -> usize {
        self.read().controller_of.len()
    }

    /// Whether there are none at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes in one event of the watch, and says whether anything that is kept has changed by it.
    pub fn take_in(&self, event: Event<Sighting<C>>) -> bool
    where
        C: PartialEq,
    {
        let mut inner = self.write();
        match event {
            Event::Apply(seen) => inner.put(seen),
            Event::Delete(gone) => inner.remove(&gone.uid),
            Event::Init => {
                inner.arriving = Some(Box::default());
                false
            }
            Event::InitApply(seen) => {
                if let Some(arriving) = &mut inner.arriving {
                    arriving.put(seen);
                }
                false
            }
            Event::InitDone => {
                let arrived = inner.arriving.take();
                arrived.map(|arrived| *inner = *arrived).is_some()
            }
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner<C>> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner<C>> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C> Inner<C> {
    fn put(&mut self, Sighting { uid, controller, child }: Sighting<C>) -> bool
    where
        C: PartialEq,
    {
        let known = self.by_controller.get(&controller).and_then(|family| family.get(&uid));
        if known.is_some_and(|known| **known == child) {
            return false;
        }
        if self.controller_of.get(&uid).is_some_and(|known| *known != controller) {
            self.remove(&uid);
        }
        self.controller_of.insert(uid.clone(), controller.clone());
        self.by_controller.entry(controller).or_default().insert(uid, Arc::new(child));
        true
    }

    fn remove(&mut self, uid: &Uid) -> bool {
        let Some(controller) = self.controller_of.remove(uid) else { return false };
        let Some(family) = self.by_controller.get_mut(&controller) else { return false };
        family.remove(uid);
        if family.is_empty() {
            self.by_controller.remove(&controller);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(uid: &str, controller: &str, child: &'static str) -> Sighting<&'static str> {
        Sighting { uid: uid.into(), controller: controller.into(), child }
    }

    fn names(children: &Children<&'static str>, controller: &str) -> Vec<&'static str> {
        children.of(&controller.into()).iter().map(|child| **child).collect()
    }

    #[test]
    fn children_are_found_by_their_controller_alone() {
        let children = Children::default();
        children.take_in(Event::Apply(seen("u1", "owner-a", "first")));
        children.take_in(Event::Apply(seen("u2", "owner-b", "second")));
        children.take_in(Event::Apply(seen("u1", "owner-a", "first, changed")));
        assert_eq!(names(&children, "owner-a"), ["first, changed"]);
        assert_eq!(names(&children, "owner-b"), ["second"]);
        assert_eq!(children.len(), 2);
    }

    #[test]
    fn only_what_changes_something_is_news() {
        let children = Children::default();
        assert!(children.take_in(Event::Apply(seen("u1", "owner-a", "first"))));
        assert!(!children.take_in(Event::Apply(seen("u1", "owner-a", "first"))));
        assert!(children.take_in(Event::Apply(seen("u1", "owner-a", "changed"))));
        assert!(children.take_in(Event::Delete(seen("u1", "owner-a", "changed"))));
        assert!(!children.take_in(Event::Delete(seen("u1", "owner-a", "changed"))));
    }

    #[test]
    fn a_deleted_child_is_forgotten_and_leaves_nothing_behind() {
        let children = Children::default();
        children.take_in(Event::Apply(seen("u1", "owner-a", "first")));
        children.take_in(Event::Delete(seen("u1", "owner-a", "first")));
        children.take_in(Event::Delete(seen("u9", "owner-z", "never seen")));
        assert!(children.is_empty());
        assert!(children.read().by_controller.is_empty(), "an empty family would be kept for every run there ever was");
    }

    #[test]
    fn a_new_list_replaces_what_was_known_but_only_once_it_is_whole() {
        let children = Children::default();
        children.take_in(Event::Apply(seen("u1", "owner-a", "old")));
        children.take_in(Event::Init);
        children.take_in(Event::InitApply(seen("u2", "owner-a", "new")));
        assert_eq!(names(&children, "owner-a"), ["old"], "half a list would look like lost children");
        children.take_in(Event::InitDone);
        assert_eq!(names(&children, "owner-a"), ["new"]);
    }

    #[test]
    fn a_child_that_changes_its_controller_leaves_the_old_one() {
        let children = Children::default();
        children.take_in(Event::Apply(seen("u1", "owner-a", "moved")));
        children.take_in(Event::Apply(seen("u1", "owner-b", "moved")));
        assert!(names(&children, "owner-a").is_empty());
        assert_eq!(names(&children, "owner-b"), ["moved"]);
    }
}
