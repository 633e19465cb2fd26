//! New images: plans them, and writes them so that an unfinished file is never an image.

use block_core::{
    Advice, CreateRequest, Error, ErrorKind, InfoValue, Measure, NewParent, OptionKind, OptionSpec,
    Options, Preallocation, Result, SECTOR_SIZE, Storage, StorageCaps, ZeroMode,
};
use uuid::Uuid;
use zerocopy::{FromZeros, IntoBytes};

use crate::amend::{checked_comment, parse_geometry};
use crate::fill::{self, Entries};
use crate::format::{
    ENTRY_FREE, ENTRY_ZERO, HEADER_SIZE_V1, HEADER_SIZE_V1_PLUS, RawHeaderV1, SIGNATURE, TEXT,
    VERSION_1_1,
};
use crate::header::{BLOCK_SIZES, ImageType, SECTOR};
use crate::info;

/// The options of [`create`] and [`measure`].
pub(crate) const OPTIONS: &[OptionSpec] = &[
    OptionSpec {
        name: "static",
        kind: OptionKind::Bool,
        default: Some("off"),
        help: "give every block its place at once",
    },
    OptionSpec {
        name: "layout",
        kind: OptionKind::Choice(&["virtualbox", "qemu"]),
        default: Some("virtualbox"),
        help: "begin map and data on 1 MiB boundaries, or as early as QEMU does",
    },
    OptionSpec {
        name: "block_size",
        kind: OptionKind::Size { min: 128 << 10, max: 128 << 20 },
        default: Some("1M"),
        help: "bytes in a block, a power of two; QEMU reads only 1M",
    },
    OptionSpec {
        name: "preallocation",
        kind: OptionKind::Choice(&["off", "metadata", "falloc", "full"]),
        default: Some("off"),
        help: "map entries only, set space aside, or write zeros",
    },
    OptionSpec {
        name: "uuid",
        kind: OptionKind::Uuid,
        default: None,
        help: "identity of the image",
    },
    OptionSpec {
        name: "modification_uuid",
        kind: OptionKind::Uuid,
        default: None,
        help: "identity of its content",
    },
    OptionSpec {
        name: "comment",
        kind: OptionKind::Text,
        default: None,
        help: "a note of at most 255 bytes",
    },
    OptionSpec {
        name: "geometry",
        kind: OptionKind::Text,
        default: None,
        help: "logical cylinders/heads/sectors",
    },
];

/// Writes a new image. The header comes last, so a power failure before that leaves no image.
pub(crate) async fn create(storage: &dyn Storage, request: &CreateRequest) -> Result<()> {
    let parent_size = request
        .parent
        .as_ref()
        .map(|parent| parent.device.sector_count().saturating_mul(SECTOR_SIZE));
    let plan = Plan::new(request.size, &request.options, parent_size)?;
    let header = plan.header(&request.options, request.parent.as_ref())?;
    let resizable = storage.caps().contains(StorageCaps::RESIZE);
    if resizable {
        storage.set_len(0).await?;
        storage.flush().await?;
        storage.set_len(plan.data_offset).await?;
    } else {
        let (len, needed) = (storage.len().await?, plan.file_len());
        if len < needed {
            let message = format!("the image takes {needed} bytes, and there are {len}");
            return Err(Error::new(ErrorKind::NoSpace, message));
        }
        storage.write_at(0, &[0; SECTOR]).await?;
        storage.flush().await?;
    }
    let entries = if plan.filled { Entries::From(0) } else { Entries::All(ENTRY_FREE) };
    let shown = plan.parents_end.and_then(|end| end.checked_div(plan.block_size));
    let shown = shown.unwrap_or(plan.blocks);
    fill::write_entries(storage, plan.map_offset, shown, entries).await?;
    if let (Some(end), Some(parent)) = (plan.parents_end, &request.parent) {
        let at = plan.map_offset.saturating_add(shown.saturating_mul(4));
        let stored = plan.stored_of_parent();
        fill::write_entries(storage, at, stored, Entries::From(0)).await?;
        let at = at.saturating_add(stored.saturating_mul(4));
        let behind = plan.blocks.saturating_sub(shown).saturating_sub(stored);
        fill::write_entries(storage, at, behind, Entries::All(ENTRY_ZERO)).await?;
        if stored > 0 {
            let start = shown.saturating_mul(plan.block_size);
            fill::copy_of_parent(storage, &*parent.device, start..end, plan.data_offset).await?;
            let held = end.saturating_sub(start);
            let rest = plan.block_size.saturating_sub(held);
            let at = plan.data_offset.saturating_add(held);
            storage.write_zeroes(at, rest, ZeroMode::Deallocate).await?;
        }
    }
    if plan.filled {
        let len = plan.file_len().saturating_sub(plan.data_offset);
        fill::preallocate(storage, plan.data_offset, len, plan.preallocation).await?;
    }
    storage.flush().await?;
    storage.write_at(0, &header).await?;
    storage.flush().await
}

/// Returns the size of an image's file: with the data blocks that `data_blocks` counts, and fully allocated.
pub(crate) fn measure(
    size: u64,
    options: &Options,
    data_blocks: &(dyn Fn(u64) -> u64 + Sync),
) -> Result<Measure> {
    let plan = Plan::new(size, options, None)?;
    let fully_allocated = plan.file_len_with(plan.blocks);
    let required = if plan.filled {
        fully_allocated
    } else {
        plan.file_len_with(data_blocks(plan.block_size).min(plan.blocks))
    };
    Ok(Measure { required, fully_allocated })
}

/// The numbers of a new image, all in bytes except `blocks`.
#[derive(Debug)]
pub(crate) struct Plan {
    pub size: u64,
    pub block_size: u64,
    pub blocks: u64,
    pub map_offset: u64,
    pub data_offset: u64,
    image_type: ImageType,
    header_size: u32,
    /// Whether every block has its slot from the start.
    pub filled: bool,
    preallocation: Preallocation,
    /// End of a parent that is smaller than the disk. VirtualBox reads no block of a child from a parent that does not
    /// hold all of it. So the block in which the parent ends is stored, and the later ones are zero.
    parents_end: Option<u64>,
}

impl Plan {
    pub(crate) fn new(size: u64, options: &Options, parent_size: Option<u64>) -> Result<Self> {
        let is_child = parent_size.is_some();
        let for_qemu = options.text("layout") == Some("qemu");
        let is_static = options.bool("static").unwrap_or(false);
        let preallocation = match options.text("preallocation") {
            Some("metadata") => Preallocation::Metadata,
            Some("falloc") => Preallocation::Falloc,
            Some("full") => Preallocation::Full,
            _ => Preallocation::Off,
        };
        let filled = is_static || preallocation != Preallocation::Off;
        if is_child && filled {
            let message =
                "a child starts without blocks: it can be neither static nor preallocated";
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        let block_size = options.number("block_size").unwrap_or(1 << 20);
        let sound = u32::try_from(block_size)
            .is_ok_and(|size| size.is_power_of_two() && BLOCK_SIZES.contains(&size));
        if !sound {
            let message = format!("the block size {block_size} is not a power of two");
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        let too_large = || {
            let message = format!("a disk of {size} bytes is larger than the format can express");
            let error = Error::new(ErrorKind::InvalidInput, message);
            error.with_hint(Advice::CreateOption("block_size"))
        };
        let size = size.checked_next_multiple_of(SECTOR_SIZE).ok_or_else(too_large)?;
        let blocks = size.div_ceil(block_size);
        if blocks >= u64::from(ENTRY_ZERO) || (for_qemu && blocks > QEMU_BLOCKS) {
            return Err(too_large());
        }
        let (unit, header_size): (u64, u32) =
            if for_qemu { (512, HEADER_SIZE_V1) } else { (1 << 20, HEADER_SIZE_V1_PLUS) };
        let map_offset = unit;
        let data_offset =
            map_offset.saturating_add(blocks.saturating_mul(4)).next_multiple_of(unit);
        if u32::try_from(data_offset).is_err() {
            return Err(too_large());
        }
        let image_type = match (is_child, is_static) {
            (true, _) => ImageType::Differencing,
            (false, true) => ImageType::Static,
            (false, false) => ImageType::Dynamic,
        };
        Ok(Self {
            size,
            block_size,
            blocks,
            map_offset,
            data_offset,
            image_type,
            header_size,
            filled,
            preallocation,
            parents_end: parent_size.filter(|end| *end < size),
        })
    }

    /// Returns how many blocks (0 or 1) are stored from the start because the parent ends in them.
    fn stored_of_parent(&self) -> u64 {
        u64::from(self.parents_end.is_some_and(|end| !end.is_multiple_of(self.block_size)))
    }

    /// Returns the length of the new file in bytes.
    fn file_len(&self) -> u64 {
        self.file_len_with(if self.filled { self.blocks } else { self.stored_of_parent() })
    }

    pub(crate) fn file_len_with(&self, slots: u64) -> u64 {
        self.data_offset.saturating_add(slots.saturating_mul(self.block_size))
    }

    /// Returns the first sector.
    pub(crate) fn header(&self, options: &Options, parent: Option<&NewParent>) -> Result<Vec<u8>> {
        let limit = |_| Error::new(ErrorKind::Limit, "a field of the header is too small");
        let mut raw = RawHeaderV1::new_zeroed();
        raw.pre.text.iter_mut().zip(TEXT).for_each(|(to, from)| *to = *from);
        raw.pre.signature.set(SIGNATURE);
        raw.pre.version.set(VERSION_1_1);
        raw.header_size.set(self.header_size);
        raw.image_type.set(self.image_type.to_raw());
        let comment = checked_comment(options.text("comment").unwrap_or_default())?;
        raw.comment.iter_mut().zip(comment).for_each(|(to, from)| *to = *from);
        raw.map_offset.set(u32::try_from(self.map_offset).map_err(limit)?);
        raw.data_offset.set(u32::try_from(self.data_offset).map_err(limit)?);
        raw.legacy.sector_size.set(512);
        raw.disk_size.set(self.size);
        raw.block_size.set(u32::try_from(self.block_size).map_err(limit)?);
        let blocks = u32::try_from(self.blocks).map_err(limit)?;
        raw.blocks.set(blocks);
        raw.allocated.set(if self.filled {
            blocks
        } else {
            u32::from(self.stored_of_parent() > 0)
        });
        raw.uuid = chosen_uuid(options, "uuid").to_bytes_le();
        raw.modification_uuid = chosen_uuid(options, "modification_uuid").to_bytes_le();
        if let Some(parent) = parent {
            let (uuid, modification) = parent_identity(parent)?;
            raw.parent_uuid = uuid.to_bytes_le();
            raw.parent_modification_uuid = modification.to_bytes_le();
        }
        let geometry = match options.text("geometry") {
            Some(text) => parse_geometry(text)?,
            None => None,
        };
        if self.header_size == HEADER_SIZE_V1_PLUS {
            raw.lchs.sector_size.set(512);
            if let Some(geometry) = geometry {
                raw.lchs.cylinders.set(geometry.cylinders);
                raw.lchs.heads.set(geometry.heads);
                raw.lchs.sectors.set(geometry.sectors);
            }
        } else if geometry.is_some() {
            let message = "QEMU's layout has no field for a geometry";
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        let mut sector = vec![0; SECTOR];
        sector.iter_mut().zip(raw.as_bytes()).for_each(|(to, from)| *to = *from);
        Ok(sector)
    }
}

/// Greatest number of blocks that QEMU opens.
const QEMU_BLOCKS: u64 = 0x1FFF_FF80;

/// Returns the UUID of an option, or a random one. The nil UUID does not count, because it is no identity.
fn chosen_uuid(options: &Options, name: &str) -> Uuid {
    options.uuid(name).filter(|uuid| !uuid.is_nil()).unwrap_or_else(Uuid::new_v4)
}

/// Returns the UUIDs by which a child identifies its parent. For a parent without identity they are random, and the
/// parent cannot be verified by them.
fn parent_identity(parent: &NewParent) -> Result<(Uuid, Uuid)> {
    let info = parent.device.info();
    let find = |wanted: &str| {
        info.details.iter().find_map(|(name, value)| match value {
            InfoValue::Uuid(uuid) if *name == wanted => Some(*uuid),
            _ => None,
        })
    };
    match (info.format, find(info::UUID)) {
        (crate::NAME, Some(uuid)) if uuid.is_nil() => Err(Error::new(
            ErrorKind::Unsupported,
            "the parent has no identity (nil UUID) that a child could name",
        )
        .with_hint(Advice::Amend("uuid"))),
        (crate::NAME, Some(uuid)) => Ok((uuid, find(info::MODIFICATION_UUID).unwrap_or_default())),
        _ => Ok((Uuid::new_v4(), Uuid::new_v4())),
    }
}
