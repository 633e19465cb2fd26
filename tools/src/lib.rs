//! The disk-image tool as a library: the complete command line, with the drivers that the caller registers.
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! fn main() -> ExitCode {
//!     let mut registry = block_core::Registry::new();
//!     block_file::register(&mut registry);
//!     block_raw::register(&mut registry);
//!     // … and a driver of your own.
//!     block_img::run(registry, std::env::args_os())
//! }
//! ```
#![forbid(unsafe_code)]

mod args;
mod cli;
mod commands;
mod console;
mod context;
mod drivers;
mod error;
mod escape;
mod host_path;
mod image;
mod job_words;
mod json;
mod machine;
mod picture;
mod progress;
mod screen;
mod signals;
mod target;
mod way_on;
mod wording;

pub use cli::{command, run};
pub use drivers::registry;
