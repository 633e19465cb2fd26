//! How much an inspection may read, and what is excessive.

/// How much an inspection may read, and what it takes for excessive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InspectLimits {
    /// The largest disk that is not `SIZE_EXCESSIVE`, bytes.
    pub virtual_size: u64,
    /// The largest table that is not `TABLE_EXCESSIVE` where the format has no tighter cap, bytes. By default what a
    /// disk of 64 TiB needs in blocks of 1 MiB.
    pub table_bytes: u64,
    /// Bytes read beyond those of the probe.
    pub read_bytes: u64,
    /// Read calls beyond those of the probe.
    pub reads: u32,
    /// Bytes of a text (descriptor, property list) that are looked at.
    pub text_bytes: u64,
    /// Unpacked bytes for each byte of a packed file that are not a `BOMB`.
    pub ratio: u64,
    /// PBKDF2 iterations that are not `KDF_COST`.
    pub kdf_iterations: u64,
    /// Argon2 memory that is not `KDF_COST`, bytes.
    pub kdf_memory: u64,
}

impl Default for InspectLimits {
    fn default() -> Self {
        Self {
            virtual_size: 64 << 40,
            table_bytes: 256 << 20,
            read_bytes: 8 << 20,
            reads: 512,
            text_bytes: 1 << 20,
            ratio: 1000,
            kdf_iterations: 12_000_000,
            kdf_memory: 1 << 30,
        }
    }
}
