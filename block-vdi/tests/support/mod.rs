//! Images in memory under names by which chains find them.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod rows;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use block_core::{
    Access, Candidate, CheckMode, CheckReport, CreateRequest, Disk, FixedGate, InfoValue,
    MemStorage, NewParent, OpenContext, OpenRequest, OptionSpec, Options, ProtocolDriver, Registry,
    Result, Storage, StorageOptions,
};

pub const MIB: u64 = 1 << 20;
pub const FREE: u32 = 0xFFFF_FFFF;
pub const ZERO: u32 = 0xFFFF_FFFE;

/// Files in memory, and the drivers that open them.
#[derive(Debug, Clone)]
pub struct Lab {
    pub files: Files,
    pub registry: Arc<Registry>,
}

/// A protocol for named storages in memory.
#[derive(Debug, Clone, Default)]
pub struct Files(Arc<Mutex<BTreeMap<String, Arc<dyn Storage>>>>);

#[async_trait]
impl ProtocolDriver for Files {
    fn scheme(&self) -> &'static str {
        "mem"
    }

    fn open_options(&self) -> &'static [OptionSpec] {
        &[]
    }

    async fn open(&self, location: &str, _: &StorageOptions) -> Result<Arc<dyn Storage>> {
        let files = self.0.lock().unwrap();
        files
            .get(location)
            .cloned()
            .ok_or_else(|| block_core::Error::new(block_core::ErrorKind::NotFound, "no such file"))
    }
}

impl Lab {
    pub fn new() -> Self {
        let files = Files::default();
        let mut registry = Registry::new();
        block_vdi::register(&mut registry);
        registry.register_protocol(Arc::new(files.clone()));
        Self { files, registry: Arc::new(registry) }
    }

    /// Creates a storage under `name`.
    pub fn file(&self, name: &str) -> Arc<MemStorage> {
        let storage = MemStorage::named(name);
        self.add(name, storage.clone());
        storage
    }

    pub fn add(&self, name: &str, storage: Arc<dyn Storage>) {
        self.files.0.lock().unwrap().insert(name.into(), storage);
    }

    pub fn remove(&self, name: &str) {
        self.files.0.lock().unwrap().remove(name);
    }

    pub async fn file_at(&self, name: &str) -> Arc<dyn Storage> {
        self.files.open(name, &read()).await.unwrap()
    }

    pub async fn file_bytes(&self, name: &str) -> Vec<u8> {
        let storage = self.file_at(name).await;
        let mut bytes = vec![0; usize::try_from(storage.len().await.unwrap()).unwrap()];
        storage.read_at(0, &mut bytes).await.unwrap();
        bytes
    }

    pub fn cx(&self) -> OpenContext {
        OpenContext::new(Arc::clone(&self.registry))
    }

    pub async fn create(&self, name: &str, size: u64, options: &str) -> Result<Arc<MemStorage>> {
        let storage = self.file(name);
        self.create_on(storage.clone(), size, options, None).await?;
        Ok(storage)
    }

    pub async fn create_on(
        &self,
        storage: Arc<dyn Storage>,
        size: u64,
        options: &str,
        parent: Option<NewParent>,
    ) -> Result<()> {
        let driver = self.registry.driver("vdi")?;
        let options = Options::parse(options, driver.descriptor().create_options)?;
        let mut request = CreateRequest::new(size).options(options);
        request.parent = parent;
        driver.create(storage, &request, &self.cx()).await
    }

    /// Creates a child of the image in file `parent`, with the same size.
    pub async fn create_child(
        &self,
        name: &str,
        parent: &str,
        options: &str,
    ) -> Result<Arc<MemStorage>> {
        let disk = self.open(parent, Access::Read, "").await?;
        let storage = self.file(name);
        let new_parent =
            NewParent { device: Arc::clone(disk.device()), reference: parent.to_owned() };
        self.create_on(storage.clone(), disk.size(), options, Some(new_parent)).await?;
        Ok(storage)
    }

    /// Opens a file as VDI. Every other file is a candidate for its parent.
    pub async fn open(&self, name: &str, access: Access, options: &str) -> Result<Disk> {
        let storage = self.files.open(name, &read()).await?;
        self.open_on(storage, access, options).await
    }

    pub async fn open_on(
        &self,
        storage: Arc<dyn Storage>,
        access: Access,
        options: &str,
    ) -> Result<Disk> {
        let names: Vec<_> = self.files.0.lock().unwrap().keys().cloned().collect();
        let candidates =
            names.into_iter().map(|name| Candidate::found(format!("mem:{name}"))).collect();
        self.open_below(storage, access, options, candidates).await
    }

    pub async fn open_below(
        &self,
        storage: Arc<dyn Storage>,
        access: Access,
        options: &str,
        candidates: Vec<Candidate>,
    ) -> Result<Disk> {
        let mut request = OpenRequest::new("mem:", access).format("vdi");
        request.gate = Arc::new(FixedGate(candidates));
        request.options = options
            .split(',')
            .filter_map(|option| option.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        self.registry.open_on(storage, &request).await
    }

    /// Opens a file like [`open`](Self::open) for writing, and its parent for writing too.
    pub async fn open_with_parent(&self, name: &str) -> Result<Disk> {
        let names: Vec<_> = self.files.0.lock().unwrap().keys().cloned().collect();
        let mut request = OpenRequest::new("mem:", Access::ReadWrite).format("vdi");
        let candidate = |name| Candidate::found(format!("mem:{name}"));
        request.gate = Arc::new(FixedGate(names.into_iter().map(candidate).collect()));
        request.parent_access = Access::ReadWrite;
        self.registry.open_on(self.files.open(name, &read()).await?, &request).await
    }

    pub async fn check(&self, storage: Arc<dyn Storage>, mode: CheckMode) -> Result<CheckReport> {
        self.registry.driver("vdi")?.check(storage, mode, &self.cx()).await
    }

    /// Checks a file like [`check`](Self::check), with all files as candidates for its parent.
    pub async fn check_with_parents(
        &self,
        storage: Arc<dyn Storage>,
        mode: CheckMode,
    ) -> Result<CheckReport> {
        let names: Vec<_> = self.files.0.lock().unwrap().keys().cloned().collect();
        let candidate = |name| Candidate::found(format!("mem:{name}"));
        let gate = FixedGate(names.into_iter().map(candidate).collect());
        let cx = self.cx().gate(Arc::new(gate));
        self.registry.driver("vdi")?.check(storage, mode, &cx).await
    }

    /// Asserts that a check reports no corruption and no leak. Cosmetic findings are allowed.
    pub async fn assert_clean(&self, storage: Arc<dyn Storage>) {
        let report = self.check(storage, CheckMode::Report).await.unwrap();
        assert!(report.is_clean(), "{report:#?}");
    }
}

pub fn read() -> StorageOptions {
    StorageOptions::new(block_core::StorageAccess::Read)
}

/// Returns the guest's view of the whole disk.
pub async fn content(disk: &Disk) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(disk.size()).unwrap()];
    for (index, chunk) in bytes.chunks_mut(1 << 20).enumerate() {
        disk.read_at(index as u64 * MIB, chunk).await.unwrap();
    }
    bytes
}

/// Returns a value from an image's details.
pub fn detail(disk: &Disk, name: &str) -> InfoValue {
    let info = disk.info();
    let found = info.details.iter().find(|(known, _)| *known == name);
    found.unwrap_or_else(|| panic!("no detail {name} in {info:?}")).1.clone()
}

pub fn number(disk: &Disk, name: &str) -> u64 {
    match detail(disk, name) {
        InfoValue::Number(number) => number,
        other => panic!("{name} is {other:?}"),
    }
}

/// Returns an image with blocks of 1 MiB. Its map is at 0x200 and its data on the next sector after the map. Slot `k`
/// is filled with `0xA0 + k`.
pub fn image(disk_size: u64, map: &[u32], slots: u32) -> Vec<u8> {
    let data_offset = 0x200 + (map.len() * 4).next_multiple_of(512);
    let mut bytes = vec![0; data_offset + slots as usize * MIB as usize];
    poke(&mut bytes, 0, b"<<< test image >>>\n");
    poke(&mut bytes, 0x40, &0xBEDA_107Fu32.to_le_bytes());
    poke(&mut bytes, 0x44, &0x0001_0001u32.to_le_bytes());
    poke(&mut bytes, 0x48, &0x190u32.to_le_bytes());
    poke(&mut bytes, 0x4C, &1u32.to_le_bytes());
    poke(&mut bytes, 0x154, &0x200u32.to_le_bytes());
    poke(&mut bytes, 0x158, &u32::try_from(data_offset).unwrap().to_le_bytes());
    poke(&mut bytes, 0x168, &512u32.to_le_bytes());
    poke(&mut bytes, 0x170, &disk_size.to_le_bytes());
    poke(&mut bytes, 0x178, &(1u32 << 20).to_le_bytes());
    poke(&mut bytes, 0x180, &u32::try_from(map.len()).unwrap().to_le_bytes());
    poke(&mut bytes, 0x184, &slots.to_le_bytes());
    poke(&mut bytes, 0x188, &[0x11; 16]);
    poke(&mut bytes, 0x198, &[0x22; 16]);
    poke(&mut bytes, 0x1D4, &512u32.to_le_bytes());
    for (index, entry) in map.iter().enumerate() {
        poke(&mut bytes, 0x200 + index * 4, &entry.to_le_bytes());
    }
    for slot in 0..slots as usize {
        let start = data_offset + slot * MIB as usize;
        bytes[start..start + MIB as usize].fill(0xA0 + slot as u8);
    }
    bytes
}

/// Returns the sound image of these tests: four blocks, two of them stored, one free, one zero.
pub fn base4() -> Vec<u8> {
    image(4 * MIB, &[0, 1, FREE, ZERO], 2)
}

pub fn poke(bytes: &mut [u8], offset: usize, value: &[u8]) {
    bytes[offset..offset + value.len()].copy_from_slice(value);
}

/// Returns the map entries stored in the file.
pub fn map_of(file: &MemStorage) -> Vec<u32> {
    let bytes = file.to_bytes().unwrap();
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let map = u32_at(0x154) as usize;
    (0..u32_at(0x180) as usize).map(|index| u32_at(map + index * 4)).collect()
}

/// Returns the header's number of slots in use.
pub fn allocated_of(file: &MemStorage) -> u32 {
    let bytes = file.to_bytes().unwrap();
    u32::from_le_bytes(bytes[0x184..0x188].try_into().unwrap())
}
