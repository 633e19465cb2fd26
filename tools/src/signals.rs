//! Signals: the first interrupt makes the command clean up and say so. SIGUSR1 asks for the progress.

use std::future::{Future, poll_fn};
use std::task::Poll;

use block_file::signal::is_ignored;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::console::Console;
use crate::error::{Failure, Result};
use crate::progress::Progress;

/// Runs `work` until it ends or the user interrupts it. Interrupted work is dropped, and the owner of each unfinished
/// file removes it. A signal that was ignored when the program started stays ignored.
pub(crate) async fn interruptible<T>(
    console: &Console,
    progress: &Progress,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    run(console, Some(progress), work).await
}

/// Like [`interruptible`], for work without progress to report.
pub(crate) async fn stoppable<T>(
    console: &Console,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    run(console, None, work).await
}

async fn run<T>(
    console: &Console,
    progress: Option<&Progress>,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let mut ends = listen(&[
        SignalKind::hangup(),
        SignalKind::interrupt(),
        SignalKind::quit(),
        SignalKind::terminate(),
    ])?;
    let mut reports = listen(&[SignalKind::user_defined1()])?;
    tokio::pin!(work);
    let kind = loop {
        tokio::select! {
            result = &mut work => return result,
            kind = first(&mut ends) => break kind,
            _ = first(&mut reports) => {
                if let Some(progress) = progress {
                    progress.report_once();
                }
            }
        }
    };
    if let Some(progress) = progress {
        progress.clear();
    }
    console.say("interrupted; what was unfinished is being removed");
    let number = u8::try_from(kind.as_raw_value()).unwrap_or(0);
    Err(Failure::silent(number.saturating_add(128)))
}

/// Starts to listen for the signals in `kinds` that are not ignored.
fn listen(kinds: &[SignalKind]) -> Result<Vec<(SignalKind, Signal)>> {
    let heard = kinds.iter().filter(|kind| !is_ignored(kind.as_raw_value()));
    heard
        .map(|kind| match signal(*kind) {
            Ok(signal) => Ok((*kind, signal)),
            Err(error) => Err(Failure::new(format!("Could not listen for signals: {error}"))),
        })
        .collect()
}

/// Waits for the first of these signals. Without signals, waits forever.
async fn first(signals: &mut [(SignalKind, Signal)]) -> SignalKind {
    poll_fn(|cx| {
        for (kind, signal) in signals.iter_mut() {
            if signal.poll_recv(cx) == Poll::Ready(Some(())) {
                return Poll::Ready(*kind);
            }
        }
        Poll::Pending
    })
    .await
}
