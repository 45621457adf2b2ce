//! Items whose view may differ from base: which of them are planned now, and which with the next batch.

use std::collections::BTreeSet;

use zerocloud_crdt::id::FileId;

/// See the module. In the order of their ids, as the store has them.
#[derive(Debug, Default)]
pub(super) struct Ready {
    now: BTreeSet<FileId>,
    /// Before those of `now`: others wait for them, or they waited for what is done. Without an order, nearly all files of
    /// a large tree would be found to wait for directories before the first of these is made.
    first: BTreeSet<FileId>,
    /// Of which it is known that something is to be done on the disk: they are planned again when it can be done.
    put_off: BTreeSet<FileId>,
}

impl Ready {
    /// An item is to be planned.
    pub(super) fn insert(&mut self, item: FileId) {
        if !self.put_off.contains(&item) && !self.first.contains(&item) {
            self.now.insert(item);
        }
    }

    /// An item is to be planned before others.
    pub(super) fn insert_first(&mut self, item: FileId) {
        if !self.put_off.contains(&item) {
            self.now.remove(&item);
            self.first.insert(item);
        }
    }

    /// Several are.
    pub(super) fn extend<'a>(&mut self, items: impl IntoIterator<Item = &'a FileId>) {
        items.into_iter().for_each(|item| self.insert(*item));
    }

    /// Something is to be done for an item, by the next batch.
    pub(super) fn put_off(&mut self, item: FileId) {
        self.remove(&item);
        self.put_off.insert(item);
    }

    /// For those of `items` that are to be planned now, something is.
    pub(super) fn put_off_ready(&mut self, items: &BTreeSet<FileId>) {
        for item in items {
            if self.now.remove(item) | self.first.remove(item) {
                self.put_off.insert(*item);
            }
        }
    }

    /// An item is not to be planned any more.
    pub(super) fn remove(&mut self, item: &FileId) {
        self.now.remove(item);
        self.first.remove(item);
        self.put_off.remove(item);
    }

    /// `count` to be planned now.
    pub(super) fn first(&self, count: usize) -> BTreeSet<FileId> {
        self.first.iter().chain(&self.now).take(count).copied().collect()
    }

    /// `count` to be planned for a batch: what is known to need one comes first, so that it does much.
    pub(super) fn first_of_batch(&self, count: usize) -> BTreeSet<FileId> {
        self.put_off.iter().chain(&self.first).chain(&self.now).take(count).copied().collect()
    }

    /// Whether there is something to be planned now.
    pub(super) fn is_now(&self) -> bool {
        !self.now.is_empty() || !self.first.is_empty()
    }

    /// How many are to be planned, now or with the next batch.
    pub(super) fn len(&self) -> usize {
        self.now.len() + self.first.len() + self.put_off.len()
    }

    /// Whether nothing is to be planned, now or with the next batch.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items<const N: usize>(of: [u8; N]) -> BTreeSet<FileId> {
        of.map(|n| FileId([n; 16])).into()
    }

    #[test]
    fn what_others_wait_for_comes_before_the_rest_and_what_needs_a_batch_before_both() {
        let mut ready = Ready::default();
        ready.extend(&items([1, 2, 3, 4, 5]));
        ready.insert_first(FileId([4; 16]));
        ready.insert(FileId([4; 16]));
        assert_eq!((ready.first(1), ready.first(2), ready.len()), (items([4]), items([4, 1]), 5));
        ready.put_off_ready(&items([4, 5, 6]));
        assert_eq!((ready.first(9), ready.first_of_batch(3)), (items([1, 2, 3]), items([4, 5, 1])));
        // It is planned with the batch, and not once more before.
        ready.insert_first(FileId([5; 16]));
        ready.put_off(FileId([3; 16]));
        assert_eq!((ready.first(9), ready.len()), (items([1, 2]), 5));
        items([1, 2, 3, 4]).iter().for_each(|item| ready.remove(item));
        assert!(!ready.is_now() && !ready.is_empty());
        ready.remove(&FileId([5; 16]));
        assert!(ready.is_empty());
    }
}
