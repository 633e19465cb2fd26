//! What every command is given: the drivers, the console, and a runtime made when it is needed.

use std::future::Future;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use block_core::Registry;
use rustix::process::{Resource, getrlimit};
use tokio::runtime::{Builder, Runtime};

use crate::console::Console;
use crate::error::{Failure, Result, os_text};

/// So many tasks run before the runtime looks for events, unless it has nothing to do.
const EVENT_INTERVAL: u32 = 256;

/// Below this limit on open files, room is looked for before the runtime starts.
const FEW_FILES: u64 = 64;

/// Pairs of descriptors that the runtime and its signals take at most.
const PAIRS: usize = 4;

/// The surroundings of one command.
#[derive(Debug)]
pub(crate) struct Context {
    /// The drivers.
    pub registry: Arc<Registry>,
    /// Results and messages.
    pub console: Console,
}

impl Context {
    /// Runs `work` on this thread. Starts no other.
    pub fn block_on<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let mut builder = Builder::new_current_thread();
        // Direct and cold reads are driven by the runtime.
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
        // A disk completes many requests at once. What they wake runs before the next look for more.
        builder.event_interval(EVENT_INTERVAL);
        let runtime: Runtime = builder.build().map_err(failed)?;
        runtime.block_on(work)
    }
}

/// Fails where a limit on open files leaves no room for the runtime, which would panic.
fn room_for_the_runtime() -> io::Result<()> {
    if getrlimit(Resource::Nofile).current.is_none_or(|limit| limit >= FEW_FILES) {
        return Ok(());
    }
    (0..PAIRS).map(|_| UnixStream::pair()).collect::<io::Result<Vec<_>>>().map(drop)
}
