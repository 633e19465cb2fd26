//! Running several futures concurrently.

use std::future::Future;
use std::pin::Pin;
use std::task::Poll;

/// Runs all futures concurrently in this task and returns their outputs in order. Meant for a few futures:
/// each wake-up polls all that are not done.
pub(crate) async fn join_all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut all: Vec<Pin<Box<F>>> = futures.into_iter().map(Box::pin).collect();
    let mut outputs: Vec<Option<F::Output>> = all.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        let mut are_done = true;
        for (future, output) in all.iter_mut().zip(&mut outputs) {
            if output.is_none() {
                match future.as_mut().poll(cx) {
                    Poll::Ready(done) => *output = Some(done),
                    Poll::Pending => are_done = false,
                }
            }
        }
        if are_done { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    outputs.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::join_all;

    #[tokio::test]
    async fn all_run_at_once_and_keep_their_order() {
        // Each waits for all the others.
        let barrier = tokio::sync::Barrier::new(3);
        let meet = async |number| {
            barrier.wait().await;
            number
        };
        assert_eq!(join_all((0..3).map(meet)).await, [0, 1, 2]);
        assert!(join_all(std::iter::empty::<std::future::Ready<()>>()).await.is_empty());
    }
}
