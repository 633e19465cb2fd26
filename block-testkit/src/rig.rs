//! The subject of a test, and the simulated storages it runs on.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use super::exec::block_on;
use super::model::Model;
use super::rng::mix;
use super::stamp::{Id, SECTOR, ZERO, stamped};
use block_core::{
    Access, BlockDevice, BlockDriver, Candidate, Candidates, CheckMode, CheckReport, CreateRequest,
    Error, ErrorKind, Gate, Limits, NewParent, OpenContext, OptionSpec, Options, ProtocolDriver,
    Reference, Registry, Result, SECTOR_SIZE, Storage, StorageOptions, WriteFlags,
};
use block_core::{Image, MemStorage};

/// One configuration of a driver under test: create options, disk size, and number of parents.
#[derive(Clone)]
pub struct Subject {
    /// Name in reports.
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
    /// Its number of shares in a campaign.
    pub(super) weight: u64,
    /// Digests of the crash states seen.
    distinct: Option<Arc<Mutex<HashSet<u64>>>>,
}

/// Creates a storage that holds these bytes, used instead of memory.
pub type Backing = Arc<dyn Fn(&Image) -> Arc<dyn Storage> + Send + Sync>;

/// Checks the bytes of an image after a power cut, for hazards that only the format knows.
pub type Invariant = fn(&Image) -> std::result::Result<(), String>;

impl std::fmt::Debug for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subject").field("name", &self.name).field("layers", &self.layers).finish()
    }
}

impl Subject {
    /// Creates a subject: a base image with default options, a few blocks large.
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

    /// Sets the name in reports.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.name = name.to_owned();
        self
    }

    /// Adds the create option `name=value`.
    #[must_use]
    pub fn option(mut self, name: &str, value: &str) -> Self {
        self.create.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the disk size in bytes, a multiple of 512.
    #[must_use]
    pub fn size(mut self, size: u64) -> Self {
        self.size = Some(size);
        self
    }

    /// Adds `parents` images of the same format below. They hold data.
    #[must_use]
    pub fn with_parents(mut self, parents: usize) -> Self {
        self.layers = 1 + parents;
        self
    }

    /// Adds a check of the raw bytes of every crash state.
    #[must_use]
    pub fn invariant(mut self, invariant: Invariant) -> Self {
        self.invariant = Some(invariant);
        self
    }

    /// Stores every image in this kind of storage, such as a file, instead of memory.
    #[must_use]
    pub fn over(mut self, backing: Backing) -> Self {
        self.backing = Some(backing);
        self
    }

    /// Modifies each image after creation, before the first write. For layouts that the driver reads but does not
    /// create.
    #[must_use]
    pub fn rework(mut self, rework: fn(&mut Image)) -> Self {
        self.rework = Some(rework);
        self
    }

    /// Marks a byte range of an image as random. Crash states that differ only there are the same.
    #[must_use]
    pub fn volatile(mut self, bytes: Range<u64>) -> Self {
        self.volatile.push(bytes);
        self
    }

    /// Sets the memory for an image's metadata, in bytes.
    #[must_use]
    pub fn metadata(mut self, bytes: u64) -> Self {
        self.metadata = Some(bytes);
        self
    }

    /// Sets the subject's shares of a campaign. The default is 1.
    #[must_use]
    pub fn weight(mut self, shares: u64) -> Self {
        self.weight = shares;
        self
    }

    /// Starts counting distinct crash states.
    pub(super) fn counting(mut self) -> Self {
        self.distinct = Some(Arc::default());
        self
    }

    /// Returns the number of distinct crash states seen.
    pub(super) fn distinct(&self) -> u64 {
        let count = |seen: &Arc<Mutex<HashSet<u64>>>| {
            seen.lock().unwrap_or_else(PoisonError::into_inner).len() as u64
        };
        self.distinct.as_ref().map_or(0, count)
    }

    /// Records a crash state.
    pub(super) fn saw(&self, disks: &[(String, Image)]) {
        let Some(seen) = &self.distinct else { return };
        let digest =
            disks.iter().fold(0, |sum, (_, image)| mix(sum) ^ image.digest(&self.volatile));
        seen.lock().unwrap_or_else(PoisonError::into_inner).insert(digest);
    }

    /// Returns the storage that replaces memory for `image`, if any.
    pub(super) fn backing(&self, image: &Image) -> Option<Arc<dyn Storage>> {
        self.backing.as_ref().map(|backing| backing(image))
    }

    /// Returns the driver under test.
    pub fn driver(&self) -> &Arc<dyn BlockDriver> {
        &self.driver
    }

    /// Whether the subject has parents.
    pub fn has_parents(&self) -> bool {
        self.layers > 1
    }

    /// Runs the format's own check of the top image.
    pub(super) fn look(&self, top: &Image) -> std::result::Result<(), String> {
        self.invariant.map_or(Ok(()), |invariant| invariant(top))
    }

    /// Returns the create options.
    pub(super) fn options(&self) -> &[(String, String)] {
        &self.create
    }

    /// Removes the parents.
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

    /// Creates the images that every run starts from.
    ///
    /// # Panics
    /// If the driver cannot create, open or write its images. Then there is nothing to test.
    pub fn golden(&self) -> Golden {
        block_on(self.make_golden()).expect("the driver creates and fills its images")
    }

    async fn make_golden(&self) -> Result<Golden> {
        let block = self.block_size().await?;
        let unit = block.unwrap_or(64 << 10);
        // Not a multiple of the block size: the last block is partial.
        let size =
            self.size.unwrap_or(unit * 4 - unit / 2 + SECTOR_SIZE * u64::from(block.is_none()));
        let rig = Rig::of_images(self, vec![Image::default(); self.layers]);
        let sectors = size / SECTOR_SIZE;
        let mut content = vec![ZERO; sectors as usize];
        let mut next_id = 1;
        for layer in 0..self.layers {
            // Each parent is one block shorter than its child, so that reads extend past its end.
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

    /// Returns the format's block size in bytes, from an image created for this purpose.
    async fn block_size(&self) -> Result<Option<u64>> {
        let alone = self.clone().alone();
        let rig = Rig::of_images(&alone, vec![Image::default()]);
        rig.create_layer(0, 1 << 20).await?;
        Ok(rig.open(Access::Read).await?.info().block_size)
    }
}

/// Returns the ranges where a parent holds data: part of its first block, all of its second, and one across a block
/// boundary.
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

/// The images that every run starts from, and their content as the guest sees it.
#[derive(Debug, Clone)]
pub struct Golden {
    /// The bytes of each layer, from the base up.
    pub images: Vec<Image>,
    /// Disk size in sectors.
    pub sectors: u64,
    /// Sectors per block, if the format has blocks.
    pub block_sectors: Option<u64>,
    /// The content of each sector.
    pub content: Vec<Id>,
    /// The first unused write number.
    pub next_id: Id,
}

impl Golden {
    /// Returns the content that the guest may see before the first write.
    pub fn model(&self) -> Model {
        Model::new(self.content.clone())
    }

    /// Returns the unit, in sectors, that requests are aimed at: a block, or 64 KiB for formats without blocks. At most
    /// a third of the disk.
    pub fn unit(&self) -> u64 {
        self.block_sectors.unwrap_or(128).min(self.sectors / 3).max(1)
    }
}

/// A registry, a gate, and one storage per layer of a subject.
pub struct Rig {
    subject: Subject,
    registry: Arc<Registry>,
    gate: Arc<SimGate>,
    storages: Vec<Arc<dyn Storage>>,
    /// The same storages, if they are plain images.
    images: Vec<Arc<MemStorage>>,
    parent_access: Access,
}

impl std::fmt::Debug for Rig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rig").field("subject", &self.subject).finish_non_exhaustive()
    }
}

/// Returns the URI of a layer's storage.
pub fn layer_uri(layer: usize) -> String {
    format!("sim:{layer}")
}

impl Rig {
    /// Creates a rig over these storages, from the base up. [`layer_uri`] names them.
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

    /// Sets the access with which the parent of the top layer is opened.
    #[must_use]
    pub(super) fn parent_access(mut self, access: Access) -> Self {
        self.parent_access = access;
        self
    }

    /// Creates a rig over storages that hold these images and never fail.
    pub fn of_images(subject: &Subject, images: Vec<Image>) -> Self {
        let images: Vec<Arc<MemStorage>> = images
            .into_iter()
            .enumerate()
            .map(|(layer, image)| MemStorage::of(layer_uri(layer), image))
            .collect();
        let storages = images.iter().map(|image| Arc::clone(image) as Arc<dyn Storage>).collect();
        Self { images, ..Self::new(subject, storages) }
    }

    /// Returns the bytes of each layer. Empty unless the rig was made of images.
    pub fn images(&self) -> Vec<Image> {
        self.images.iter().map(|image| image.snapshot()).collect()
    }

    /// Returns the storage of the top layer.
    pub fn top(&self) -> &Arc<dyn Storage> {
        self.storages.last().expect("a subject has a layer")
    }

    /// Returns the context with which the driver opens, creates and checks.
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

    /// Returns the registry, which holds the driver.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Opens the top layer.
    ///
    /// # Errors
    /// Returns the driver's error.
    pub async fn open(&self, access: Access) -> Result<Arc<dyn BlockDevice>> {
        self.open_layer(self.storages.len() - 1, access).await
    }

    /// Opens the layer below the top one.
    ///
    /// # Errors
    /// Returns the driver's error.
    pub(super) async fn open_below(&self, access: Access) -> Result<Arc<dyn BlockDevice>> {
        self.open_layer(self.storages.len() - 2, access).await
    }

    async fn open_layer(&self, layer: usize, access: Access) -> Result<Arc<dyn BlockDevice>> {
        let storage = Arc::clone(&self.storages[layer]);
        self.subject.driver.open(storage, &Options::new(), access, &self.context()).await
    }

    /// Creates one layer of `size` bytes, as a child of the layer below it.
    ///
    /// # Errors
    /// Returns the driver's error.
    pub async fn create_layer(&self, layer: usize, size: u64) -> Result<()> {
        let mut request = CreateRequest::new(size).options(self.subject.create_options()?);
        if layer > 0 {
            let device = self.open_layer(layer - 1, Access::Read).await?;
            request = request.parent(NewParent { device, reference: layer_uri(layer - 1) });
        }
        let storage = Arc::clone(&self.storages[layer]);
        self.subject.driver.create(storage, &request, &self.context()).await
    }

    /// Whether the driver can check images.
    pub fn can_check(&self) -> bool {
        self.subject.driver.descriptor().can_check
    }

    /// Checks the top layer.
    ///
    /// # Errors
    /// Returns the driver's error.
    pub async fn check(&self, mode: CheckMode) -> Result<CheckReport> {
        self.subject.driver.check(Arc::clone(self.top()), mode, &self.context()).await
    }

    /// Checks the top layer for corruption. Returns an empty report if the driver cannot check.
    ///
    /// # Errors
    /// Returns the findings in words, or the error that stopped the check.
    pub async fn sound(&self) -> std::result::Result<CheckReport, String> {
        if !self.can_check() {
            return Ok(CheckReport::default());
        }
        self.sound_layer(self.top()).await
    }

    /// Like [`sound`](Self::sound), for every layer below the top one.
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
/// Returns the device's error.
pub async fn read_all(device: &dyn BlockDevice) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    read_all_into(device, &mut bytes).await?;
    Ok(bytes)
}

/// Like [`read_all`], into a buffer that is resized to fit.
///
/// # Errors
/// Returns the device's error.
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

/// Resolves the parent of layer n to layer n - 1.
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
