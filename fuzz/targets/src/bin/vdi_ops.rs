//! libFuzzer over `vdi_ops`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| block_fuzz_targets::fuzz("vdi_ops", data));
