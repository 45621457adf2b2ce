//! How fast chunks are sealed and opened, by suite, by what they hold, and as the end of the whole chain.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use zerocloud_crdt::{
    chunk::{Chunker, Gear},
    id::{EpochId, SpaceId},
    keys::{EpochSecret, Secret},
    manifest::Class,
    seal::{ChunkKeys, Compression, Opener, Sealer, Suite},
};

const CHUNK_LEN: usize = 256 << 10;

fn secret() -> EpochSecret {
    EpochSecret::new(SpaceId([1; 32]), EpochId([2; 32]), Secret::new([3; 32]))
}

fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    ChaCha20Rng::seed_from_u64(1).fill_bytes(&mut bytes);
    bytes
}

/// Our own source, again and again, with a number in each line: what compresses, though not to nothing.
fn text(len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + (64 << 10));
    for round in 0u64.. {
        if bytes.len() >= len {
            break;
        }
        for line in include_str!("../src/seal.rs").lines() {
            bytes.extend_from_slice(format!("{:x} {line}\n", round.wrapping_mul(0x9e37_79b9_7f4a_7c15)).as_bytes());
        }
    }
    bytes.truncate(len);
    bytes
}

fn chunks(c: &mut Criterion) {
    let keys = ChunkKeys::of_chunks(&secret());
    let mut rng = ChaCha20Rng::seed_from_u64(2);
    let mut group = c.benchmark_group("chunk of 256 KiB");
    group.throughput(Throughput::Bytes(CHUNK_LEN as u64));
    for (what, plaintext) in [("noise", noise(CHUNK_LEN)), ("text", text(CHUNK_LEN))] {
        for suite in Suite::ALL {
            let named = keys.name(&plaintext);
            let mut sealer = Sealer::new(suite, Compression::ON);
            let mut sealed = Vec::new();
            group.bench_function(format!("{suite:?}: seal {what}"), |b| {
                b.iter(|| black_box(sealer.seal_into(&named, &mut rng, &mut sealed)));
            });
            let mut opener = Opener::new();
            let mut opened = Vec::new();
            group.bench_function(format!("{suite:?}: open {what}, with its id"), |b| {
                b.iter(|| black_box(opener.open_into(&keys, &named.id(), &sealed, &mut opened)));
            });
        }
    }
    group.finish();
}

fn small_chunks(c: &mut Criterion) {
    let keys = ChunkKeys::of_chunks(&secret());
    let mut rng = ChaCha20Rng::seed_from_u64(2);
    let plaintext = noise(1000);
    for suite in Suite::ALL {
        let mut sealer = Sealer::new(suite, Compression::ON);
        let mut sealed = Vec::new();
        c.bench_function(&format!("{suite:?}: name and seal 1,000 bytes"), |b| {
            b.iter(|| black_box(sealer.seal_into(&keys.name(&plaintext), &mut rng, &mut sealed)));
        });
    }
}

fn chain(c: &mut Criterion) {
    let (gear, keys) = (Gear::of_epoch(&secret()), ChunkKeys::of_chunks(&secret()));
    let mut rng = ChaCha20Rng::seed_from_u64(2);
    let len = 64 << 20;
    let mut group = c.benchmark_group("cut, name, seal");
    group.throughput(Throughput::Bytes(len as u64)).sample_size(10);
    for (what, content) in [("noise", noise(len)), ("text", text(len))] {
        for suite in Suite::ALL {
            let mut sealer = Sealer::new(suite, Compression::ON);
            let mut sealed = Vec::new();
            group.bench_function(format!("{suite:?}: {what}"), |b| {
                b.iter(|| {
                    let mut sealed_len = 0;
                    Chunker::cut_whole(Class::Medium, &gear, &content, |chunk| {
                        if sealer.seal_into(&keys.name(chunk), &mut rng, &mut sealed).is_ok() {
                            sealed_len += sealed.len();
                        }
                    });
                    black_box(sealed_len)
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, chunks, small_chunks, chain);
criterion_main!(benches);
