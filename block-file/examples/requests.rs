//! Prints requests per second on one file, and what they cost:
//! `requests FILE writeback|none auto|sync|io_uring LEN DEPTH COUNT read|write`.
#![allow(missing_docs)]

use std::sync::Arc;
use std::time::Instant;

use block_core::{CacheMode, Options, ProtocolDriver, StorageAccess, StorageOptions};
use block_file::FileProtocol;

fn cpu() -> f64 {
    let usage = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = usage.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks / 100.0
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let cache = if words[1] == "none" { CacheMode::None } else { CacheMode::Writeback };
    let (len, depth, count): (usize, usize, usize) =
        (words[3].parse().unwrap(), words[4].parse().unwrap(), words[5].parse().unwrap());
    let write = words[6] == "write";
    let mut options = Options::new();
    options.set(FileProtocol.open_options(), "engine", &words[2]).unwrap();
    let access = if write { StorageAccess::ReadWrite } else { StorageAccess::Read };
    let request = StorageOptions::new(access).cache(cache).options(options);
    let file = FileProtocol.open(&words[0], &request).await.unwrap();
    let blocks = file.len().await.unwrap() / len as u64;
    let (start, cpu_before) = (Instant::now(), cpu());
    let tasks: Vec<_> = (0..depth)
        .map(|task| {
            let file = Arc::clone(&file);
            tokio::spawn(async move {
                let mut buf = vec![7; len];
                let mut random = 0x9E37_79B9_7F4A_7C15u64.wrapping_mul(task as u64 + 1) | 1;
                for _ in 0..count / depth {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    let at = random % blocks * len as u64;
                    if write {
                        file.write_at(at, &buf).await.unwrap();
                        continue;
                    }
                    match file.try_read_at(at, &mut buf) {
                        Some(done) => done.unwrap(),
                        None => file.read_at(at, &mut buf).await.unwrap(),
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let (wall, cpu) = (start.elapsed().as_secs_f64(), cpu() - cpu_before);
    let done = (count / depth * depth) as f64;
    println!(
        "{:>8.1} k/s {:>7.1} us CPU/op   {}",
        done / wall / 1e3,
        cpu / done * 1e6,
        words[1..].join(" ")
    );
}
