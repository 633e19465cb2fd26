//! The first sector as bytes: read once, changed field by field, written as a whole.

use block_core::{Error, ErrorKind, Result, Storage, bug};
use uuid::Uuid;

use crate::format::{FieldsV1, HEADER_SIZE_V1_PLUS};
use crate::header::{Geometry, Header, ImageType, SECTOR};

/// Message of a bug: the header ends before the field.
const BEHIND: &str = "a field lies behind the header that was read";

/// The first sector of an image. Bytes that are not fields stay as they were read.
#[derive(Debug, Clone)]
pub(crate) struct HeaderSector(Vec<u8>);

impl HeaderSector {
    /// Reads the first sector, or less from a shorter file.
    pub(crate) async fn read(storage: &dyn Storage, file_len: u64) -> Result<Self> {
        let len = usize::try_from(file_len).map_or(SECTOR, |len| len.min(SECTOR));
        let mut bytes = vec![0; len];
        storage.read_at(0, &mut bytes).await?;
        Ok(Self(bytes))
    }

    /// Wraps a sector that is not in a file yet.
    pub(crate) fn of(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Returns all bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the bytes that belong to the header and may be written.
    pub(crate) fn for_disk(&self, header: &Header) -> Result<&[u8]> {
        self.0.get(..header.head_len()).ok_or_else(|| bug("a header is longer than what was read"))
    }

    /// Sets the number of slots in use.
    pub(crate) fn set_allocated(&mut self, header: &Header, slots: u64) -> Result<()> {
        self.put_u32(header.fields().allocated, slots)
    }

    /// Sets a new modification UUID, and a UUID if the image has none.
    pub(crate) fn set_modification_uuid(&mut self, header: &Header, uuid: Uuid) -> Result<()> {
        self.put_modification_uuid(header, uuid)?;
        if header.uuid.is_nil() { self.set_uuid(header, Uuid::new_v4()) } else { Ok(()) }
    }

    /// Sets the modification UUID.
    pub(crate) fn put_modification_uuid(&mut self, header: &Header, uuid: Uuid) -> Result<()> {
        self.put_uuid(header.fields().modification_uuid, uuid)
    }

    /// Sets the UUID of the image.
    pub(crate) fn set_uuid(&mut self, header: &Header, uuid: Uuid) -> Result<()> {
        self.put_uuid(header.fields().uuid, uuid)
    }

    /// Sets the UUID of the parent.
    pub(crate) fn set_parent_uuid(&mut self, header: &Header, uuid: Uuid) -> Result<()> {
        self.put_uuid(header.fields().parent_uuid, uuid)
    }

    /// Sets the modification UUID that the parent had.
    pub(crate) fn set_parent_modification_uuid(&mut self, v1: &FieldsV1, uuid: Uuid) -> Result<()> {
        self.put_uuid(v1.parent_modification_uuid, uuid)
    }

    /// Sets the type.
    pub(crate) fn set_image_type(&mut self, header: &Header, image_type: ImageType) -> Result<()> {
        self.put_u32(header.fields().image_type, u64::from(image_type.to_raw()))
    }

    /// Sets the flags.
    pub(crate) fn set_flags(&mut self, header: &Header, flags: u32) -> Result<()> {
        self.put_u32(header.fields().flags, u64::from(flags))
    }

    /// Sets the size of the disk and the number of map entries.
    pub(crate) fn set_size(&mut self, header: &Header, size: u64, blocks: u64) -> Result<()> {
        self.put(header.fields().disk_size, &size.to_le_bytes())?;
        self.put_u32(header.fields().blocks, blocks)
    }

    /// Sets the offsets of the map and of the slots.
    pub(crate) fn set_places(&mut self, v1: &FieldsV1, map: u64, data: u64) -> Result<()> {
        self.put_u32(v1.map_offset, map)?;
        self.put_u32(v1.data_offset, data)
    }

    /// Sets the comment, at most 255 bytes, and clears the rest of its field.
    pub(crate) fn set_comment(&mut self, header: &Header, comment: &[u8]) -> Result<()> {
        let mut field = [0; 256];
        let (text, _) = field.split_at_mut(comment.len().min(255));
        if text.len() < comment.len() {
            return Err(bug("a comment is longer than its field"));
        }
        text.copy_from_slice(comment);
        self.put(header.fields().comment, &field)
    }

    /// Sets the logical geometry (`None`: unset), and extends the header to hold it.
    pub(crate) fn set_geometry(&mut self, v1: &FieldsV1, geometry: Option<Geometry>) -> Result<()> {
        let (cylinders, heads, sectors) =
            geometry.map_or((0, 0, 0), |g| (g.cylinders, g.heads, g.sectors));
        for (index, value) in [cylinders, heads, sectors, 512].into_iter().enumerate() {
            let at = index.checked_mul(4).and_then(|at| at.checked_add(v1.lchs));
            self.put(at.ok_or_else(|| bug(BEHIND))?, &value.to_le_bytes())?;
        }
        self.put_u32(0x48, u64::from(HEADER_SIZE_V1_PLUS))
    }

    fn put_uuid(&mut self, at: usize, uuid: Uuid) -> Result<()> {
        self.put(at, &uuid.to_bytes_le())
    }

    fn put_u32(&mut self, at: usize, value: u64) -> Result<()> {
        let value = u32::try_from(value).map_err(|_| {
            Error::new(ErrorKind::Limit, format!("{value} does not fit in the field at {at:#x}"))
        })?;
        self.put(at, &value.to_le_bytes())
    }

    fn put(&mut self, at: usize, bytes: &[u8]) -> Result<()> {
        let place = at.checked_add(bytes.len()).and_then(|end| self.0.get_mut(at..end));
        place.ok_or_else(|| bug(BEHIND))?.copy_from_slice(bytes);
        Ok(())
    }
}
