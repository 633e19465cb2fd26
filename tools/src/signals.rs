//! Interrupts: the first one cleans up and says so; SIGUSR1 asks how far the work is.

use std::future::Future;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::console::Console;
use crate::error::{Failure, Result};
use crate::progress::Progress;

/// Runs `work` until it ends or the user stops it. Stopped work is dropped: what it was making is
/// removed by those who were making it.
pub(crate) async fn interruptible<T>(
    console: &Console,
    progress: &Progress,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hangup = listen(SignalKind::hangup())?;
    let mut report = listen(SignalKind::user_defined1())?;
    tokio::pin!(work);
    let number = loop {
        tokio::select! {
            result = &mut work => return result,
            _ = interrupt.recv() => break 2,
            _ = terminate.recv() => break 15,
            _ = hangup.recv() => break 1,
            _ = report.recv() => progress.report_once(),
        }
    };
    progress.clear();
    console.say("interrupted; what was unfinished is being removed");
    Err(Failure::silent(128 + number))
}

fn listen(kind: SignalKind) -> Result<Signal> {
    signal(kind).map_err(|error| Failure::new(format!("Could not listen for signals: {error}")))
}
