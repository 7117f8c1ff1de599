#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::allowed_ips_model(data));
