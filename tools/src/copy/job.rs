//! Work in pieces, done by several threads that take the next piece from one plan.

use std::sync::{Arc, PoisonError};

use async_trait::async_trait;
use block_core::{Bytes, PageBuffer};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, watch};
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
}

/// The buffers of one thread, made once.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    first: PageBuffer,
    second: PageBuffer,
    /// Where the first one comes back to when it was given away.
    back: Arc<std::sync::Mutex<PageBuffer>>,
}

/// A buffer that was given away, and goes back when nobody needs it any more.
struct GivenAway {
    buffer: PageBuffer,
    back: Arc<std::sync::Mutex<PageBuffer>>,
}

impl AsRef<[u8]> for GivenAway {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for GivenAway {
    fn drop(&mut self) {
        let mut back = self.back.lock().unwrap_or_else(PoisonError::into_inner);
        *back = std::mem::take(&mut self.buffer);
    }
}

impl Buffers {
    /// A buffer of `len` bytes (at most [`PIECE`]) with whatever content.
    pub fn one(&mut self, len: u64) -> &mut [u8] {
        if self.first.is_empty() {
            self.first =
                std::mem::take(&mut *self.back.lock().unwrap_or_else(PoisonError::into_inner));
        }
        sized(&mut self.first, len)
    }

    /// Gives away the buffer that [`Buffers::one`] lends, with its content, to whoever writes it from there. It
    /// is lent again once that is done.
    pub fn give_away(&mut self) -> Bytes {
        let buffer = std::mem::take(&mut self.first);
        Bytes::from_owner(GivenAway { buffer, back: Arc::clone(&self.back) })
    }

    /// Takes the buffer that [`Buffers::one`] lends, with its content, and leaves another in its place.
    pub fn exchange(&mut self, other: PageBuffer) -> PageBuffer {
        std::mem::replace(&mut self.first, other)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_that_was_given_away_comes_back_when_nobody_has_it() {
        let mut buffers = Buffers::default();
        buffers.one(PIECE).fill(1);
        let given = buffers.give_away();
        let (part, place) = (given.slice(10..20), given.as_ptr());
        drop(given);
        buffers.one(PIECE).fill(2);
        assert_eq!(part, [1; 10][..], "it is not lent while it is kept");
        drop(buffers.give_away());
        let second = buffers.one(PIECE).as_ptr();
        assert_ne!(second, place);
        drop(buffers.give_away());
        drop(part);
        assert_eq!(buffers.one(PIECE).as_ptr(), place, "and lent again when it is free");
    }
}
