//! Naming unknown files and judging hostile ones, over images built byte by byte.

mod complete;
mod containers;
mod hints;
mod image;
mod inspect_findings;
mod relations;
mod robust;
mod stock;
mod vectors;
mod wrappers;
