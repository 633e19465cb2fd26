//! What is tested, and the world of simulated storages it is tested in.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use super::exec::block_on;
use super::image::{Image, ImageStorage};
use super::model::Model;
use super::rng::mix;
use super::stamp::{Id, SECTOR, ZERO, stamped};
use block_core::{
    Access, BlockDevice, BlockDriver, Candidate, Candidates, CheckMode, CheckReport, CreateRequest,
    Error, ErrorKind, Gate, Limits, NewParent, OpenContext, OptionSpec, Options, ProtocolDriver,
    Reference, Registry, Result, SECTOR_SIZE, Storage, StorageOptions, WriteFlags,
};

/// What one driver is tested as: create options, size, and how many parents lie below.
#[derive(Clone)]
pub struct Subject {
    /// How reports call it.
    pub name: String,
    driver: Arc<dyn BlockDriver>,
    create: Vec<(String, String)>,
    layers: usize,
    size: Option<u64>,
    invariant: Option<Invariant>,
    backing: Option<Backing>,
    rework: Option<fn(&mut Image)>,
    volatile: Vec<Range<u64>>,
    metadata: Option<u64>,
    /// In a campaign, for how many others it counts.
    pub(super) weight: u64,
    /// The crash states that were seen, by their digests.
    distinct: Option<Arc<Mutex<HashSet<u64>>>>,
}

/// Makes a storage that holds these bytes, which serves in place of memory.
pub type Backing = Arc<dyn Fn(&Image) -> Arc<dyn Storage> + Send + Sync>;

/// Looks at the bytes of an image that lost power, for hazards only the format knows.
pub type Invariant = fn(&Image) -> std::result::Result<(), String>;

impl std::fmt::Debug for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subject").field("name", &self.name).field("layers", &self.layers).finish()
    }
}

impl Subject {
    /// A base image with default options, a few blocks large.
    pub fn of(driver: impl BlockDriver + 'static) -> Self {
        let driver: Arc<dyn BlockDriver> = Arc::new(driver);
        Self {
            name: driver.descriptor().name.to_owned(),
            driver,
            create: Vec::new(),
            layers: 1,
            size: None,
            invariant: None,
            backing: None,
            rework: None,
            volatile: Vec::new(),
            metadata: None,
            weight: 1,
            distinct: None,
        }
    }

    /// Under another name in reports.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.name = name.to_owned();
        self
    }

    /// Created with `name=value`.
    #[must_use]
    pub fn option(mut self, name: &str, value: &str) -> Self {
        self.create.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A disk of `size` bytes, a multiple of 512.
    #[must_use]
    pub fn size(mut self, size: u64) -> Self {
        self.size = Some(size);
        self
    }

    /// With `parents` images of the same format below, the lowest one holding data.
    #[must_use]
    pub fn with_parents(mut self, parents: usize) -> Self {
        self.layers = 1 + parents;
        self
    }

    /// With a look at the raw bytes of every crash state.
    #[must_use]
    pub fn invariant(mut self, invariant: Invariant) -> Self {
        self.invariant = Some(invariant);
        self
    }

    /// With every image in a storage of this kind (a file, say) instead of memory.
    #[must_use]
    pub fn over(mut self, backing: Backing) -> Self {
        self.backing = Some(backing);
        self
    }

    /// With this done to each image once it was created, before anything is written to it: for layouts that the
    /// driver reads and does not make.
    #[must_use]
    pub fn rework(mut self, rework: fn(&mut Image)) -> Self {
        self.rework = Some(rework);
        self
    }

    /// Says which bytes of an image are random: crash states that differ in nothing else are the same.
    #[must_use]
    pub fn volatile(mut self, bytes: Range<u64>) -> Self {
        self.volatile.push(bytes);
        self
    }

    /// With so many bytes of memory for the metadata of an image.
    #[must_use]
    pub fn metadata(mut self, bytes: u64) -> Self {
        self.metadata = Some(bytes);
        self
    }

    /// With so many shares of a campaign, where others have one.
    #[must_use]
    pub fn weight(mut self, shares: u64) -> Self {
        self.weight = shares;
        self
    }

    /// Remembers which crash states were seen from here on.
    pub(super) fn counting(mut self) -> Self {
        self.distinct = Some(Arc::default());
        self
    }

    /// How many different crash states were seen.
    pub(super) fn distinct(&self) -> u64 {
        let count = |seen: &Arc<Mutex<HashSet<u64>>>| {
            seen.lock().unwrap_or_else(PoisonError::into_inner).len() as u64
        };
        self.distinct.as_ref().map_or(0, count)
    }

    /// A crash state was seen.
    pub(super) fn saw(&self, disks: &[(String, Image)]) {
        let Some(seen) = &self.distinct else { return };
        let digest =
            disks.iter().fold(0, |sum, (_, image)| mix(sum) ^ image.digest(&self.volatile));
        seen.lock().unwrap_or_else(PoisonError::into_inner).insert(digest);
    }

    /// What serves in place of memory for an image.
    pub(super) fn backing(&self, image: &Image) -> Option<Arc<dyn Storage>> {
        self.backing.as_ref().map(|backing| backing(image))
    }

    /// The driver under test.
    pub fn driver(&self) -> &Arc<dyn BlockDriver> {
        &self.driver
    }

    /// Whether there are parents below.
    pub fn has_parents(&self) -> bool {
        self.layers > 1
    }

    /// What the format's own look at the top image says.
    pub(super) fn look(&self, top: &Image) -> std::result::Result<(), String> {
        self.invariant.map_or(Ok(()), |invariant| invariant(top))
    }

    /// The create options it was given.
    pub(super) fn options(&self) -> &[(String, String)] {
        &self.create
    }

    /// Without parents.
    pub(super) fn alone(mut self) -> Self {
        self.layers = 1;
        self
    }

    fn create_options(&self) -> Result<Options> {
        let mut options = Options::new();
        for (name, value) in &self.create {
            options.set(self.driver.descriptor().create_options, name, value)?;
        }
        Ok(options)
    }

    /// The subject's images as they are before every run.
    ///
    /// # Panics
    /// When the driver cannot create, open or write: there is nothing to test then.
    pub fn golden(&self) -> Golden {
        block_on(self.make_golden()).expect("the driver creates and fills its images")
    }

    async fn make_golden(&self) -> Result<Golden> {
        let block = self.block_size().await?;
        let unit = block.unwrap_or(64 << 10);
        // Not a whole number of blocks: the last one is partial.
        let size =
            self.size.unwrap_or(unit * 4 - unit / 2 + SECTOR_SIZE * u64::from(block.is_none()));
        let rig = Rig::of_images(self, vec![Image::default(); self.layers]);
        let sectors = size / SECTOR_SIZE;
        let mut content = vec![ZERO; sectors as usize];
        let mut next_id = 1;
        for layer in 0..self.layers {
            // A parent ends a block before its child, so that reads go past its end.
            let shorter = (self.layers - 1 - layer) as u64 * unit;
            let own_size = size.saturating_sub(shorter).max(unit.min(size));
            rig.create_layer(layer, own_size).await?;
            if let Some(rework) = self.rework {
                rig.images[layer].change(rework);
            }
            if layer + 1 == self.layers {
                break;
            }
            let device = rig.open_layer(layer, Access::ReadWrite).await?;
            let pieces = pieces_of_parent(layer as u64, unit / SECTOR_SIZE, device.sector_count());
            for (sector, count) in pieces {
                device
                    .write_sectors(sector, &stamped(next_id, sector, count), WriteFlags::empty())
                    .await?;
                content[sector as usize..(sector + count) as usize].fill(next_id);
                next_id += 1;
            }
            device.close().await?;
        }
        let device = rig.open(Access::Read).await?;
        let size_found = device.sector_count();
        if size_found != sectors {
            let text = format!("{sectors} sectors were asked for, {size_found} were made");
            return Err(Error::new(ErrorKind::Corrupt, text));
        }
        Ok(Golden {
            images: rig.images(),
            sectors,
            block_sectors: block.map(|block| block / SECTOR_SIZE),
            content,
            next_id,
        })
    }

    /// The format's block size in bytes, from an image made for the purpose.
    async fn block_size(&self) -> Result<Option<u64>> {
        let alone = self.clone().alone();
        let rig = Rig::of_images(&alone, vec![Image::default()]);
        rig.create_layer(0, 1 << 20).await?;
        Ok(rig.open(Access::Read).await?.info().block_size)
    }
}

/// Where a parent holds data: part of its first block, all of its second, a piece over a boundary.
fn pieces_of_parent(layer: u64, block: u64, sectors: u64) -> Vec<(u64, u64)> {
    let wanted =
        [(3 + layer, block / 2), (block, block), (2 * block + block / 4, block / 8 + layer)];
    wanted
        .into_iter()
        .filter(|(sector, _)| *sector < sectors)
        .map(|(sector, count)| (sector, count.min(sectors - sector)))
        .filter(|(_, count)| *count > 0)
        .collect()
}

/// The images every run starts from, and what the guest sees in them.
#[derive(Debug, Clone)]
pub struct Golden {
    /// The bytes of each layer, base first.
    pub images: Vec<Image>,
    /// Size of the disk.
    pub sectors: u64,
    /// Sectors in a block, for formats that have blocks.
    pub block_sectors: Option<u64>,
    /// What each sector shows.
    pub content: Vec<Id>,
    /// The first number no write has used.
    pub next_id: Id,
}

impl Golden {
    /// What the guest may see before the first write.
    pub fn model(&self) -> Model {
        Model::new(self.content.clone())
    }

    /// The unit tests aim at: the block, or 64 KiB for formats without; a third of the disk at most.
    pub fn unit(&self) -> u64 {
        self.block_sectors.unwrap_or(128).min(self.sectors / 3).max(1)
    }
}

/// A registry, a gate and one storage for each layer of a subject.
pub struct Rig {
    subject: Subject,
    registry: Arc<Registry>,
    gate: Arc<SimGate>,
    storages: Vec<Arc<dyn Storage>>,
    /// The same storages, when they are plain images.
    images: Vec<Arc<ImageStorage>>,
    parent_access: Access,
}

impl std::fmt::Debug for Rig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rig").field("subject", &self.subject).finish_non_exhaustive()
    }
}

/// The URI of a layer's storage.
pub fn layer_uri(layer: usize) -> String {
    format!("sim:{layer}")
}

impl Rig {
    /// Over these storages, base first, named by [`layer_uri`].
    pub fn new(subject: &Subject, storages: Vec<Arc<dyn Storage>>) -> Self {
        let mut registry = Registry::new();
        registry.register(Arc::clone(&subject.driver));
        registry.register_protocol(Arc::new(SimProtocol(Mutex::new(storages.clone()))));
        Self {
            subject: subject.clone(),
            registry: Arc::new(registry),
            gate: Arc::new(SimGate(subject.driver.descriptor().name)),
            storages,
            images: Vec::new(),
            parent_access: Access::Read,
        }
    }

    /// Opens the parent of the top layer for this.
    #[must_use]
    pub(super) fn parent_access(mut self, access: Access) -> Self {
        self.parent_access = access;
        self
    }

    /// Over storages that hold these images and never fail.
    pub fn of_images(subject: &Subject, images: Vec<Image>) -> Self {
        let images: Vec<Arc<ImageStorage>> = images
            .into_iter()
            .enumerate()
            .map(|(layer, image)| ImageStorage::new(layer_uri(layer), image))
            .collect();
        let storages = images.iter().map(|image| Arc::clone(image) as Arc<dyn Storage>).collect();
        Self { images, ..Self::new(subject, storages) }
    }

    /// The bytes of each layer, for a rig made of images.
    pub fn images(&self) -> Vec<Image> {
        self.images.iter().map(|image| image.snapshot()).collect()
    }

    /// The storage of the top layer.
    pub fn top(&self) -> &Arc<dyn Storage> {
        self.storages.last().expect("a subject has a layer")
    }

    /// What a driver gets to open, create and check with.
    pub fn context(&self) -> OpenContext {
        let mut limits = Limits::default();
        if let Some(bytes) = self.subject.metadata {
            limits.metadata_bytes = bytes;
        }
        OpenContext::new(Arc::clone(&self.registry))
            .gate(Arc::clone(&self.gate) as Arc<dyn Gate>)
            .limits(limits)
            .parent_access(self.parent_access)
    }

    /// The registry with the driver in it.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Opens the top layer.
    ///
    /// # Errors
    /// What the driver gives.
    pub async fn open(&self, access: Access) -> Result<Arc<dyn BlockDevice>> {
        self.open_layer(self.storages.len() - 1, access).await
    }

    /// Opens the layer below the top one.
    ///
    /// # Errors
    /// What the driver gives.
    pub(super) async fn open_below(&self, access: Access) -> Result<Arc<dyn BlockDevice>> {
        self.open_layer(self.storages.len() - 2, access).await
    }

    async fn open_layer(&self, layer: usize, access: Access) -> Result<Arc<dyn BlockDevice>> {
        let storage = Arc::clone(&self.storages[layer]);
        self.subject.driver.open(storage, &Options::new(), access, &self.context()).await
    }

    /// Makes one layer, as a child of the one below it.
    ///
    /// # Errors
    /// What the driver gives.
    pub async fn create_layer(&self, layer: usize, size: u64) -> Result<()> {
        let mut request = CreateRequest::new(size).options(self.subject.create_options()?);
        if layer > 0 {
            let device = self.open_layer(layer - 1, Access::Read).await?;
            request = request.parent(NewParent { device, reference: layer_uri(layer - 1) });
        }
        let storage = Arc::clone(&self.storages[layer]);
        self.subject.driver.create(storage, &request, &self.context()).await
    }

    /// Whether the driver checks images.
    pub fn can_check(&self) -> bool {
        self.subject.driver.descriptor().can_check
    }

    /// Checks the top layer.
    ///
    /// # Errors
    /// What the driver gives.
    pub async fn check(&self, mode: CheckMode) -> Result<CheckReport> {
        self.subject.driver.check(Arc::clone(self.top()), mode, &self.context()).await
    }

    /// Checks the top layer and says what is corrupt in it. `Ok`: nothing, or the driver cannot check.
    ///
    /// # Errors
    /// The findings, or what kept the check from running.
    pub async fn sound(&self) -> std::result::Result<CheckReport, String> {
        if !self.can_check() {
            return Ok(CheckReport::default());
        }
        self.sound_layer(self.top()).await
    }

    /// As [`sound`](Self::sound), of every layer below the top one.
    pub(super) async fn sound_below(&self) -> std::result::Result<(), String> {
        if self.can_check() {
            for layer in &self.storages[..self.storages.len() - 1] {
                self.sound_layer(layer).await.map_err(|what| format!("{}: {what}", layer.uri()))?;
            }
        }
        Ok(())
    }

    async fn sound_layer(
        &self,
        layer: &Arc<dyn Storage>,
    ) -> std::result::Result<CheckReport, String> {
        let cx = self.context();
        let report = self.subject.driver.check(Arc::clone(layer), CheckMode::Report, &cx);
        let report = report.await.map_err(|e| format!("check: {e:?}"))?;
        if report.corruptions == 0 && report.check_errors == 0 {
            return Ok(report);
        }
        let findings: Vec<String> = report
            .findings
            .iter()
            .map(|finding| {
                format!("{} ({:?}): {}", finding.code, finding.severity, finding.message)
            })
            .collect();
        Err(format!("check finds corruption: {}", findings.join("; ")))
    }
}

/// Reads the whole disk.
///
/// # Errors
/// What the device gives.
pub async fn read_all(device: &dyn BlockDevice) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    read_all_into(device, &mut bytes).await?;
    Ok(bytes)
}

/// As [`read_all`], into a buffer that is made to fit.
///
/// # Errors
/// What the device gives.
pub async fn read_all_into(device: &dyn BlockDevice, bytes: &mut Vec<u8>) -> Result<()> {
    bytes.resize(device.sector_count() as usize * SECTOR, 0xA5);
    device.read_sectors(0, bytes).await
}

/// Opens `sim:<layer>`.
#[derive(Debug)]
struct SimProtocol(Mutex<Vec<Arc<dyn Storage>>>);

#[async_trait]
impl ProtocolDriver for SimProtocol {
    fn scheme(&self) -> &'static str {
        "sim"
    }

    fn open_options(&self) -> &'static [OptionSpec] {
        &[]
    }

    async fn open(&self, location: &str, _: &StorageOptions) -> Result<Arc<dyn Storage>> {
        let storages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let storage = location.parse::<usize>().ok().and_then(|layer| storages.get(layer));
        storage.cloned().ok_or_else(|| Error::new(ErrorKind::NotFound, "no such layer"))
    }
}

/// The parent of layer n is layer n - 1.
#[derive(Debug)]
struct SimGate(&'static str);

#[async_trait]
impl Gate for SimGate {
    async fn candidates(&self, reference: &Reference) -> Result<Candidates> {
        let layer = reference.from.strip_prefix("sim:").and_then(|n| n.parse::<usize>().ok());
        let below = layer.and_then(|layer| layer.checked_sub(1));
        let below =
            below.ok_or_else(|| Error::new(ErrorKind::Denied, "there is no layer below"))?;
        Ok(vec![Candidate::named(layer_uri(below), self.0)].into())
    }
}
