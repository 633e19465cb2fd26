//! libFuzzer over `create_mutate`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| block_fuzz_targets::fuzz("create_mutate", data));
