//! The drivers of a program, and opening an image with the right one.

use std::fmt;
use std::sync::Arc;

use crate::codes;
use crate::inspect::Examination;
use crate::join::join_all;
use crate::options::nearest;
use crate::probe::{
    self, Candidate, Catalogue, GuardedStorage, ProbeInput, ProbeReport, ReadPlan, WindowRequests,
};
use crate::{
    Access, BlockDriver, CacheMode, DenyAll, Disk, Error, ErrorCode, ErrorKind, Gate, Limits,
    OpenContext, Options, ProtocolDriver, Result, Sharing, Storage, StorageAccess, StorageOptions,
};

/// The drivers of a program. It is a value that is filled by one `register` call for each driver crate.
#[derive(Default)]
pub struct Registry {
    drivers: Vec<Arc<dyn BlockDriver>>,
    protocols: Vec<Arc<dyn ProtocolDriver>>,
    catalogues: Vec<&'static Catalogue>,
    codes: Vec<&'static [ErrorCode]>,
}

/// Parameters for opening an image.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct OpenRequest {
    /// A path, or `scheme:location` of a registered protocol.
    pub uri: String,
    /// Format of the image. `None`: detect it.
    pub format: Option<String>,
    /// Access mode.
    pub access: Access,
    /// Access that other programs get while the image is open.
    pub sharing: Sharing,
    /// How writes reach the disk.
    pub cache: CacheMode,
    /// Open options of the format's driver, unparsed.
    pub options: Vec<(String, String)>,
    /// Options of the protocol, unparsed.
    pub storage_options: Vec<(String, String)>,
    /// Gate that decides which files named by images may be opened.
    pub gate: Arc<dyn Gate>,
    /// Access mode of the direct parent.
    pub parent_access: Access,
    /// Resource limits for one image.
    pub limits: Limits,
}

impl OpenRequest {
    /// Creates a request for `access`: exclusive, with format detection, and without opening files that the
    /// image names.
    pub fn new(uri: impl Into<String>, access: Access) -> Self {
        Self {
            uri: uri.into(),
            format: None,
            access,
            sharing: Sharing::Exclusive,
            cache: CacheMode::Writeback,
            options: Vec::new(),
            storage_options: Vec::new(),
            gate: Arc::new(DenyAll),
            parent_access: Access::Read,
            limits: Limits::default(),
        }
    }

    /// Sets the format of the image.
    #[must_use]
    pub fn format(mut self, format: impl Into<String>) -> Self {
        self.format = Some(format.into());
        self
    }

    /// Sets the gate.
    #[must_use]
    pub fn gate(mut self, gate: Arc<dyn Gate>) -> Self {
        self.gate = gate;
        self
    }
}

impl Registry {
    /// Creates a registry without drivers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a format. Replaces an earlier driver with the same name.
    pub fn register(&mut self, driver: Arc<dyn BlockDriver>) {
        let name = driver.descriptor().name;
        self.drivers.retain(|known| known.descriptor().name != name);
        self.drivers.push(driver);
    }

    /// Adds a protocol. Replaces an earlier protocol with the same scheme. The first one also opens bare
    /// paths.
    pub fn register_protocol(&mut self, protocol: Arc<dyn ProtocolDriver>) {
        let scheme = protocol.scheme();
        match self.protocols.iter_mut().find(|known| known.scheme() == scheme) {
            Some(known) => *known = protocol,
            None => self.protocols.push(protocol),
        }
    }

    /// Adds formats that are recognised and inspected without a driver.
    pub fn register_catalogue(&mut self, catalogue: &'static Catalogue) {
        self.catalogues.push(catalogue);
    }

    /// Adds explanations of the codes of a driver's errors and findings.
    pub fn register_codes(&mut self, codes: &'static [ErrorCode]) {
        self.codes.push(codes);
    }

    /// Returns the codes of errors and check findings: first those of this crate, then the registered ones.
    pub fn codes(&self) -> impl Iterator<Item = &'static ErrorCode> {
        codes::CORE.iter().chain(self.codes.iter().copied().flatten())
    }

    /// Returns the registered catalogues.
    pub fn catalogues(&self) -> &[&'static Catalogue] {
        &self.catalogues
    }

    /// Returns the format drivers, sorted by name.
    pub fn drivers(&self) -> Vec<&Arc<dyn BlockDriver>> {
        let mut drivers: Vec<_> = self.drivers.iter().collect();
        drivers.sort_by_key(|driver| driver.descriptor().name);
        drivers
    }

    /// Returns the protocols in the order of registration.
    pub fn protocols(&self) -> &[Arc<dyn ProtocolDriver>] {
        &self.protocols
    }

    /// Returns the driver of a format.
    ///
    /// # Errors
    /// `InvalidInput` for a name that is not registered, with the nearest registered name as a hint.
    pub fn driver(&self, name: &str) -> Result<&Arc<dyn BlockDriver>> {
        self.drivers.iter().find(|driver| driver.descriptor().name == name).ok_or_else(|| {
            let error = Error::new(ErrorKind::InvalidInput, format!("Unknown driver '{name}'"))
                .with_code("driver-unknown");
            match nearest(name, self.drivers.iter().map(|driver| driver.descriptor().name)) {
                Some(known) => error.with_hint(format!("did you mean '{known}'?")),
                None => error,
            }
        })
    }

    /// Splits a URI into its protocol and location. Text before a colon is part of a path if it is not a
    /// registered scheme.
    ///
    /// # Errors
    /// `Unsupported` if no protocol is registered.
    pub fn protocol<'u>(&self, uri: &'u str) -> Result<(&Arc<dyn ProtocolDriver>, &'u str)> {
        let named = uri.split_once(':').and_then(|(scheme, location)| {
            let protocol = self.protocols.iter().find(|p| p.scheme() == scheme)?;
            Some((protocol, location))
        });
        named.or_else(|| self.protocols.first().map(|protocol| (protocol, uri))).ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, "no protocol driver is registered").in_image(uri)
        })
    }

    /// Opens a storage.
    ///
    /// # Errors
    /// Any error of the protocol driver.
    pub async fn open_storage(
        &self,
        uri: &str,
        options: &StorageOptions,
    ) -> Result<Arc<dyn Storage>> {
        let (protocol, location) = self.protocol(uri)?;
        protocol.open(location, options).await
    }

    /// Reads the parts of a file that format detection needs, and nothing else.
    ///
    /// # Errors
    /// Any error of reading. A file that ends early is not an error.
    pub async fn probe_input(
        &self,
        storage: &dyn Storage,
        name: Option<&str>,
    ) -> Result<ProbeInput> {
        let mut plan = ReadPlan::new(storage.len().await?, name);
        loop {
            let round = plan.next_round(|input, requests| self.request_windows(input, requests));
            if round.is_empty() {
                return Ok(plan.finish());
            }
            let reads = round.into_iter().map(async |request| {
                let mut window = vec![0; request.len];
                storage.read_at(request.offset, &mut window).await.map(|()| (request, window))
            });
            for read in join_all(reads).await {
                match read {
                    Ok((request, window)) => plan.supply(request.offset, window),
                    Err(error) if error.kind() == ErrorKind::OutOfRange => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }

    /// Returns the parts of a file that format detection needs. The whole file is in memory.
    pub fn probe_bytes(&self, name: Option<&str>, file: &[u8]) -> ProbeInput {
        let mut plan = ReadPlan::new(u64::try_from(file.len()).unwrap_or(u64::MAX), name);
        loop {
            let round = plan.next_round(|input, requests| self.request_windows(input, requests));
            if round.is_empty() {
                return plan.finish();
            }
            for request in round {
                let start = usize::try_from(request.offset).unwrap_or(usize::MAX);
                let bytes = file.get(start..start.saturating_add(request.len)).unwrap_or_default();
                plan.supply(request.offset, bytes.to_vec());
            }
        }
    }

    /// Collects the windows that drivers and catalogues need beyond those already read.
    pub(crate) fn request_windows(&self, input: &ProbeInput, requests: &mut WindowRequests) {
        for driver in &self.drivers {
            driver.probe_windows(input, requests);
        }
        for catalogue in &self.catalogues {
            catalogue.request_windows(input, requests);
        }
    }

    /// Asks every driver, and every recogniser of formats without a driver, what `storage` is.
    ///
    /// # Errors
    /// Any error of reading. The report says what the file is, or that it was not recognised.
    pub async fn probe(&self, storage: &dyn Storage) -> Result<ProbeReport> {
        let input = self.probe_input(storage, Some(storage.uri())).await?;
        Ok(self.recognise(&input))
    }

    /// Detects the format as [`probe`](Self::probe) does, from windows that were already read.
    pub fn recognise(&self, input: &ProbeInput) -> ProbeReport {
        let mut probes: Vec<_> = self.drivers.iter().map(|driver| driver.probe(input)).collect();
        for recogniser in self.catalogues.iter().flat_map(|catalogue| catalogue.recognisers()) {
            if !probes.iter().any(|probe| probe.id == recogniser.id) {
                probes.push((recogniser.probe)(input));
            }
        }
        let hints = self.catalogues.iter().flat_map(|catalogue| catalogue.hints(input)).collect();
        probe::decide(input, probes, hints)
    }

    /// Examines the metadata of one format that claims a file, with the inspector of its driver or of a
    /// catalogue.
    ///
    /// # Errors
    /// Any error of reading. Defects of the file are findings, not errors.
    pub async fn examine(
        &self,
        candidate: &Candidate,
        examination: &mut Examination<'_>,
    ) -> Result<()> {
        examination.of_format(&candidate.id);
        let driver = self.drivers.iter().find(|known| known.descriptor().name == candidate.id);
        if let Some(driver) = driver {
            return driver.inspect(examination).await;
        }
        let inspectors = self.catalogues.iter().flat_map(|catalogue| catalogue.inspectors);
        for inspector in inspectors.filter(|known| known.formats.contains(&candidate.id.as_str())) {
            (inspector.examine)(examination).await?;
        }
        Ok(())
    }

    /// Opens an image: its storage, its format (named or detected) and its chain.
    ///
    /// # Errors
    /// `Unrecognised` or `Ambiguous` if detection does not yield one format, `Unsupported` if no driver opens
    /// it, and any error of the drivers.
    pub async fn open(self: &Arc<Self>, request: &OpenRequest) -> Result<Disk> {
        self.open_on(self.open_file(request).await?, request).await
    }

    /// Opens the storage of an image, but not the image in it.
    ///
    /// # Errors
    /// `InvalidInput` for an option that the protocol does not have, and any error of its driver.
    pub async fn open_file(&self, request: &OpenRequest) -> Result<Arc<dyn Storage>> {
        let access = match request.access {
            Access::Read => StorageAccess::Read,
            Access::ReadWrite => StorageAccess::ReadWrite,
        };
        let (protocol, location) = self.protocol(&request.uri)?;
        let options = StorageOptions::new(access)
            .sharing(request.sharing)
            .cache(request.cache)
            .options(Options::of(&request.storage_options, protocol.open_options())?);
        protocol.open(location, &options).await
    }

    /// Opens an image as [`open`](Self::open) does, on a storage that is already open.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_on(
        self: &Arc<Self>,
        storage: Arc<dyn Storage>,
        request: &OpenRequest,
    ) -> Result<Disk> {
        let mut storage = storage;
        let driver = match &request.format {
            Some(format) => self.driver(format)?,
            None => {
                let input = self.probe_input(&*storage, Some(storage.uri())).await?;
                let report = self.recognise(&input);
                let driver = self.driver_of(&report, storage.uri())?;
                if request.access == Access::ReadWrite && report.is_written_by_guest() {
                    let name = driver.descriptor().name;
                    let registry = Arc::clone(self);
                    storage = Arc::new(GuardedStorage::new(storage, registry, name, &input));
                }
                driver
            }
        };
        let options = Options::of(&request.options, driver.descriptor().open_options)?;
        let cx = OpenContext::new(Arc::clone(self))
            .gate(Arc::clone(&request.gate))
            .limits(request.limits)
            .files(request.sharing, request.cache)
            .parent_access(request.parent_access);
        let uri = storage.uri().to_owned();
        let device = driver.open(storage, &options, request.access, &cx).await;
        Ok(Disk::new(device.map_err(|error| error.in_image(uri))?))
    }

    /// Returns the driver of the format that detection selected for the storage `uri`.
    ///
    /// # Errors
    /// `Unrecognised` or `Ambiguous` if detection did not yield one format, and `Unsupported` for a format
    /// without a driver.
    pub fn driver_of(&self, report: &ProbeReport, uri: &str) -> Result<&Arc<dyn BlockDriver>> {
        let known = |name: &str| self.drivers.iter().find(|d| d.descriptor().name == name);
        let refused = |kind, message: String| Error::new(kind, message).in_image(uri);
        let Some(selected) = report.selected() else {
            let kind = match report.decision {
                probe::Decision::Ambiguous => ErrorKind::Ambiguous,
                _ => ErrorKind::Unrecognised,
            };
            return Err(refused(kind, report.explain()));
        };
        report.drivers().iter().find_map(|name| known(name)).ok_or_else(|| {
            let kind = ErrorKind::Unsupported;
            refused(kind, format!("this is {}, and no driver opens it", selected.id))
        })
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.drivers().iter().map(|d| d.descriptor().name).collect();
        let schemes: Vec<_> = self.protocols.iter().map(|p| p.scheme()).collect();
        f.debug_struct("Registry").field("drivers", &names).field("protocols", &schemes).finish()
    }
}
