//! libFuzzer over `vbox_xml`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| block_fuzz_targets::fuzz("vbox_xml", data));
