//! Measures what a link costs: two endpoints over loopback in this process.
//!
//! `link_throughput [MIB [IDLE_SECONDS]]`: sends MIB (1024) mebibytes over one stream and then over eight, and prints
//! MiB/s and the process's CPU seconds for both ends together; then holds the connection idle (30 s, 0 for none), with
//! and without the search for peers on the LAN. Linux only, for it reads `/proc/self/stat`.
#![allow(clippy::print_stdout, reason = "a measurement is printed")]

use std::error::Error;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zerocloud::link::iroh::{Bind, IrohLink, IrohSettings};
use zerocloud::link::{Admission, Conn, Link, Protocol, RecvStream, StreamKind};
use zerocloud_crdt::keys::{DeviceKeys, Secret};

type AnyError = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), AnyError> {
    let mut args = std::env::args().skip(1);
    let mib: usize = args.next().map_or(Ok(1024), |arg| arg.parse())?;
    let idle_s: u64 = args.next().map_or(Ok(30), |arg| arg.parse())?;

    let (one, two, near, far) = connected(false).await?;
    for warning in one.warnings() {
        println!("warning: {warning}");
    }
    for stream_count in [1, 8] {
        let (start, cpu_before_s) = (Instant::now(), cpu_s()?);
        transfer(&near, &far, stream_count, mib << 20).await?;
        let (elapsed, cpu) = (start.elapsed().as_secs_f64(), cpu_s()? - cpu_before_s);
        println!(
            "{stream_count} streams: {mib} MiB in {elapsed:.2} s, {:.0} MiB/s, {cpu:.2} CPU-s ({:.2} per GiB)",
            mib as f64 / elapsed,
            cpu * 1024.0 / mib as f64,
        );
    }
    println!("path: {:?}", near.path());
    if idle_s > 0 {
        println!("idle for {idle_s} s: {:.2} CPU-s", idle(idle_s).await?);
        one.close().await;
        two.close().await;
        let _held = connected(true).await?;
        println!("idle for {idle_s} s, looking on the LAN: {:.2} CPU-s", idle(idle_s).await?);
    }
    Ok(())
}

async fn connected(lan: bool) -> Result<(IrohLink, IrohLink, Conn, Conn), AnyError> {
    let settings = IrohSettings { bind: Bind::Address(([127, 0, 0, 1], 0).into()), relays: Vec::new(), lan };
    let keys = |seed| DeviceKeys::from_seed(Secret::new([seed; 32]));
    let everyone = Admission::new(|_, _| true);
    let one = IrohLink::open(&keys(1), settings.clone(), everyone.clone()).await?;
    let two = IrohLink::open(&keys(2), settings, everyone).await?;
    let hints = two.addresses();
    let (near, far) = tokio::join!(one.dial(two.id(), Protocol::Sync, &hints), two.accept());
    Ok((one, two, near?, far.ok_or("the link was closed")?))
}

async fn transfer(near: &Conn, far: &Conn, stream_count: usize, len: usize) -> Result<(), AnyError> {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..stream_count {
        let (mut send, recv) = near.open_bi(StreamKind::Chunk).await?;
        send.write_u8(0).await?;
        let (far_send, mut far_recv) = far.accept_bi().await?;
        far_recv.read_u8().await?;
        tasks.spawn(async move {
            let _held = recv;
            let message = vec![7; 1 << 20];
            for _ in 0..len / stream_count / message.len() {
                send.write_all(&message).await?;
            }
            send.shutdown().await?;
            Ok::<_, AnyError>(())
        });
        tasks.spawn(async move {
            let _held = far_send;
            drain(far_recv, len / stream_count).await
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

async fn drain(mut recv: RecvStream, expected_len: usize) -> Result<(), AnyError> {
    let mut buffer = vec![0; 256 << 10];
    let mut read_len = 0;
    loop {
        match recv.read(&mut buffer).await? {
            0 if read_len == expected_len => return Ok(()),
            0 => return Err(format!("{read_len} of {expected_len} bytes came").into()),
            len => read_len += len,
        }
    }
}

async fn idle(seconds: u64) -> Result<f64, AnyError> {
    let before_s = cpu_s()?;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    Ok(cpu_s()? - before_s)
}

/// User and system time of this process, in seconds (proc(5): fields 14 and 15, in ticks of 10 ms).
fn cpu_s() -> Result<f64, AnyError> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, after_name) = stat.rsplit_once(')').ok_or("no name in /proc/self/stat")?;
    let mut ticks = 0;
    for field in after_name.split_whitespace().skip(11).take(2) {
        ticks += field.parse::<u64>()?;
    }
    Ok(ticks as f64 / 100.0)
}
