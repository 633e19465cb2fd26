//! libFuzzer over `options`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| block_fuzz_targets::fuzz("options", data));
