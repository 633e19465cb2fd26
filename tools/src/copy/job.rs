//! Work in pieces, done by several threads that take the next piece from one plan.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;

use crate::error::{Failure, Result};

use super::Buffers;

/// What says which piece comes next. Only one thread asks at a time.
#[async_trait]
pub(crate) trait Plan: Send + 'static {
    /// A piece of the work.
    type Piece: Send + 'static;

    /// The next piece; `None` when there is no more.
    async fn next(&mut self) -> Result<Option<Self::Piece>>;
}

/// What does a piece.
#[async_trait]
pub(crate) trait Job: Send + Sync + 'static {
    /// A piece of the work.
    type Piece: Send + 'static;

    /// Does one piece with the thread's own buffers.
    async fn work(&self, piece: Self::Piece, buffers: &mut Buffers) -> Result<()>;
}

/// Does all pieces of `plan` on so many threads. The first failure ends the work, and all threads have
/// ended when this returns. Dropped, it stops them where they wait next or begin another piece; the end
/// of the runtime waits for them.
///
/// Threads, and not tasks: what is cached is read and written without waiting, so that tasks that hand a
/// turn to each other would all stay on one processor.
pub(crate) async fn run<P, J>(mut plan: P, job: Arc<J>, threads: usize) -> Result<P>
where
    P: Plan,
    J: Job<Piece = P::Piece>,
{
    // Often there is nothing to do, and then there is no need for threads.
    let Some(first) = plan.next().await? else { return Ok(plan) };
    let plan = Arc::new(Mutex::new((Some(first), plan)));
    let (go, stop) = watch::channel(());
    let mut running = JoinSet::new();
    for _ in 0..threads.max(1) {
        let (plan, job, mut stop) = (Arc::clone(&plan), Arc::clone(&job), stop.clone());
        let runtime = Handle::current();
        running.spawn_blocking(move || {
            runtime.block_on(async move {
                let going = stop.clone();
                tokio::select! {
                    biased;
                    _ = stop.changed() => Ok(()),
                    done = work(&plan, &*job, &going) => done,
                }
            })
        });
    }
    drop(stop);
    let mut go = Some(go);
    let mut failure = None;
    while let Some(ended) = running.join_next().await {
        let ended = match ended {
            Ok(ended) => ended,
            Err(error) => Err(Failure::new(format!("a thread died: {error}"))),
        };
        if let Err(error) = ended {
            failure.get_or_insert(error);
            go = None;
        }
    }
    drop(go);
    if let Some(failure) = failure {
        return Err(failure);
    }
    match Arc::try_unwrap(plan) {
        Ok(plan) => Ok(plan.into_inner().1),
        Err(_) => Err(Failure::new("a thread kept its work after its end")),
    }
}

/// One thread's work. It ends early when whoever wants it is gone, which nobody says but by leaving.
async fn work<P, J>(
    plan: &Mutex<(Option<P::Piece>, P)>,
    job: &J,
    going: &watch::Receiver<()>,
) -> Result<()>
where
    P: Plan,
    J: Job<Piece = P::Piece>,
{
    let mut buffers = Buffers::default();
    while going.has_changed().is_ok() {
        // Not held while the piece is worked on.
        let piece = {
            let (first, rest) = &mut *plan.lock().await;
            match first.take() {
                None => rest.next().await?,
                first => first,
            }
        };
        match piece {
            Some(piece) => job.work(piece, &mut buffers).await?,
            None => break,
        }
    }
    Ok(())
}
