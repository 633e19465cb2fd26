//! Work in pieces, done by several threads that take the next piece from one plan.

use std::sync::Arc;

use async_trait::async_trait;
use block_core::PageBuffer;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, Notify, watch};
use tokio::task::JoinSet;

use crate::error::{Failure, Result};

use super::PIECE;

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

    /// Whether more than one thread is worth its cost. Asked after each piece while there is one.
    fn wants_help(&self) -> bool {
        true
    }
}

/// The buffers of one thread, made once.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    first: PageBuffer,
    second: PageBuffer,
}

impl Buffers {
    /// A buffer of `len` bytes (at most [`PIECE`]) with whatever content.
    pub fn one(&mut self, len: u64) -> &mut [u8] {
        sized(&mut self.first, len)
    }

    /// The first buffer to keep, if there is one.
    pub fn take(&mut self) -> Option<PageBuffer> {
        let buffer = std::mem::take(&mut self.first);
        (!buffer.is_empty()).then_some(buffer)
    }

    /// Puts a buffer in the place of one that was taken; gives it back where there is one.
    pub fn put(&mut self, buffer: PageBuffer) -> Option<PageBuffer> {
        if self.first.is_empty() {
            self.first = buffer;
            return None;
        }
        Some(buffer)
    }

    /// Two buffers of `len` bytes.
    pub fn two(&mut self, len: u64) -> (&mut [u8], &mut [u8]) {
        (sized(&mut self.first, len), sized(&mut self.second, len))
    }
}

fn sized(buffer: &mut PageBuffer, len: u64) -> &mut [u8] {
    let len = len.min(PIECE) as usize;
    if buffer.len() < len {
        *buffer = PageBuffer::new(PIECE as usize);
    }
    buffer.get_mut(..len).unwrap_or_default()
}

/// Does all pieces of `plan` on so many threads: on one, until the job wants help. The first failure ends the work, and all threads have
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
    let help = Arc::new(Notify::new());
    let mut go = Some(go);
    let mut running = JoinSet::new();
    let mut missing = threads.max(1);
    let mut wanted = if job.wants_help() { missing } else { 1 };
    let mut failure = None;
    loop {
        for _ in 0..std::mem::take(&mut wanted) {
            missing -= 1;
            let (plan, job, mut stop) = (Arc::clone(&plan), Arc::clone(&job), stop.clone());
            let (runtime, help) = (Handle::current(), Arc::clone(&help));
            running.spawn_blocking(move || {
                runtime.block_on(async move {
                    let going = stop.clone();
                    tokio::select! {
                        biased;
                        _ = stop.changed() => Ok(()),
                        done = work(&plan, &*job, &going, &help) => done,
                    }
                })
            });
        }
        let ended = tokio::select! {
            ended = running.join_next() => ended,
            () = help.notified(), if missing > 0 => {
                wanted = missing;
                continue;
            }
        };
        let error = match ended {
            None => break,
            Some(Ok(Ok(()))) => continue,
            Some(Ok(Err(error))) => error,
            Some(Err(error)) => Failure::new(format!("a thread died: {error}")),
        };
        failure.get_or_insert(error);
        go = None;
    }
    drop(stop);
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
    help: &Notify,
) -> Result<()>
where
    P: Plan,
    J: Job<Piece = P::Piece>,
{
    let mut buffers = Buffers::default();
    let mut alone = !job.wants_help();
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
        if alone && job.wants_help() {
            help.notify_one();
            alone = false;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use tokio::sync::Barrier;

    use super::*;

    /// So many pieces.
    struct Count(u32);

    #[async_trait]
    impl Plan for Count {
        type Piece = u32;

        async fn next(&mut self) -> Result<Option<u32>> {
            self.0 = self.0.saturating_sub(1);
            Ok((self.0 > 0).then_some(self.0))
        }
    }

    /// The first piece is done by whoever comes, the others by two at a time.
    struct Pairs {
        both: Barrier,
        first_is_done: AtomicBool,
    }

    #[async_trait]
    impl Job for Pairs {
        type Piece = u32;

        async fn work(&self, _: u32, _: &mut Buffers) -> Result<()> {
            if self.first_is_done.swap(true, Ordering::Relaxed) {
                let both = tokio::time::timeout(Duration::from_secs(20), self.both.wait()).await;
                both.map_err(|_| Failure::new("nobody came to help"))?;
            }
            Ok(())
        }

        fn wants_help(&self) -> bool {
            self.first_is_done.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn help_comes_when_it_is_wanted() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let job = Pairs { both: Barrier::new(2), first_is_done: AtomicBool::new(false) };
        runtime
            .block_on(run(Count(8), Arc::new(job), 2))
            .unwrap_or_else(|e| panic!("{}", e.message));
    }
}
