//! The bytes' way in and out: the page asks for memory, writes a request into it, and gets back where the answer is.
//! A buffer is its length, 4 bytes little-endian, and then its bytes; whoever holds its address owns it.

#![expect(unsafe_code, reason = "exports of a WebAssembly module take and give addresses")]

use crate::answer;

/// Room for a request of `length` bytes. The address is that of the bytes.
#[unsafe(no_mangle)]
pub extern "C" fn bailey_allocate(length: u32) -> *mut u8 {
    Box::into_raw(vec![0u8; length as usize].into_boxed_slice()).cast()
}

/// Answers a request, and takes its memory back. Gives the address of the answer's buffer.
///
/// # Safety
/// `request` comes from [`bailey_allocate`] with this very `length`, and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bailey_examine(request: *mut u8, length: u32) -> *mut u8 {
    // SAFETY: by the contract above, this is the box that `bailey_allocate` gave away.
    let request = unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(request, length as usize)) };
    let answer = answer(&request);
    let mut buffer = (answer.len() as u32).to_le_bytes().to_vec();
    buffer.extend_from_slice(&answer);
    Box::into_raw(buffer.into_boxed_slice()).cast()
}

/// Takes an answer's memory back.
///
/// # Safety
/// `answer` comes from [`bailey_examine`], is not used again, and its first 4 bytes are as they were.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bailey_release(answer: *mut u8) {
    // SAFETY: by the contract above, 4 bytes of length are there, and the box has as many bytes more.
    unsafe {
        let length = u32::from_le_bytes(answer.cast::<[u8; 4]>().read()) as usize;
        drop(Box::from_raw(std::ptr::slice_from_raw_parts_mut(answer, 4 + length)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_crosses_and_its_answer_comes_back() {
        let request = b"not JSON";
        let there = bailey_allocate(request.len() as u32);
        // SAFETY: the memory is as long as the request; the address is used as the page would.
        unsafe {
            there.copy_from_nonoverlapping(request.as_ptr(), request.len());
            let back = bailey_examine(there, request.len() as u32);
            let length = u32::from_le_bytes(back.cast::<[u8; 4]>().read()) as usize;
            let answer = std::slice::from_raw_parts(back.add(4), length).to_vec();
            bailey_release(back);
            assert!(String::from_utf8(answer).unwrap().starts_with(r#"{"error":"#));
        }
    }
}
