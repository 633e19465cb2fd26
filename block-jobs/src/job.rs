//! Work in pieces, done by several threads that take the next piece from one plan.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use async_trait::async_trait;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, mpsc, watch};

use super::buffers::Buffers;
use super::error::{JobError, Result};

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

/// Does all pieces of `plan` on so many threads, or on as many as the system allows; where it allows none, on this one.
/// The first failure ends the work, and all threads have ended when this returns. Dropped, it stops them where they
/// wait next or begin another piece, and waits for them.
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
    let (ended, mut ends) = mpsc::unbounded_channel();
    let mut running = Threads { go: Some(go), handles: Vec::new() };
    for _ in 0..threads.max(1) {
        let (plan, job, mut stop) = (Arc::clone(&plan), Arc::clone(&job), stop.clone());
        let (runtime, ended) = (Handle::current(), ended.clone());
        let spawned = thread::Builder::new().name("copy".to_owned()).spawn(move || {
            let done = runtime.block_on(async move {
                let going = stop.clone();
                tokio::select! {
                    biased;
                    _ = stop.changed() => Ok(()),
                    done = work(&plan, &*job, &going) => done,
                }
            });
            // The receiver is gone only if `run` was dropped, and then nothing is to be told.
            let _ = ended.send(done);
        });
        match spawned {
            Ok(handle) => running.handles.push(handle),
            // A limit on threads or on memory. The threads that run take all pieces.
            Err(_) => break,
        }
    }
    drop(ended);
    let mut failure = None;
    if running.handles.is_empty() {
        failure = work(&plan, &*job, &stop).await.err();
    }
    drop(stop);
    while let Some(ended) = ends.recv().await {
        if let Err(error) = ended {
            failure.get_or_insert(error);
            running.go = None;
        }
    }
    if running.join().is_err() {
        failure.get_or_insert(JobError::internal("a thread died"));
    }
    if let Some(failure) = failure {
        return Err(failure);
    }
    match Arc::try_unwrap(plan) {
        Ok(plan) => Ok(plan.into_inner().1),
        Err(_) => Err(JobError::internal("a thread kept its work after its end")),
    }
}

/// The threads of one job. They stop when this is dropped, which waits for their end.
struct Threads {
    /// Dropped, it stops them.
    go: Option<watch::Sender<()>>,
    handles: Vec<JoinHandle<()>>,
}

impl Threads {
    /// Stops the threads and waits for them; an error if one of them panicked.
    fn join(&mut self) -> thread::Result<()> {
        self.go = None;
        self.handles.drain(..).map(JoinHandle::join).fold(Ok(()), thread::Result::and)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // Nobody is left to be told of a panic; it has been printed.
        let _ = self.join();
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
