#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    zerocloud_fuzz::lan(data);
});
