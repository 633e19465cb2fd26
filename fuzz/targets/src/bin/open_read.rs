//! libFuzzer over `open_read`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| block_fuzz_targets::fuzz("open_read", data));
