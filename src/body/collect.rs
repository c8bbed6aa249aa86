//! A body collected whole, up to a cap. One that comes in a single frame is never copied.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame};

/// Frames taken in without pause; see the same figure of streamed bodies.
const FRAMES_PER_POLL: u32 = 256;

use crate::BoxError;
use crate::meters::HeldBytes;

#[derive(Debug)]
pub(crate) struct Collected {
    single: Bytes,
    several: BytesMut,
    trailers: Option<HeaderMap>,
    cap: usize,
    held: HeldBytes,
}

/// The body is larger than the cap.
#[derive(Clone, Copy, Debug)]
struct OverCap;

/// Why a body is not there whole.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Uncollected<E> {
    OverCap,
    Failed(E),
}

impl<E: Into<BoxError>> Uncollected<E> {
    pub(crate) fn boxed(self) -> Uncollected<BoxError> {
        match self {
            Self::OverCap => Uncollected::OverCap,
            Self::Failed(error) => Uncollected::Failed(error.into()),
        }
    }
}

impl Collected {
    pub(crate) fn new(cap: usize) -> Self {
        Self {
            single: Bytes::new(),
            several: BytesMut::new(),
            trailers: None,
            cap,
            held: HeldBytes::default(),
        }
    }

    /// Counts what it holds.
    pub(crate) fn counted(mut self, held: HeldBytes) -> Self {
        self.held = held;
        self
    }

    /// Takes in what `body` has ready; ready itself when the body has ended or can't be had whole.
    pub(crate) fn poll_from<B: Body>(
        &mut self,
        mut body: Pin<&mut B>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Uncollected<B::Error>>> {
        for _ in 0..FRAMES_PER_POLL {
            // A length that is announced over the cap needs no collecting.
            if body.size_hint().lower() > self.room() as u64 {
                return Poll::Ready(Err(Uncollected::OverCap));
            }
            let frame: Frame<B::Data> = match ready!(body.as_mut().poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Poll::Ready(Err(Uncollected::Failed(error))),
                None => return Poll::Ready(Ok(())),
            };
            match frame.into_data() {
                Ok(data) => {
                    if let Err(OverCap) = self.push(data) {
                        return Poll::Ready(Err(Uncollected::OverCap));
                    }
                }
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        self.trailers = Some(trailers);
                    }
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn len(&self) -> usize {
        self.single.len().max(self.several.len())
    }

    /// How many bytes more may come.
    fn room(&self) -> usize {
        self.cap.saturating_sub(self.len())
    }

    fn push(&mut self, mut data: impl Buf) -> Result<(), OverCap> {
        let length = self.len();
        if data.remaining() > self.room() {
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
        self.held.set(self.len());
        Ok(())
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
    fn a_length_announced_over_the_cap_is_refused_before_anything_is_held() {
        let body = std::pin::pin!(http_body_util::Full::<Bytes>::from("12345"));
        let mut collected = Collected::new(4);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(matches!(
            collected.poll_from(body, &mut cx),
            Poll::Ready(Err(Uncollected::OverCap))
        ));
        assert!(collected.finish().0.is_empty());
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
