//! Which of all candidates is the parent that a child means.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use block_core::probe::{Probe, ProbeInput};
use block_core::{
    Access, BlockDevice, BlockDriver, Candidate, Candidates, CheckMode, CheckReport, CreateRequest,
    Descriptor, Error, ErrorKind, FixedGate, Gate, Identity, Measure, MemStorage, OpenContext,
    OptionSpec, Options, ParentFile, ParentRecord, ProtocolDriver, Reference, Registry, Result,
    Storage, StorageOptions,
};
use uuid::Uuid;

const PARENT: Uuid = Uuid::from_u128(0xAA);
const OTHER: Uuid = Uuid::from_u128(0xBB);
const RECORDED: Uuid = Uuid::from_u128(1);
const LATER: Uuid = Uuid::from_u128(2);
const RECORD: ParentRecord =
    ParentRecord { uuid: PARENT, modification: Some(RECORDED), verify: true };

/// A format of 33 bytes: a letter, an identity, the identity of the content. `z` has no identity.
#[derive(Debug)]
struct Format(u8);

const fn descriptor(name: &'static str) -> Descriptor {
    Descriptor {
        name,
        long_name: name,
        extensions: &[],
        can_create: false,
        can_check: false,
        can_repair: false,
        has_parents: true,
        open_options: &[],
        create_options: &[],
        amend_options: &[],
    }
}

fn unsupported<T>() -> Result<T> {
    Err(Error::new(ErrorKind::Unsupported, "only chosen, never opened"))
}

#[async_trait]
impl BlockDriver for Format {
    fn descriptor(&self) -> &'static Descriptor {
        static X: Descriptor = descriptor("x");
        static Y: Descriptor = descriptor("y");
        static Z: Descriptor = descriptor("z");
        match self.0 {
            b'x' => &X,
            b'y' => &Y,
            _ => &Z,
        }
    }

    fn probe(&self, _: &ProbeInput) -> Probe {
        Probe::none(self.descriptor().name)
    }

    async fn identity(&self, storage: &dyn Storage) -> Result<Option<Identity>> {
        let mut head = [0; 33];
        if storage.len().await? < 33 || self.0 == b'z' {
            return Ok(None);
        }
        storage.read_at(0, &mut head).await?;
        let uuid = |at: usize| Uuid::from_slice(&head[at..at + 16]).unwrap();
        Ok((head[0] == self.0).then(|| Identity { uuid: uuid(1), modification: Some(uuid(17)) }))
    }

    async fn open(
        &self,
        _: Arc<dyn Storage>,
        _: &Options,
        _: Access,
        _: &OpenContext,
    ) -> Result<Arc<dyn BlockDevice>> {
        unsupported()
    }

    async fn create(&self, _: Arc<dyn Storage>, _: &CreateRequest, _: &OpenContext) -> Result<()> {
        unsupported()
    }

    async fn check(
        &self,
        _: Arc<dyn Storage>,
        _: CheckMode,
        _: &OpenContext,
    ) -> Result<CheckReport> {
        unsupported()
    }

    fn measure(&self, _: u64, _: &Options, _: &(dyn Fn(u64) -> u64 + Sync)) -> Result<Measure> {
        unsupported()
    }
}

/// Files in memory. One that is said to be swapped is another file from its second opening on.
#[derive(Debug, Default)]
struct Files {
    files: Mutex<BTreeMap<String, Arc<MemStorage>>>,
    swapped: Mutex<BTreeMap<String, Arc<MemStorage>>>,
    opened: AtomicUsize,
}

#[async_trait]
impl ProtocolDriver for Files {
    fn scheme(&self) -> &'static str {
        "mem"
    }

    fn open_options(&self) -> &'static [OptionSpec] {
        &[]
    }

    async fn open(&self, location: &str, _: &StorageOptions) -> Result<Arc<dyn Storage>> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        let mut files = self.files.lock().unwrap();
        let file = files.get(location).cloned();
        if let Some(next) = self.swapped.lock().unwrap().remove(location) {
            files.insert(location.to_owned(), next);
        }
        let file = file.ok_or_else(|| Error::new(ErrorKind::NotFound, "no such file"))?;
        Ok(file)
    }
}

struct Lab {
    files: Arc<Files>,
    registry: Arc<Registry>,
    child: Arc<MemStorage>,
}

fn image(format: u8, uuid: Uuid, modification: Uuid) -> Arc<MemStorage> {
    let bytes = [&[format], uuid.as_bytes().as_slice(), modification.as_bytes()].concat();
    MemStorage::from_bytes(&bytes)
}

impl Lab {
    fn new() -> Self {
        let files = Arc::new(Files::default());
        let mut registry = Registry::new();
        registry.register_protocol(files.clone());
        for format in [b'x', b'y', b'z'] {
            registry.register(Arc::new(Format(format)));
        }
        Self { files, registry: Arc::new(registry), child: MemStorage::named("child") }
    }

    fn put(&self, name: &str, file: &Arc<MemStorage>) {
        self.files.files.lock().unwrap().insert(name.to_owned(), Arc::clone(file));
    }

    /// Files by name and modification UUID, all with the parent's UUID.
    fn with(files: &[(&str, Uuid)]) -> Self {
        let lab = Self::new();
        files.iter().for_each(|(name, stamp)| lab.put(name, &image(b'x', PARENT, *stamp)));
        lab
    }

    fn cx(&self, gate: impl Gate + 'static) -> OpenContext {
        OpenContext::new(Arc::clone(&self.registry)).gate(Arc::new(gate))
    }

    async fn find(&self, places: &[Candidate], access: Access) -> Result<ParentFile> {
        let cx = self.cx(FixedGate(places.to_vec())).parent_access(access);
        cx.find_parent(&*self.child, &RECORD).await
    }

    /// The storage in a file.
    fn file(&self, name: &str) -> Arc<MemStorage> {
        self.files.files.lock().unwrap()[name].clone()
    }

    /// Asserts that a file was chosen.
    #[track_caller]
    fn is(&self, name: &str, found: Result<ParentFile>) -> ParentFile {
        let found = found.unwrap();
        assert_eq!(found.storage.id(), self.file(name).id(), "not {name}");
        found
    }
}

fn found(names: &[&str]) -> Vec<Candidate> {
    names.iter().map(|name| Candidate::found(format!("mem:{name}"))).collect()
}

fn named(name: &str, format: &str) -> Candidate {
    Candidate::named(format!("mem:{name}"), format)
}

use Access::{Read, ReadWrite};

#[tokio::test]
async fn the_only_one_with_the_uuid_is_read_whatever_its_content() {
    let lab = Lab::with(&[("stale", LATER)]);
    lab.put("another", &image(b'x', OTHER, RECORDED));
    lab.put("none", &MemStorage::from_bytes(b"text"));
    let places = found(&["none", "another", "nowhere", "stale"]);
    let parent = lab.is("stale", lab.find(&places, Read).await);
    assert_eq!(parent.identity, Some(Identity { uuid: PARENT, modification: Some(LATER) }));
    assert!(!parent.named && parent.warnings.is_empty() && parent.format == "x");
}

#[tokio::test]
async fn among_several_the_one_with_the_recorded_content_is_taken_in_any_order() {
    let lab = Lab::with(&[("a copy", LATER), ("parent", RECORDED), ("z copy", LATER)]);
    for order in [["a copy", "parent", "z copy"], ["z copy", "a copy", "parent"]] {
        for access in [Read, ReadWrite] {
            lab.is("parent", lab.find(&found(&order), access).await);
        }
    }
}

#[tokio::test]
async fn among_several_alike_nothing_is_guessed_and_all_are_told() {
    for (stamp, why) in [(LATER, "none is known to have"), (RECORDED, "more than one has")] {
        let lab = Lab::with(&[("b", stamp), ("a", stamp)]);
        for access in [Read, ReadWrite] {
            let error = lab.find(&found(&["b", "a"]), access).await.unwrap_err();
            assert_eq!((error.kind(), error.image()), (ErrorKind::Ambiguous, Some("child")));
            assert_eq!(error.code(), Some("parent-ambiguous"));
            assert!(error.message().contains(why), "{error}");
            assert!(error.message().ends_with("'mem:a', 'mem:b'"), "{error}");
        }
    }
}

#[tokio::test]
async fn no_more_than_eight_files_are_told() {
    let names: Vec<String> = (10..40).map(|n| n.to_string()).collect();
    let files: Vec<(&str, Uuid)> = names.iter().map(|name| (name.as_str(), LATER)).collect();
    let places: Vec<&str> = names.iter().map(String::as_str).collect();
    let error = Lab::with(&files).find(&found(&places), Read).await.unwrap_err();
    assert!(error.message().starts_with("30 files can be the parent"), "{error}");
    assert!(error.message().ends_with("'mem:16', 'mem:17', and 22 more"), "{error}");
}

#[tokio::test]
async fn one_file_under_two_names_counts_once() {
    let lab = Lab::with(&[("a", LATER)]);
    lab.put("b", &lab.file("a"));
    lab.is("a", lab.find(&found(&["a", "b"]), Read).await);
    // Named under one of them, it is named.
    let parent = lab.find(&[found(&["a"]), vec![named("b", "x")]].concat(), ReadWrite).await;
    assert!(lab.is("a", parent).named);
}

#[tokio::test]
async fn a_parent_of_another_format_is_found_too() {
    let lab = Lab::with(&[("copy", LATER)]);
    lab.put("parent", &image(b'y', PARENT, RECORDED));
    let parent = lab.is("parent", lab.find(&found(&["copy", "parent"]), Read).await);
    assert_eq!(parent.format, "y");
}

#[tokio::test]
async fn one_is_written_into_if_its_content_is_the_recorded_one_or_if_it_was_named() {
    let lab = Lab::with(&[("stale", LATER)]);
    let error = lab.find(&found(&["stale"]), ReadWrite).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Denied, Some("parent-stale")));
    for text in ["mem:stale", &LATER.to_string(), &RECORDED.to_string()] {
        assert!(error.message().contains(text), "{error}");
    }
    lab.is("stale", lab.find(&[named("stale", "x")], ReadWrite).await);
    // Where nothing is recorded, nothing can be the recorded content.
    let cx = lab.cx(FixedGate(found(&["stale"]))).parent_access(ReadWrite);
    let record = ParentRecord { modification: None, ..RECORD };
    let error = cx.find_parent(&*lab.child, &record).await.unwrap_err();
    assert_eq!(error.code(), Some("parent-stale"));
}

#[tokio::test]
async fn what_the_caller_named_comes_before_what_was_found() {
    let lab = Lab::with(&[("exact", RECORDED), ("copy", RECORDED), ("stale", LATER)]);
    let all = found(&["exact", "copy", "stale"]);
    let with = |candidates: &[Candidate]| [&all, candidates].concat();
    for access in [Read, ReadWrite] {
        for name in ["exact", "copy", "stale"] {
            let parent = lab.is(name, lab.find(&with(&[named(name, "x")]), access).await);
            assert!(parent.named);
        }
        let both = with(&[named("stale", "x"), named("copy", "x")]);
        lab.is("copy", lab.find(&both, access).await);
        let alike = with(&[named("exact", "x"), named("copy", "x")]);
        let error = lab.find(&alike, access).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Ambiguous);
    }
}

#[tokio::test]
async fn a_named_file_of_a_format_without_identities_is_believed_after_all_others() {
    let lab = Lab::with(&[("found", LATER)]);
    lab.put("disk", &MemStorage::from_bytes(b"a raw disk"));
    lab.put("disk 2", &MemStorage::from_bytes(b"another"));
    let both = [found(&["found"]), vec![named("disk", "z")]].concat();
    lab.is("found", lab.find(&both, Read).await);
    for access in [Read, ReadWrite] {
        let parent = lab.is("disk", lab.find(&[named("disk", "z")], access).await);
        assert!(parent.named && parent.identity.is_none() && parent.format == "z");
    }
    let two = [named("disk", "z"), named("disk 2", "z")];
    assert_eq!(lab.find(&two, Read).await.unwrap_err().kind(), ErrorKind::Ambiguous);
    // Found, and not named, it is nothing.
    let error = lab.find(&found(&["disk"]), Read).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::NotFound, Some("parent-not-found")));
}

#[tokio::test]
async fn a_named_file_with_another_uuid_is_taken_only_where_that_is_allowed() {
    let lab = Lab::new();
    lab.put("another", &image(b'x', OTHER, RECORDED));
    let places = [named("another", "x")];
    let error = lab.find(&places, Read).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Corrupt, Some("parent-mismatch")));
    assert_eq!(error.image(), Some("mem:another"));
    let record = ParentRecord { verify: false, ..RECORD };
    let cx = |places: &[Candidate]| lab.cx(FixedGate(places.to_vec()));
    lab.is("another", cx(&places).find_parent(&*lab.child, &record).await);
    let error = cx(&found(&["another"])).find_parent(&*lab.child, &record).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "it was not named");
}

#[tokio::test]
async fn a_file_that_changes_between_the_look_and_the_opening_is_refused() {
    for access in [Read, ReadWrite] {
        // Another file under its name, and the same file with another header.
        let lab = Lab::with(&[("parent", RECORDED)]);
        let twin = image(b'x', PARENT, RECORDED);
        lab.files.swapped.lock().unwrap().insert("parent".to_owned(), twin);
        let error = lab.find(&found(&["parent"]), access).await.unwrap_err();
        assert_eq!((error.kind(), error.image()), (ErrorKind::Busy, Some("mem:parent")));
    }
    let lab = Lab::with(&[("parent", RECORDED)]);
    let cx = lab.cx(FixedGate(found(&["parent"])));
    lab.is("parent", cx.find_parent(&*lab.child, &RECORD).await);
    lab.file("parent").write_at(17, OTHER.as_bytes()).await.unwrap();
    // The context has looked at it before, and judges what it opens all the same.
    let error = cx.find_parent(&*lab.child, &RECORD).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    lab.is("parent", lab.find(&found(&["parent"]), Read).await);
}

#[tokio::test]
async fn an_image_of_the_chain_itself_is_no_parent() {
    let lab = Lab::with(&[("own", RECORDED)]);
    let cx = lab.cx(FixedGate(found(&["own"])));
    let error = cx.find_parent(&*lab.file("own"), &RECORD).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert_eq!(error.message(), "the chain leads back to mem:own");
    lab.put("copy", &image(b'x', PARENT, RECORDED));
    let cx = lab.cx(FixedGate(found(&["own", "copy"])));
    lab.is("copy", cx.find_parent(&*lab.file("own"), &RECORD).await);
}

/// A gate that did not see everything.
#[derive(Debug)]
struct Missed(Vec<Candidate>);

#[async_trait]
impl Gate for Missed {
    async fn candidates(&self, _: &Reference) -> Result<Candidates> {
        let missed = vec!["only 3 directory entries were looked at".to_owned()];
        Ok(Candidates { places: self.0.clone(), missed })
    }
}

#[tokio::test]
async fn what_could_not_be_looked_at_is_told_and_keeps_a_parent_from_being_written() {
    let lab = Lab::with(&[("parent", RECORDED)]);
    let cx = lab.cx(Missed(found(&["parent"])));
    let parent = lab.is("parent", cx.find_parent(&*lab.child, &RECORD).await);
    assert_eq!(parent.warnings, ["mem:parent: only 3 directory entries were looked at"]);
    let cx = cx.parent_access(ReadWrite);
    let error = cx.find_parent(&*lab.child, &RECORD).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.message().contains("only 3 directory entries"), "{error}");
    let cx = lab.cx(Missed(vec![named("parent", "x")])).parent_access(ReadWrite);
    let parent = lab.is("parent", cx.find_parent(&*lab.child, &RECORD).await);
    assert!(parent.warnings.is_empty());
    let cx = lab.cx(Missed(found(&["nowhere"])));
    let error = cx.find_parent(&*lab.child, &RECORD).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().ends_with("; only 3 directory entries were looked at"), "{error}");
}

#[tokio::test]
async fn a_chain_looks_at_each_file_once() {
    let lab = Lab::with(&[("parent", RECORDED)]);
    for number in 0..20 {
        lab.put(&format!("{number}"), &MemStorage::from_bytes(b"text"));
    }
    let names: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    let mut places: Vec<&str> = names.iter().map(String::as_str).collect();
    places.push("parent");
    let cx = lab.cx(FixedGate(found(&places)));
    for _ in 0..10 {
        lab.is("parent", cx.find_parent(&*lab.child, &RECORD).await);
    }
    // Each of them once, and the one that was chosen each time.
    assert_eq!(lab.files.opened.load(Ordering::Relaxed), 21 + 10);
}

#[tokio::test]
async fn a_file_that_two_formats_claim_is_no_parent() {
    #[derive(Debug)]
    struct Twin;

    #[async_trait]
    impl BlockDriver for Twin {
        fn descriptor(&self) -> &'static Descriptor {
            static TWIN: Descriptor = descriptor("twin");
            &TWIN
        }
        fn probe(&self, _: &ProbeInput) -> Probe {
            Probe::none("twin")
        }
        async fn identity(&self, storage: &dyn Storage) -> Result<Option<Identity>> {
            Format(b'x').identity(storage).await
        }
        async fn open(
            &self,
            _: Arc<dyn Storage>,
            _: &Options,
            _: Access,
            _: &OpenContext,
        ) -> Result<Arc<dyn BlockDevice>> {
            unsupported()
        }
        async fn create(
            &self,
            _: Arc<dyn Storage>,
            _: &CreateRequest,
            _: &OpenContext,
        ) -> Result<()> {
            unsupported()
        }
        async fn check(
            &self,
            _: Arc<dyn Storage>,
            _: CheckMode,
            _: &OpenContext,
        ) -> Result<CheckReport> {
            unsupported()
        }
        fn measure(&self, _: u64, _: &Options, _: &(dyn Fn(u64) -> u64 + Sync)) -> Result<Measure> {
            unsupported()
        }
    }

    let lab = Lab::with(&[("parent", RECORDED)]);
    let mut registry = Registry::new();
    registry.register_protocol(lab.files.clone());
    registry.register(Arc::new(Format(b'x')));
    registry.register(Arc::new(Twin));
    let cx = OpenContext::new(Arc::new(registry)).gate(Arc::new(FixedGate(found(&["parent"]))));
    let error = cx.find_parent(&*lab.child, &RECORD).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().contains("1 of them could not be read"), "{error}");
}
