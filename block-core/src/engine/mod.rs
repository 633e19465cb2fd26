//! The one transaction under every format.
mod mapper;
mod table;
pub use mapper::{BlockMapper, Change, Layout, ResizePlan, Slot, SlotRun};
pub use table::PagedTable;
