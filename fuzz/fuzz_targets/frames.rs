//! Frames of the sandbox: what is read from a stream at once and byte by byte is the same, and nothing more is taken than a frame has.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sera_sandbox::frame::{HEADER, read, take};
use sera_sandbox::wire::{Answer, Request};

fuzz_target!(|bytes: &[u8]| {
    let (mut stream, mut buffer) = (bytes, bytes.to_vec());
    while let Ok(Some(frame)) = take(&mut buffer) {
        assert_eq!(read(&mut stream).unwrap().unwrap(), frame);
        assert_eq!(stream, &buffer[..]);
        assert!(bytes.len() - stream.len() >= frame.body.len() + HEADER);
        if let Ok(request) = frame.message::<Request>() {
            assert_eq!(serde_json::from_slice::<Request>(&serde_json::to_vec(&request).unwrap()).unwrap(), request);
        }
        let _ = frame.message::<Answer>();
    }
    assert!(!matches!(read(&mut stream), Ok(Some(_))), "what is no frame at once is none as a stream");
});
