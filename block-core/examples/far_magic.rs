//! A third-party driver with the same capabilities as a built-in one. Its magic number is 1 MiB into the
//! file, it examines files for harmful metadata, and it explains its error codes.
//!
//! `cargo run -p block-core --example far_magic -- probe FILE` is `block-img` with this format. `cargo test
//! -p block-core --example far_magic` tests that probing, inspecting and explaining support it.
//!
//! An "attic" image starts with 1 MiB of any content. The header follows: the magic, the size of the disk as
//! a `u64`, and the name of a file that old programs also opened, with its length first as a `u16`. The disk
//! starts at 2 MiB.

use std::process::ExitCode;
use std::sync::Arc;

use async_trait::async_trait;
use block_core::inspect::{Code, Examination};
use block_core::probe::{Placement, Probe, ProbeInput, WindowRequests};
use block_core::{
    Access, BlockDevice, BlockDriver, CheckMode, CheckReport, CreateRequest, Descriptor, Error,
    ErrorCode, ErrorKind, Identity, Measure, OpenContext, Options, Registry, Result, Storage,
};

const MAGIC: &[u8; 8] = b"ATTIC\0\0\x01";
/// Offset of the header, in bytes.
const HEADER: u64 = 1 << 20;
const SIZE: u64 = HEADER + 8;
const NAME_LEN: u64 = HEADER + 16;
const NAME: u64 = HEADER + 18;
/// Offset of the disk's content, in bytes.
const DATA: u64 = 2 << 20;

const CODES: &[ErrorCode] = &[ErrorCode::new(
    "attic.header.size",
    "the header states a size that the file does not hold",
    "The file was cut short, or the header is damaged. Restore the file from a copy.",
)];

static DESCRIPTOR: Descriptor = Descriptor {
    name: "attic",
    long_name: "the format with the far magic",
    extensions: &["attic"],
    can_create: false,
    can_check: false,
    can_repair: false,
    has_parents: false,
    open_options: &[],
    create_options: &[],
    amend_options: &[],
};

/// The format. This driver only reads it and never creates images.
#[derive(Debug)]
struct Attic;

/// Adds the format to a registry, as every driver crate does.
fn register(registry: &mut Registry) {
    registry.register(Arc::new(Attic));
    registry.register_codes(CODES);
}

fn unsupported<T>() -> Result<T> {
    Err(Error::new(ErrorKind::Unsupported, "attic images are only read"))
}

/// Returns the size of the disk, if the file is long enough to hold it.
fn size(input: &ProbeInput) -> Option<u64> {
    let size = input.u64_le(SIZE)?;
    DATA.checked_add(size).filter(|end| *end <= input.len()).map(|_| size)
}

#[async_trait]
impl BlockDriver for Attic {
    fn descriptor(&self) -> &'static Descriptor {
        &DESCRIPTOR
    }

    /// Requests a window at 1 MiB, because the first windows end before it.
    fn probe_windows(&self, _: &ProbeInput, requests: &mut WindowRequests) {
        requests.read(HEADER, 512);
    }

    fn probe(&self, input: &ProbeInput) -> Probe {
        Probe::of("attic", input)
            .placement(Placement::Header)
            .signature(HEADER, MAGIC)
            .structure("size", (SIZE, 8), "inside the file", size(input).is_some())
            .name(&["attic"])
            .done()
    }

    async fn inspect(&self, examination: &mut Examination<'_>) -> Result<()> {
        examination.disk_size((SIZE, 8), examination.input.u64_le(SIZE));
        let len = examination.input.u16_le(NAME_LEN).unwrap_or(0);
        if len > 0 && examination.need(NAME, len.into()).await? {
            let name = examination.input.prefix(NAME, len.into()).to_vec();
            let message = "old programs open the file that is named here";
            examination.reference(Code::ExtBacking, (NAME, len.into()), &name, message);
        }
        Ok(())
    }

    async fn identity(&self, _: &dyn Storage) -> Result<Option<Identity>> {
        Ok(None)
    }

    async fn open(
        &self,
        storage: Arc<dyn Storage>,
        _: &Options,
        _: Access,
        cx: &OpenContext,
    ) -> Result<Arc<dyn BlockDevice>> {
        let mut field = [0; 8];
        storage.read_at(SIZE, &mut field).await?;
        let size = u64::from_le_bytes(field);
        let len = storage.len().await?;
        if DATA.checked_add(size).is_none_or(|end| end > len) {
            let text =
                format!("the disk has {size} bytes from {DATA:#x} on, the file ends at {len:#x}");
            return Err(Error::new(ErrorKind::Corrupt, text)
                .at(SIZE)
                .with_code("attic.header.size"));
        }
        // The disk is a window of the file, which the raw driver serves.
        let raw = cx.registry().driver("raw")?;
        let window =
            [("offset".to_owned(), DATA.to_string()), ("size".to_owned(), size.to_string())];
        let options = Options::of(&window, raw.descriptor().open_options)?;
        raw.open(storage, &options, Access::Read, cx).await
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

/// Runs `block-img` with one more format.
fn main() -> ExitCode {
    let mut registry = block_img::registry();
    register(&mut registry);
    block_img::run(registry, std::env::args_os())
}

#[cfg(test)]
mod tests {
    use super::*;
    use block_core::MemStorage;
    use block_core::probe::Decision;

    fn registry() -> Registry {
        let mut registry = block_img::registry();
        register(&mut registry);
        registry
    }

    /// Returns an image that holds 4096 bytes of 7 and names a file.
    fn image(name: &str) -> Vec<u8> {
        let mut file = vec![0; 1 << 20];
        file.extend(MAGIC);
        file.extend(4096u64.to_le_bytes());
        file.extend((name.len() as u16).to_le_bytes());
        file.extend(name.as_bytes());
        file.resize(2 << 20, 0);
        file.resize((2 << 20) + 4096, 7);
        // Every probe reads the end of the file. The image must be recognised without it.
        file.resize(8 << 20, 0);
        file
    }

    fn run(registry: Registry, words: &[&str]) -> String {
        let args = std::iter::once("block-img").chain(words.iter().copied());
        format!("{:?}", block_img::run(registry, args.map(Into::into)))
    }

    #[tokio::test]
    async fn the_magic_is_found_a_mebibyte_into_the_file() {
        let storage = MemStorage::from_bytes(&image(""));
        let report = registry().probe(&*storage).await.unwrap();
        assert_eq!(
            (report.decision, report.selected.as_deref()),
            (Decision::Selected, Some("attic"))
        );
        let report = block_img::registry().probe(&*storage).await.unwrap();
        assert_eq!(report.decision, Decision::Raw, "without the driver nobody looks there");
    }

    #[test]
    fn the_command_line_probes_reads_inspects_and_explains_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let (plain, naming, cut) = (path("plain.attic"), path("naming.attic"), path("cut.attic"));
        std::fs::write(&plain, image("")).unwrap();
        std::fs::write(&naming, image("../secret")).unwrap();
        std::fs::write(&cut, &image("")[..(2 << 20) + 100]).unwrap();
        std::fs::write(path("disk.raw"), [7; 4096]).unwrap();
        let code = |code: u8| format!("{:?}", ExitCode::from(code));
        for (words, status) in [
            (&["probe", &plain][..], 0),
            (&["compare", "-F", "raw", &plain, &path("disk.raw")], 0),
            (&["inspect", &plain], 0),
            (&["inspect", &naming], 2),
            (&["inspect", "--accept", "ext-backing", "--accept", "path-traversal", &naming], 0),
            (&["info", "-f", "attic", &cut], 1),
            (&["explain", "attic.header.size"], 0),
        ] {
            assert_eq!(run(registry(), words), code(status), "{words:?}");
        }
        assert_eq!(run(block_img::registry(), &["explain", "attic.header.size"]), code(1));
    }
}
