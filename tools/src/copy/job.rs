//! Work in pieces, done by several tasks that take the next piece from one plan.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::error::{Failure, Result};

use super::PIECE;

/// What says which piece comes next. Only one task asks at a time.
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

    /// Does one piece with the task's own buffers.
    async fn work(&self, piece: Self::Piece, buffers: &mut Buffers) -> Result<()>;
}

/// The buffers of one task, made once.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    first: Vec<u8>,
    second: Vec<u8>,
}

impl Buffers {
    /// A buffer of `len` bytes (at most [`PIECE`]) with whatever content.
    pub fn one(&mut self, len: u64) -> &mut [u8] {
        sized(&mut self.first, len)
    }

    /// Two buffers of `len` bytes.
    pub fn two(&mut self, len: u64) -> (&mut [u8], &mut [u8]) {
        (sized(&mut self.first, len), sized(&mut self.second, len))
    }
}

fn sized(buffer: &mut Vec<u8>, len: u64) -> &mut [u8] {
    let len = len.min(PIECE) as usize;
    if buffer.len() < len {
        buffer.resize(PIECE as usize, 0);
    }
    buffer.get_mut(..len).unwrap_or_default()
}

/// Does all pieces of `plan` with `tasks` tasks. The first failure ends the work, and all tasks are
/// gone when this returns or is dropped.
pub(crate) async fn run<P, J>(plan: P, job: Arc<J>, tasks: usize) -> Result<P>
where
    P: Plan,
    J: Job<Piece = P::Piece>,
{
    let plan = Arc::new(Mutex::new(plan));
    let mut running = JoinSet::new();
    for _ in 0..tasks.max(1) {
        let (plan, job) = (Arc::clone(&plan), Arc::clone(&job));
        running.spawn(async move {
            let mut buffers = Buffers::default();
            loop {
                let piece = plan.lock().await.next().await?;
                match piece {
                    Some(piece) => job.work(piece, &mut buffers).await?,
                    None => return Result::Ok(()),
                }
            }
        });
    }
    let mut failure = None;
    while let Some(ended) = running.join_next().await {
        let ended = match ended {
            Ok(ended) => ended,
            Err(error) if error.is_cancelled() => continue,
            Err(error) => Err(Failure::new(format!("a task died: {error}"))),
        };
        if let Err(error) = ended {
            failure.get_or_insert(error);
            running.abort_all();
        }
    }
    if let Some(failure) = failure {
        return Err(failure);
    }
    match Arc::try_unwrap(plan) {
        Ok(plan) => Ok(plan.into_inner()),
        Err(_) => Err(Failure::new("a task kept its work after its end")),
    }
}
