use std::fs::File;
use std::os::unix::fs::FileExt;

use super::*;
use crate::sys::registered::KNOWN;

/// Creates a ring for a file. Returns `None` if the kernel refuses.
fn ring(file: &File) -> Option<Ring> {
    let made = Ring::new(Arc::new(OwnedFd::from(file.try_clone().unwrap())), &Arc::default());
    if let Err(error) = &made {
        eprintln!("SKIPPED: this kernel gives no ring: {error}");
    }
    made.ok()
}

/// Runs one request at the file's start.
fn finish(ring: &mut Ring, transfer: Transfer<'_>) -> Finished {
    let token = ring.push(transfer, 0, None, Waker::noop()).unwrap();
    loop {
        if let Some(finished) = ring.take(token) {
            return finished;
        }
        ring.wait().release();
        ring.reap().release();
    }
}

fn content(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; SMALLEST];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// Queues a read of `len` bytes and returns whether it uses a registered buffer. The read is not finished.
fn is_known(ring: &mut Ring, len: usize) -> bool {
    let Token(index) = ring.push(Transfer::Read(len), 0, None, Waker::noop()).unwrap();
    let slot = &ring.slots[index as usize];
    matches!(slot.memory, Memory::Known)
}

#[test]
fn registered_buffers_write_and_read_and_are_used_again() {
    let file = tempfile::tempfile().unwrap();
    let Some(mut ring) = ring(&file) else { return };
    if ring.known.len() == 0 {
        eprintln!("SKIPPED: this kernel registers no buffers");
        return;
    }
    for round in 0..3 * KNOWN {
        let value = round as u8 + 1;
        let finished = finish(&mut ring, Transfer::Write(&[value; SMALLEST]));
        assert_eq!(finished.result, Ok(SMALLEST));
        assert_eq!(content(&file), [value; SMALLEST]);
        file.write_all_at(&[!value; SMALLEST], 0).unwrap();
        let finished = finish(&mut ring, Transfer::Read(SMALLEST));
        assert_eq!(finished.result, Ok(SMALLEST));
        assert_eq!(finished.bytes, [!value; SMALLEST][..]);
        assert_eq!(ring.free_known.len(), KNOWN);
    }
    assert!(!is_known(&mut ring, SMALLEST + 1), "they are too small");
    for _ in 0..KNOWN {
        assert!(is_known(&mut ring, SMALLEST));
    }
    assert!(!is_known(&mut ring, 1), "all are under way");
}

#[test]
fn what_somebody_still_has_does_not_change() {
    let file = tempfile::tempfile().unwrap();
    let Some(mut ring) = ring(&file) else { return };
    let mut held = Vec::new();
    for value in 0..2 * KNOWN as u8 {
        file.write_all_at(&[value; SMALLEST], 0).unwrap();
        held.push(finish(&mut ring, Transfer::Read(SMALLEST)).bytes);
        finish(&mut ring, Transfer::Write(&[!value; SMALLEST])).result.unwrap();
    }
    for (value, bytes) in (0..).zip(&held) {
        assert_eq!(*bytes, [value; SMALLEST][..]);
    }
    // The bytes may outlive the ring, too.
    drop(ring);
    for (value, bytes) in (0..).zip(held) {
        assert_eq!(bytes, [value; SMALLEST][..]);
    }
}

#[test]
fn as_many_are_under_way_as_there_is_room_for() {
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(&[5; SMALLEST], 0).unwrap();
    let Some(mut ring) = ring(&file) else { return };
    for _ in 0..2 {
        let push = |ring: &mut Ring| ring.push(Transfer::Read(SMALLEST), 0, None, Waker::noop());
        let tokens: Vec<_> = (0..ENTRIES).map(|_| push(&mut ring).unwrap()).collect();
        assert!(push(&mut ring).is_err());
        for token in tokens {
            let finished = loop {
                match ring.take(token) {
                    Some(finished) => break finished,
                    None => {
                        ring.wait().release();
                        ring.reap().release();
                    }
                }
            };
            assert_eq!(finished.bytes, [5; SMALLEST][..]);
        }
    }
}

#[test]
fn a_transfer_that_no_buffer_holds_is_refused_and_costs_no_place() {
    let file = tempfile::tempfile().unwrap();
    let Some(mut ring) = ring(&file) else { return };
    let large = vec![0; CAPACITY + 1];
    for transfer in [Transfer::Read(CAPACITY + 1), Transfer::Write(&large)] {
        assert!(ring.push(transfer, 0, None, Waker::noop()).is_err());
    }
    assert_eq!(ring.free.len() + ring.free_known.len(), ENTRIES as usize);
    assert!(!ring.busy());
}

#[test]
fn a_file_past_the_cache_is_registered_and_nobody_has_it_open_after_the_ring() {
    let named = tempfile::NamedTempFile::new().unwrap();
    named.as_file().write_all_at(&[7; SMALLEST], 0).unwrap();
    let flags = OFlags::RDONLY | OFlags::DIRECT;
    let Ok(file) = rustix::fs::open(named.path(), flags, Mode::empty()) else {
        eprintln!("SKIPPED: this file system has no direct reads");
        return;
    };
    let file = File::from(file);
    let path = named.into_temp_path();
    let Some(mut ring) = ring(&file) else { return };
    assert!(ring.reads_registered);
    let finished = finish(&mut ring, Transfer::Read(SMALLEST));
    assert_eq!(finished.result, Ok(SMALLEST));
    assert_eq!(finished.bytes, [7; SMALLEST][..]);
    drop(file);
    // The kernel grants this lease only if the file is not open elsewhere.
    let lease = |file: &File| {
        // SAFETY: no memory is passed, and the descriptor is open.
        unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK) }
    };
    let other = File::options().read(true).write(true).open(&path).unwrap();
    assert_eq!(lease(&other), -1, "the ring has it open");
    drop(ring);
    assert_eq!(lease(&other), 0, "{}", io::Error::last_os_error());
}

#[test]
fn what_is_given_is_written() {
    let file = tempfile::tempfile().unwrap();
    let Some(mut ring) = ring(&file) else { return };
    let given = Bytes::from((0..=255).cycle().take(2 * SMALLEST).collect::<Vec<u8>>());
    let part = given.slice(SMALLEST - 1..2 * SMALLEST - 1);
    let finished = finish(&mut ring, Transfer::WriteGiven(&part));
    assert_eq!(finished.result, Ok(SMALLEST));
    assert_eq!(content(&file), part);
}

#[test]
fn what_the_kernel_does_not_take_fails_and_so_does_what_follows() {
    struct Woken(std::sync::atomic::AtomicUsize);
    impl std::task::Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }
    let file = tempfile::tempfile().unwrap();
    let Some(mut ring) = ring(&file) else { return };
    assert_eq!(finish(&mut ring, Transfer::Write(&[1; SMALLEST])).result, Ok(SMALLEST));
    let woken = Arc::new(Woken(0.into()));
    let waker = Waker::from(Arc::clone(&woken));
    let given = Bytes::from_static(&[2; 512]);
    let large = vec![3; 2 * SMALLEST];
    let transfers = [
        Transfer::Read(512),
        Transfer::WriteGiven(&given),
        Transfer::Write(&large),
        Transfer::Read(9000),
    ];
    let tokens = transfers.map(|transfer| ring.push(transfer, 0, None, &waker).unwrap());
    // Replace the ring's descriptor with one that is no ring.
    let other = File::open("/dev/null").unwrap();
    // SAFETY: both descriptors are open, and no other code uses the second one.
    let replaced = unsafe { libc::dup2(other.as_raw_fd(), ring.uring.as_raw_fd()) };
    assert_ne!(replaced, -1);
    ring.submit().release();
    assert_eq!(woken.0.load(std::sync::atomic::Ordering::Relaxed), tokens.len());
    for token in tokens {
        let finished = ring.take(token).unwrap();
        assert_eq!(finished.result, Err(Errno::OPNOTSUPP));
        assert!(finished.bytes.is_empty(), "the kernel may still look at it");
    }
    assert!(!ring.is_stuck());
    assert!(ring.push(Transfer::Read(512), 0, None, &waker).is_err());
    assert_eq!(content(&file), [1; SMALLEST]);
}

#[test]
fn a_waker_that_panics_leaves_nothing_queued() {
    use std::task::{RawWaker, RawWakerVTable};
    static PANICS: RawWakerVTable =
        RawWakerVTable::new(|_| panic!("it is not cloned"), |_| {}, |_| {}, |_| {});
    let file = tempfile::tempfile().unwrap();
    let Some(mut ring) = ring(&file) else { return };
    // SAFETY: none of these functions looks at the pointer.
    let waker = unsafe { Waker::from_raw(RawWaker::new(std::ptr::null(), &PANICS)) };
    let push = || ring.push(Transfer::Write(&[1; 512]), 0, None, &waker).map(drop);
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(push)).is_err());
    assert!(!ring.busy() && ring.uring.submission().is_empty());
    assert_eq!(ring.free.len() + ring.free_known.len(), ENTRIES as usize);
}
