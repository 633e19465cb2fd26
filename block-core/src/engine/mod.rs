//! The one transaction under every format.
mod mapper;
pub use mapper::{BlockMapper, Change, Layout, ResizePlan, Slot, SlotRun};
