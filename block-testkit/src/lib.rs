//! The conformance kit: tests that a driver never loses a byte. One line runs them all.
//!
//! ```ignore
//! // in tests/conformance.rs of the driver's crate
//! block_testkit::conformance!(MyDriver);
//! block_testkit::conformance!(children: Subject::of(MyDriver).with_parents(1));
//! ```
//!
//! Each test is one promise of the traits. The promises are documented on [`BlockDevice`](block_core::BlockDevice), on
//! [`Storage`](block_core::Storage), and as the *write contract* on [`engine`](block_core::engine). A driver over
//! [`engine::Mapped`](block_core::engine::Mapped) gets the contract from the engine if its map follows
//! [`BlockMapper`](block_core::engine::BlockMapper). Any other driver must keep the same contract itself.
//!
//! | promise | how it is tested |
//! |---|---|
//! | [`ranges`](promises::ranges) | requests past, across and far past the end; unaligned bytes compared with a vector |
//! | [`caps`](promises::caps), [`read_only`](promises::read_only) | declared requests work, all others are refused; an image opened for reading changes no byte of any file |
//! | [`extents`](promises::extents) | they tile the disk and agree with reads, as do `is_allocated` and `map`; a mapped place is not reused |
//! | [`creating`](promises::creating) | every choice of every option, odd sizes, a fault and a power cut at every request of `create` |
//! | [`reopening`](promises::reopening), [`damaged_images`](promises::damaged_images) | the driver's own images are recognised and unchanged; a damaged one never causes a panic or an `Internal` error |
//! | [`random_requests`](promises::random_requests) | a model, with reopening, process death, compaction, resizing |
//! | [`every_fault`](promises::every_fault) | each storage request fails in turn: not done, half done, or done; then it is retried or not |
//! | [`every_drop`](promises::every_drop) | each future is dropped at each await; its I/O never happens, happens, or happens late |
//! | [`failed_flushes`](promises::failed_flushes) | each flush fails as in a kernel, which drops data that it could not save |
//! | [`power_cuts`](promises::power_cuts), [`short_histories`](promises::short_histories) | at every moment of a history, with each sector old or any unflushed version, and any length |
//! | [`written_parents`](promises::written_parents) | a child is committed, emptied, made independent; all images of the chain lose power together |
//! | [`threads`](promises::threads) | each sector's history must be that of an atomic register |
//!
//! # Reading a report
//!
//! ```text
//! toy: the promise 'power cuts' is broken
//!   WHAT  after the power cut, check finds corruption: toy.table.entry (Corruption): at 0x1004: block 1 is stored behind the end of the file: entry 2
//!   SEED  0x5eed
//!   OPS   write 128+128 | flush
//!   WHEN  power cut at moment 8 (Atoms(512)), crash state 0.1.0
//! ```
//!
//! * **WHAT** is the broken promise. Sectors name the write their data comes from. `the data of write #3 for sector 40`
//!   in sector 9 is data that moved. `zeros` where only write #3 is allowed is data lost after a flush.
//! * **OPS** is the shortest list of requests found that still breaks the promise: `write sector+count`, in sectors.
//!   Writes are numbered from the first one after those that filled the parents.
//! * **WHEN** is the injected event. For a fault: the rule, and whether the request was sent again. For a dropped
//!   future: the request's index in the list, the number of polls, and the fate of its I/O. For a power cut: the moment
//!   (each request has two, issued and done), the level (how torn the disk may be), and the state. The state is one
//!   number for the length of the file, then one for each piece of unflushed data; 0 is its old content.
//! * **SEED** in an [`Effort`] reproduces the failure before shortening.
//!
//! In the report above, no flush had been acknowledged. The map entry was on disk, but the file had not grown. The
//! barrier between data and entry is missing.
//!
//! [`ops::parse`] turns the `OPS` line back into requests. [`cut_everywhere`], [`fault_everywhere`] and
//! [`drop_everywhere`] replay them with every power cut, fault or drop, as a regression test.
//!
//! # Beyond one driver's tests
//!
//! [`Campaign`] searches many subjects on several threads, until it has seen a number of crash states, faults and
//! dropped futures and a minimum time has passed. [`Subject::window`] shows some blocks of a large disk as a small
//! disk, so that a large map is as cheap to test as a small one. [`FaultStorage`] and [`CrashStorage`] work under any
//! code that takes a [`Storage`](block_core::Storage), and [`World`] cuts the power of several of them together.
//! [`Subject::over`] stores every image in another kind of storage, such as a file. [`storage_requests`] checks a
//! storage against its trait, and [`memory_bound`] measures the memory that an image needs.
//!
//! # The kit itself is tested
//!
//! `block-testkit/mutations/run.sh` makes these mistakes one at a time and requires the named test to fail. "model" is
//! `block-core-model`: the engine under a scheduler that explores every interleaving.
//!
//! | | mistake | caught by |
//! |---|---|---|
//! | 01 | no barrier between data and map | `vdi_base::power_cuts` |
//! | 02 | readers see an entry before its data is written, and nothing takes it back | `vdi_base::every_fault` |
//! | 03 | a slot is reused before the entry that gave it up is durable | `vdi_base::power_cuts` |
//! | 04 | entries count as written before they are | `vdi_base::every_fault` |
//! | 05 | a slot that held data counts as one that never did | `vdi_base::random_requests` |
//! | 06 | a flush leaves the map in memory | `vdi_base::power_cuts` |
//! | 07 | a flush with no entries to write does nothing | `vdi_base::power_cuts` |
//! | 08 | zeros over a parent are taken for nothing to do | block-vdi's `t4_zeros_over_a_parent…` |
//! | 09 | a partial block of a child is not filled from the parent | `vdi_child::random_requests` |
//! | 10 | the header's number of allocated blocks is written behind the map | `vdi_base::power_cuts` |
//! | 11 | that number counts as written although the write failed | `vdi_base::every_fault` |
//! | 12 | the header of a new image is written before its map | `vdi_base::creating` |
//! | 13 | a zero entry reaches the disk as one that shows the parent | `vdi_child::random_requests` |
//! | 14 | a write that the kernel cut short counts as done | block-file's `a_short_write_is_not_taken_for_a_whole_one` |
//! | 15 | no lock is taken on a file | block-file's `we_exclude_ourselves_within_one_process_too` |
//! | 16 | a flush that failed is not told to whoever flushes next | `vdi_base::failed_flushes` |
//! | 17 | two writers are handed one slot | model's `two_writers_of_new_blocks_never_get_one_slot` |
//! | 18 | a slot given up after the entries were collected is released with them | model's `a_slot_serves_again_only_after…` |
//! | 19 | a mapped place is not kept from others | model's `a_pinned_place_stays_where_it_is…` |
//! | 20 | a failed change of length is taken for one that did nothing | block-raw's `a_resize_that_lands_and_fails…` |
//! | 21 | a resize that fails leaves the engine with the old size | block-vdi's `a_resize_that_fails_at_its_last_flush…` |
//! | 22 | a dropped change of length takes effect after the question for it | block-raw's `a_dropped_resize_is_over…` |
//! | 23 | what a child gains when it grows shows the parent | block-vdi's `what_a_child_gains_is_zeros…` |
//! | 24 | a reader holds nothing of what it reads | model's `a_read_shows_its_own_block…` |
//! | 25, 26 | a repair does not flush what it copied, or moved, before the entries that name it | block-vdi's `repairing_…_is_whole_at_every_cut` |
//! | 27 | a commit does not flush the parent | block-img's `what_the_library_has_committed…` |
//! | 28 | a rebase does not flush the child before it names another parent | block-img's `a_rebase_is_whole_at_every_cut` |
//! | 29 | a shrink leaves the cut-off part of the last block in the file | block-vdi's `what_a_shrink_cuts_off…` |
//! | 30 | the table of entries changes its memory before the storage | `memory_shows_an_entry_only_once…` |
//! | 31 | the mark of a changed image is not flushed before the first write in place | block-vdi's `no_byte_of_the_disk_changes_before…` |
//! | 32 | space that was cut off counts as fresh after another scan | `what_was_cut_off_before_the_map_was_scanned…` |
//! | 33 | a discard gives its slot up before its entry is pending | model's `a_slot_serves_again_only_after…` |
//! | 34 | a resize does not flush the new map before the header that names it | block-vdi's four `growing_…_is_whole_at_every_cut` |
//! | 35 | a write takes too few slots | `vdi_base::random_requests`, by an `Internal` error |
//! | 36 | a part of a write is looked for behind its bytes | the same |
//! | 37 | a group of entries ends before its last one | `writes_reach_the_storage_and_all_memory…`, by an `Internal` error |
//! | 38 | a write of less than a sector puts back what it has read | `vdi_base::ranges`, by an `Internal` error |
//! | 39 | a read ends before its buffer does | `vdi_base::random_requests`, by an `Internal` error |
//! | 40 | a request may end behind the disk | `vdi_base::ranges` |
//! | 41 | a static image says that it can be compacted | `vdi_static::caps` |
//! | 42 | an image that was opened for reading is written | `vdi_base::read_only` |
//! | 43 | a block of zeros counts as one that shows the parent | `vdi_child::extents` |
//! | 44 | opening for writing changes an image | `vdi_base::reopening` |
//! | 45 | a write that is dropped leaves its entries where one that fails takes them back | `vdi_base::every_drop` |
//! | 46 | blocks that get a place are shared with others who give them one | `vdi_base::threads` |
//! | 47 | the block size of a header is believed | `vdi_base::damaged_images` |
//! | 48 | the space of slots is given back before the entries that gave them up are durable | `vdi_base::short_histories` |
//! | 49 | what a storage cuts off comes back when it grows | `memory_keeps_the_promises_of_every_storage` |
//! | 50 | a table keeps every page | `a_small_memory_holds_few_pages…` |
//! | 51 | a scan of the map keeps all of it | block-img's `a_disk_of_a_tebibyte…` by `memory_bound` |
//!
//! `vdi_…::` are the conformance tests of block-vdi. Mistakes 35 to 39 used to succeed, before the engine reported
//! impossible states. They run without this crate's debug assertions, so that the tests see the error.
//!
//! [`cut_everywhere`]: promises::cut_everywhere
//! [`fault_everywhere`]: promises::fault_everywhere
//! [`drop_everywhere`]: promises::drop_everywhere
//! [`storage_requests`]: promises::storage_requests
//! [`memory_bound`]: promises::memory_bound

#![forbid(unsafe_code)]

pub mod campaign;
mod conformance;
pub mod crash;
pub mod exec;
pub mod fault;
pub mod linear;
pub mod model;
pub mod ops;
pub mod promises;
pub mod report;
pub mod rig;
pub mod rng;
pub mod sparse;
pub mod stamp;

pub use block_core::{Image, MemStorage};
pub use campaign::{Campaign, Seen};
pub use crash::{CrashStorage, Level, World};
pub use fault::{Fate, Fault, FaultStorage, Half, OpKind, Rule};
pub use promises::Effort;
pub use report::{Tally, Verdict, Violation};
pub use rig::{Backing, Golden, Rig, Subject};
pub use sparse::Window;
