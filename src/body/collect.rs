//! A body collected whole, up to a cap. One that comes in a single frame is never copied.

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;

#[derive(Debug)]
pub(crate) struct Collected {
    single: Bytes,
    several: BytesMut,
    trailers: Option<HeaderMap>,
    cap: usize,
}

/// The body is larger than the cap.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OverCap;

impl Collected {
    pub(crate) fn new(cap: usize) -> Self {
        Self {
            single: Bytes::new(),
            several: BytesMut::new(),
            trailers: None,
            cap,
        }
    }

    pub(crate) fn push(&mut self, mut data: impl Buf) -> Result<(), OverCap> {
        let length = self.single.len().max(self.several.len());
        if data.remaining() > self.cap.saturating_sub(length) {
            return Err(OverCap);
        }
        if length == 0 {
            // For `Bytes` this shares the memory.
            self.single = data.copy_to_bytes(data.remaining());
        } else {
            if self.several.is_empty() {
                self.several.reserve(length + data.remaining());
                self.several
                    .extend_from_slice(&std::mem::take(&mut self.single));
            }
            self.several
                .extend_from_slice(&data.copy_to_bytes(data.remaining()));
        }
        Ok(())
    }

    pub(crate) fn set_trailers(&mut self, trailers: HeaderMap) {
        self.trailers = Some(trailers);
    }

    pub(crate) fn finish(self) -> (Bytes, Option<HeaderMap>) {
        let bytes = if self.several.is_empty() {
            self.single
        } else {
            self.several.freeze()
        };
        (bytes, self.trailers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_frame_is_not_copied() {
        let frame = Bytes::from(vec![7; 100]);
        let mut collected = Collected::new(100);
        collected.push(Bytes::new()).unwrap();
        collected.push(frame.clone()).unwrap();
        assert_eq!(collected.finish().0.as_ptr(), frame.as_ptr());
    }

    #[test]
    fn the_cap_is_the_last_size_that_fits() {
        let mut collected = Collected::new(4);
        for piece in ["ab", "c", "", "d"] {
            collected.push(piece.as_bytes()).unwrap();
        }
        assert!(collected.push(&b"e"[..]).is_err());
        assert_eq!(collected.finish().0, "abcd");
    }
}
