//! Texts that are kept for merges.

use super::super::texts::TEXTS_LEN_MAX;
use super::*;

fn text(byte: u8, len: usize) -> (ContentHash, Vec<u8>) {
    (ContentHash([byte; 32]), vec![byte; len])
}

#[test]
fn the_oldest_texts_go_where_others_may_take_their_place() {
    let store = in_memory();
    let quarter = usize::try_from(TEXTS_LEN_MAX).unwrap() / 4;
    let put = |byte, len, if_full| {
        let (hash, text) = text(byte, len);
        store.write::<_, StoreError>(|write| write.put_text(hash, &text, if_full)).unwrap();
    };
    let kept = || -> Vec<u8> {
        let snapshot = store.snapshot().unwrap();
        let is_kept = |byte: &u8| {
            let read = snapshot.text(text(*byte, 0).0).unwrap();
            assert!(read.iter().flatten().all(|read| read == byte));
            assert_eq!(read.is_some(), snapshot.has_text(text(*byte, 0).0).unwrap());
            read.is_some()
        };
        (0..9).filter(is_kept).collect()
    };
    for byte in 0..4 {
        put(byte, quarter, IfFull::Leave);
    }
    assert_eq!(kept(), [0, 1, 2, 3]);
    put(4, 1, IfFull::Leave);
    assert_eq!(kept(), [0, 1, 2, 3]);
    // What is there already makes nothing go.
    put(0, quarter, IfFull::TakeOldest);
    assert_eq!(kept(), [0, 1, 2, 3]);
    put(4, quarter + 1, IfFull::TakeOldest);
    assert_eq!(kept(), [2, 3, 4]);
    put(5, 0, IfFull::Leave);
    put(6, quarter - 1, IfFull::Leave);
    assert_eq!(kept(), [2, 3, 4, 5, 6]);
    put(7, 4 * quarter + 1, IfFull::TakeOldest);
    assert_eq!(kept(), [2, 3, 4, 5, 6]);
    put(8, 4 * quarter, IfFull::TakeOldest);
    assert_eq!(kept(), [8]);
}

#[test]
fn a_store_from_before_there_were_texts_gets_their_tables() {
    let disk = crash::CrashDisk::default();
    let open = || SpaceStore::with_backend(disk.clone(), SPACE);
    drop(open().unwrap());
    let database = Builder::new().create_with_backend(disk.clone()).unwrap();
    let write = database.begin_write().unwrap();
    for table in [Table::Texts, Table::TextNumbers] {
        let table: redb::TableDefinition<'_, &[u8], &[u8]> = redb::TableDefinition::new(table.name());
        assert!(write.delete_table(table).unwrap());
    }
    write.commit().unwrap();
    drop(database);
    let (hash, text) = text(1, 10);
    open().unwrap().write::<_, StoreError>(|write| write.put_text(hash, &text, IfFull::Leave)).unwrap();
    assert_eq!(open().unwrap().snapshot().unwrap().text(hash).unwrap(), Some(text));
}
