//! Limits on what an inspection may read, and thresholds for excessive values.

/// Limits on what an inspection may read, and thresholds for excessive values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InspectLimits {
    /// Largest disk in bytes that is not `SIZE_EXCESSIVE`.
    pub virtual_size: u64,
    /// Largest table in bytes that is not `TABLE_EXCESSIVE`, where the format has no tighter cap. The default is what a
    /// disk of 64 TiB needs in blocks of 1 MiB.
    pub table_bytes: u64,
    /// Most bytes read in addition to the probe's.
    pub read_bytes: u64,
    /// Most read calls in addition to the probe's.
    pub reads: u32,
    /// Most bytes read of a text, such as a descriptor or a property list.
    pub text_bytes: u64,
    /// Most unpacked bytes per byte of a packed file that are not a `BOMB`.
    pub ratio: u64,
    /// Most PBKDF2 iterations that are not `KDF_COST`.
    pub kdf_iterations: u64,
    /// Most Argon2 memory in bytes that is not `KDF_COST`.
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
