//! The same requests, or the same copy, by plain system calls: what they cost on this machine.

use std::fs::{File, OpenOptions};
use std::io::{Error, Result};
use std::mem::ManuallyDrop;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};

use block_core::{PageBuffer, is_zero};
use rustix::fs::{FallocateFlags, SeekFrom};

/// The images have whole blocks of this size, all of them stored, in order.
const BLOCK: u64 = 1 << 20;

/// `read|write COUNT SIZE STEP FILE`: sends the requests one after the other, through the page cache.
/// `ring COUNT SIZE STEP FILE DEPTH BATCH`: keeps so many reads past the page cache under way, and tells the
/// kernel of `BATCH` in one call: with few, the disk begins early; with many, there are fewer calls.
/// `copy THREADS FROM TO [room] [durable]`: copies what is stored and not zero; `room` asks for all of it first.
pub fn child(words: &[String]) -> ExitCode {
    match run(words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("plain: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[String]) -> Result<()> {
    let number = |word: &String| word.parse::<u64>().map_err(Error::other);
    if let [mode, threads, from, to, rest @ ..] = words
        && mode == "copy"
    {
        let has = |word: &str| rest.iter().any(|other| other == word);
        let (from, to) = (File::open(from)?, File::create(to)?);
        if has("room") {
            rustix::fs::fallocate(&to, FallocateFlags::empty(), 0, from.metadata()?.len())?;
        }
        copy(&from, &to, number(threads)?)?;
        return if has("durable") { to.sync_data() } else { Ok(()) };
    }
    let [mode, count, size, step, path, rest @ ..] = words else {
        return Err(Error::other("not the words that it wants"));
    };
    let (count, size, step) = (number(count)?, number(size)?, number(step)?);
    if let ("ring", [depth, batch]) = (mode.as_str(), rest) {
        let file = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(path)?;
        let places = places(&file, count, size, step)?;
        return ring(&file, places, size, number(depth)?, number(batch)?);
    }
    let writes = mode == "write";
    let file = OpenOptions::new().read(true).write(writes).open(path)?;
    let mut buffer = PageBuffer::new(usize::try_from(size).map_err(Error::other)?);
    for at in places(&file, count, size, step)? {
        if writes { file.write_all_at(&buffer, at)? } else { file.read_exact_at(&mut buffer, at)? }
    }
    Ok(())
}

/// Where the header of a VDI says where its blocks begin: four bytes, little-endian.
const DATA_OFFSET: usize = 0x158;

/// Where in the file the bytes lie that `bench` asks for: the disk begins where the header says.
fn places(file: &File, count: u64, size: u64, step: u64) -> Result<impl Iterator<Item = u64>> {
    let len = file.metadata()?.len();
    // A whole page, as the file may be open past the page cache.
    let mut head = PageBuffer::new(4096);
    file.read_exact_at(&mut head, 0)?;
    let field = head.get(DATA_OFFSET..DATA_OFFSET + 4).and_then(|field| field.try_into().ok());
    let start = field.map(u32::from_le_bytes).ok_or(Error::other("no header"))?;
    let start = u64::from(start);
    let room = len.saturating_sub(start).saturating_sub(size) + 1;
    Ok((0..count).map(move |index| start + (index * step) % room / 512 * 512))
}

/// Reads `size` bytes at each of these places, so many at a time, which the kernel is told of in batches.
#[allow(unsafe_code, reason = "entries of a ring name their memory by address")]
fn ring(
    file: &File,
    mut places: impl Iterator<Item = u64>,
    size: u64,
    depth: u64,
    batch: u64,
) -> Result<()> {
    let bytes = u32::try_from(size).map_err(Error::other)?;
    let entries = u32::try_from(depth).map_err(Error::other)?;
    // Never freed: after an error the kernel may still write there until the program has ended.
    let mut buffers = ManuallyDrop::new(Vec::new());
    buffers.extend((0..depth).map(|_| PageBuffer::new(bytes as usize)));
    let mut ring = io_uring::IoUring::new(entries)?;
    let parts = buffers
        .iter_mut()
        .map(|buffer| libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() });
    // SAFETY: the buffers are never freed.
    unsafe { ring.submitter().register_buffers(&parts.collect::<Vec<_>>()) }?;
    let fd = io_uring::types::Fd(file.as_raw_fd());
    let mut idle: Vec<u64> = (0..depth).collect();
    let mut under_way = 0;
    loop {
        let mut pushed = 0;
        while let Some(index) = idle.pop() {
            let Some(place) = places.next() else { break };
            let Some(buffer) = buffers.get_mut(index as usize) else { break };
            let memory = buffer.as_mut_ptr();
            let entry = io_uring::opcode::ReadFixed::new(fd, memory, bytes, index as u16);
            let entry = entry.offset(place).build().user_data(index);
            // SAFETY: the buffer has `bytes` bytes and belongs to this entry until its completion.
            unsafe { ring.submission().push(&entry) }.map_err(Error::other)?;
            under_way += 1;
            pushed += 1;
            if pushed == batch {
                ring.submit()?;
                pushed = 0;
            }
        }
        if under_way == 0 {
            return Ok(());
        }
        ring.submit_and_wait(1)?;
        for completion in ring.completion() {
            if completion.result() != bytes as i32 {
                return Err(Error::other(format!("a read gave {}", completion.result())));
            }
            idle.push(completion.user_data());
            under_way -= 1;
        }
    }
}

/// Copies, a MiB at a time, by so many threads. Holes are not read, and pages of zeros not written.
fn copy(from: &File, to: &File, threads: u64) -> Result<()> {
    to.set_len(from.metadata()?.len())?;
    let pieces = pieces(from)?;
    let next = AtomicUsize::new(0);
    let work = || {
        let mut buffer = PageBuffer::new(BLOCK as usize);
        while let Some(piece) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
            let bytes = buffer.get_mut(..(piece.end - piece.start) as usize).unwrap_or_default();
            from.read_exact_at(bytes, piece.start)?;
            write_what_is_not_zero(to, piece.start, bytes)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut done = work();
        for other in others {
            done = done.and(other.join().unwrap_or_else(|_| Err(Error::other("a thread died"))));
        }
        done
    })
}

/// What is stored of a file, in pieces that end where a MiB ends.
fn pieces(file: &File) -> Result<Vec<Range<u64>>> {
    let len = file.metadata()?.len();
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < len {
        let data = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(data) => data,
            Err(rustix::io::Errno::NXIO) => break,
            Err(errno) => return Err(errno.into()),
        };
        let hole = rustix::fs::seek(file, SeekFrom::Hole(data))?;
        at = data;
        while at < hole {
            let end = hole.min((at / BLOCK + 1) * BLOCK);
            pieces.push(at..end);
            at = end;
        }
    }
    Ok(pieces)
}

fn write_what_is_not_zero(to: &File, at: u64, bytes: &[u8]) -> Result<()> {
    let mut pages = bytes.chunks(4096).peekable();
    let mut done = 0;
    while let Some(page) = pages.next() {
        let mut run = page.len();
        let zero = is_zero(page);
        while let Some(page) = pages.next_if(|page| is_zero(page) == zero) {
            run += page.len();
        }
        if !zero {
            let data = bytes.get(done..done + run).unwrap_or_default();
            to.write_all_at(data, at + done as u64)?;
        }
        done += run;
    }
    Ok(())
}
