//! What every command is given: the drivers, the console, and a runtime made when it is needed.

use std::future::Future;
use std::sync::Arc;

use block_core::Registry;
use tokio::runtime::{Builder, Runtime};

use crate::console::Console;
use crate::error::{Failure, Result};

/// So many tasks run before the runtime looks for events, unless it has nothing to do.
const EVENT_INTERVAL: u32 = 256;

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
        // A disk completes many requests at once. What they wake runs before the next look for more.
        builder.event_interval(EVENT_INTERVAL);
        let runtime: Runtime = builder
            .build()
            .map_err(|error| Failure::new(format!("Could not start the runtime: {error}")))?;
        runtime.block_on(work)
    }
}
