//! The situations a target can be in: who runs the command, what has the name, what the folder allows.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;

use rustix::fs::{XattrFlags, setxattr};

use crate::command::{OLD, SIZE};

/// The user that is nobody in particular.
pub const NOBODY: u32 = 65534;

/// What becomes of the target when nothing fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It appears, or a whole new file takes the place of the old one.
    Whole,
    /// The old file gets the new content.
    InPlace,
    /// The command fails and changes nothing.
    Refused,
}

/// A situation of the target `d/out`.
pub struct Situation {
    pub name: &'static str,
    /// Runs the command as this user; 0 is root.
    pub user: u32,
    pub outcome: Outcome,
    /// Whether there is an old file.
    pub has_old: bool,
    /// The file that is looked at afterwards.
    pub file: &'static str,
    pub prepare: fn(&Path),
}

fn old(file: &Path, owner: u32, mode: u32) {
    fs::write(file, vec![OLD; SIZE]).unwrap();
    chown(file, Some(owner), Some(owner)).unwrap();
    fs::set_permissions(file, Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn mark(file: &Path) {
    // A file system without attributes has the situation without one.
    let _ = setxattr(file, "user.mark", b"1", XattrFlags::empty());
}

/// Sets an access control list, where `setfacl` and the file system can.
fn acl(words: &[&str], folder: &Path) {
    let _ = Command::new("setfacl").args(words).current_dir(folder).status();
}

pub const SITUATIONS: &[Situation] = &[
    Situation {
        name: "root, new",
        user: 0,
        outcome: Outcome::Whole,
        has_old: false,
        file: "d/out",
        prepare: |_| {},
    },
    Situation {
        name: "root, another user's file with attributes",
        user: 0,
        outcome: Outcome::Whole,
        has_old: true,
        file: "d/out",
        prepare: |root| {
            old(&root.join("d/out"), 1234, 0o640);
            mark(&root.join("d/out"));
        },
    },
    Situation {
        name: "root, another user's set-user-ID file",
        user: 0,
        outcome: Outcome::Whole,
        has_old: true,
        file: "d/out",
        prepare: |root| old(&root.join("d/out"), NOBODY, 0o6755),
    },
    Situation {
        name: "root, a set-user-ID file of two names",
        user: 0,
        outcome: Outcome::InPlace,
        has_old: true,
        file: "d/out",
        prepare: |root| {
            old(&root.join("d/out"), NOBODY, 0o6755);
            fs::hard_link(root.join("d/out"), root.join("s/other")).unwrap();
        },
    },
    Situation {
        name: "root, a link to a file elsewhere",
        user: 0,
        outcome: Outcome::Whole,
        has_old: true,
        file: "d/sub/real",
        prepare: |root| {
            old(&root.join("d/sub/real"), 1234, 0o600);
            symlink("sub/link", root.join("d/out")).unwrap();
            symlink("real", root.join("d/sub/link")).unwrap();
        },
    },
    Situation {
        name: "root, a link to nothing yet",
        user: 0,
        outcome: Outcome::Whole,
        has_old: false,
        file: "d/sub/real",
        prepare: |root| symlink("sub/real", root.join("d/out")).unwrap(),
    },
    Situation {
        name: "root, a file with an access control list in a folder with a default one",
        user: 0,
        outcome: Outcome::Whole,
        has_old: true,
        file: "d/out",
        prepare: |root| {
            old(&root.join("d/out"), 1234, 0o640);
            acl(&["-m", "u:4321:rw", "out"], &root.join("d"));
            acl(&["-d", "-m", "u:999:rwx", "."], &root.join("d"));
        },
    },
    Situation {
        name: "root, a file without a list in a folder with a default one",
        user: 0,
        outcome: Outcome::Whole,
        has_old: true,
        file: "d/out",
        prepare: |root| {
            old(&root.join("d/out"), 1234, 0o660);
            acl(&["-d", "-m", "u:999:rwx", "."], &root.join("d"));
        },
    },
    Situation {
        name: "nobody, new in a folder that may be written and not read",
        user: NOBODY,
        outcome: Outcome::Whole,
        has_old: false,
        file: "d/out",
        prepare: |root| mode(&root.join("d"), 0o773),
    },
    Situation {
        name: "nobody, new",
        user: NOBODY,
        outcome: Outcome::Whole,
        has_old: false,
        file: "d/out",
        prepare: |root| mode(&root.join("d"), 0o777),
    },
    Situation {
        name: "nobody, new in a folder that may not be written",
        user: NOBODY,
        outcome: Outcome::Refused,
        has_old: false,
        file: "d/out",
        prepare: |_| {},
    },
    Situation {
        name: "nobody, own file",
        user: NOBODY,
        outcome: Outcome::Whole,
        has_old: true,
        file: "d/out",
        prepare: |root| {
            mode(&root.join("d"), 0o777);
            old(&root.join("d/out"), NOBODY, 0o600);
            mark(&root.join("d/out"));
        },
    },
    Situation {
        name: "nobody, a file that may be written in a folder that may not",
        user: NOBODY,
        outcome: Outcome::InPlace,
        has_old: true,
        file: "d/out",
        prepare: |root| old(&root.join("d/out"), 0, 0o666),
    },
    Situation {
        name: "nobody, another user's file in a sticky folder",
        user: NOBODY,
        outcome: Outcome::InPlace,
        has_old: true,
        file: "d/out",
        prepare: |root| {
            mode(&root.join("d"), 0o1777);
            old(&root.join("d/out"), 0, 0o666);
        },
    },
    Situation {
        name: "nobody, another user's file whose owner cannot be kept",
        user: NOBODY,
        outcome: Outcome::InPlace,
        has_old: true,
        file: "d/out",
        prepare: |root| {
            mode(&root.join("d"), 0o777);
            old(&root.join("d/out"), 1234, 0o666);
        },
    },
    Situation {
        name: "nobody, a file that may not be written",
        user: NOBODY,
        outcome: Outcome::Refused,
        has_old: true,
        file: "d/out",
        prepare: |root| {
            mode(&root.join("d"), 0o777);
            old(&root.join("d/out"), 0, 0o644);
        },
    },
];
