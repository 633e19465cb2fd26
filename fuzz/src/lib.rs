//! The fuzz bodies: properties that must hold for every input, even a hostile one.
//!
//! A **body** takes any bytes and panics if a property is violated. It has the right answer from elsewhere: a plain
//! reading of the format, a model of the disk, or the same question asked in another order. `tests/replay.rs` runs all
//! bodies over the corpus. The binaries in `fuzz/targets` pass them to libFuzzer.
//!
//! ```
//! let target = block_fuzz::TARGETS.iter().find(|target| target.name == "options").unwrap();
//! (target.body)(b"static=on,block_size=1M");
//! ```

#![forbid(unsafe_code)]

mod check_repair;
mod create_mutate;
pub mod differential;
mod drivers;
mod image;
mod image_spec;
mod inspect;
mod open_read;
mod options;
mod poke;
mod recognise;
mod reference;
mod run;
mod vbox_xml;
mod vdi_ops;

/// Maximum number of bytes that a body may have allocated at one time. Exceeding it ends the process.
pub const MEMORY: usize = 96 << 20;

/// A body and its name, which is also the name of its folders in `corpus` and `regressions`.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Name of the binary and of the folders.
    pub name: &'static str,
    /// Takes any bytes. Panics if a property is violated.
    pub body: fn(&[u8]),
}

/// All bodies.
pub const TARGETS: &[Target] = &[
    Target { name: "open_read", body: open_read::body },
    Target { name: "create_mutate", body: create_mutate::body },
    Target { name: "check_repair", body: check_repair::body },
    Target { name: "vdi_ops", body: vdi_ops::body },
    Target { name: "recognise", body: recognise::body },
    Target { name: "inspect", body: inspect::body },
    Target { name: "options", body: options::body },
    Target { name: "vbox_xml", body: vbox_xml::body },
];

/// Runs the body called `name`. The libFuzzer binaries call it.
///
/// # Panics
/// If there is no such body, or if the body panics.
pub fn fuzz(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    let target = target.unwrap_or_else(|| panic!("there is no target called {name}"));
    (target.body)(data);
}
