//! Raw disks keep the promises of every driver.

block_core::testkit::conformance!(block_raw::RawDriver);
