//! The library's functions, as `trainer/flash/sera_flash.h` declares them.

// Foreign functions.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_void};

/// The sequences of a packed batch; `begins` lies in the GPU's memory.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(super) struct Batch {
    pub(super) begins: *const i32,
    pub(super) sequences: i32,
    pub(super) longest: i32,
    pub(super) tokens: i32,
    pub(super) heads: i32,
    pub(super) kv_heads: i32,
    pub(super) size: i32,
    pub(super) scale: f32,
}

/// How many f32 a backward needs beside its results.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) sums: i64,
    pub(super) parts: i64,
}

unsafe extern "C" {
    fn sera_flash_workspace(batch: *const Batch, multiprocessors: i32, room: *mut Room) -> c_int;
    pub(super) fn sera_flash_fwd(
        batch: *const Batch,
        q: *const c_void,
        k: *const c_void,
        v: *const c_void,
        y: *mut c_void,
        logs: *mut f32,
        stream: *mut c_void,
    ) -> c_int;
    pub(super) fn sera_flash_bwd(
        batch: *const Batch,
        q: *const c_void,
        k: *const c_void,
        v: *const c_void,
        y: *const c_void,
        logs: *const f32,
        gy: *const c_void,
        gq: *mut c_void,
        gk: *mut c_void,
        gv: *mut c_void,
        sums: *mut f32,
        parts: *mut f32,
        room: *const Room,
        stream: *mut c_void,
    ) -> c_int;
    fn sera_flash_words(number: c_int) -> *const c_char;
    #[cfg(test)]
    fn sera_flash_serves(size: i32) -> c_int;
}

/// The room that a backward needs on a GPU of so many multiprocessors.
pub(super) fn room(batch: &Batch, multiprocessors: i32) -> candle_core::Result<Room> {
    let mut room = Room::default();
    // SAFETY: both pointers are to values that live through the call; no memory of a GPU is looked at.
    done(unsafe { sera_flash_workspace(batch, multiprocessors, &raw mut room) })?;
    Ok(room)
}

/// What a call's number says.
pub(super) fn done(number: c_int) -> candle_core::Result<()> {
    if number == 0 {
        return Ok(());
    }
    // SAFETY: every number has a text, which lives as long as the program.
    let words = unsafe { CStr::from_ptr(sera_flash_words(number)) };
    candle_core::bail!("FlashAttention says: {}", words.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::super::{Room as Planned, SIZES};
    use super::*;

    #[test]
    fn the_library_serves_what_is_asked_of_it() {
        // SAFETY: it is given a number alone.
        let serves = |size| unsafe { sera_flash_serves(size) } != 0;
        assert!(SIZES.iter().all(|size| serves(i32::try_from(*size).unwrap())));
        assert!(![0, 32, 80, 192, 256].into_iter().any(serves));
    }

    #[test]
    fn the_library_needs_the_room_that_is_planned() {
        for (tokens, sequences, heads, size, multiprocessors) in [(460, 3, 16, 96, 132), (32_768, 1, 32, 128, 108)] {
            let batch = Batch {
                begins: std::ptr::null(),
                sequences,
                longest: 329,
                tokens,
                heads,
                kv_heads: 4,
                size,
                scale: 0.1,
            };
            let room = room(&batch, multiprocessors).unwrap();
            let [tokens, sequences, heads, size, multiprocessors] =
                [tokens, sequences, heads, size, multiprocessors].map(|number| u64::try_from(number).unwrap());
            let planned = Planned::of(tokens, sequences, heads, size, multiprocessors);
            assert_eq!((room.sums.cast_unsigned(), room.parts.cast_unsigned()), (planned.sums, planned.parts));
        }
    }

    #[test]
    fn a_batch_that_is_not_served_is_refused_in_words() {
        let batch = Batch {
            begins: std::ptr::null(),
            sequences: 1,
            longest: 4,
            tokens: 4,
            heads: 4,
            kv_heads: 3,
            size: 64,
            scale: 0.1,
        };
        assert!(room(&batch, 132).unwrap_err().to_string().contains("not served"));
    }
}
