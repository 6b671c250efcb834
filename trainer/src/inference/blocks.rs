//! Which block of the cache belongs to whom. A block holds the keys and values of [`BLOCK`] tokens; a full one has a name, the digest of its tokens and
//! of all before them, under which later requests find it. What nobody uses any more stays, until its room is needed: the longest unused goes first.

use std::collections::{BTreeMap, HashMap};

use sha2::{Digest, Sha256};

/// Tokens a block: small enough that little of a shared beginning is lost at its end, large enough that tables stay short.
pub const BLOCK: usize = 16;

/// A block's place in the cache.
pub(super) type BlockId = u32;

/// The digest of a full block's tokens and of all blocks before it.
pub(super) type Name = [u8; 32];

/// The name of a full block after the block named `before`; the first has none before it.
pub(super) fn name(before: Option<&Name>, tokens: &[u32]) -> Name {
    let mut hash = Sha256::new();
    hash.update(before.unwrap_or(&[0; 32]));
    tokens.iter().for_each(|token| hash.update(token.to_le_bytes()));
    hash.finalize().into()
}

#[derive(Debug, Clone, Default)]
struct Block {
    users: u32,
    name: Option<Name>,
    /// When it fell idle: its key in `idle`.
    since: u64,
}

/// All blocks of a cache.
#[derive(Debug)]
pub(super) struct Blocks {
    all: Vec<Block>,
    /// Unused and without a name.
    free: Vec<BlockId>,
    /// Unused, and still to be found by their names, in the order in which they fell idle.
    idle: BTreeMap<u64, BlockId>,
    named: HashMap<Name, BlockId>,
    clock: u64,
    evicted: u64,
}

impl Blocks {
    /// So many blocks, all free.
    pub(super) fn new(count: u32) -> Self {
        let (all, free) = (vec![Block::default(); count as usize], (0..count).rev().collect());
        Self { all, free, idle: BTreeMap::new(), named: HashMap::new(), clock: 0, evicted: 0 }
    }

    /// How many can be taken.
    pub(super) fn available(&self) -> usize {
        self.free.len() + self.idle.len()
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.all.len()
    }

    /// How many lost their name to make room.
    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }

    /// A block for new tokens, with one user.
    pub(super) fn take(&mut self) -> Option<BlockId> {
        let id = self.free.pop().or_else(|| self.evict())?;
        self.block(id).users = 1;
        Some(id)
    }

    /// The block of this name, with one user more.
    pub(super) fn share(&mut self, name: &Name) -> Option<BlockId> {
        let id = *self.named.get(name)?;
        let block = self.block(id);
        block.users += 1;
        if block.users == 1 {
            let since = block.since;
            self.idle.remove(&since);
        }
        Some(id)
    }

    /// Gives a block that has been filled its name. One that came first keeps it.
    pub(super) fn give_name(&mut self, id: BlockId, name: Name) {
        if !self.named.contains_key(&name) && self.block(id).name.is_none() {
            self.named.insert(name, id);
            self.block(id).name = Some(name);
        }
    }

    /// Takes away one user of each block. The last ones fall idle first, so that beginnings, which more requests share, stay the longest.
    pub(super) fn release(&mut self, ids: &[BlockId]) {
        for id in ids.iter().rev() {
            self.clock += 1;
            let now = self.clock;
            let block = self.block(*id);
            block.users = block.users.saturating_sub(1);
            if block.users > 0 {
                continue;
            }
            block.since = now;
            if block.name.is_some() {
                self.idle.insert(now, *id);
            } else {
                self.free.push(*id);
            }
        }
    }

    fn evict(&mut self) -> Option<BlockId> {
        let (_, id) = self.idle.pop_first()?;
        if let Some(name) = self.block(id).name.take() {
            self.named.remove(&name);
        }
        self.evicted += 1;
        Some(id)
    }

    fn block(&mut self, id: BlockId) -> &mut Block {
        &mut self.all[id as usize]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn named(number: u8) -> Name {
        name(None, &[u32::from(number)])
    }

    #[test]
    fn a_name_depends_on_every_token_and_on_all_before() {
        let first = name(None, &[1, 2]);
        for other in [name(None, &[2, 1]), name(None, &[1, 3]), name(Some(&first), &[1, 2])] {
            assert_ne!(first, other);
        }
        assert_eq!(first, name(None, &[1, 2]));
    }

    #[test]
    fn what_was_released_is_found_by_its_name_until_its_room_is_needed() {
        let mut blocks = Blocks::new(2);
        let (first, second) = (blocks.take().unwrap(), blocks.take().unwrap());
        blocks.give_name(first, named(1));
        blocks.give_name(second, named(2));
        blocks.release(&[first, second]);
        assert_eq!(blocks.share(&named(1)), Some(first));
        assert_eq!(blocks.take(), Some(second), "the other one is idle");
        assert_eq!((blocks.share(&named(2)), blocks.take(), blocks.evicted()), (None, None, 1));
    }

    #[test]
    fn the_end_of_a_sequence_is_given_up_before_its_beginning() {
        let mut blocks = Blocks::new(3);
        let ids: Vec<_> = (0..3).map(|_| blocks.take().unwrap()).collect();
        (1..).zip(&ids).for_each(|(number, id)| blocks.give_name(*id, named(number)));
        blocks.release(&ids);
        assert_eq!((blocks.take(), blocks.take()), (Some(ids[2]), Some(ids[1])));
        assert_eq!(blocks.share(&named(1)), Some(ids[0]));
    }

    /// What users do with blocks.
    #[derive(Debug, Clone)]
    enum Deed {
        Take,
        Share(u8),
        Name(usize, u8),
        Release(usize),
    }

    fn deed() -> impl Strategy<Value = Deed> {
        prop_oneof![
            3 => Just(Deed::Take),
            2 => (0..12u8).prop_map(Deed::Share),
            2 => (any::<usize>(), 0..12u8).prop_map(|(at, name)| Deed::Name(at, name)),
            3 => any::<usize>().prop_map(Deed::Release),
        ]
    }

    proptest! {
        #[test]
        fn a_block_has_one_owner_unless_it_is_shared_by_name_and_is_freed_once(deeds in prop::collection::vec(deed(), 1..200)) {
            let mut blocks = Blocks::new(6);
            let mut held: Vec<BlockId> = Vec::new();
            let mut content: HashMap<BlockId, u8> = HashMap::new();
            for deed in deeds {
                match deed {
                    Deed::Take => if let Some(id) = blocks.take() {
                        prop_assert!(!held.contains(&id), "block {id} was in use");
                        content.remove(&id);
                        held.push(id);
                    } else {
                        prop_assert_eq!(held.iter().collect::<std::collections::HashSet<_>>().len(), 6);
                    },
                    Deed::Share(number) => if let Some(id) = blocks.share(&named(number)) {
                        prop_assert_eq!(content.get(&id), Some(&number), "block {} has other tokens", id);
                        held.push(id);
                    },
                    Deed::Name(at, number) if !held.is_empty() => {
                        let id = held[at % held.len()];
                        blocks.give_name(id, named(number));
                        // The first name, and the first block of a name, stay.
                        if !content.contains_key(&id) && !content.values().any(|other| *other == number) {
                            content.insert(id, number);
                        }
                    }
                    Deed::Release(at) if !held.is_empty() => {
                        let id = held.swap_remove(at % held.len());
                        blocks.release(&[id]);
                    }
                    _ => {}
                }
                let used = held.iter().collect::<std::collections::HashSet<_>>().len();
                prop_assert_eq!(blocks.available() + used, 6);
            }
            blocks.release(&held);
            prop_assert_eq!(blocks.available(), 6);
        }
    }
}
