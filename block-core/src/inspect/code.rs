//! Stable codes for what can be wrong with a file, with the severity and meaning of each.

use serde::{Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// The severity of a finding, in ascending order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Review before use.
    Medium,
    /// The file contradicts itself, costs too much, or needs an unsupported feature.
    High,
    /// Opening the file would read or write other files, or different programs would see different disks in it.
    Critical,
}

macro_rules! codes {
    ($($variant:ident $text:literal $severity:ident $origin:ident $meaning:literal;)*) => {
        /// A stable name for a finding. Codes may be added, but none changes its meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $(#[doc = concat!("`", $text, "`: ", $meaning, ".")] $variant,)*
        }

        impl Code {
            /// All codes, roughly from the most to the least severe.
            pub const ALL: &'static [Code] = &[$(Code::$variant),*];

            /// Returns the name for programs to match on.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$variant => $text),* }
            }

            /// Returns the default severity. An examination may override it.
            pub fn severity(self) -> Severity {
                match self { $(Code::$variant => Severity::$severity),* }
            }

            /// Returns the meaning as a clause.
            pub fn meaning(self) -> &'static str {
                match self { $(Code::$variant => $meaning),* }
            }

            /// Whether the finding is acceptable in a file from a trusted source. A file that contradicts itself never
            /// is.
            pub fn is_about_origin(self) -> bool {
                match self { $(Code::$variant => codes!(@origin $origin)),* }
            }
        }
    };
    (@origin trust) => { true };
    (@origin any) => { false };
}

codes! {
    ExtBacking "EXT_BACKING" Critical trust "the file names a backing file";
    ExtDatafile "EXT_DATAFILE" Critical trust "the guest's data is in another file";
    ExtExtent "EXT_EXTENT" Critical trust "parts of the disk are in other files";
    ExtParent "EXT_PARENT" Critical trust "the file names a parent";
    Parent "PARENT" Critical trust "the file is a difference to a parent it does not hold";
    ExtDevice "EXT_DEVICE" Critical any "the file names a device of the host";
    ExtHostpath "EXT_HOSTPATH" Critical any "the file puts files of the host into a disk";
    ExtProtocol "EXT_PROTOCOL" Critical any "a name in the file selects a protocol or a driver";
    PathAbsolute "PATH_ABSOLUTE" Critical trust "a name in the file is an absolute path";
    PathTraversal "PATH_TRAVERSAL" Critical any "a name in the file leaves its directory";
    Loop "LOOP" Critical any "the file leads back to itself";
    Polyglot "POLYGLOT" Critical any "two formats claim the file, and other programs may see another disk in it";
    ContentMismatch "CONTENT_MISMATCH" Critical any "the content is not of the declared format";
    HiddenDescriptor "HIDDEN_DESCRIPTOR" Critical any "a text inside the file takes the place of its header";
    FeatureUnknown "FEATURE_UNKNOWN" High any "the file needs a feature that is not known";
    VersionUnsupported "VERSION_UNSUPPORTED" High any "the version is not known";
    FeatureInconsistent "FEATURE_INCONSISTENT" High any "two feature fields contradict each other";
    Structure "STRUCTURE" High any "a field, or two together, make no sense";
    CopyMismatch "COPY_MISMATCH" High any "two copies of one structure contradict each other";
    Overlap "OVERLAP" High any "two structures share bytes of the file";
    OutOfBounds "OUT_OF_BOUNDS" High any "a structure lies past the end of the file";
    TableExcessive "TABLE_EXCESSIVE" High any "a table is larger than any sound file needs";
    SizeExcessive "SIZE_EXCESSIVE" High trust "the disk is larger than the policy allows";
    Bomb "BOMB" High trust "the file grows out of proportion when it is unpacked";
    KdfCost "KDF_COST" High trust "deriving the key costs more time or memory than the policy allows";
    DupKey "DUP_KEY" High any "a key stands more than once, and programs differ on which one counts";
    TextNul "TEXT_NUL" High any "text goes on behind its end";
    DescTail "DESC_TAIL" High any "text goes on behind its declared length";
    ExtDatafileLatent "EXT_DATAFILE_LATENT" High trust "the file names a data file it does not use";
    DatafileRaw "DATAFILE_RAW" High trust "another file is to be read as the whole disk";
    LogReplay "LOG_REPLAY" High trust "opening the file writes to it: a log waits to be replayed";
    Checksum "CHECKSUM" High any "a checksum is wrong";
    NotADisk "NOT_A_DISK" High any "the file is no disk image";
    Truncated "TRUNCATED" Medium any "the file ends too early";
    Dirty "DIRTY" Medium any "the file was not closed cleanly";
    Corrupt "CORRUPT" Medium any "the file is marked as corrupt";
    Snapshots "SNAPSHOTS" Medium any "the file holds other states of the disk";
    Encrypted "ENCRYPTED" Medium any "the data is encrypted";
    EncryptionWeak "ENCRYPTION_WEAK" Info any "the encryption is of a kind that is broken";
    TrailingData "TRAILING_DATA" Medium any "bytes follow that belong to no structure";
    SlackNonzero "SLACK_NONZERO" Medium any "bytes that writers leave zero are not";
    Noncanonical "NONCANONICAL" Medium any "something is written in a way that programs read differently";
    BackingFormatMissing "BACKING_FORMAT_MISSING" Medium any "the backing file's format is not recorded and would be guessed";
    FormatDeprecated "FORMAT_DEPRECATED" Medium any "the format is out of use";
    NestedContainer "NESTED_CONTAINER" Medium any "an image lies inside an image";
    RawFallback "RAW_FALLBACK" Medium any "nothing claims the file: it is a raw disk only by default";
    PtBad "PT_BAD" Medium any "the partition table or the file systems contradict each other";
    SizeDisagree "SIZE_DISAGREE" Medium any "two statements of the size contradict each other";
    SavedState "SAVED_STATE" Medium any "the file belongs to a machine that was suspended";
    Reencrypt "REENCRYPT" Medium any "the file is in the middle of a re-encryption";
    Feature "FEATURE" Medium any "an extension is present that is not examined";
    Wrapper "WRAPPER" Medium any "the file is an archive or a compressed stream; what is inside was not looked at";
    Empty "EMPTY" Medium any "the file has no bytes";
    Limit "LIMIT" Medium any "a limit kept the examination from being complete";
    Bitmaps "BITMAPS" Info any "the file holds dirty bitmaps";
    NameMismatch "NAME_MISMATCH" Info any "the file name ends as those of another format do";
    PtHybrid "PT_HYBRID" Info any "two partition tables describe the disk";
    Creator "CREATOR" Info any "the program that made the file";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl FromStr for Code {
    type Err = crate::Error;

    /// Accepts both `EXT_BACKING` and `ext-backing`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wanted = text.replace('-', "_").to_ascii_uppercase();
        Self::ALL.iter().copied().find(|code| code.as_str() == wanted).ok_or_else(|| {
            let error = crate::Error::new(
                crate::ErrorKind::InvalidInput,
                format!("no finding is called '{}'", text.escape_debug()),
            );
            match crate::options::nearest(&wanted, Self::ALL.iter().map(|code| code.as_str())) {
                Some(near) => error.with_hint(format!("did you mean '{near}'?")),
                None => error,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Code;

    #[test]
    fn every_code_is_found_by_its_name_in_either_spelling() {
        for code in Code::ALL {
            assert_eq!(code.as_str().parse::<Code>().unwrap(), *code);
            let option = code.as_str().to_ascii_lowercase().replace('_', "-");
            assert_eq!(option.parse::<Code>().unwrap(), *code);
        }
        assert!(
            "EXT_BAKING"
                .parse::<Code>()
                .unwrap_err()
                .hint()
                .unwrap()
                .to_string()
                .contains("EXT_BACKING")
        );
    }
}
