//! The fuzz bodies: what must hold for every input, whoever wrote it.
//!
//! A body takes any bytes and panics when a promise is broken. It knows the right answer: a plain reading
//! of the format, a model of the disk, the same question asked in another order. `tests/replay.rs` runs
//! all bodies over the corpus; the binaries in `fuzz/targets` hand them to libFuzzer.
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

/// Bytes that a body may have allocated at any one time; what goes beyond ends the process.
pub const MEMORY: usize = 96 << 20;

/// One body and its name, which is also the name of its folders in `corpus` and `regressions`.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Name of the binary and of the folders.
    pub name: &'static str,
    /// Takes any bytes; panics when a promise is broken.
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

/// Runs the body called `name`, for a binary that is one line long.
///
/// # Panics
/// When there is no such body, or when the body panics.
pub fn fuzz(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    let target = target.unwrap_or_else(|| panic!("there is no target called {name}"));
    (target.body)(data);
}
