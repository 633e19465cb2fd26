//! The commands that make a file, and how its content shows that it is whole.

use crate::situation::Situation;

/// Bytes of the source disk, all of them [`FILL`].
pub const SIZE: usize = 64 << 10;

/// Each byte of the source disk.
pub const FILL: u8 = b'S';

/// Each byte of the old content of a target.
pub const OLD: u8 = b'O';

/// A command that makes `d/out` of `s/src.raw`.
pub struct Command {
    pub name: &'static str,
    pub words: &'static str,
    /// Whether this is the whole new content.
    pub is_whole: fn(&[u8]) -> bool,
    /// Whether it changes the file that is there, and makes none.
    pub changes: bool,
}

impl Command {
    pub fn fits(&self, situation: &Situation) -> bool {
        !self.changes || situation.has_old
    }
}

/// Where the first block of an image with a map of one sector lies.
const FIRST_BLOCK: usize = 2 << 20;

fn is_source(bytes: &[u8]) -> bool {
    bytes.len() == SIZE && bytes.iter().all(|byte| *byte == FILL)
}

fn is_image(bytes: &[u8]) -> bool {
    bytes.get(0x40..0x44) == Some(&[0x7f, 0x10, 0xda, 0xbe])
}

fn is_copy(bytes: &[u8]) -> bool {
    let block = bytes.get(FIRST_BLOCK..FIRST_BLOCK + SIZE);
    is_image(bytes) && block.is_some_and(|block| block.iter().all(|byte| *byte == FILL))
}

fn is_zeros(bytes: &[u8]) -> bool {
    bytes.len() == SIZE && bytes.iter().all(|byte| *byte == 0)
}

fn is_picture(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x89PNG") && bytes.ends_with(b"IEND\xae\x42\x60\x82")
}

fn is_larger(bytes: &[u8]) -> bool {
    let (old, new) = bytes.split_at(bytes.len().min(SIZE));
    bytes.len() == SIZE + 4096 && old.iter().all(|b| *b == OLD) && new.iter().all(|b| *b == 0)
}

pub const COMMANDS: &[Command] = &[
    Command {
        name: "convert",
        words: "convert -f raw -O raw s/src.raw d/out",
        is_whole: is_source,
        changes: false,
    },
    Command {
        name: "convert to vdi, durable",
        words: "convert -f raw -O vdi -t writeback s/src.raw d/out",
        is_whole: is_copy,
        changes: false,
    },
    Command {
        name: "create",
        words: "create -q -f raw d/out 64K",
        is_whole: is_zeros,
        changes: false,
    },
    Command {
        name: "create vdi",
        words: "create -q -f vdi d/out 1M",
        is_whole: is_image,
        changes: false,
    },
    Command {
        name: "dd",
        words: "dd -f raw -O raw if=s/src.raw of=d/out bs=4096",
        is_whole: is_source,
        changes: false,
    },
    Command {
        name: "map --png",
        words: "map -f raw --png d/out s/src.raw",
        is_whole: is_picture,
        changes: false,
    },
    Command {
        name: "resize",
        words: "resize -q -f raw d/out +4096",
        is_whole: is_larger,
        changes: true,
    },
];
