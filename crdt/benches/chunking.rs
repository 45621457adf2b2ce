//! How fast content is cut and named, and how fast its chunks are listed.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use zerocloud_crdt::{
    chunk::{CHUNKER, Chunker, Content, Gear, Namer},
    id::{EpochId, SpaceId},
    keys::{EpochSecret, Secret},
    manifest::{Chunk, Class, ManifestBuilder, Profile},
    seal::ChunkKeys,
};

const MIB: usize = 1 << 20;

fn secret() -> EpochSecret {
    EpochSecret::new(SpaceId([1; 32]), EpochId([2; 32]), Secret::new([3; 32]))
}

fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    ChaCha20Rng::seed_from_u64(1).fill_bytes(&mut bytes);
    bytes
}

fn cutting(c: &mut Criterion) {
    let gear = Gear::of_epoch(&secret());
    let content = noise(64 * MIB);
    let mut group = c.benchmark_group("cut");
    group.throughput(Throughput::Bytes(content.len() as u64)).sample_size(10);
    for class in [Class::Small, Class::Medium, Class::Large] {
        group.bench_function(format!("{class:?}, whole"), |b| {
            b.iter(|| Chunker::cut_whole(class, &gear, &content, |chunk| _ = black_box(chunk.len())));
        });
        for buffer_len in [64 << 10, MIB, 8 * MIB] {
            group.bench_function(format!("{class:?}, buffers of {} KiB", buffer_len >> 10), |b| {
                b.iter(|| {
                    let mut chunker = Chunker::new(class, &gear);
                    for buffer in content.chunks(buffer_len) {
                        chunker.update(buffer, |chunk| _ = black_box(chunk.len()));
                    }
                    chunker.finish(|chunk| _ = black_box(chunk.len()));
                });
            });
        }
    }
    group.finish();
    c.bench_function("gear table of an epoch", |b| {
        let secret = secret();
        b.iter(|| black_box(Gear::of_epoch(&secret)));
    });
}

fn scanning(c: &mut Criterion) {
    let (gear, keys) = (Gear::of_epoch(&secret()), ChunkKeys::of_chunks(&secret()));
    let content = noise(64 * MIB);
    let mut group = c.benchmark_group("cut, content hash and ids");
    group.throughput(Throughput::Bytes(content.len() as u64)).sample_size(10);
    for class in [Class::Small, Class::Medium, Class::Large] {
        let profile = Profile { chunker: CHUNKER, class, epoch: secret().epoch };
        group.bench_function(format!("{class:?}, buffers of 8 MiB"), |b| {
            b.iter(|| {
                let mut hasher = blake3::Hasher::new();
                let mut chunker = Chunker::new(profile.class, &gear);
                let mut namer = Namer::new(|chunk: &[u8]| keys.chunk(chunk));
                for buffer in content.chunks(8 * MIB) {
                    hasher.update(buffer);
                    namer.update(buffer, &chunker.update_lens(buffer));
                }
                black_box((hasher.finalize(), namer.finish(&chunker.finish_lens())))
            });
        });
    }
    let small = noise(4 << 10);
    let profile = Profile { chunker: CHUNKER, class: Class::Single, epoch: secret().epoch };
    group.throughput(Throughput::Bytes(small.len() as u64));
    group.bench_function("a file of 4 KiB", |b| {
        b.iter(|| black_box(Content::of(&profile, &gear, |chunk| keys.chunk(chunk), &small)));
    });
    group.finish();
}

fn listing(c: &mut Criterion) {
    let keys = ChunkKeys::of_pages(&secret());
    let profile = Profile { chunker: CHUNKER, class: Class::Large, epoch: secret().epoch };
    let chunks: Vec<Chunk> = (0..100_000u32).map(|i| Chunk { len: 1 << 20, ..keys.chunk(&i.to_le_bytes()) }).collect();
    let build = || ManifestBuilder::build(profile, chunks.iter().copied(), |page: &[u8]| (keys.id(page), keys.epoch()));
    let Ok((manifest, pages)) = build() else { unreachable!("these chunks are of the profile's class") };
    let mut group = c.benchmark_group("manifest of 100,000 chunks");
    group.throughput(Throughput::Elements(chunks.len() as u64)).sample_size(10);
    group.bench_function("build", |b| b.iter(|| black_box(build().is_ok())));
    group.bench_function("read", |b| {
        b.iter(|| {
            let source = |address: &_| find(&pages, address);
            black_box(manifest.chunks(source).map(|chunks| chunks.len()))
        });
    });
    group.finish();
}

fn find(
    pages: &[zerocloud_crdt::manifest::BuiltPage],
    address: &zerocloud_crdt::manifest::PageAddress,
) -> Result<Vec<u8>, &'static str> {
    pages.iter().find(|page| page.id == address.id).map(|page| page.plaintext.clone()).ok_or("missing")
}

criterion_group!(benches, cutting, scanning, listing);
criterion_main!(benches);
