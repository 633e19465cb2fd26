//! Naming unknown files and judging hostile ones, over images built byte by byte.

mod containers;
mod hints;
mod image;
mod inspect_findings;
mod relations;
mod robust;
mod stock;
mod wrappers;
