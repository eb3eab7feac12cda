//! Bodies that are read from or counted against something.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use tokio::{
    fs::File,
    io::{AsyncRead, ReadBuf},
    time::{Duration, Instant, timeout, timeout_at},
};

use super::error::Refusal;

/// How long one piece of a body may take.
const PIECE_LIMIT: Duration = Duration::from_secs(60);
/// How long one body may take.
const BODY_LIMIT: Duration = Duration::from_secs(3600);
/// How much is read from a file at once, in bytes.
const READ: usize = 64 << 10;

/// The next piece of a request's body, `None` at its end.
///
/// # Errors
/// [`Refusal::Slow`], [`Refusal::Body`].
pub(super) async fn piece(body: &mut Body, deadline: Instant) -> Result<Option<Bytes>, Refusal> {
    loop {
        let frame = timeout_at(deadline, timeout(PIECE_LIMIT, body.frame()));
        match frame.await.map_err(|_| Refusal::Slow)?.map_err(|_| Refusal::Slow)? {
            None => return Ok(None),
            Some(Err(_)) => return Err(Refusal::Body),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// When a body that begins now must have ended.
pub(super) fn deadline() -> Instant {
    Instant::now() + BODY_LIMIT
}

/// The whole of a small body.
///
/// Reads up to twice the limit before it refuses: a sender that is cut off sooner may never see the answer.
///
/// # Errors
/// [`Refusal::TooLarge`], [`Refusal::Slow`], [`Refusal::Body`].
pub(super) async fn collect(mut body: Body, limit: usize) -> Result<Bytes, Refusal> {
    let deadline = Instant::now() + PIECE_LIMIT;
    let (mut bytes, mut length) = (BytesMut::new(), 0);
    while let Some(data) = piece(&mut body, deadline).await? {
        length += data.len();
        if length > 2 * limit {
            break;
        }
        if length <= limit {
            bytes.extend_from_slice(&data);
        }
    }
    if length > limit { Err(Refusal::TooLarge { limit: limit as u64 }) } else { Ok(bytes.freeze()) }
}

/// Sends `left` bytes of a file from where it stands.
pub(super) struct FileBody {
    pub(super) file: File,
    pub(super) left: u64,
}

impl hyper::body::Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let mut buffer = vec![0; usize::try_from(self.left).unwrap_or(READ).min(READ)];
        let mut read = ReadBuf::new(&mut buffer);
        ready!(Pin::new(&mut self.file).poll_read(context, &mut read))?;
        let length = read.filled().len();
        if length == 0 {
            return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())));
        }
        buffer.truncate(length);
        self.left -= length as u64;
        Poll::Ready(Some(Ok(Frame::data(buffer.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
