//! One history: a disk over recording and faulty storages, with the content that a guest may see.

use std::sync::Arc;

use crate::crash::{CrashStorage, World};
use crate::fault::FaultStorage;
use crate::model::{Entry, Ledger, Model};
use crate::ops::{Ground, Op};
use crate::report::Tally;
use crate::rig::{Golden, Rig, Subject, layer_uri, read_all};
use crate::stamp::Id;
use block_core::{Access, BlockDevice, Error, Storage};

/// A disk under test and the record of its requests.
pub(super) struct Stage {
    pub(super) world: Arc<World>,
    pub(super) disks: Vec<Arc<CrashStorage>>,
    /// Faults over the top layer's storage.
    pub(super) faults: Arc<FaultStorage>,
    pub(super) rig: Rig,
    pub(super) device: Option<Arc<dyn BlockDevice>>,
    pub(super) model: Model,
    pub(super) ledger: Ledger,
    below: Vec<Id>,
    next_id: Id,
    pub(super) tally: Tally,
}

/// The reason why a step failed.
#[derive(Debug)]
pub(super) enum Setback {
    /// The request failed, as the test may have intended.
    Refused(Error),
    /// The disk showed content that is not allowed.
    Wrong(String),
}

impl Setback {
    /// Returns the setback as the text of a broken promise.
    pub(super) fn text(self, doing: impl std::fmt::Display) -> String {
        match self {
            Self::Refused(error) => format!("{doing} fails: {error:?}"),
            Self::Wrong(text) => format!("{doing}: {text}"),
        }
    }
}

impl Stage {
    /// Opens the subject's images for writing.
    pub(super) async fn open(subject: &Subject, golden: &Golden) -> Result<Self, String> {
        Self::open_with(subject, golden, Access::Read).await
    }

    /// Like [`open`](Self::open), with the top layer's parent opened with the access `parent`.
    pub(super) async fn open_with(
        subject: &Subject,
        golden: &Golden,
        parent: Access,
    ) -> Result<Self, String> {
        let world = World::new();
        let disks: Vec<_> = golden
            .images
            .iter()
            .enumerate()
            .map(|(layer, image)| {
                world.disk_over(&layer_uri(layer), image.clone(), subject.backing(image))
            })
            .collect();
        let mut storages: Vec<Arc<dyn Storage>> =
            disks.iter().map(|disk| Arc::clone(disk) as Arc<dyn Storage>).collect();
        let top = storages.pop().expect("a subject has a layer");
        let faults = FaultStorage::new(top);
        storages.push(Arc::clone(&faults) as Arc<dyn Storage>);
        let rig = Rig::new(subject, storages).parent_access(parent);
        let mut stage = Self {
            world,
            disks,
            faults,
            rig,
            device: None,
            model: golden.model(),
            ledger: Ledger::new(golden.content.clone(), golden.content.clone()),
            below: golden.content.clone(),
            next_id: golden.next_id,
            tally: Tally { runs: 1, ..Tally::default() },
        };
        stage.open_again().await?;
        Ok(stage)
    }

    /// Returns the open disk.
    pub(super) fn disk(&self) -> Arc<dyn BlockDevice> {
        Arc::clone(self.device.as_ref().expect("the disk is open"))
    }

    /// Returns the target of random requests.
    pub(super) fn ground(&self, golden: &Golden, maintenance: bool) -> Ground {
        let caps = self.disk().info().caps;
        Ground { sectors: golden.sectors, unit: golden.unit(), caps, maintenance }
    }

    pub(super) async fn open_again(&mut self) -> Result<(), String> {
        self.device = None;
        loop {
            let before = self.faults.injected();
            match self.rig.open(Access::ReadWrite).await {
                Ok(device) => {
                    self.device = Some(device);
                    return Ok(());
                }
                // A fault struck: try again, like a caller would.
                Err(_) if self.faults.injected() > before => {}
                Err(error) => return Err(format!("opening fails: {error:?}")),
            }
        }
    }

    pub(super) fn fresh_id(&mut self) -> Id {
        self.next_id += 1;
        self.next_id - 1
    }

    /// Sends a request, compares what it reads, and records it. A failed request may have been done in part.
    pub(super) async fn step(&mut self, op: &Op) -> Result<(), Setback> {
        let id = self.fresh_id();
        let start = self.world.tick();
        self.tally.requests += 1;
        let answer = op.send(&*self.disk(), id).await;
        let end = self.world.tick();
        let done = answer.is_ok();
        self.record(op, id, start, done.then_some(end));
        let bytes = answer.map_err(Setback::Refused)?;
        if let (Some(bytes), Op::Read { sector, .. }) = (bytes, op) {
            self.tally.sectors += bytes.len() as u64 / 512;
            self.model.verify(*sector, &bytes).map_err(Setback::Wrong)?;
        }
        match op {
            Op::Reopen => self.open_again().await.map_err(Setback::Wrong)?,
            Op::Kill => self.kill().await.map_err(Setback::Wrong)?,
            Op::Discard { .. } => self.read_back().await?,
            _ => {}
        }
        Ok(())
    }

    /// Records a request. Without `end` it may have been done in part.
    pub(super) fn record(&mut self, op: &Op, id: Id, start: u64, end: Option<u64>) {
        match end {
            Some(_) => self.model.exact(op, id, &self.below),
            None => self.model.maybe(op, id, &self.below),
        }
        self.ledger.push(Entry { op: op.clone(), id, start, end });
    }

    /// Reads and compares the whole disk, then narrows the model to what it showed.
    pub(super) async fn read_back(&mut self) -> Result<(), Setback> {
        let bytes = read_all(&*self.disk()).await.map_err(Setback::Refused)?;
        self.tally.sectors += bytes.len() as u64 / 512;
        self.model.settle(&bytes).map_err(Setback::Wrong)
    }

    /// Drops the disk like a dying process: what was written remains, what was in memory is lost.
    async fn kill(&mut self) -> Result<(), String> {
        self.device = None;
        // Requests that the dead process had sent are performed before its successor starts, or never.
        self.faults.land_all().await.map_err(|error| format!("landing: {error:?}"))?;
        self.ledger.forsake();
        self.model = self.ledger.at(self.world.tick());
        self.open_again().await?;
        self.read_back().await.map_err(|setback| setback.text("reading after the kill"))
    }

    /// Drops the disk, checks the image, opens it again and compares its whole content.
    pub(super) async fn audit(&mut self) -> Result<(), String> {
        self.device = None;
        self.rig.sound().await?;
        self.open_again().await?;
        self.read_back().await.map_err(|setback| setback.text("reading after reopening"))?;
        self.model.size_is_known();
        self.parents_untouched()
    }

    /// Checks that no request changed a parent.
    pub(super) fn parents_untouched(&self) -> Result<(), String> {
        match self.world.written(self.disks.len() - 1) {
            0 => Ok(()),
            n => Err(format!("{n} requests changed a parent, which was opened for reading")),
        }
    }
}
