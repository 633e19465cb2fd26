//! Options that any image accepts, independent of its format and protocol.

use block_core::options::{OptionKind, OptionSpec, OptionValue};
use block_core::{CacheMode, Sharing};

/// The general options of one image, as the user set them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct General {
    /// Whether reads and writes bypass the page cache.
    direct: Option<bool>,
    /// Whether flushes are omitted.
    no_flush: Option<bool>,
    read_only: bool,
    force_share: bool,
    /// Whether the file is opened without a lock.
    unlocked: bool,
}

const fn option(name: &'static str, kind: OptionKind, help: &'static str) -> OptionSpec {
    OptionSpec { name, kind, default: None, help }
}

/// Options that any image accepts. The last four have no effect here: an image opened for reading is never opened for
/// writing, a discard is only advice, commands detect zeros themselves, and nodes have no names.
const OPTIONS: [OptionSpec; 8] = [
    option("cache.direct", OptionKind::Bool, "pass the page cache"),
    option("cache.no-flush", OptionKind::Bool, "leave flushes out"),
    option("read-only", OptionKind::Bool, "refuse to write"),
    option("force-share", OptionKind::Bool, "read even while another program writes"),
    option("auto-read-only", OptionKind::Bool, "open read-only where writing is not allowed"),
    option("discard", OptionKind::Choice(&["ignore", "off", "unmap", "on"]), "pass discards on"),
    option("detect-zeroes", OptionKind::Choice(&["off", "on", "unmap"]), "look for zeros"),
    option("node-name", OptionKind::Text, "a name for the node"),
];

/// Option that only a file accepts.
const LOCKING: OptionSpec =
    option("locking", OptionKind::Choice(&["on", "off", "auto"]), "lock the file");

impl General {
    /// Stores an option. Returns whether it is a general one.
    pub fn take(&mut self, name: &str, value: &str) -> block_core::Result<bool> {
        let Some(option) = OPTIONS.iter().find(|option| option.name == name) else {
            return Ok(false);
        };
        let on = option.parse(value)? == OptionValue::Bool(true);
        match name {
            "cache.direct" => self.direct = Some(on),
            "cache.no-flush" => self.no_flush = Some(on),
            // The format and the file may each set it, and either is enough.
            "read-only" => self.read_only |= on,
            "force-share" => self.force_share |= on,
            _ => {}
        }
        Ok(true)
    }

    /// Stores the option that says whether the file is locked.
    pub fn set_locking(&mut self, value: &str) -> block_core::Result<()> {
        LOCKING.parse(value)?;
        self.unlocked = value == "off";
        Ok(())
    }

    /// Returns why the image may not be opened for writing, if it may not.
    pub fn refuses_writing(&self) -> Option<&'static str> {
        match (self.read_only, self.force_share) {
            (true, _) => Some("Block node is read-only"),
            (_, true) => Some("force-share=on can only be used with read-only images"),
            _ => None,
        }
    }

    /// Returns the sharing mode that replaces the command's mode `sharing`.
    pub fn sharing(&self, sharing: Sharing) -> Sharing {
        match (self.unlocked, self.force_share) {
            (true, _) => Sharing::Unlocked,
            (_, true) => Sharing::Force,
            _ => sharing,
        }
    }

    /// Returns the cache mode that replaces the command's mode `mode`. Without the page cache, flushes are never
    /// omitted.
    pub fn cache(&self, mode: CacheMode) -> CacheMode {
        use CacheMode::{Directsync, None as Direct, Unsafe, Writeback, Writethrough};
        let mode = match (self.direct, mode) {
            (Some(true), Writeback | Unsafe) => Direct,
            (Some(true), Writethrough) => Directsync,
            (Some(false), Direct) => Writeback,
            (Some(false), Directsync) => Writethrough,
            (_, mode) => mode,
        };
        match (self.no_flush, mode) {
            (Some(true), Writeback | Writethrough) => Unsafe,
            (Some(false), Unsafe) => Writeback,
            (_, mode) => mode,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use CacheMode::{Directsync, None as Direct, Unsafe, Writeback, Writethrough};

    fn said(options: &[(&str, &str)]) -> General {
        let mut general = General::default();
        for (name, value) in options {
            assert!(general.take(name, value).unwrap(), "{name}");
        }
        general
    }

    #[test]
    fn how_the_cache_is_used_may_be_said_with_the_image() {
        let modes = |options: &[(&str, &str)]| {
            let general = said(options);
            [Writeback, Direct, Writethrough, Directsync, Unsafe].map(|mode| general.cache(mode))
        };
        assert_eq!(modes(&[]), [Writeback, Direct, Writethrough, Directsync, Unsafe]);
        let direct = [Direct, Direct, Directsync, Directsync, Direct];
        assert_eq!(modes(&[("cache.direct", "on")]), direct);
        assert_eq!(modes(&[("cache.direct", "true"), ("cache.no-flush", "on")]), direct);
        let cached = [Writeback, Writeback, Writethrough, Writethrough, Unsafe];
        assert_eq!(modes(&[("cache.direct", "off")]), cached);
        let unsafe_ = [Unsafe, Direct, Unsafe, Directsync, Unsafe];
        assert_eq!(modes(&[("cache.no-flush", "on")]), unsafe_);
        let flushed = [Writeback, Direct, Writethrough, Directsync, Writeback];
        assert_eq!(modes(&[("cache.no-flush", "off")]), flushed);
    }

    #[test]
    fn what_forbids_writing_says_so() {
        assert_eq!(said(&[]).refuses_writing(), None);
        assert_eq!(said(&[("read-only", "off")]).refuses_writing(), None);
        assert!(said(&[("read-only", "on"), ("read-only", "off")]).refuses_writing().is_some());
        assert!(said(&[("force-share", "on")]).refuses_writing().is_some());
    }

    #[test]
    fn sharing_can_be_forced() {
        assert_eq!(said(&[]).sharing(Sharing::Exclusive), Sharing::Exclusive);
        let mut general = said(&[("force-share", "on")]);
        assert_eq!(general.sharing(Sharing::Exclusive), Sharing::Force);
        general.set_locking("off").unwrap();
        assert_eq!(general.sharing(Sharing::Exclusive), Sharing::Unlocked);
        general.set_locking("auto").unwrap();
        assert_eq!(general.sharing(Sharing::Exclusive), Sharing::Force);
        assert!(general.set_locking("no").is_err());
    }

    #[test]
    fn an_option_without_effect_still_has_a_right_value() {
        said(&[("discard", "unmap"), ("detect-zeroes", "on"), ("node-name", "n")]);
        for (name, value) in [
            ("discard", "yes"),
            ("detect-zeroes", "maybe"),
            ("auto-read-only", "1"),
            ("read-only", "1"),
        ] {
            assert!(General::default().take(name, value).is_err(), "{name}={value}");
        }
        assert!(!General::default().take("size", "1M").unwrap());
    }
}
