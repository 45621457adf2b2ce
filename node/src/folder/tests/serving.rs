//! What members may ask of a folder, and what it costs.

use std::sync::atomic::{AtomicUsize, Ordering};

use zerocloud_crdt::id::{ChunkId, EpochId, FileId, OpId};
use zerocloud_crdt::wire::{Ask, What, Whereabouts};

use super::*;
use crate::engine::fetch::Lack;
use crate::session::chunks::ChunkSource;
use crate::volume::Volume;

/// What serves a device's folder, beside the device itself.
struct Served {
    chunks: FolderChunks,
    /// How often the disk was turned to.
    opened_count: Arc<AtomicUsize>,
    told: mpsc::Receiver<Message>,
}

fn serve(device: &Device, founding: &Founding) -> Served {
    let (opened_count, path) = (Arc::<AtomicUsize>::default(), device.path().to_path_buf());
    let counter = opened_count.clone();
    let open = move || {
        counter.fetch_add(1, Ordering::SeqCst);
        Ok(Arc::new(LinuxVolume::open(&path)?) as Arc<dyn Volume>)
    };
    let (folder, told) = mpsc::channel();
    let (keyring, suite) = (Arc::new(Keyring::new(&founding.secret, [])), zerocloud_crdt::seal::Suite::fastest());
    let clock = Arc::new(SystemClock::new());
    let chunks =
        FolderChunks::over(device.store.clone(), Box::new(open), clock, keyring, suite, folder, Arc::default());
    Served { chunks, opened_count, told }
}

/// What to ask for the one chunk of the one file of a folder.
fn ask_for(device: &Device) -> Ask {
    let snapshot = device.store.snapshot().unwrap();
    let (file, item) = snapshot.items_after(None, 1).unwrap().remove(0);
    let (op, content) = item.content.first_key_value().unwrap();
    let Content::File(file_content) = content else { panic!("no file") };
    let no_pages = |_: &_| Err::<Vec<u8>, _>(());
    let chunk = file_content.manifest.chunks(no_pages).unwrap()[0];
    let at = Whereabouts { file, op: *op, ordinal: 0, offset: 0, len: chunk.len };
    Ask { what: What::Chunk, epoch: chunk.epoch, id: chunk.id, at: Some(at) }
}

async fn with_file(founding: &Founding, content: &[u8]) -> Device {
    let link = MemoryNet::new().join(founding.keys[0].id(), Admission::new(|_, _| true));
    let device = Device::start(founding, 0, Arc::new(link));
    std::fs::write(device.path().join("file"), content).unwrap();
    device.folder.rescan().await.unwrap();
    device
}

#[tokio::test(flavor = "multi_thread")]
async fn threat_32_what_a_space_does_not_have_is_refused_without_a_look_at_the_disk() {
    let (founding, other_founding) = (founding(1, 201), founding(1, 202));
    let (device, other) = (with_file(&founding, b"content").await, with_file(&other_founding, b"content").await);
    let (ask, foreign) = (ask_for(&device), ask_for(&other));
    assert_ne!((ask.id, ask.epoch), (foreign.id, foreign.epoch), "the same bytes have another id in another space");
    let at = ask.at.unwrap();

    let served = serve(&device, &founding);
    let elsewhere = |at| Ask { at, ..ask };
    for refused in [
        foreign,
        elsewhere(None),
        elsewhere(Some(Whereabouts { file: FileId([9; 16]), ..at })),
        elsewhere(Some(Whereabouts { op: OpId { counter: 77, ..at.op }, ..at })),
        Ask { what: What::Page, ..ask },
        Ask { what: What::Page, ..foreign },
    ] {
        assert_eq!(served.chunks.sealed(&refused), Err(Lack::Missing), "{refused:?}");
    }
    assert_eq!(served.opened_count.load(Ordering::SeqCst), 0, "the disk was not turned to");
    assert!(served.told.try_recv().is_err(), "the folder was not made to scan");
    assert!(served.chunks.sealed(&ask).is_ok());

    // The right file, and what is not in it: an id of another space, an unknown one, another epoch.
    for wrong in [
        Ask { id: foreign.id, ..ask },
        Ask { id: foreign.id, epoch: foreign.epoch, ..ask },
        Ask { id: ChunkId([7; 32]), ..ask },
        Ask { epoch: EpochId([7; 32]), ..ask },
    ] {
        assert!(served.chunks.sealed(&wrong).is_err(), "{wrong:?}");
    }

    // A version that is neither shown nor kept any more.
    std::fs::write(device.path().join("file"), b"another content").unwrap();
    device.folder.rescan().await.unwrap();
    let served = serve(&device, &founding);
    assert_eq!(served.chunks.sealed(&ask), Err(Lack::Missing));
    assert_eq!(served.opened_count.load(Ordering::SeqCst), 0);
    assert!(served.chunks.sealed(&ask_for(&device)).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn threat_44_however_much_is_asked_in_vain_one_message_waits_for_the_folder() {
    let founding = founding(1, 203);
    let device = with_file(&founding, b"content").await;
    let (served, ask) = (serve(&device, &founding), ask_for(&device));
    for n in 0..200 {
        assert_eq!(served.chunks.sealed(&Ask { id: ChunkId([n; 32]), ..ask }), Err(Lack::NotNow));
    }
    let Ok(Message::Changed(suspects)) = served.told.try_recv() else { panic!("the folder is not told") };
    assert!(served.told.try_recv().is_err());
    assert_eq!(suspects.take(), [ask.at.unwrap().file].into());
    // What was looked at may be told again.
    assert_eq!(served.chunks.sealed(&Ask { id: ChunkId([1; 32]), ..ask }), Err(Lack::NotNow));
    assert!(matches!(served.told.try_recv(), Ok(Message::Changed(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn threat_28_two_of_one_home_seal_the_same_chunk_under_salts_of_their_own() {
    let founding = founding(1, 204);
    let device = with_file(&founding, b"content").await;
    let ask = ask_for(&device);
    // Each is the program started anew over the same store, keys and folder, as on a copied home.
    let sealed: BTreeSet<Vec<u8>> = (0..50)
        .map(|_| {
            let sealed = serve(&device, &founding).chunks.sealed(&ask).unwrap();
            // Behind format and suite: the salt, or nonce, of at least 24 bytes.
            sealed[2..26].to_vec()
        })
        .collect();
    assert_eq!(sealed.len(), 50);
}
