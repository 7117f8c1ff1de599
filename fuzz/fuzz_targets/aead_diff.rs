#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::aead_diff(data));
