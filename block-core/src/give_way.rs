//! Letting others run in the middle of long work.

use std::future::poll_fn;
use std::task::Poll;

/// Lets whatever else runs on this thread have a turn.
///
/// I/O that ends at once never waits, so a long row of it hears no signal and no timer. Work that may be long calls
/// this between its pieces, about once a MiB.
pub async fn give_way() {
    let mut has_waited = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut has_waited, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
