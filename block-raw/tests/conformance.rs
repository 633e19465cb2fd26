//! Raw disks keep the promises of every driver.

block_testkit::conformance!(block_raw::RawDriver);
