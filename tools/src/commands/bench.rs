//! `bench`: the speed of requests to an image.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use block_core::{Access, Bytes, CacheMode, Disk, PageBuffer, WriteFlags};
use serde_json::json;
use tokio::task::JoinSet;

use super::lanes;
use super::latency::Latencies;
use crate::args::{
    AllowArgs, Cache, OutputFormat, ShareArgs, SourceArgs, engine_for, number, size,
};
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::image::{self, OpenMode};
use block_jobs::is_direct;

#[derive(clap::Args, Debug)]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    share: ShareArgs,
    /// How many requests
    #[arg(short = 'c', long, value_name = "N", default_value = "75000", value_parser = number::<u64>)]
    count: u64,
    /// How many requests run at a time
    #[arg(short = 'd', long, value_name = "N", default_value = "64", value_parser = number::<usize>)]
    depth: usize,
    /// Bytes in a request
    #[arg(short = 's', long, value_name = "SIZE", default_value = "4096", value_parser = size)]
    buffer_size: u64,
    /// Bytes from one request to the next (default: the size of a request)
    #[arg(short = 'S', long, value_name = "SIZE", value_parser = size)]
    step_size: Option<u64>,
    /// Where the first request begins
    #[arg(short = 'o', long, value_name = "OFFSET", default_value = "0", value_parser = size)]
    offset: u64,
    /// Write instead of reading
    #[arg(short = 'w', long)]
    write: bool,
    /// The byte to write
    #[arg(long, value_name = "BYTE", default_value = "0", requires = "write", value_parser = number::<u8>)]
    pattern: u8,
    /// Flush after so many writes; without this, nothing is flushed, at the end neither
    #[arg(long, value_name = "N", default_value = "0", requires = "write", value_parser = number::<u64>)]
    flush_interval: u64,
    /// Do not wait for other requests before a flush
    #[arg(long, requires = "flush_interval")]
    no_drain: bool,
    /// Cache mode
    #[arg(short = 't', long, value_name = "CACHE", default_value = "writeback")]
    cache: Cache,
    /// How requests that have to wait are made: one by one (threads), queued (io_uring), or queued where it
    /// pays (native, and without this)
    #[arg(short = 'i', long, value_name = "AIO", value_parser = ["threads", "native", "io_uring"])]
    aio: Option<String>,
    /// The same as -i native, unless -i is given
    #[arg(short = 'n', long)]
    native: bool,
    /// Requests at random places, from this seed
    #[arg(long, value_name = "SEED", num_args = 0..=1, require_equals = true, default_missing_value = "1")]
    random: Option<u64>,
    /// Print nothing but errors
    #[arg(short = 'q', long)]
    quiet: bool,
    /// For people (human) or programs (json)
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    output: OutputFormat,
    #[command(flatten)]
    allow: AllowArgs,
    /// The image
    #[arg(value_name = "FILE")]
    file: String,
}

/// Maximum size of a request in bytes.
const MAX_REQUEST: u64 = i32::MAX as u64;

impl BenchArgs {
    pub fn run(self, cx: &Context) -> Result<u8> {
        if self.depth == 0 || self.depth > 4096 {
            return Err(Failure::new("Invalid queue depth specified"));
        }
        if !(1..=MAX_REQUEST).contains(&self.buffer_size) {
            return Err(Failure::new("Invalid buffer size specified"));
        }
        if self.flush_interval > 0 && (self.flush_interval as usize) < self.depth {
            return Err(Failure::new("Flush interval can't be smaller than depth"));
        }
        let mut spec = self.source.spec(&self.file)?;
        spec.storage_options.extend(self.engine().map(|name| ("engine".into(), name.into())));
        cx.block_on_with_timers(async {
            let how = OpenMode {
                access: if self.write { Access::ReadWrite } else { Access::Read },
                ..OpenMode::shared(self.share).cache(self.cache()).allow(&self.allow)
            };
            let disk = image::open(cx, &spec, &how).await?;
            if self.write {
                image::warn_if_guessed_raw(cx, &spec, &disk);
            }
            let done = self.measure(cx, disk.clone()).await;
            // Acknowledged writes are kept even if a later request failed. The time of closing is not measured.
            let closed = disk.close().await;
            let done = done?;
            closed.map_err(|error| Failure::because("Failed to close", &error))?;
            Ok(done)
        })
    }

    /// Returns the protocol's name for the file engine, if the user chose one.
    fn engine(&self) -> Option<&'static str> {
        let word = self.aio.as_deref().or(self.native.then_some("native"));
        word.and_then(engine_for)
    }

    /// Returns the cache mode. Writes without a flush interval are not flushed even at the end: closing would wait
    /// until the disk has saved what they left in the page cache.
    fn cache(&self) -> CacheMode {
        match self.cache.0 {
            CacheMode::Writeback if self.write && self.flush_interval == 0 => CacheMode::Unsafe,
            cache => cache,
        }
    }

    async fn measure(&self, cx: &Context, disk: Disk) -> Result<u8> {
        let step = self.step_size.unwrap_or(self.buffer_size);
        let places = Places::new(self, step, disk.size())?;
        let what = if self.write { "write" } else { "read" };
        if self.output == OutputFormat::Human && !self.quiet {
            cx.console.line(format_args!(
                "Sending {} {what} requests, {} bytes each, {} in parallel (starting at offset {}, step size {step})",
                self.count, self.buffer_size, self.depth, self.offset
            ))?;
            if self.flush_interval > 0 {
                cx.console
                    .line(format_args!("Sending flush every {} requests", self.flush_interval))?;
            }
            cx.console.flush()?;
        }
        let cpu = cpu_time();
        let started = Instant::now();
        let shared = self.send(disk, places).await?;
        let (wall, cpu) = (started.elapsed(), cpu_time().saturating_sub(cpu));
        self.report(cx, &shared.latencies, wall, cpu)?;
        Ok(0)
    }

    /// Sends all requests, `depth` at a time.
    async fn send(&self, disk: Disk, places: Places) -> Result<Arc<Shared>> {
        let is_direct = is_direct(&disk);
        let given = (is_direct && self.write).then(|| {
            let mut buffer = PageBuffer::new(self.buffer_size as usize);
            buffer.fill(self.pattern);
            Bytes::from(buffer)
        });
        let shared = Arc::new(Shared {
            disk,
            places,
            next: AtomicU64::new(0),
            count: self.count,
            len: self.buffer_size as usize,
            pattern: self.pattern,
            flush_every: self.flush_interval,
            given,
            drain: (!self.no_drain).then(tokio::sync::RwLock::default),
            latencies: Latencies::new(),
        });
        let depth = self.depth.min(usize::try_from(self.count).unwrap_or(usize::MAX));
        let mut tasks = JoinSet::new();
        if is_direct && !self.write {
            // In a task, because waking the future that the runtime blocks on costs a system call.
            tasks.spawn(Arc::clone(&shared).takes(depth));
        } else {
            for _ in 0..depth {
                let shared = Arc::clone(&shared);
                if self.write {
                    tasks.spawn(shared.writes())
                } else {
                    tasks.spawn(shared.reads())
                };
            }
        }
        while let Some(ended) = tasks.join_next().await {
            let ended = ended.map_err(|error| Failure::new(format!("a task died: {error}")))?;
            ended.map_err(|error| Failure::because("Failed request", &error))?;
        }
        if self.write && self.flush_interval > 0 {
            let flushed = shared.disk.flush().await;
            flushed.map_err(|error| Failure::because("Failed flush", &error))?;
        }
        Ok(shared)
    }

    fn report(&self, cx: &Context, all: &Latencies, wall: Duration, cpu: Duration) -> Result<()> {
        let seconds = wall.as_secs_f64();
        let rate = if seconds > 0.0 { self.count as f64 / seconds } else { 0.0 };
        let bytes = rate * self.buffer_size as f64;
        let cpu_us = if self.count > 0 { cpu.as_secs_f64() * 1e6 / self.count as f64 } else { 0.0 };
        let us = |part: f64| all.at(part).as_secs_f64() * 1e6;
        match self.output {
            OutputFormat::Json => cx.console.json(&json!({
                "requests": self.count,
                "request-size": self.buffer_size,
                "depth": self.depth,
                "seconds": seconds,
                "requests-per-second": rate,
                "bytes-per-second": bytes,
                "cpu-microseconds-per-request": cpu_us,
                "latency-microseconds":
                    {"p50": us(0.5), "p90": us(0.9), "p99": us(0.99), "p99.9": us(0.999), "max": us(1.0)},
            }))?,
            OutputFormat::Human if self.quiet => {}
            OutputFormat::Human => {
                cx.console.line(format_args!(
                    "{rate:.0} requests/s, {}/s, {cpu_us:.2} µs CPU per request",
                    block_core::size::human(bytes as u64)
                ))?;
                cx.console.line(format_args!(
                    "latency: median {:.1} µs, 90 % {:.1} µs, 99 % {:.1} µs, 99.9 % {:.1} µs, longest {:.1} µs",
                    us(0.5), us(0.9), us(0.99), us(0.999), us(1.0)
                ))?;
                cx.console.line(format_args!("Run completed in {seconds:.3} seconds."))?;
            }
        }
        Ok(())
    }
}

/// The state that all tasks share.
struct Shared {
    disk: Disk,
    places: Places,
    next: AtomicU64,
    count: u64,
    len: usize,
    pattern: u8,
    flush_every: u64,
    /// Content of all writes that bypass the page cache.
    given: Option<Bytes>,
    /// Held shared by each request. A flush that waits for the requests takes it exclusively.
    drain: Option<tokio::sync::RwLock<()>>,
    latencies: Latencies,
}

impl Shared {
    /// Returns the index and the offset of the next request. `None` when all have been sent.
    fn next(&self) -> Option<(u64, u64)> {
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        (index < self.count).then(|| (index, self.places.at(index)))
    }

    /// Reads into the task's own buffer.
    async fn reads(self: Arc<Self>) -> block_core::Result<()> {
        let mut buffer = PageBuffer::new(self.len);
        // One clock reading ends a request and begins the next.
        let mut started = Instant::now();
        while let Some((_, offset)) = self.next() {
            self.disk.read_at(offset, &mut buffer).await?;
            let ended = Instant::now();
            self.latencies.record(ended - started);
            started = ended;
        }
        Ok(())
    }

    /// Reads without a buffer of its own, with `depth` requests in flight.
    async fn takes(self: Arc<Self>, depth: usize) -> block_core::Result<()> {
        let next = |started: &mut Instant, taken: Option<block_core::Result<Bytes>>| {
            // One clock reading per request, as in `reads`.
            let now = Instant::now();
            if let Some(taken) = taken {
                drop(taken?);
                self.latencies.record(now - *started);
            }
            *started = now;
            Ok(self.next().map(|(_, offset)| self.disk.read_bytes(offset, self.len)))
        };
        lanes::run(depth, Instant::now(), next).await
    }

    async fn writes(self: Arc<Self>) -> block_core::Result<()> {
        let mut buffer = match self.given {
            Some(_) => PageBuffer::default(),
            None => PageBuffer::new(self.len),
        };
        buffer.fill(self.pattern);
        // As in `reads`, unless the task may wait between two requests.
        let mut started = Instant::now();
        while let Some((index, offset)) = self.next() {
            let held = match &self.drain {
                Some(drain) if self.flush_every > 0 => Some(drain.read().await),
                _ => None,
            };
            if self.flush_every > 0 {
                started = Instant::now();
            }
            match &self.given {
                Some(given) => {
                    self.disk.write_bytes(offset, given.clone(), WriteFlags::empty()).await?;
                }
                None => self.disk.write_at(offset, &buffer, WriteFlags::empty()).await?,
            }
            let ended = Instant::now();
            self.latencies.record(ended - started);
            started = ended;
            drop(held);
            if self.flush_every > 0 && (index + 1).is_multiple_of(self.flush_every) {
                let _alone = match &self.drain {
                    Some(drain) => Some(drain.write().await),
                    None => None,
                };
                self.disk.flush().await?;
            }
        }
        Ok(())
    }
}

/// The offsets of the requests.
#[derive(Debug, Clone, Copy)]
struct Places {
    first: u64,
    step: u64,
    /// Number of bytes at which a request can begin.
    room: u64,
    random: Option<(u64, u64)>,
}

impl Places {
    fn new(args: &BenchArgs, step: u64, size: u64) -> Result<Self> {
        let room = size.checked_sub(args.buffer_size).map(|room| room + 1);
        let room = room.filter(|room| args.offset < *room).ok_or_else(|| {
            Failure::new(format!(
                "A request of {} bytes at {} goes past the end of the disk at {size}",
                args.buffer_size, args.offset
            ))
        })?;
        let unit = args.buffer_size.max(512).next_power_of_two();
        let random = args.random.map(|seed| (seed, unit));
        Ok(Self { first: args.offset, step, room, random })
    }

    fn at(&self, index: u64) -> u64 {
        match self.random {
            None => {
                let way = index.checked_mul(self.step).and_then(|way| way.checked_add(self.first));
                let place = match way {
                    Some(place) => place % self.room,
                    // The remainder of a division by a u64 fits in one.
                    None => {
                        let way = u128::from(index) * u128::from(self.step);
                        ((u128::from(self.first) + way) % u128::from(self.room)) as u64
                    }
                };
                if self.step.is_multiple_of(512) { place / 512 * 512 } else { place }
            }
            Some((seed, unit)) => {
                let slots = ((self.room - 1) / unit).max(1);
                mix(seed.wrapping_add(index)) % slots * unit
            }
        }
    }
}

/// SplitMix64: returns well-distributed numbers for consecutive seeds.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Returns the processor time of all threads of this process.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_go_round_the_disk_however_far_they_step() {
        let room = (1 << 40) - 4096 + 1;
        let at = |first, step, index| Places { first, step, room, random: None }.at(index);
        assert_eq!(at(512, 4096, 3), 512 + 3 * 4096);
        assert_eq!(at(0, 1, 700), 700, "as it is, where the step is no multiple of 512");
        assert_eq!(at(0, 1 << 39, 2), 4095 / 512 * 512, "once round");
        // 2^63 * 2 = 2^64, and 2^64 + 512 does not fit in a u64.
        let far = ((1_u128 << 64) + 512) % u128::from(room);
        assert_eq!(u128::from(at(512, 1 << 63, 2)), far / 512 * 512);
    }
}
