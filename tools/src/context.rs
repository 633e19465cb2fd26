//! The context of a command: the drivers, the console, and a runtime created on demand.

use std::future::Future;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use block_core::Registry;
use rustix::process::{Resource, getrlimit};
use tokio::runtime::{Builder, Runtime};

use crate::console::Console;
use crate::error::{Failure, Result, os_text};

/// Tasks that the runtime polls before it checks for events, unless it is idle.
const EVENT_INTERVAL: u32 = 256;

/// Limit on open files below which free descriptors are checked for before the runtime starts.
const FEW_FILES: u64 = 64;

/// Maximum number of descriptor pairs that the runtime and its signal handling use.
const PAIRS: usize = 4;

/// The context of one command.
#[derive(Debug)]
pub(crate) struct Context {
    /// The drivers.
    pub registry: Arc<Registry>,
    /// The destination of results and messages.
    pub console: Console,
}

impl Context {
    /// Runs `work` on this thread and starts no other thread.
    pub fn block_on<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let mut builder = Builder::new_current_thread();
        // The runtime drives direct reads and reads that miss the page cache.
        builder.enable_io();
        self.finish(builder, work)
    }

    /// Runs `work` on this thread, with timers and signals.
    pub fn block_on_with_timers<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let mut builder = Builder::new_current_thread();
        builder.enable_all();
        self.finish(builder, work)
    }

    fn finish<T>(&self, mut builder: Builder, work: impl Future<Output = Result<T>>) -> Result<T> {
        let failed =
            |error| Failure::new(format!("Could not start the runtime: {}", os_text(&error)));
        room_for_the_runtime().map_err(failed)?;
        // A disk completes many requests together. The tasks they wake run before the next check for events.
        builder.event_interval(EVENT_INTERVAL);
        let runtime: Runtime = builder.build().map_err(failed)?;
        runtime.block_on(work)
    }
}

/// Fails if the limit on open files leaves too few for the runtime, which would panic.
fn room_for_the_runtime() -> io::Result<()> {
    if getrlimit(Resource::Nofile).current.is_none_or(|limit| limit >= FEW_FILES) {
        return Ok(());
    }
    (0..PAIRS).map(|_| UnixStream::pair()).collect::<io::Result<Vec<_>>>().map(drop)
}
