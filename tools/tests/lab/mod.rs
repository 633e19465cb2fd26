//! Images under names, on storages of the test's choice, for libraries and commands alike.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use block_core::{
    Access, Candidate, CheckMode, CheckReport, CreateRequest, Disk, Error, ErrorKind, FixedGate,
    NewParent, OpenContext, OpenRequest, OptionSpec, Options, ProtocolDriver, Registry, Result,
    Storage, StorageAccess, StorageOptions,
};
use block_core::{Image, MemStorage};

/// The protocol `lab:`: storages by name.
#[derive(Debug, Clone, Default)]
pub struct Files(Arc<Mutex<BTreeMap<String, Arc<dyn Storage>>>>);

#[async_trait]
impl ProtocolDriver for Files {
    fn scheme(&self) -> &'static str {
        "lab"
    }

    fn open_options(&self) -> &'static [OptionSpec] {
        &[]
    }

    async fn open(&self, location: &str, options: &StorageOptions) -> Result<Arc<dyn Storage>> {
        let found = self.0.lock().unwrap().get(location).cloned();
        let storage = found.ok_or_else(|| Error::new(ErrorKind::NotFound, "no such file"))?;
        if options.access == StorageAccess::Create {
            storage.set_len(0).await?;
        }
        Ok(storage)
    }
}

/// The drivers of VDI and raw over named storages.
#[derive(Debug, Clone, Default)]
pub struct Lab {
    pub files: Files,
}

impl Lab {
    pub fn new() -> Self {
        Self::default()
    }

    /// Storages in memory that hold `images`.
    pub fn of<'n>(images: impl IntoIterator<Item = (&'n str, Image)>) -> Self {
        let lab = Self::new();
        for (name, image) in images {
            lab.add(name, MemStorage::of(uri(name), image));
        }
        lab
    }

    pub fn add(&self, name: &str, storage: Arc<dyn Storage>) {
        self.files.0.lock().unwrap().insert(name.to_owned(), storage);
    }

    pub fn remove(&self, name: &str) {
        self.files.0.lock().unwrap().remove(name);
    }

    pub fn storage(&self, name: &str) -> Arc<dyn Storage> {
        Arc::clone(self.files.0.lock().unwrap().get(name).unwrap())
    }

    /// The drivers, owned.
    pub fn drivers(&self) -> Registry {
        let mut registry = Registry::new();
        block_vdi::register(&mut registry);
        block_raw::register(&mut registry);
        registry.register_protocol(Arc::new(self.files.clone()));
        registry
    }

    pub fn registry(&self) -> Arc<Registry> {
        Arc::new(self.drivers())
    }

    /// Runs a command; says whether it succeeded.
    pub fn command(&self, args: &[&str]) -> bool {
        let words = ["block-img"].iter().chain(args).map(OsString::from);
        let status = block_img::run(self.drivers(), words);
        format!("{status:?}") == format!("{:?}", ExitCode::SUCCESS)
    }

    /// Creates an image in memory; `parent` is a file and its format.
    pub async fn create(
        &self,
        name: &str,
        format: &str,
        size: u64,
        options: &str,
        parent: Option<(&str, &str)>,
    ) {
        let storage = MemStorage::of(uri(name), Image::default());
        self.add(name, storage.clone());
        let registry = self.registry();
        let driver = registry.driver(format).unwrap();
        let options = Options::parse(options, driver.descriptor().create_options).unwrap();
        let mut request = CreateRequest::new(size).options(options);
        if let Some((parent, format)) = parent {
            let disk = self.open_as(parent, format, Access::Read, &[]).await.unwrap();
            let device = Arc::clone(disk.device());
            request = request.parent(NewParent { device, reference: parent.to_owned() });
        }
        driver.create(storage, &request, &OpenContext::new(Arc::clone(&registry))).await.unwrap();
    }

    /// Opens a VDI; every other file may be its parent, those in `raw` and the one of that name as raw disks.
    pub async fn open(&self, name: &str, access: Access, raw: &[&str]) -> Result<Disk> {
        self.open_as(name, "vdi", access, raw).await
    }

    pub async fn open_as(
        &self,
        name: &str,
        format: &str,
        access: Access,
        raw: &[&str],
    ) -> Result<Disk> {
        self.registry().open(&self.request(name, format, access, raw)).await
    }

    pub fn request(&self, name: &str, format: &str, access: Access, raw: &[&str]) -> OpenRequest {
        OpenRequest::new(uri(name), access).format(format).gate(self.gate(raw, None))
    }

    /// Every file, the raw ones and the one that is named as the caller's word.
    pub fn gate(&self, raw: &[&str], named: Option<(&str, &str)>) -> Arc<FixedGate> {
        let names: Vec<String> = self.files.0.lock().unwrap().keys().cloned().collect();
        let candidates = names.iter().map(|name| match named {
            Some((known, format)) if known == name => Candidate::named(uri(name), format),
            _ if name == "raw" || raw.contains(&name.as_str()) => {
                Candidate::named(uri(name), "raw")
            }
            _ => Candidate::found(uri(name)),
        });
        Arc::new(FixedGate(candidates.collect()))
    }

    pub async fn check(&self, name: &str, mode: CheckMode) -> Result<CheckReport> {
        let registry = self.registry();
        let cx = OpenContext::new(Arc::clone(&registry));
        registry.driver("vdi").unwrap().check(self.storage(name), mode, &cx).await
    }
}

/// The name of a file of the lab on the command line.
pub fn uri(name: &str) -> String {
    format!("lab:{name}")
}

/// Everything that an image shows.
pub async fn content(disk: &Disk) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(disk.size()).unwrap()];
    for (index, chunk) in bytes.chunks_mut(1 << 20).enumerate() {
        disk.read_at((index as u64) << 20, chunk).await.unwrap();
    }
    bytes
}
