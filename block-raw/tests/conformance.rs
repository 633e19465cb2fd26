//! Runs the conformance tests of all drivers on raw disks.

block_testkit::conformance!(block_raw::RawDriver);
